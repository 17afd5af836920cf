"""A worker's process, which lives as long as the farm: compiled kernels, reused from job to job, and the worker."""

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
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs
from render.dreaming.programs import Programs
from render.errors import UserError
from render.farm.messages import WorkerFacts
from render.farm.remote import remote_methods
from render.farm.versions import own_versions
from render.farm.worker.block import MaskOfPixels, SourceOfPixels
from render.farm.worker.interface import RemoteProcess
from render.farm.worker.kernel_recipe import KernelRecipe
from render.farm.worker.resident_block import ResidencyRule
from render.farm.worker.worker import Worker
from render.geometry.geometry import KernelShape
from render.networks.network import Network, class_scores
from render.system.machine import host_memory
from render.system.paths import cache_directory

#: Directory of compiled kernels in the user's cache.
KERNELS = "kernels"
#: Largest number of networks that a process keeps, each with its weights.
_MAX_CACHED_NETWORKS = 8
#: Platforms that can be requested, with their names for users.
_PLATFORMS = {"cuda": "GPU", "tpu": "TPU"}


class KernelCache:
    """The networks used last, with their compiled kernels. A job with the same network does not compile again."""

    def __init__(self) -> None:
        self._programs: OrderedDict[tuple[str, ...], Programs] = OrderedDict()
        #: Number of networks built here, including forgotten ones.
        self.networks_built = 0
        self._forgotten = 0

    @property
    def compilations(self) -> int:
        """Number of kernels compiled here, including those of forgotten networks, without those from the disk cache."""
        return self._forgotten + sum(programs.compilations for programs in self._programs.values())

    def find(self, recipe: KernelRecipe) -> Kernel:
        """Return the kernel of a recipe. Build its network if it is not cached."""
        key = recipe.network_key
        if key not in self._programs:
            self._programs[key] = recipe.make_programs()
            self.networks_built += 1
        self._programs.move_to_end(key)
        while len(self._programs) > _MAX_CACHED_NETWORKS:
            _, forgotten = self._programs.popitem(last=False)
            self._forgotten += forgotten.compilations
        return recipe.make(self._programs[key])


class OtherRecipe(Protocol):
    """Recipe for workers that do not share one canvas, such as those of an atlas or a sweep."""

    def make(self, kernels: KernelCache, /) -> Any:
        """Return the object that does the work in this process."""


class WorkerProcess(RemoteProcess):
    """Host of a `Worker` for each job, or of the object that another recipe makes.

    Other processes call the methods of both that are declared as `remote`, through `call`.
    """

    def __init__(self, kernels: KernelCache | None = None) -> None:
        use_compilation_cache()
        self._kernels = kernels or KernelCache()
        self._recipe: KernelRecipe | None = None
        self._kernel: Kernel | None = None
        #: The object that has each remote method: this one, or the job's worker.
        self._targets: dict[str, object] = {}
        self._serve(None)

    def open(
        self,
        recipe: KernelRecipe | OtherRecipe,
        source: SourceOfPixels | None = None,
        masks: Sequence[MaskOfPixels] = (),
    ) -> WorkerFacts:
        """Prepare for a job. Only a dream has a source. Raise the errors of the recipe's `make`."""
        self._kernel = None
        self._serve(None)
        _devices()
        if not isinstance(recipe, KernelRecipe):
            self._serve(recipe.make(self._kernels))
            return self.ping()
        assert source is not None, "a dream has a source"
        # In parallel with building the network.
        threading.Thread(target=store.get_ready).start()
        self._recipe = recipe
        self._kernel = self._kernels.find(recipe)
        facts = self.ping()
        residency = ResidencyRule(self._kernel, recipe.residence, facts.platform, facts.device_bytes)
        architecture, devices = recipe.loaded.architecture, self._kernel.devices
        self._serve(Worker(self._kernel, source, recipe.objectives, architecture, masks, devices, residency))
        return facts

    def window_bytes(self, objective: int, window: tuple[int, int], core: tuple[int, int]) -> int:
        """Return the bytes that a kernel call on such a window needs, by XLA's analysis. Compile the objective's kernel."""
        assert self._kernel is not None, "open comes first"
        return self._kernel.memory(KernelShape(window, core), objective)

    def window_seconds(
        self, objective: int, window: tuple[int, int], core: tuple[int, int], measured: tuple[int, int] | None = None
    ) -> float:
        """Return the seconds for one such window: the mean of two kernel calls after a first, divided by the devices.

        A window of `measured` px is measured before each, if the objective needs sums over the canvas.
        """
        kernel = self._kernel
        assert kernel is not None, "open comes first"
        shape = KernelShape(window, core)
        pixels = np.random.default_rng(0).normal(128, 30, (*window, 3)).astype(np.float32)
        kernel_inputs = KernelInputs(objective, (1.0,) * len(kernel.objectives[objective].terms))

        def compute_window() -> None:
            """Compute the gradient of the window, and wait for it."""
            if measured is not None:
                kernel.measure_empty(objective, pixels[: measured[0], : measured[1]])
            kernel(shape, pixels, kernel_inputs, (0, 0), pixels).block_until_ready()

        compute_window()
        start = time.perf_counter()
        for _ in range(2):
            compute_window()
        return (time.perf_counter() - start) / 2 / kernel.devices

    def compile_seconds(self) -> float:
        """Return the seconds spent on compiling for this job's network, in this process."""
        return sum(self._kernel.programs.compile_seconds.values()) if self._kernel else 0.0

    def class_scores(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the network's scores for pictures, (rows, columns, 3) float32 RGB 0..255: (classes,) before softmax each.

        The kernels' network ends at the deepest layer that dreams, so the complete network is built here.
        """
        assert self._recipe is not None, "open comes first"
        loaded = self._recipe.loaded
        return class_scores(Network(loaded.architecture, loaded.parameters), pictures)

    def ping(self) -> WorkerFacts:
        """Return the current facts, as a sign of life."""
        return process_facts(self._kernels.networks_built)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a remote method of this object or of the job's worker, by its name."""
        if method not in self._targets:
            raise AttributeError(f"{method} is no remote method here: declare it with @remote, and call open first")
        return getattr(self._targets[method], method)(*arguments)

    def _serve(self, worker: object) -> None:
        """Offer the remote methods of this object and of a job's worker, which may be None."""
        self._targets = {name: target for target in (worker, self) for name in remote_methods(type(target))}


def process_facts(kernels_made: int = 0) -> WorkerFacts:
    """Return the facts of this process and its machine. Raise `UserError` if it cannot use its platform."""
    devices = _devices()
    device = devices[0]
    host = host_memory()
    on_cpu = device.platform == "cpu"
    memory = host if on_cpu else min(int((entry.memory_stats() or {}).get("bytes_limit", host)) for entry in devices)
    return WorkerFacts(
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
    """Return the devices of the requested platform. Raise `UserError` if there are none; never use another platform."""
    target = os.environ.get("JAX_PLATFORMS", "")
    try:
        devices = jax.local_devices()
        # JAX returns the devices of another platform if it has begun to use that.
        if devices[0].platform != {"cuda": "gpu"}.get(target, target) and target in _PLATFORMS:
            raise RuntimeError(f"JAX runs on {devices[0].platform} there already")
        return devices
    # An AssertionError without text if the CUDA plugin is not installed.
    except (RuntimeError, AssertionError) as error:
        name = _PLATFORMS.get(target, target or "device")
        reason = (str(error).splitlines() or [f"JAX has no support for {target} there"])[0].partition(
            " (set JAX_PLATFORMS"
        )[0]
        remedy = ", or set farm.worker.num_gpus=0 to render on CPUs" if target == "cuda" else ""
        raise UserError(
            f"a worker on {platform.node()} cannot use its {name} ({reason}): end what else holds it, or install the extra "
            f"{target} there (make setup EXTRAS={target}){remedy}"
        ) from None


def use_compilation_cache() -> None:
    """Keep compiled kernels in the user's cache, even if they compile quickly."""
    kernels = cache_directory() / KERNELS
    jax.config.update("jax_compilation_cache_dir", str(kernels))
    if kernels.exists() and not os.access(kernels, os.W_OK):
        # The cache of another user is only read: do not warn for every kernel that it cannot be written.
        warnings.filterwarnings("ignore", message="Error writing persistent compilation cache entry")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
