"""A dreamed film, checked: everything that its frames follow from but the farm. Nothing is started or written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from render.config.film_schema import FilmConfig, FilmJob
from render.config.schema import Config
from render.dreaming.objectives import Objective
from render.dreaming.stage import Stage
from render.errors import UserError
from render.film.dreamed.camera import Camera
from render.film.dreamed.film_schedule import FilmSchedule
from render.film.dreamed.frame_dreams import dream_schedules, finest_step_size, finest_steps, first_config
from render.film.dreamed.frame_plans import plan_frames
from render.film.dreamed.frame_sources import FrameSources, LoopEnd
from render.film.dreamed.keyframes import read_keyframes
from render.film.dreamed.timeline import Timeline
from render.geometry.geometry import BOUNDARY_MODES
from render.job.resolve import ResolvedJob
from render.planning.plan import Machine, Plan
from render.planning.planner import PlanRequest, WindowBytes

#: What comes in at the edges: values of `film.edge`.
_EDGES = ("reflect", "noise")
#: Length of the end of a loop, s, and the most of the film that it takes.
_LOOP_END_S, _MOST_LOOP_END = 1, Fraction(1, 2)
_MAX_KEEP = 1000


@dataclass(frozen=True)
class DreamedFilm:
    """A dreamed film.

    Attributes:
        film: The section `film` of its config.
        resolved: The job of the first frame, whose schedule has the objectives of all frames.
        timeline: Settings of later frames.
        schedule: Objectives and stages of later frames.
        sources: Sources of later frames.
        request: Values that the plan of later frames depends on.
    """

    film: FilmConfig
    resolved: ResolvedJob
    timeline: Timeline
    schedule: FilmSchedule
    sources: FrameSources
    request: PlanRequest

    @property
    def identity(self) -> dict[str, str | None]:
        """Facts that distinguish films with equal settings, beside those of the first frame's job."""
        reference = self.resolved.reference
        return {
            "dreams": hashlib.sha256(self.schedule.identity.encode()).hexdigest(),
            "match": None if reference is None else reference.sha256,
        }

    def canvas_digest(self, digest: str) -> str:
        """Return the sha256, in hex, that canvases and colours are saved with, so that no other film goes on from them.

        Args:
            digest: Digest of the film, which need not cover what its dreams and colours look at.
        """
        output, reference = self.resolved.config.output, self.resolved.reference
        colours = [output.saturation, output.contrast, None if reference is None else reference.sha256]
        return hashlib.sha256(json.dumps([digest, self.identity, colours]).encode()).hexdigest()

    def plan(
        self,
        machine: Machine,
        window_bytes: WindowBytes | None = None,
        *,
        workers: int = 1,
        core_shapes: Sequence[tuple[int, int]] | None = None,
    ) -> Plan:
        """Return the plan of later frames: see `plan_frames`."""
        return plan_frames(
            self.request, self.schedule.objectives, self.schedule.all_stages(), machine, window_bytes,
            workers=workers, core_shapes=core_shapes,
        )  # fmt: skip

    def frame(self, number: int) -> tuple[tuple[Stage, ...], tuple[Objective, ...]]:
        """Return the stages of a frame, from 1 on, and all objectives with its weights."""
        stages, objectives = self.schedule.frame(self.timeline.settings(number))
        return self.sources.stages(number, stages), objectives


def dreamed_film(job: FilmJob, resolved: ResolvedJob, rate: Fraction, frames: int) -> DreamedFilm:
    """Return a film, checked.

    Args:
        job: Its config.
        resolved: The resolved job of its first frame, which is the picture of `job.job()`.
        rate: Frames a second.
        frames: Frames of the whole film; only a loop depends on it.

    Raises:
        UserError: A setting has no meaning.
    """
    film = job.film
    _check(film, frames)
    keyframes = read_keyframes(film)
    config = first_config(resolved.config, film, resolved)
    timeline = Timeline(keyframes, rate, film.easing, step_size=finest_step_size(config), steps=finest_steps(config))
    schedule = FilmSchedule(resolved.schedule, dream_schedules(config, timeline.dreams, resolved))
    request = resolved.plan_request
    all_objectives = replace(resolved.schedule, objectives=schedule.objectives)
    sources = FrameSources(
        camera=Camera(timeline, rate, request.shape),
        shape=request.shape,
        modes=BOUNDARY_MODES[job.boundary.mode],
        picture_detail=_picture_detail(request),
        noise_seed=resolved.seed if film.edge == "noise" else None,
        loop=_loop_end(rate, frames) if film.loop else None,
    )
    return DreamedFilm(
        film=film,
        resolved=replace(resolved, schedule=all_objectives, plan_request=replace(request, schedule=all_objectives)),
        timeline=timeline,
        schedule=schedule,
        sources=sources,
        request=_later_request(request, config, schedule),
    )


def _check(film: FilmConfig, frames: int) -> None:
    """Raise `UserError` for a setting of the film itself that has no meaning."""
    if film.edge not in _EDGES:
        raise UserError(f"film.edge={film.edge}: must be {' or '.join(_EDGES)}")
    if isinstance(film.keep, bool) or not 1 <= film.keep <= _MAX_KEEP:
        raise UserError(f"film.keep={film.keep}: must be a whole number from 1 to {_MAX_KEEP:,}")
    if film.loop and frames < 2:
        raise UserError("film.loop=true needs a film of at least 2 frames: set a larger film.seconds")


def _loop_end(rate: Fraction, frames: int) -> LoopEnd:
    """Return the end of a loop: its last second, but at most half of it."""
    return LoopEnd(frames, max(1, min(round(rate * _LOOP_END_S), int(frames * _MOST_LOOP_END))))


def _picture_detail(request: PlanRequest) -> float:
    """Return how many pixels of the picture lie along one of the canvas; noise is sharp at any size."""
    window = request.source_window
    if window is None:
        return 2.0**12
    height, width = request.shape
    return max(window.rows.extent / height, window.columns.extent / width)


def _later_request(request: PlanRequest, config: Config, schedule: FilmSchedule) -> PlanRequest:
    """Return the values that the plan of later frames depends on."""
    stages = schedule.all_stages()[0]
    return replace(
        request,
        scale=config.octaves.scale,
        schedule=replace(request.schedule, objectives=schedule.objectives, stages=stages),
    )
