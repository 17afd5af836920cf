"""Maker of dreamed footage's frames that dreams several shots at once, each on workers of its own."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from render.errors import UrgentInterrupt, UserError
from render.farm.conductor import Conductor
from render.farm.events import Event
from render.farm.farms import Farm
from render.film.dreamed.dreamed_film import DreamedFilm
from render.film.dreamed.dreamed_frames import DreamedFrame
from render.film.dreamed.film_farm import PreparedFilm, core_shapes, film_draft, prepared_film, with_window_bytes
from render.film.film_draft import FilmSurroundings
from render.film.footage.clip import Clip
from render.film.footage.footage_frames import FootageFrames
from render.film.footage.shot_lanes import ShotLanes
from render.film.footage.shot_schedule import ShotSchedule
from render.job import resources
from render.job.job import Job, equipped, opening_arguments
from render.networks.weights import Loaded
from render.planning.plan import Plan
from render.planning.planner import make_plan

#: Fewest frames ahead with which shots are dreamed at once.
MIN_AHEAD = 2


@dataclass(frozen=True)
class LanePlans:
    """Plans of the first frame and of later ones, by the number of workers that dream them, from 1 on."""

    plans: Mapping[int, tuple[Plan, Plan]]

    @property
    def most_workers(self) -> int:
        """Most workers that a frame has tiles for."""
        return max(octave.grid.tiles for plan in self.plans[1] for octave in plan.octaves)

    @classmethod
    def of(cls, ready: PreparedFilm, workers: int) -> LanePlans | None:
        """Return the plans for up to `workers` workers; None if one worker cannot hold a frame as all together can.

        Args:
            ready: The film on all workers, whose grids all plans have.
            workers: Number of workers of the farm.
        """
        film, job = ready.film, ready.job
        machine = resources.farm_machine(film.resolved, job.workers)
        request = replace(film.resolved.plan_request, architecture=job.loaded.architecture)
        plans = {}
        for count in range(1, workers + 1):

            def plan_first(window_bytes: Any, count: int = count) -> Plan:
                return make_plan(request, machine, window_bytes, workers=count, core_shapes=core_shapes(job.plan))

            def plan_later(window_bytes: Any, count: int = count) -> Plan:
                return film.plan(machine, window_bytes, workers=count, core_shapes=core_shapes(ready.later))

            try:
                plans[count] = with_window_bytes(job, plan_first), with_window_bytes(job, plan_later)
            except UserError:
                return None
            if any(plan.scratch_bytes for plan in plans[count]) and not job.plan.scratch_bytes:
                return None
        return cls(plans)


@dataclass(frozen=True)
class ShotFarm:
    """Workers that are leased shot by shot.

    Attributes:
        farm: The farm.
        ready: The film, as it was prepared on all workers.
        plans: Plans by the number of workers.
        opening: What workers are opened with, shared with the farm.
    """

    farm: Farm
    ready: PreparedFilm
    plans: LanePlans
    opening: tuple[Any, ...]

    @contextmanager
    def leased(self, workers: int) -> Iterator[tuple[Job, Plan]]:
        """Yield the film's job on `workers` workers, fewer if the farm has lost some, and the plan of later frames."""
        count = max(1, min(workers, self.farm.size))
        with self.farm.lease(count) as executor:
            facts = executor.open(*self.opening)
            first, later = self.plans.plans[count]
            yield replace(self.ready.job, executor=executor, plan=first, workers=tuple(facts)), later


class ShotFrames(FootageFrames):
    """Maker of dreamed footage's frames, of several shots at once: see `FrameMaker`.

    Canvases of later shots wait among those of the film until their turn, where another run finds them.
    """

    def __init__(self, clip: Clip, shot_farm: ShotFarm, surroundings: FilmSurroundings, ahead: int) -> None:
        """Store the parts; nothing is read or dreamed yet.

        Args:
            clip: The footage, of which the source of the film's job is a frame.
            shot_farm: The workers.
            surroundings: Surroundings of the film.
            ahead: Most frames that may be dreamed ahead, at least `MIN_AHEAD`.
        """
        ready = shot_farm.ready
        super().__init__(
            clip, ready.film, ready.job, ready.later, ready.canvases, ready.digest,
            self._lane_event, surroundings.tell,
        )  # fmt: skip
        self._shot_farm, self._surroundings, self._ahead = shot_farm, surroundings, ahead
        self._lanes: ShotLanes | None = None
        #: Held while an event is told, which come from all lanes.
        self._telling = threading.Lock()

    def make(self, first: int, last: int) -> Iterator[DreamedFrame]:
        """Yield the frames from `first` to before `last`: see `FrameMaker.make`."""
        if first >= last:
            return
        self._remove_starts()
        numbers = [number for number in self._canvases.frames() if first <= number < last]
        finished = {number: canvas for number in numbers if (canvas := self._finished(number)) is not None}
        self._lanes = ShotLanes(
            ShotSchedule(first, last, self._ahead, self._shot_farm.plans.most_workers, finished),
            finished,
            self._opened_lane,
            lambda: self._shot_farm.farm.size,
            self._shots.begins,
            self._surroundings.on_ahead,
        )
        yield from self._in_pictures(first, self._lanes.taken(first, last))
        self._canvases.remove_from(last)

    def stop(self) -> None:
        """Stop all shots that are dreamed, and wait for their ends."""
        if self._lanes is not None:
            self._lanes.stop()

    @contextmanager
    def _opened_lane(self, workers: int) -> Iterator[FootageFrames]:
        """Yield a maker of frames with workers of its own; all else is shared."""
        with self._shot_farm.leased(workers) as (job, later):
            lane = copy.copy(self)
            lane._job, lane._later = job, later
            yield lane

    def _lane_event(self, frame: int, event: Event, conductor: Conductor) -> None:
        """Tell what happens within a frame, and end a lane that is to stop."""
        assert self._lanes is not None, "a lane is at work"
        self._lanes.check()
        with self._telling:
            self._surroundings.on_event(frame, event, conductor)


@contextmanager
def opened_footage(
    clip: Clip, film: DreamedFilm, surroundings: FilmSurroundings, ahead: int, loaded: Loaded | None = None
) -> Iterator[FootageFrames]:
    """Yield the maker of dreamed footage's frames: of one shot after the other, or of several at once on several workers.

    Args:
        clip: The footage, of which the source of the film's job is a frame.
        film: The film.
        surroundings: Its surroundings.
        ahead: Most frames that may be dreamed ahead; 0 for one shot after the other.
        loaded: The film's weights, if a farm is there and they are loaded already.
    """
    with equipped(film_draft(film, surroundings), surroundings.farm, loaded or surroundings.loaded) as (farm, weights):
        with prepared_film(film, replace(surroundings, farm=farm), weights) as ready:
            plans = LanePlans.of(ready, farm.size) if farm.size > 1 and ahead >= MIN_AHEAD else None
            if plans is None:
                yield FootageFrames(
                    clip, film, ready.job, ready.later, ready.canvases, ready.digest,
                    surroundings.on_event, surroundings.tell,
                )  # fmt: skip
                return
        opening = tuple(farm.share(part) for part in opening_arguments(film.resolved, weights))
        frames = ShotFrames(clip, ShotFarm(farm, ready, plans, opening), surroundings, ahead)
        with _stopped_at_the_end(frames.stop):
            yield frames


@contextmanager
def _stopped_at_the_end(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the end of the context, except after a second interrupt: then nothing is waited for."""
    try:
        yield
    except UrgentInterrupt:
        raise
    except BaseException:
        stop()
        raise
    stop()
