"""Points that are pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from render.config.schema import Config
from render.errors import UserError
from render.farm.farms import Farm
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.job import job as jobs
from render.job.pictures import is_complete
from render.job.resources import store_bytes
from render.networks.weights import Loaded
from render.planning.plan import Plan
from render.sweeps.rendering.kernel_keys import kernel_keys
from render.sweeps.rendering.point_job import PointCost, PointState, unusable_directory
from render.sweeps.rendering.source_cache import SourceCache
from render.sweeps.rendering.thumbnails import has_thumbnail, make_thumbnail


@dataclass(frozen=True)
class StillPoint:
    """A `PointJob` of a picture.

    Attributes:
        config: Its config.
        draft: Its draft.
    """

    config: Config
    draft: jobs.Draft

    @property
    def identity(self) -> Sequence[object]:
        """Facts that identify the picture: not only its canvas, since points may differ in colours alone."""
        resolved = self.draft.resolved
        reference = resolved.reference
        facts: list[object] = [self.config.picture_settings(), resolved.directory.identity]
        return facts if reference is None or reference.sha256 is None else [*facts, reference.sha256]

    @cached_property
    def cost(self) -> PointCost:
        """Planned cost: see `PointJob.cost`."""
        plan = self.draft.plan
        return PointCost(
            plan.final.shape,
            plan.window_pixels / 1e6,
            plan.flops / 1e12,
            max(octave.grid.tiles for octave in plan.octaves),
            bool(plan.scratch_bytes),
            plan.disk_bytes,
            kernel_keys(self.draft.resolved, _windows(plan)),
        )

    def state_in(self, directory: Path) -> PointState:
        """Return the state of this picture: see `PointJob.state_in`."""
        resolved = self.draft.resolved
        config = replace(self.config, output=replace(self.config.output, dir=str(directory)))
        run, profile = resolved.directory.moved(directory), resolved.profile
        has_files = run.is_finished() and has_thumbnail(directory, run.picture)
        if has_files and is_complete(run, config, profile, resolved.reference):
            return PointState(is_done=True, seconds=float(run.record.get("seconds", {}).get("total", 0.0)))
        try:
            run.check()
        except UserError as error:
            raise unusable_directory(error, directory) from None
        return PointState(is_begun=run.unfinished() is not None)

    def compile(self, farm: Farm, loaded: Loaded | None) -> None:
        """Compile all kernels: see `PointJob.compile`."""
        if self.draft.resolved.directory.is_finished():
            return
        with jobs.prepared(self.draft, farm, loaded) as job:
            workers = Workers(job.executor)
            for window in _windows(job.plan):
                workers.start(0, RemoteProcess.window_bytes, *window)

    def render(self, farm: Farm, loaded: Loaded | None, thumbnail_side: int, check: Callable[[], None]) -> float:
        """Render the picture, or its missing files: see `PointJob.render`."""
        check()
        directory, megapixels = self.draft.resolved.directory, 0.0
        if directory.is_finished():
            jobs.make_again(self.draft)
        else:
            directory.check()
            with jobs.prepared(self.draft, farm, loaded) as job:
                jobs.render(job)
                megapixels = job.plan.window_pixels / 1e6
        make_thumbnail(directory.path, directory.picture, thumbnail_side)
        return megapixels

    def seconds_per_teraflop(self) -> float:
        """Measure a window of the smallest octave: see `PointJob.seconds_per_teraflop`."""
        with jobs.prepared(self.draft) as job:
            return jobs.calibrate(job) / (job.plan.octaves[0].window_flops / 1e12)

    def store_bytes(self) -> int:
        """Return the bytes of transfers between workers: see `PointJob.store_bytes`."""
        return store_bytes(self.draft.resolved, self.draft.plan)


def still_point(config: Config, sources: SourceCache) -> StillPoint:
    """Check and plan a picture; raise `RenderError` if it cannot work."""
    return StillPoint(config, jobs.draft(config, sources))


def _windows(plan: Plan) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Return the kernels' windows: number of the objective, (rows, columns) px of the window and of its core."""
    return [
        (number, octave.grid.window_shape, octave.grid.core_shape)
        for octave in plan.octaves
        for number in octave.stage.objectives
    ]
