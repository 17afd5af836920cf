"""Sources of a job's workers: this process, a local Ray, or a running cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from render.config.schema import FarmConfig
from render.farm.executors import Executor, InlineExecutor, Reference
from render.system import interrupts
from render.system.accelerators import has_nvidia_gpu, has_plugin
from render.system.surroundings import (
    changed_environment,
    check_xla_flags,
    determinism_flags,
    settle_devices,
    settle_jax,
    unsettle_devices,
    with_xla_flags,
)

if TYPE_CHECKING:
    from render.farm.worker.process import KernelCache


class Farm(Protocol):
    """Workers that jobs lease."""

    def lease(self, workers: int | None = None) -> AbstractContextManager[Executor]:
        """Lease `workers` of them for one job, all by default."""

    @property
    def size(self) -> int:
        """Number of workers, leased or not."""

    @property
    def workers_per_machine(self) -> int:
        """Largest number of workers on one machine."""

    def share(self, value: Any) -> Reference:
        """Put a value that many leases open with where all workers find it."""

    def close(self) -> None:
        """Release the workers."""


class InlineFarm:
    """Workers in this process, made when they are leased; their kernels are kept for the next job.

    `kernels` are those that the process has already; `platform` is what JAX must run on, None for the default; `xla_flags`
    are XLA's, which it reads at its first use of a device.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        check: Callable[[], None] = lambda: None,
        kernels: KernelCache | None = None,
        platform: str | None = None,
        xla_flags: str = "",
    ) -> None:
        # XLA reads it when it starts its threads, at the first use of a device.
        variables = {"NPROC": str(threads), **with_xla_flags(xla_flags)}
        if platform is not None:
            # With this set, a device that is in use is an error and not a slow render. Read when JAX is imported.
            variables["JAX_PLATFORMS"] = platform
        with ExitStack() as environment:
            environment.enter_context(changed_environment(variables))
            if kernels is None:
                with interrupts.postponed():
                    settle_jax()
                    from render.farm.worker.process import KernelCache

                kernels = KernelCache()
            settle_devices()
            #: Restores the variables.
            self._environment = environment.pop_all()
        self._workers = workers
        self._check = check
        self._kernels = kernels

    @contextmanager
    def lease(self, workers: int | None = None) -> Iterator[Executor]:
        """Make `workers` workers for one job, the farm's number by default."""
        from render.farm.worker.device_check import readable_errors
        from render.farm.worker.process import WorkerProcess

        processes = [WorkerProcess(self._kernels) for _ in range(workers or self._workers)]
        try:
            yield InlineExecutor(processes, self._check, readable_errors)
        finally:
            for process in processes:
                process.close()

    @property
    def size(self) -> int:
        """Number of workers of a lease."""
        return self._workers

    @property
    def workers_per_machine(self) -> int:
        """Number of workers on this machine."""
        return self._workers

    def share(self, value: Any) -> Reference:
        """Return the value itself: all workers are in this process."""
        return value

    def close(self) -> None:
        """Restore the environment. Nothing else is kept but memory."""
        unsettle_devices()
        self._environment.close()


def chosen_executor(config: FarmConfig) -> str:
    """Return the executor of one job: for `auto`, `inline` if it is one worker on this machine's CPUs, else `ray`."""
    if config.executor != "auto":
        return config.executor
    is_alone = config.address is None and config.workers in (None, 1) and not config.dashboard
    has_accelerators = has_nvidia_gpu() or has_plugin("cuda") or has_plugin("tpu")
    num_gpus = config.worker.num_gpus
    on_cpu = not config.worker.resources and (num_gpus == 0 or (num_gpus is None and not has_accelerators))
    return "inline" if is_alone and on_cpu else "ray"


@contextmanager
def open_farm(
    config: FarmConfig,
    *,
    threads: int,
    store_bytes: int,
    check: Callable[[], None],
    say: Callable[[str], None],
) -> Iterator[Farm]:
    """Open the farm that a config selects, and close it on exit. See `RayFarm` for the arguments and errors."""
    farm: Farm
    if config.address is None:
        check_xla_flags()
    if config.executor == "inline":
        device = "tpu" if "TPU" in config.worker.resources else {None: None, 0.0: "cpu"}.get(config.worker.num_gpus, "cuda")
        # On other platforms XLA would ignore the flags, and JAX would no longer find the kernels that it has compiled.
        on_gpu = device == "cuda" or (device is None and has_plugin("cuda") and has_nvidia_gpu())
        flags = determinism_flags(config.worker.deterministic) if on_gpu else ""
        farm = InlineFarm(config.workers or 1, threads, check, platform=device, xla_flags=flags)
    else:
        # Imported only here: the inline executor does not need Ray.
        from render.farm.ray.pool import RayFarm

        farm = RayFarm(config, threads=threads, store_bytes=store_bytes, check=check, say=say)
    try:
        yield farm
    finally:
        farm.close()
