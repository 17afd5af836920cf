"""What `tests.benchmarks.gpu` measures, each in a process that it starts: `python -m tests.benchmarks.gpu_items ITEM ...`.

An item is a function that yields lines; the process writes each at once, and after the last of an item one with its
seconds or its error. With `--quick` the accelerator's programs run on the CPU, in tiny sizes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.programs import Programs
from render.geometry.geometry import KernelShape, round_up
from render.networks.network import Network
from render.networks.platforms import tracing_for
from render.networks.weights import MODELS, Loaded
from render.planning.device_memory import estimated_bytes
from render.system.surroundings import settle_jax
from tests.benchmarks.device import seconds_of

Line = dict[str, Any]

MODEL_OF = {"mixed5": "inception_v3", "inception_4c": "googlenet", "conv2d_2b_3x3": "inception_v3"}
#: Largest relative difference (L2) of float32 gradients of two platforms: TensorFloat-32 is off by 1e-3.
MAX_DIFFERENCE = 1e-5
_TOP = 20


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured; px where nothing else is said.

    Attributes:
        product: Side of the matrices that are multiplied.
        window: Side of a kernel's window.
        checked: Side of the window whose gradient is compared.
        batches: Number and side of the windows of a call.
        canvas: Side of the canvas that is stepped, and of its tiles.
        filtered: Side of the canvas whose gradient is filtered.
        steps: Steps of an octave.
        layer: The layer that is dreamed of where no other is named.
        min_seconds: Seconds for which a call is repeated.
        shallow: True to take `layer` instead of every deeper one.
    """

    product: int = 8192
    window: int = 2048
    checked: int = 320
    batches: tuple[tuple[int, int], ...] = ((8, 512), (4, 1024))
    canvas: tuple[int, int] = (16384, 1024)
    filtered: int = 8192
    steps: int = 3
    layer: str = "mixed5"
    min_seconds: float = 1.0
    shallow: bool = False

    def named(self, layer: str) -> str:
        """Return the layer that stands for `layer` in these sizes."""
        return self.layer if self.shallow else layer


QUICK = Sizes(
    product=128, window=160, checked=96, batches=((2, 96),), canvas=(160, 64), filtered=160, steps=2, layer="conv2d_2b_3x3",
    min_seconds=0.01, shallow=True,
)  # fmt: skip


def device(_sizes: Sizes) -> Iterator[Line]:
    """The device and all versions."""
    from render.farm.worker.process import process_facts

    facts = process_facts()
    yield {
        "device": facts.device, "platform": facts.platform, "devices": facts.devices, "device_gb": facts.device_bytes / 1e9,
        "versions": dict(facts.versions), "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }  # fmt: skip


def products(sizes: Sizes) -> Iterator[Line]:
    """The rate of a product of two square matrices, in each precision."""
    on_gpu = jax.default_backend() == "gpu"
    half = jax.lax.DotAlgorithmPreset.TF32_TF32_F32 if on_gpu else jax.lax.Precision.HIGH
    ways: dict[str, tuple[Any, Any]] = {
        "bfloat16": (jnp.bfloat16, None),
        "tensorfloat32": (jnp.float32, half),
        "float32": (jnp.float32, jax.lax.Precision.HIGHEST),
    }
    for precision, (kind, way) in ways.items():
        matrix = jax.random.normal(jax.random.key(0), (sizes.product, sizes.product), jnp.float32).astype(kind)
        product = jax.jit(lambda a, b, way=way: jnp.matmul(a, b, precision=way))
        seconds = seconds_of(lambda matrix=matrix, product=product: product(matrix, matrix), sizes.min_seconds)
        yield {"precision": precision, "side": sizes.product, "tflops": 2 * sizes.product**3 / seconds / 1e12}


def random_weights(model: str) -> Loaded:
    """Return a network with random weights that keep the strength of activations (He 2015)."""
    generator, parameters = np.random.default_rng(0), {}
    architecture = MODELS[model].architecture
    for name, shape in architecture.parameters().items():
        deviation = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.01
        parameters[name] = generator.normal(0, deviation, shape).astype(np.float32)
    return Loaded(architecture, parameters, "random")


def _kernel(layer: str, precision: str) -> Kernel:
    """Return the kernel of a layer on the default device."""
    loaded = random_weights(MODEL_OF[layer])
    network = Network(loaded.architecture.truncated([layer]), loaded.parameters, precision=precision)
    default = jax.config.jax_default_device or jax.local_devices()[0]
    return Kernel(Programs(network, [default]), [resolve([layer], loaded.architecture)], loaded)


def _window(side: int) -> np.ndarray:
    return np.random.default_rng(1).normal(128, 40, (side, side, 3)).clip(0, 255).astype(np.float32)


def _gradient(kernel: Kernel, shape: KernelShape, window: Any) -> jax.Array:
    """Return the gradient of the core in the middle of a window, not awaited."""
    offset = tuple((outer - inner) // 2 for outer, inner in zip(shape.window, shape.core, strict=True))
    return kernel(shape, window, KernelInputs(0, (1.0,)), offset)  # type: ignore[arg-type]


def gradient(sizes: Sizes) -> Iterator[Line]:
    """How far a float32 gradient is from that of the CPU backend of this process, with the CPU's forms."""
    layer, side = sizes.named("mixed5"), sizes.checked
    shape, window = KernelShape((side, side), (side, side)), _window(side)
    result = np.asarray(_gradient(_kernel(layer, "float32"), shape, window), np.float64)
    with jax.default_device(jax.local_devices(backend="cpu")[0]), tracing_for("cpu"):
        expected = np.asarray(_gradient(_kernel(layer, "float32"), shape, window), np.float64)
    difference = float(np.linalg.norm(result - expected) / np.linalg.norm(expected))
    line: Line = {"layer": layer, "side": side, "difference": difference}
    if not difference <= MAX_DIFFERENCE:
        line["failure"] = f"float32 differs by {difference:.1e} from the CPU: products in TensorFloat-32 leak"
    yield line


def kernel(sizes: Sizes, layer: str, precision: str) -> Iterator[Line]:
    """A kernel call on a window with its core: time, rate, memory against the plan's table."""
    if precision == "tensorfloat32" and jax.default_backend() == "cpu":
        # CPUs do not have it, so theirs is another program.
        with tracing_for("cpu"):
            yield from _measured_kernel(sizes, sizes.named(layer), precision)
    else:
        yield from _measured_kernel(sizes, sizes.named(layer), precision)


def _measured_kernel(sizes: Sizes, layer: str, precision: str) -> Iterator[Line]:
    made = _kernel(layer, precision)
    architecture = made.programs.network.architecture
    read, side = architecture.layer(layer), sizes.window
    halo = round_up(read.receptive_field - 1, read.stride)
    core = max(32, side - 2 * halo)
    shape, window = KernelShape((side, side), (core, core)), jax.device_put(_window(side))
    needed = made.memory(shape)
    seconds = seconds_of(lambda: _gradient(made, shape, window), sizes.min_seconds)
    statistics = jax.local_devices()[0].memory_stats() or {}
    planned = estimated_bytes(architecture, shape.window, precision)
    yield {
        "layer": layer, "precision": precision, "window": side, "core": core, "milliseconds": 1000 * seconds,
        "tflops": architecture.gradient_flops(shape.window, shape.core) / seconds / 1e12,
        "compile_seconds": made.programs.executables.counts.seconds, "kernel_gb": needed / 1e9,
        "planned_gb": planned / 1e9, "process_peak_gb": statistics.get("peak_bytes_in_use", 0) / 1e9,
    }  # fmt: skip


def checksum(sizes: Sizes, _order: str) -> Iterator[Line]:
    """The bytes of a gradient in a process that has compiled nothing before."""
    layer, side = sizes.named("mixed5"), min(512, sizes.window)
    made = _kernel(layer, "bfloat16")
    pixels = np.asarray(_gradient(made, KernelShape((side, side), (side, side)), _window(side)))
    yield {"layer": layer, "precision": "bfloat16", "side": side, "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}


def batches(sizes: Sizes) -> Iterator[Line]:
    """Several small windows in a call, as resident blocks compute them."""
    from tests.benchmarks.device import measure_batch

    layer = sizes.named("mixed5")
    made, memory = _kernel(layer, "bfloat16"), _device_bytes()
    for count, side in sizes.batches:
        row = measure_batch(made, side, count, sizes.min_seconds, memory)
        yield {"layer": layer, "precision": "bfloat16", **(row or {"failure": f"no memory for {count} x {side} px"})}


def steps(sizes: Sizes) -> Iterator[Line]:
    """Two octaves by the program's own conductor and worker: a step of a resident block, and the change between octaves."""
    canvas, tile = sizes.canvas
    yield from _dream(sizes, canvas, tile, octaves=2)


def laplacian(sizes: Sizes) -> Iterator[Line]:
    """A step of a resident block whose gradient is brought to equal strength by a Laplacian pyramid of four levels."""
    yield from _dream(sizes, sizes.filtered, sizes.canvas[1], octaves=1, laplacian=2 if sizes.shallow else 4)


def _dream(sizes: Sizes, canvas: int, tile: int, *, octaves: int, laplacian: int = 0) -> Iterator[Line]:
    from tests.benchmarks.gpu_dream import timed_octaves

    layer = sizes.named("mixed5")
    rows = timed_octaves(
        random_weights(MODEL_OF[layer]),
        layer,
        canvas=canvas,
        tile=tile,
        octaves=octaves,
        steps=sizes.steps,
        laplacian=laplacian,
        resident=True if sizes.shallow and not laplacian else "auto",
    )
    for row in rows:
        yield {"layer": layer, "precision": "bfloat16", "laplacian": laplacian, **row}


def variant(sizes: Sizes, name: str) -> Iterator[Line]:
    """A kernel under other flags, which its process has, or with the forms of operations that CPUs use."""
    forms = tracing_for("cpu") if name == "host forms" else nullcontext()
    with forms:
        for layer in dict.fromkeys(map(sizes.named, ("mixed5", "inception_4c"))):
            yield from kernel(sizes, layer, "bfloat16")


def trace(sizes: Sizes) -> Iterator[Line]:
    """The operations that take most of a kernel call's time, from the profiler."""
    layer, side = sizes.named("mixed5"), sizes.window
    made, window = _kernel(layer, "bfloat16"), jax.device_put(_window(side))
    shape = KernelShape((side, side), (side, side))
    _gradient(made, shape, window).block_until_ready()
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            _gradient(made, shape, window).block_until_ready()
        totals = _operation_seconds(Path(directory))
    whole = sum(totals.values())
    if not totals:
        yield {"layer": layer, "failure": "the profiler has recorded no operation"}
    for rank, (name, seconds) in enumerate(totals.most_common(_TOP), 1):
        yield {"layer": layer, "rank": rank, "operation": name[:200], "ms": 1000 * seconds, "share": seconds / whole}


def _operation_seconds(directory: Path) -> Counter[str]:
    """Return the seconds of each operation in a trace, by its name: those of devices, or of the CPU's own threads."""
    (path,) = directory.rglob("*.xplane.pb")
    totals: dict[str, Counter[str]] = {"device": Counter(), "host": Counter()}
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        place = "device" if plane.name.startswith("/device:") else "host"
        for line in plane.lines:
            name = line.name or ""
            # Of a device its streams, which hold kernels; of the host the threads of XLA's client, not Python's.
            if name.startswith("Stream #") or name == "XLA Ops" or (place == "host" and "XLA" in name.upper()):
                for event in line.events:
                    if "::" not in event.name and not event.name.startswith("end: "):
                        totals[place][event.name] += event.duration_ns / 1e9
    return totals["device"] or totals["host"]


def _device_bytes() -> int:
    from render.farm.worker.process import process_facts

    return process_facts().device_bytes


#: Items by the first part of their name; the other parts are arguments.
ITEMS: dict[str, Callable[..., Iterator[Line]]] = {
    "device": device, "products": products, "gradient": gradient, "kernel": kernel, "checksum": checksum, "steps": steps,
    "laplacian": laplacian, "batches": batches, "variant": variant, "trace": trace,
}  # fmt: skip


def lines_of(item: str, sizes: Sizes) -> Iterator[Line]:
    """Yield the lines of an item; the last has its seconds, or its error."""
    start = time.perf_counter()
    name, *arguments = item.split(":")
    failure = None
    try:
        for line in ITEMS[name](sizes, *arguments):
            failure = line.pop("failure", None) or failure
            yield {"item": item, **line}
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        failure = f"{type(error).__name__}: {first[:300]}"
    seconds = round(time.perf_counter() - start, 2)
    yield {"item": item, "seconds": seconds} if failure is None else {"item": item, "error": failure}


def main(words: list[str]) -> None:
    """Measure items and write a line for each figure."""
    quick, items = "--quick" in words, [word for word in words if word != "--quick"]
    output = os.fdopen(os.dup(1), "w")
    # Libraries may print: only figures go to standard output.
    os.dup2(2, 1)
    settle_jax()
    with tracing_for("gpu") if quick else nullcontext():
        for item in items:
            for line in lines_of(item, QUICK if quick else Sizes()):
                print(json.dumps(line), file=output, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
