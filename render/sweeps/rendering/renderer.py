"""Renderer of points in a worker's process: whole jobs, with the kernels of the process."""

from __future__ import annotations

import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from render.config.schema import Config
from render.errors import NodeLost, RenderError, UrgentInterrupt, UserError, WorkersLost
from render.farm.farms import Farm, InlineFarm
from render.farm.remote import remote
from render.farm.worker.kernel_recipe import check_arrival
from render.networks.weights import Loaded
from render.sweeps.rendering.orders import PointOutcome, RenderOrder, WeightsKey, weights_key
from render.sweeps.rendering.point_job import PointJob
from render.sweeps.rendering.point_kinds import point_job
from render.sweeps.rendering.source_cache import SourceCache

if TYPE_CHECKING:
    from render.farm.worker.process import KernelCache

log = logging.getLogger(__name__)

#: Seconds between two checks for the stop file.
_STOP_CHECK_S = 0.5


@dataclass(frozen=True)
class RendererRecipe:
    """Weights that the jobs of a sweep need, by `weights_key`."""

    loaded: Mapping[WeightsKey, Loaded]

    def make(self, kernels: KernelCache) -> Renderer:
        """Return a renderer with these weights. Raise `UserError` for weights damaged in transfer."""
        for loaded in self.loaded.values():
            check_arrival(loaded)
        return Renderer(self.loaded, kernels)


class Renderer:
    """Renderer of whole jobs in this process."""

    def __init__(self, loaded: Mapping[WeightsKey, Loaded], kernels: KernelCache) -> None:
        self._loaded = loaded
        self._kernels = kernels
        self._sources = SourceCache()
        # Each run logs to its own file.
        logging.getLogger("render").setLevel(logging.INFO)
        logging.getLogger("render").addHandler(logging.NullHandler())

    @remote
    def compile_point(self, order: RenderOrder) -> PointOutcome:
        """Compile all kernels of a job, or load them from the cache.

        A failure is the outcome of the point.
        """
        return self._attempt(order, self._compile)

    @remote
    def render_point(self, order: RenderOrder) -> PointOutcome:
        """Render or resume a job, or write the missing files of a finished one."""
        return self._attempt(order, self._render)

    def _attempt(self, order: RenderOrder, work: Callable[[RenderOrder, PointJob], float]) -> PointOutcome:
        """Draft the order's job, pass it to `work`, and return the outcome."""

        def attempt() -> float:
            change_directory(order.working_directory)
            return work(order, point_job(order.inline_config, self._sources))

        outcome = attempt_point(order.config, attempt)
        return replace(outcome, peak_bytes=peak_bytes(), compiled=self._kernels.compilations)

    def _compile(self, order: RenderOrder, job: PointJob) -> float:
        job.compile(self._farm(order), self._weights(order))
        return 0.0

    def _render(self, order: RenderOrder, job: PointJob) -> float:
        return job.render(self._farm(order), self._weights(order), order.thumbnail_side, _StopFile(order.stop_file))

    def _farm(self, order: RenderOrder) -> Farm:
        return InlineFarm(1, order.threads, _StopFile(order.stop_file), self._kernels)

    def _weights(self, order: RenderOrder) -> Loaded | None:
        # Jobs that dream nothing need none.
        return self._loaded.get(weights_key(order.config))


def change_directory(directory: Path) -> None:
    """Change the working directory of this process.

    Raise `UserError` if this machine does not have it.
    """
    if Path.cwd() == directory:
        return
    try:
        os.chdir(directory)
    except OSError as error:
        raise UserError(
            f"{platform.node()} has no {directory} ({error.strerror}): "
            "a sweep needs a directory that all its machines share"
        ) from None


def attempt_point(config: Config, work: Callable[[], float]) -> PointOutcome:
    """Run `work`, which returns megapixels, and return the outcome.

    An error of one point must not end a sweep.

    Raises:
        UrgentInterrupt: As `work` raised it.
        NodeLost: As `work` raised it.
    """
    start = time.perf_counter()
    megapixels = 0.0
    try:
        megapixels = work()
    except (UrgentInterrupt, NodeLost):
        raise
    except KeyboardInterrupt:
        return PointOutcome("interrupted", time.perf_counter() - start)
    except RenderError as error:
        # The job itself fails, and would fail again, unless workers were lost.
        return PointOutcome("failed", time.perf_counter() - start, str(error), isinstance(error, WorkersLost))
    except Exception as error:
        log.exception("%s", config.output.dir)
        reason = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
        return PointOutcome("failed", time.perf_counter() - start, reason, may_retry=True)
    return PointOutcome("done", time.perf_counter() - start, megapixels=megapixels)


class _StopFile:
    """Callable that raises KeyboardInterrupt once a file exists.

    It looks for the file every `_STOP_CHECK_S` seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_check = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last_check > _STOP_CHECK_S:
            self._last_check = time.monotonic()
            if self._path.exists():
                raise KeyboardInterrupt


def peak_bytes() -> int:
    """Return the peak memory of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
