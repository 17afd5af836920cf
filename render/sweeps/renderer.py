"""Worker of a sweep: renders whole jobs, one after the other, with the kernels that its process keeps."""

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

from render.config.schema import Config, FarmConfig, SourceConfig, WorkerConfig
from render.errors import NodeLost, RenderError, UrgentInterrupt, UserError, WorkersLost
from render.farm.farms import Farm, InlineFarm
from render.farm.worker.kernel_recipe import check_arrival
from render.job import job as jobs
from render.networks.weights import Loaded
from render.source.source import Source, open_source, picture_path
from render.sweeps.thumbnails import make_thumbnail

if TYPE_CHECKING:
    from render.farm.worker.process import KernelCache

log = logging.getLogger(__name__)

#: Seconds between two checks for the stop file.
_LOOK = 0.5
#: Most sources that a process keeps open; a photograph may take hundreds of megabytes.
_SOURCES_KEPT = 2
#: Key of a job's weights: the model's name and its file.
WeightsKey = tuple[str, str | None]


def weights_key(config: Config) -> WeightsKey:
    """Return the key of a job's weights."""
    return config.model.name, config.model.weights


class Sources:
    """Cache of the sources used last: many points begin with the same picture."""

    def __init__(self) -> None:
        self._kept: dict[object, Source] = {}

    def __call__(self, image: str, seed: int, how: SourceConfig) -> Source:
        """Open a source as `open_source` does, or return it from the cache."""
        if image == "noise":
            return open_source(image, seed, how)
        path = picture_path(image, "a path, sample:NAME or noise")
        status = path.stat()
        key = (str(path.absolute()), status.st_mtime_ns, status.st_size, str(how))
        source = self._kept.pop(key, None) or open_source(image, seed, how)
        self._kept[key] = source
        while len(self._kept) > _SOURCES_KEPT:
            del self._kept[next(iter(self._kept))]
        return source


@dataclass(frozen=True)
class Order:
    """Order to render a point.

    `config` names a run directory. `thumbnail` is the side of the thumbnail, px. `threads` is the number of threads of the
    worker's process, and `memory` the bytes that it may use. Once the file `stop` exists, the worker saves its canvas and
    stops. Paths are relative to the directory `place`.
    """

    place: Path
    config: Config
    thumbnail: int
    threads: int
    memory: int
    stop: Path

    @property
    def within(self) -> Config:
        """Config for a job that runs in this process alone."""
        worker = WorkerConfig(threads=self.threads, memory_gb=self.memory / 1e9)
        return replace(self.config, farm=FarmConfig(executor="inline", workers=1, worker=worker), quiet=True)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a point: `status` is done, failed or interrupted.

    `again` is true if a retry after a failure might succeed. `seconds` is the total time in the worker, `megapixels` the
    window area of the dream, `peak_bytes` the peak memory of the process so far, and `compiled` the number of kernels that
    it has compiled so far because they were not in the cache on disk.
    """

    status: str
    seconds: float
    reason: str = ""
    again: bool = False
    megapixels: float = 0.0
    peak_bytes: int = 0
    compiled: int = 0


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
        self._sources = Sources()
        # Each run logs to its own file.
        logging.getLogger("render").setLevel(logging.INFO)
        logging.getLogger("render").addHandler(logging.NullHandler())

    def compile_point(self, order: Order) -> Outcome:
        """Compile all kernels of a job, or load them from the cache; return a failure as the point's outcome."""
        return self._attempt(order, self._compile)

    def render_point(self, order: Order) -> Outcome:
        """Render or resume a job, or write the missing pictures of a finished one."""
        return self._attempt(order, self._render)

    def _attempt(self, order: Order, work: Callable[[Order, jobs.Draft], float]) -> Outcome:
        def attempt() -> float:
            go_to(order.place)
            return work(order, jobs.draft(order.within, self._sources))

        outcome = attempted(order.config, attempt)
        return replace(outcome, peak_bytes=peak_bytes(), compiled=self._kernels.compilations)

    def _compile(self, order: Order, draft: jobs.Draft) -> float:
        if draft.resolved.directory.is_finished():
            return 0.0
        with jobs.prepared(draft, self._farm(order), self._weights(order)) as job:
            for octave in job.plan.octaves:
                for objective in octave.stage.objectives:
                    job.executor.call(0, "window_bytes", objective, octave.grid.window_shape, octave.grid.core_shape)
        return 0.0

    def _render(self, order: Order, draft: jobs.Draft) -> float:
        return render_draft(draft, self._farm(order), self._weights(order), order.thumbnail)

    def _farm(self, order: Order) -> Farm:
        return InlineFarm(1, order.threads, _Stop(order.stop), self._kernels)

    def _weights(self, order: Order) -> Loaded:
        return self._loaded[weights_key(order.config)]


def go_to(place: Path) -> None:
    """Change the working directory of this process. Raise `UserError` if this machine does not have it."""
    if Path.cwd() == place:
        return
    try:
        os.chdir(place)
    except OSError as error:
        raise UserError(
            f"{platform.node()} has no {place} ({error.strerror}): a sweep needs a directory that all its machines share"
        ) from None


def render_draft(draft: jobs.Draft, farm: Farm, loaded: Loaded, thumbnail: int) -> float:
    """Render a point, or its missing pictures, and its thumbnail; return the window megapixels of its dream."""
    directory, megapixels = draft.resolved.directory, 0.0
    if directory.is_finished():
        jobs.make_again(draft)
    else:
        directory.check()
        with jobs.prepared(draft, farm, loaded) as job:
            jobs.render(job)
            megapixels = job.plan.window_pixels / 1e6
    make_thumbnail(directory.path, directory.picture, thumbnail)
    return megapixels


def attempted(config: Config, work: Callable[[], float]) -> Outcome:
    """Run `work`, which returns megapixels, and return the outcome: an error of one point must not end a sweep.

    Raises:
        UrgentInterrupt: As `work` raised it.
        NodeLost: As `work` raised it.
    """
    start = time.perf_counter()
    status, reason, again, megapixels = "done", "", False, 0.0
    try:
        megapixels = work()
    except (UrgentInterrupt, NodeLost):
        raise
    except KeyboardInterrupt:
        status = "interrupted"
    except RenderError as error:
        # The job itself fails, and would fail again, unless workers were lost.
        status, reason, again = "failed", str(error), isinstance(error, WorkersLost)
    except Exception as error:
        log.exception("%s", config.output.dir)
        status, reason, again = "failed", f"{type(error).__name__}: {str(error).strip() or 'no reason given'}", True
    return Outcome(status, time.perf_counter() - start, reason, again, megapixels)


class _Stop:
    """Callable that raises KeyboardInterrupt once a file exists; checks every `_LOOK` seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._looked = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            if self._file.exists():
                raise KeyboardInterrupt


def peak_bytes() -> int:
    """Return the peak memory of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
