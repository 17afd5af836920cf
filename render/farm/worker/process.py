"""What lives in a worker's process as long as the farm does: compiled kernels, reused from job to job, and the worker."""

from __future__ import annotations

import os
import platform
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np
import psutil

from render.canvas import store
from render.dream.kernel import Kernel, Programs
from render.dream.objectives import Given
from render.errors import UserError
from render.farm.messages import Facts
from render.farm.versions import own_versions
from render.farm.worker.block import MaskOfPixels, SourceOfPixels
from render.farm.worker.kernel_recipe import KernelRecipe
from render.farm.worker.resident_block import Residency
from render.farm.worker.worker import Worker
from render.geometry.geometry import KernelShape
from render.models.network import Network, class_scores
from render.system.machine import host_memory
from render.system.paths import cache_directory

#: Where compiled kernels lie in the user's cache.
KERNELS = "kernels"
#: Kernels that a process keeps; each holds its network's weights.
_KERNELS_KEPT = 8
#: What can be asked for, and what people call it.
_PLATFORMS = {"cuda": "GPU", "tpu": "TPU"}
_OWN = ("open", "ping", "window_bytes", "window_seconds", "compile_seconds", "class_scores")


class KernelCache:
    """The networks used last, with all that was compiled for them: a job that needs no other does not compile again."""

    def __init__(self) -> None:
        self._programs: OrderedDict[tuple[str, ...], Programs] = OrderedDict()
        #: How many networks were made here, forgotten ones included.
        self.made = 0
        self._forgotten = 0

    @property
    def compilations(self) -> int:
        """How many kernels were compiled here, those of forgotten networks included; not those from the cache on disk."""
        return self._forgotten + sum(programs.compilations for programs in self._programs.values())

    def find(self, recipe: KernelRecipe) -> Kernel:
        """The kernel, on a network made where it is not here yet."""
        key = recipe.network_key
        if key not in self._programs:
            self._programs[key] = recipe.make_programs()
            self.made += 1
        self._programs.move_to_end(key)
        while len(self._programs) > _KERNELS_KEPT:
            _, forgotten = self._programs.popitem(last=False)
            self._forgotten += forgotten.compilations
        return recipe.make(self._programs[key])


class OtherRecipe(Protocol):
    """What is sent to workers that do not share one canvas, as those of an atlas or a sweep."""

    def make(self, kernels: KernelCache, /) -> Any:
        """What does the work in this process."""


class WorkerProcess:
    """Makes a `Worker` for each job that it is given, or what another recipe asks for; whoever conducts calls their methods
    through `call`.
    """

    def __init__(self, kernels: KernelCache | None = None) -> None:
        use_compilation_cache()
        self._kernels = kernels or KernelCache()
        self._recipe: KernelRecipe | None = None
        self._kernel: Kernel | None = None
        self._worker: Any = None

    def open(
        self,
        recipe: KernelRecipe | OtherRecipe,
        source: SourceOfPixels | None = None,
        masks: Sequence[MaskOfPixels] = (),
    ) -> Facts:
        """Makes ready for a job; only a dream has a source. Raises what the recipe's `make` raises."""
        self._worker = self._kernel = None
        _devices()
        if not isinstance(recipe, KernelRecipe):
            self._worker = recipe.make(self._kernels)
            return self.ping()
        assert source is not None, "a dream has a source"
        # While the kernel is made and compiled.
        threading.Thread(target=store.get_ready).start()
        self._recipe = recipe
        self._kernel = self._kernels.find(recipe)
        found = self.ping()
        self._worker = Worker(
            self._kernel,
            source,
            recipe.objectives,
            recipe.loaded.architecture,
            masks,
            self._kernel.devices,
            Residency(self._kernel, recipe.residence, found.platform, found.device_bytes),
        )
        return found

    def window_bytes(self, objective: int, window: tuple[int, int], core: tuple[int, int]) -> int:
        """Bytes that a kernel call on such a window needs, by XLA's analysis; compiles the objective's kernel."""
        assert self._kernel is not None, "open comes first"
        return self._kernel.memory(KernelShape(window, core), objective)

    def window_seconds(self, objective: int, window: tuple[int, int], core: tuple[int, int]) -> float:
        """How long such a window takes here, s: the mean of two kernel calls after a first, shared among the devices."""
        assert self._kernel is not None, "open comes first"
        shape = KernelShape(window, core)
        pixels = np.random.default_rng(0).normal(128, 30, (*window, 3)).astype(np.float32)
        given = Given(objective, (1.0,) * len(self._kernel.objectives[objective].terms))

        def run() -> None:
            assert self._kernel is not None
            self._kernel(shape, pixels, given, (0, 0), pixels).block_until_ready()

        run()
        start = time.perf_counter()
        for _ in range(2):
            run()
        return (time.perf_counter() - start) / 2 / self._kernel.devices

    def compile_seconds(self) -> float:
        """Seconds spent on compiling for this job's network, in this process."""
        return sum(self._kernel.programs.compile_seconds.values()) if self._kernel else 0.0

    def class_scores(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the job's network says of pictures, (rows, columns, 3) float32 RGB 0..255: (classes,) before softmax.

        The kernels' network ends at the deepest layer that dreams; this is the whole one, made for the occasion.
        """
        assert self._recipe is not None, "open comes first"
        loaded = self._recipe.loaded
        return class_scores(Network(loaded.architecture, loaded.parameters), pictures)

    def ping(self) -> Facts:
        """Answers."""
        return facts(self._kernels.made)

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of this object or of the job's worker."""
        if method in _OWN:
            return getattr(self, method)(*arguments)
        assert self._worker is not None, "open comes first"
        return getattr(self._worker, method)(*arguments)


def facts(kernels_made: int = 0) -> Facts:
    """What this process runs on. Raises `UserError` where it cannot use the platform that it is to run on."""
    devices = _devices()
    device = devices[0]
    host = host_memory()
    on_cpu = device.platform == "cpu"
    memory = host if on_cpu else min(int((one.memory_stats() or {}).get("bytes_limit", host)) for one in devices)
    return Facts(
        host=platform.node(),
        pid=os.getpid(),
        device=device.device_kind,
        platform=device.platform,
        host_bytes=host,
        device_bytes=memory,
        held_bytes=psutil.Process().memory_info().rss,
        kernels_made=kernels_made,
        devices=len(devices),
        versions=own_versions(),
    )


def _devices() -> list[jax.Device]:
    """The devices of the platform that was asked for. Raises `UserError` where there are none: never those of another."""
    wanted = os.environ.get("JAX_PLATFORMS", "")
    try:
        found = jax.local_devices()
        # Whoever asks after JAX has begun to use another gets that.
        if found[0].platform != {"cuda": "gpu"}.get(wanted, wanted) and wanted in _PLATFORMS:
            raise RuntimeError(f"JAX runs on {found[0].platform} there already")
        return found
    # Without a word where the CUDA plugin is not installed.
    except (RuntimeError, AssertionError) as error:
        what = _PLATFORMS.get(wanted, wanted or "device")
        why = (str(error).splitlines() or [f"JAX has no support for {wanted} there"])[0].partition(" (set JAX_PLATFORMS")[0]
        otherwise = ", or set farm.worker.num_gpus=0 to render on CPUs" if wanted == "cuda" else ""
        raise UserError(
            f"a worker on {platform.node()} cannot use its {what} ({why}): end what else holds it, or install the extra "
            f"{wanted} there (make setup EXTRAS={wanted}){otherwise}"
        ) from None


def use_compilation_cache() -> None:
    """Keeps compiled kernels in the user's cache, however quickly they compile."""
    kernels = cache_directory() / KERNELS
    jax.config.update("jax_compilation_cache_dir", str(kernels))
    if kernels.exists() and not os.access(kernels, os.W_OK):
        # A cache that others keep is read; that nothing is added to it is no news at every kernel.
        warnings.filterwarnings("ignore", message="Error writing persistent compilation cache entry")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
