"""One way to compute the kernel, in a process of its own that stays, and computes when it is told to.

Why processes: XLA and PyTorch each keep a pool of threads, and their own memory. In one process the peak memory of either
could not be told from the other's, and whoever has just finished still has threads that spin in wait for more. A process
that waits for its next line sleeps, so contenders can take turns, call by call, and each has the machine to itself.

The child reads one JSON object a line and answers with one: see `_serve`. One runs in another environment, in which little
of what this program needs is installed: what a child of any kind imports, this module does not.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from render.geometry.geometry import round_up
from render.networks.architecture import Architecture, Layer

ROOT = Path(__file__).parents[2]
OURS, EAGER, CHANNELS_LAST, TENSORFLOW = "ours", "torch eager", "torch channels_last", "tensorflow"
#: The interpreter of an environment that has TensorFlow: `make bench tensorflow=true` makes it.
TENSORFLOW_PYTHON = ROOT / ".venv" / "tensorflow" / "bin" / "python"
#: What make leaves there once all of it is installed.
TENSORFLOW_READY = ROOT / ".venv" / "tensorflow" / "installed"
#: How many threads a child has, as XLA reads it, too.
_THREADS = "NPROC"


def core_side(layer: Layer, window: int) -> int:
    """Side of the largest core whose window, with the exact halo of `layer` around it, is `window` px; 0 for none."""
    halo = round_up(layer.receptive_field - 1, layer.stride)
    return max(0, window - 2 * halo - (layer.stride - 1))


@dataclass(frozen=True)
class Ready:
    """What it took to get ready: seconds of compiling, or of loading what was compiled; how much had to be compiled."""

    compile_seconds: float
    compilations: int


class Contender:
    """The parent's side. `kind` is one of the names above; `cache` a directory for compiled kernels, the user's by default.

    All kinds have as many threads as there are cores. Methods raise `RuntimeError` where the child has died.
    """

    def __init__(self, kind: str, cache: Path | None = None) -> None:
        from render.system.machine import cores

        self._kind = kind
        self._place = tempfile.TemporaryDirectory()
        python, threads = str(TENSORFLOW_PYTHON) if kind == TENSORFLOW else sys.executable, str(cores())
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.contender", kind, *([str(cache)] if cache else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "JAX_PLATFORMS": "cpu",
                "TF_CPP_MIN_LOG_LEVEL": "2",
                # XLA reads the first, PyTorch and TensorFlow the second.
                _THREADS: threads,
                "OMP_NUM_THREADS": threads,
                # As a farm's workers are started: large pages, which help everybody here.
                "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
            },
        )

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._place.cleanup()

    def prepare(self, model: str, layer: str, side: int) -> Ready:
        """Makes the kernel for windows of `side` x `side` px, and forgets the one before."""
        return Ready(
            **self._ask("prepare", model, layer, side, self._parameters(model) if self._kind == TENSORFLOW else None)
        )

    def _parameters(self, model: str) -> str:
        """The file that has a model's weights for who cannot read them: written once."""
        from tests.benchmarks.trained import trained

        file = Path(self._place.name) / f"{model}.npz"
        if not file.exists():
            np.savez(file, **{name: np.asarray(values) for name, values in trained(model).parameters.items()})
        return str(file)

    def call(self) -> float:
        """Seconds that one call takes, from a window on the host to its gradient there."""
        return self._ask("call")

    def peak_bytes(self) -> int | None:
        """The most memory that calls since `prepare` took, beyond what the process held then; None where none tells.

        TensorFlow keeps what earlier windows took, and tells nothing.
        """
        return self._ask("peak_bytes")

    def gradient(self, path: Path) -> np.ndarray:
        """The gradient of the centre of the window; `path` names a file for it that ends in .npy."""
        self._ask("save", str(path))
        return np.load(path)

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self._kind} ended with code {self._process.wait()}: what it said is above")
        return json.loads(answer)


#: From a window to the gradient of its core, both on the host.
Gradient = Callable[[np.ndarray], np.ndarray]


class _Side:
    """The child's side of one contender."""

    def __init__(self, kind: str, cache: str | None) -> None:
        self._kind = kind
        self._gradient: Gradient | None = None
        self._held = 0
        if kind == OURS:
            import jax

            from render.farm.worker.process import use_compilation_cache

            use_compilation_cache()
            if cache is not None:
                jax.config.update("jax_compilation_cache_dir", cache)
        elif kind == TENSORFLOW:
            import tensorflow

            tensorflow.config.threading.set_intra_op_parallelism_threads(int(os.environ[_THREADS]))
            tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        else:
            import torch

            torch.set_num_threads(int(os.environ[_THREADS]))

    def prepare(self, model: str, layer: str, side: int, parameters: str | None) -> dict[str, float]:
        self._gradient = None
        made = {"compile_seconds": 0.0, "compilations": 0}
        if self._kind == OURS:
            self._gradient, made = _ours(model, layer, side)
        elif parameters is not None:
            from tests.benchmarks.tensorflow_network import TensorFlowKernel

            with np.load(parameters) as found:
                self._gradient = TensorFlowKernel(architecture_named(model).truncated([layer]), found)
        else:
            from tests.benchmarks.torch_network import TorchKernel
            from tests.benchmarks.trained import trained

            loaded = trained(model)
            self._gradient = TorchKernel(
                loaded.architecture.truncated([layer]), loaded.parameters, channels_last=self._kind == CHANNELS_LAST
            )
        if self._kind != OURS:
            # What libraries load at their first call is no need of a call.
            self._gradient(np.zeros((128, 128, 3), np.float32))
        self._window = np.random.default_rng(0).normal(128, 30, (side, side, 3)).clip(0, 255).astype(np.float32)
        _forget_peak()
        self._held = _status("VmRSS") or 0
        return made

    def call(self) -> float:
        assert self._gradient is not None, "prepare comes first"
        begun = time.perf_counter()
        self._gradient(self._window)
        return time.perf_counter() - begun

    def peak_bytes(self) -> int | None:
        peak = None if self._kind == TENSORFLOW else _status("VmHWM")
        return None if peak is None else peak - self._held

    def save(self, path: str) -> None:
        assert self._gradient is not None, "prepare comes first"
        np.save(path, self._gradient(self._window))


def _ours(model: str, layer: str, side: int) -> tuple[Gradient, dict[str, float]]:
    """Return the kernel as a worker makes and calls it."""
    from render.dreaming.objectives import KernelInputs, resolve
    from render.farm.worker.kernel_recipe import KernelRecipe
    from render.geometry.geometry import KernelShape
    from tests.benchmarks.trained import trained

    loaded = trained(model)
    objective = resolve([layer], loaded.architecture)
    recipe = KernelRecipe(loaded, (objective,))
    kernel = recipe.make(recipe.make_programs())
    core = core_side(loaded.architecture.layer(layer), side) or side
    shape = KernelShape((side, side), (core, core))
    # The size of the whole canvas makes a factor of the gradient: here the window is all there is.
    given = KernelInputs(0, objective.factors(loaded.architecture, shape.window))
    offset = ((side - core) // 2, (side - core) // 2)
    kernel.memory(shape)
    made = {
        "compile_seconds": kernel.programs.executables.counts.seconds,
        "compilations": kernel.programs.executables.counts.compiled,
    }
    return lambda window: np.asarray(kernel(shape, window, given, offset)), made


def architecture_named(model: str) -> Architecture:
    """Return an architecture by its name, without importing what reads weights."""
    from render.networks.googlenet import GOOGLENET
    from render.networks.inception_v3 import INCEPTION_V3

    return {architecture.name: architecture for architecture in (GOOGLENET, INCEPTION_V3)}[model]


def _forget_peak() -> None:
    """Return freed memory to the system, and make Linux count the peak anew."""
    gc.collect()
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
    if (reset := Path("/proc/self/clear_refs")).exists():
        reset.write_text("5")


def _status(name: str) -> int | None:
    """Return a figure of this process, bytes, as Linux counts it; None on other systems."""
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    return next((1024 * int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)), None)


def _serve(side: _Side, requests: IO[str], answers: IO[str]) -> None:
    """Answers [METHOD, ARGUMENT, ...] with what the method returns, a line each, until there are no more requests."""
    for line in requests:
        method, *arguments = json.loads(line)
        answers.write(json.dumps(getattr(side, method)(*arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    # What libraries print must not be taken for an answer.
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(_Side(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None), sys.stdin, own)
