"""What a worker does for a sweep: whole jobs, one after the other, on the kernels that its process keeps."""

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
from render.models.weights import Loaded
from render.source.source import Source, open_source, picture_path
from render.sweep.thumbnails import make_thumbnail

if TYPE_CHECKING:
    from render.farm.worker.process import KernelCache

log = logging.getLogger(__name__)

#: How often a worker looks whether it is to stop, s.
_LOOK = 0.5
#: Sources that a process keeps open; a photograph may take hundreds of megabytes.
_SOURCES_KEPT = 2
#: What a job's weights are found by: the model's name and its file.
WeightsKey = tuple[str, str | None]


def weights_key(config: Config) -> WeightsKey:
    """What tells a job's weights from those of other jobs of a sweep."""
    return config.model.name, config.model.weights


class Sources:
    """Opens sources, and keeps those used last: many points begin with the same picture."""

    def __init__(self) -> None:
        self._kept: dict[object, Source] = {}

    def __call__(self, image: str, seed: int, how: SourceConfig) -> Source:
        """See `open_source`."""
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
    """A point as a worker gets it: its config, with a run directory; the side of its thumbnail, px; what tells to stop.

    `threads` are those of the worker's process and `memory` is what it may use, bytes. Once there is a file `stop`, the
    canvas is saved and the point left. Files are named as seen from the directory `place`.
    """

    place: Path
    config: Config
    thumbnail: int
    threads: int
    memory: int
    stop: Path

    @property
    def within(self) -> Config:
        """The config for a job that has nobody but this process."""
        worker = WorkerConfig(threads=self.threads, memory_gb=self.memory / 1e9)
        return replace(self.config, farm=FarmConfig(executor="inline", workers=1, worker=worker), quiet=True)


@dataclass(frozen=True)
class Outcome:
    """What became of a point: `status` is done, failed or interrupted.

    `again` says whether a failure might not happen a second time. `seconds` is the whole time in the worker, `megapixels`
    counts what the kernel had to process, `peak_bytes` is the most memory that the process has used so far, and `compiled`
    how many kernels it has compiled so far that were not in the cache on disk.
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
    """The weights that the jobs of a sweep need, those of each `weights_key`."""

    loaded: Mapping[WeightsKey, Loaded]

    def make(self, kernels: KernelCache) -> Renderer:
        """What renders them. Raises `UserError` for weights broken on their way."""
        for loaded in self.loaded.values():
            check_arrival(loaded)
        return Renderer(self.loaded, kernels)


class Renderer:
    """Renders whole jobs in this very process."""

    def __init__(self, loaded: Mapping[WeightsKey, Loaded], kernels: KernelCache) -> None:
        self._loaded = loaded
        self._kernels = kernels
        self._sources = Sources()
        # Each run's log is a file of its own.
        logging.getLogger("render").setLevel(logging.INFO)
        logging.getLogger("render").addHandler(logging.NullHandler())

    def compile_point(self, order: Order) -> Outcome:
        """Compiles all kernels of a job, or loads them from the cache; a failure is one of the point."""
        return self._attempt(order, self._compile)

    def render_point(self, order: Order) -> Outcome:
        """Renders a job, or goes on with it, or writes what a finished one lacks of pictures."""
        return self._attempt(order, self._render)

    def _attempt(self, order: Order, work: Callable[[Order, jobs.Draft], float]) -> Outcome:
        def attempt() -> float:
            go_to(order.place)
            return work(order, jobs.draft(order.within, self._sources))

        outcome = attempted(order.config, attempt)
        return replace(outcome, peak_bytes=peak_bytes(), compiled=self._kernels.compilations)

    def _compile(self, order: Order, draft: jobs.Draft) -> float:
        if draft.directory.is_finished():
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
    """Makes a directory the current one of this process; `UserError` where this machine does not have it."""
    if Path.cwd() == place:
        return
    try:
        os.chdir(place)
    except OSError as error:
        raise UserError(
            f"{platform.node()} has no {place} ({error.strerror}): a sweep needs a directory that all its machines share"
        ) from None


def render_draft(draft: jobs.Draft, farm: Farm, loaded: Loaded, thumbnail: int) -> float:
    """Renders a point, or what it lacks, with its thumbnail; returns the megapixels of windows that its dream takes."""
    directory, megapixels = draft.directory, 0.0
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
    """What became of a point whose `work` returns megapixels; whatever that raises is a reason, not the end of a sweep."""
    begun = time.perf_counter()
    status, reason, again, megapixels = "done", "", False, 0.0
    try:
        megapixels = work()
    except (UrgentInterrupt, NodeLost):
        raise
    except KeyboardInterrupt:
        status = "interrupted"
    except RenderError as error:
        # The job's own fault, which would be the same next time.
        status, reason, again = "failed", str(error), isinstance(error, WorkersLost)
    except Exception as error:
        log.exception("%s", config.output.dir)
        status, reason, again = "failed", f"{type(error).__name__}: {str(error).strip() or 'no reason given'}", True
    return Outcome(status, time.perf_counter() - begun, reason, again, megapixels)


class _Stop:
    """Raises KeyboardInterrupt, when called, once there is such a file; looks now and then."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._looked = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            if self._file.exists():
                raise KeyboardInterrupt


def peak_bytes() -> int:
    """The most memory that this process has used so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
