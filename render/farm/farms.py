"""Where a job's workers come from: this process, a Ray of our own, or a running cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from render.config.schema import FarmConfig
from render.farm.executors import Executor, InlineExecutor, Reference
from render.system import interrupts
from render.system.surroundings import check_xla_flags, settle_jax

if TYPE_CHECKING:
    from render.farm.worker.process import KernelCache


class Farm(Protocol):
    """Workers that jobs lease."""

    def lease(self, workers: int | None = None) -> AbstractContextManager[Executor]:
        """`workers` of them for one job, all by default."""

    @property
    def size(self) -> int:
        """How many workers there are, leased or not."""

    @property
    def together(self) -> int:
        """How many of them one machine has, at most."""

    def share(self, value: Any) -> Reference:
        """Puts what many leases open with where all workers find it."""

    def close(self) -> None:
        """Lets the workers go."""


class InlineFarm:
    """Workers in this very process, made when they are leased; their kernels are kept for the next job.

    `kernels` are those that the process has already; `platform` is what JAX must run on, None for what there is.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        check: Callable[[], None] = lambda: None,
        kernels: KernelCache | None = None,
        platform: str | None = None,
    ) -> None:
        self._platform_before = os.environ.get("JAX_PLATFORMS")
        if platform is not None:
            # Where a device is asked for, one that is taken is an error and not a slow render. Read when JAX is imported.
            os.environ["JAX_PLATFORMS"] = platform
        self._platform = platform
        # Read by XLA when it starts its threads, at the first use of a device.
        os.environ["NPROC"] = str(threads)
        if kernels is None:
            with interrupts.postponed():
                settle_jax()
                from render.farm.worker.process import KernelCache

            kernels = KernelCache()
        self._workers = workers
        self._check = check
        self._kernels = kernels

    @contextmanager
    def lease(self, workers: int | None = None) -> Iterator[Executor]:
        from render.farm.worker.process import WorkerProcess

        processes = [WorkerProcess(self._kernels) for _ in range(workers or self._workers)]
        yield InlineExecutor(processes, self._check)

    @property
    def size(self) -> int:
        return self._workers

    @property
    def together(self) -> int:
        return self._workers

    def share(self, value: Any) -> Reference:
        return value

    def close(self) -> None:
        """Nothing is kept but memory."""
        if self._platform is not None:
            os.environ.pop("JAX_PLATFORMS")
            if self._platform_before is not None:
                os.environ["JAX_PLATFORMS"] = self._platform_before


@contextmanager
def open_farm(
    config: FarmConfig,
    *,
    threads: int,
    store_bytes: int,
    check: Callable[[], None],
    say: Callable[[str], None],
) -> Iterator[Farm]:
    """The farm that a config asks for; closed on the way out. See `RayFarm` for the arguments and what is raised."""
    farm: Farm
    if config.address is None:
        check_xla_flags()
    if config.executor == "inline":
        wanted = "tpu" if "TPU" in config.worker.resources else {None: None, 0.0: "cpu"}.get(config.worker.num_gpus, "cuda")
        farm = InlineFarm(config.workers or 1, threads, check, platform=wanted)
    else:
        # Imported where it is needed: the inline executor does without Ray.
        from render.farm.ray.pool import RayFarm

        farm = RayFarm(config, threads=threads, store_bytes=store_bytes, check=check, say=say)
    try:
        yield farm
    finally:
        farm.close()
