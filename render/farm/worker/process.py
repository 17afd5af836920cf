"""A worker's process, which lives as long as the farm: compiled kernels, reused from job to job, and the worker."""

from __future__ import annotations

import gc
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
from render.dreaming.executables import ExecutableCounts
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs
from render.dreaming.programs import Programs
from render.farm.messages import Assignment, ProgramTimes, StepOrders, WorkerFacts
from render.farm.peers.group import Group
from render.farm.peers.listening import Address, Listener
from render.farm.pixel_sources import MaskOfPixels, SourceOfPixels
from render.farm.remote import remote_methods
from render.farm.versions import own_versions
from render.farm.worker.device_check import device_versions, readable_errors, usable_devices
from render.farm.worker.interface import RemoteProcess
from render.farm.worker.kernel_recipe import KernelRecipe
from render.farm.worker.preparation import OctavePreparation
from render.farm.worker.resident_block import ResidencyRule
from render.farm.worker.worker import Worker
from render.geometry.geometry import KernelShape
from render.storage.program_files import ProgramFiles, make_private
from render.system.machine import host_memory, memory_maps, trim_heap
from render.system.paths import cache_directory

#: Directories in the user's cache: of what XLA has compiled, by JAX; and of our programs, which load without tracing.
KERNELS, PROGRAMS = "kernels", "programs"
#: Largest number of networks that a process keeps, each with its weights.
_MAX_CACHED_NETWORKS = 8
#: Share of the memory maps that a process may have at which it forgets its compiled programs. XLA takes hundreds for each;
#: one job takes a few thousand.
_MOST_MAPS = 0.5


#: Methods that compile before a job begins.
_PREPARING = ("open", "window_bytes", "window_seconds")


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
        return self._forgotten + sum(programs.executables.counts.compiled for programs in self._programs.values())

    def find(self, recipe: KernelRecipe) -> Kernel:
        """Return the kernel of a recipe. Build its network if it is not cached.

        If the compiled programs of earlier jobs are too many for the process, forget all of them first.
        """
        maps = memory_maps()
        if maps is not None and maps[0] > _MOST_MAPS * maps[1]:
            self._forget()
        key = recipe.network_key
        if key not in self._programs:
            self._programs[key] = recipe.make_programs(ProgramFiles(cache_directory() / PROGRAMS))
            self.networks_built += 1
        self._programs.move_to_end(key)
        while len(self._programs) > _MAX_CACHED_NETWORKS:
            _, forgotten = self._programs.popitem(last=False)
            self._forgotten += forgotten.executables.counts.compiled
        return recipe.make(self._programs[key])

    def _forget(self) -> None:
        """Unload all programs of this process, also those of JAX itself; the cache on disk keeps them."""
        self._forgotten = self.compilations
        self._programs.clear()
        jax.clear_caches()
        # Programs are part of reference cycles.
        gc.collect()


class OtherRecipe(Protocol):
    """Recipe for workers that do not share one canvas, such as those of an atlas or a sweep."""

    def make(self, kernels: KernelCache, /) -> Any:
        """Return the object that does the work in this process."""


class WorkerProcess(RemoteProcess):
    """Host of a `Worker` for each job, or of the object that another recipe makes.

    Other processes call the methods of both that are declared as `remote`, through `call`.
    """

    def __init__(self, kernels: KernelCache | None = None, host: str = "127.0.0.1") -> None:
        """Make a process that serves nothing yet.

        Args:
            kernels: The networks that this process has already.
            host: This machine's address, as the machines of the other workers know it.
        """
        use_compilation_cache()
        self._host = host
        #: Open from the first dream on.
        self._listener: Listener | None = None
        #: Connections of the last steps. They stay open until the next, since others may still read what came last.
        self._group: Group | None = None
        self._worker: object = None
        #: Number of calls that run now.
        self._calls = 0
        #: True while the others of a group are waited for.
        self._is_joining = False
        self._kernels = kernels or KernelCache()
        self._recipe: KernelRecipe | None = None
        self._kernel: Kernel | None = None
        self._preparation: OctavePreparation | None = None
        #: What the network's programs had cost when the job was opened.
        self._before = ProgramTimes()
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
        if self._preparation is not None:
            self._preparation.stop()
        self._kernel = self._preparation = None
        self._serve(None)
        trim_heap()
        usable_devices()
        if not isinstance(recipe, KernelRecipe):
            self._serve(recipe.make(self._kernels))
            return self.ping()
        assert source is not None, "a dream has a source"
        # In parallel with building the network.
        threading.Thread(target=store.get_ready).start()
        self._recipe = recipe
        self._kernel = self._kernels.find(recipe)
        self._before = self._counted()
        facts = self.ping()
        residency = ResidencyRule(self._kernel, recipe.residence, facts.platform, facts.device_bytes)
        architecture, devices = recipe.loaded.architecture, self._kernel.devices
        self._preparation = OctavePreparation(self._kernel, residency, facts.platform)
        self._serve(Worker(self._kernel, source, recipe.objectives, architecture, masks, devices, residency))
        return facts

    def run_steps(self, orders: StepOrders) -> int:
        """Have the job's worker take steps in time with the others: see `Stepping.run`. Return how many are done then.

        Raises:
            PeerLost: Another worker has gone, or cannot be reached.
        """
        self._leave_group()
        assert self._listener is not None, "listen comes first"
        assert isinstance(self._worker, Worker), "open comes first, with a dream"
        try:
            self._is_joining = True
            self._group = Group(orders.team, self._listener)
            self._is_joining = False
            steps_done = self._worker.take_steps(self._group, orders)
            self._group.end()
            return steps_done
        except BaseException:
            # The others wait for this one: now they see that it has gone.
            self._is_joining = False
            self._leave_group()
            raise

    def listen(self) -> Address:
        """Return where the other workers can connect to this one. Listen there from the first call on."""
        if self._listener is None:
            self._listener = Listener(self._host)
        return self._listener.address

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

    def prepare_octaves(self, assignments: Sequence[Assignment]) -> None:
        """Load or compile the programs of octaves to come, in the background: see `OctavePreparation`."""
        # Other recipes than that of a dream have no programs of octaves.
        if self._preparation is not None:
            self._preparation.start(assignments)

    def compile_state(self, objective: int, window: tuple[int, int], core: tuple[int, int]) -> tuple[bool, float | None]:
        """Return whether the kernel of such a window need not be compiled: see `Kernel.compile_state`."""
        assert self._kernel is not None, "open comes first"
        return self._kernel.compile_state(KernelShape(window, core), objective)

    def program_times(self) -> ProgramTimes:
        """Return what the compiled programs of this job's network have cost since `open`."""
        return self._counted().since(self._before)

    def _counted(self) -> ProgramTimes:
        """Return what the compiled programs of this job's network have cost in this process."""
        counts = self._kernel.programs.executables.counts if self._kernel else ExecutableCounts()
        return ProgramTimes(counts.loaded, counts.traced, counts.compiled, counts.seconds, counts.waited)

    def class_scores(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the network's scores for pictures, (rows, columns, 3) float32 RGB 0..255: (classes,) before softmax each.

        The kernels' network ends at the deepest layer that dreams, so the complete network is built here.
        """
        assert self._recipe is not None, "open comes first"
        from render.networks.network import Network, class_scores  # Only here: it needs Flax.

        loaded = self._recipe.loaded
        return class_scores(Network(loaded.architecture, loaded.parameters), pictures)

    def ping(self) -> WorkerFacts:
        """Return the current facts, as a sign of life."""
        return process_facts(self._kernels.networks_built)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a remote method of this object or of the job's worker, by its name."""
        if method not in self._targets:
            raise AttributeError(f"{method} is no remote method here: declare it with @remote, and call open first")
        self._calls += 1
        try:
            if method not in _PREPARING:
                return getattr(self._targets[method], method)(*arguments)
            # Nothing is computed yet: what fails here would fail again with another worker.
            with readable_errors():
                return getattr(self._targets[method], method)(*arguments)
        finally:
            self._calls -= 1

    @property
    def is_at_work(self) -> bool:
        """True while a call runs that does not wait for another worker. May be asked from another thread."""
        group = self._group
        return self._calls > 0 and not self._is_joining and not (group is not None and group.is_waiting)

    def give_up(self) -> None:
        """End the waiting for other workers, of which one is lost. May be called from another thread."""
        group = self._group
        if group is not None:
            group.interrupt()

    def close(self) -> None:
        """Forget the job's worker, and close the port. What another thread runs ends its waiting, and then itself."""
        if self._calls:
            self.give_up()
        else:
            self._serve(None)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _serve(self, worker: object) -> None:
        """Offer the remote methods of this object and of a job's worker, which may be None."""
        self._leave_group()
        self._worker = worker
        self._targets = {name: target for target in (worker, self) for name in remote_methods(type(target))}

    def _leave_group(self) -> None:
        """Close the connections to the workers of the last steps."""
        if self._group is not None:
            self._group.close()
            self._group = None


def process_facts(kernels_made: int = 0) -> WorkerFacts:
    """Return the facts of this process and its machine. Raise `UserError` if it cannot use its platform."""
    devices = usable_devices()
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
        versions={**own_versions(), **device_versions(device)},
    )


def use_compilation_cache() -> None:
    """Keep compiled kernels in the user's cache, even if they compile quickly.

    Kernels are code: a directory that is somebody else's, or that cannot be kept from others, is not used.
    """
    kernels = cache_directory() / KERNELS
    if not make_private(kernels):
        return
    jax.config.update("jax_compilation_cache_dir", str(kernels))
    # A full disk, or one that is only read: do not warn for every kernel.
    warnings.filterwarnings("ignore", message="Error writing persistent compilation cache entry")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
