"""Opening of a dreamed film's maker: its farm with the weights and all objectives, and the plans of its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from render.errors import UserError, WorkersLost
from render.farm.checkpoint import ResumeKey
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.film.dreamed.canvases import FrameCanvases
from render.film.dreamed.dreamed_film import DreamedFilm
from render.film.dreamed.dreamed_frames import DreamedFrames
from render.film.dreamed.frame_grids import resume_keys, write_grids
from render.film.film_directory import CANVASES
from render.film.film_draft import FilmSurroundings
from render.film.film_dreams import FilmDreams
from render.job import resources
from render.job.job import Draft, Job, prepared
from render.networks.weights import Loaded
from render.planning.plan import Machine, Plan
from render.planning.planner import WindowBytes, make_plan
from render.storage.url import joined


@dataclass(frozen=True)
class PreparedFilm:
    """A film whose workers are ready for its first frame.

    Attributes:
        film: The film.
        job: Job of its first frame.
        later: Plan of later frames.
        canvases: The film's canvases.
        digest: Digest that they are saved with.
    """

    film: DreamedFilm
    job: Job
    later: Plan
    canvases: FrameCanvases
    digest: str


def film_plans(film: DreamedFilm, machine: Machine | None = None) -> tuple[Plan, Plan]:
    """Return the plans of the first frame and of later ones, with estimates of the memory; start nothing.

    Args:
        film: The film.
        machine: Machine to plan for; None for this one.

    Raises:
        UserError: The film cannot work.
    """
    resolved = film.resolved
    machine = machine or resources.estimated_machine(resolved)
    first = make_plan(resolved.plan_request, machine, workers=resolved.workers)
    return first, film.plan(machine, workers=resolved.workers)


def film_draft(film: DreamedFilm, surroundings: FilmSurroundings) -> Draft:
    """Return the draft of a film's first frame, which goes on with the grids of an earlier run.

    Raises:
        UserError: The film cannot work, or its canvases are another film's.
    """
    digest = film.canvas_digest(surroundings.digest)
    first_key, _ = resume_keys(_canvases(film, surroundings), digest)
    return Draft(film.resolved, film_plans(film)[0], first_key, surroundings.begun)


def film_dreams(film: DreamedFilm) -> FilmDreams:
    """Return the dreams of a film's frames as this machine would plan them; raise `UserError` if they cannot work."""
    return FilmDreams(film.resolved, *film_plans(film), film.schedule.all_stages())


@contextmanager
def prepared_film(
    film: DreamedFilm, surroundings: FilmSurroundings, loaded: Loaded | None = None
) -> Iterator[PreparedFilm]:
    """Yield a film with its workers.

    Args:
        film: The film. Its run directory holds the levels of a large picture.
        surroundings: Its directory, and its farm if there is one.
        loaded: The film's weights, if a farm is there and they are loaded already.

    Raises:
        UserError: The film cannot be prepared, or its canvases are of another film or of other weights.
    """
    digest, canvases = film.canvas_digest(surroundings.digest), _canvases(film, surroundings)
    first_key, later_key = resume_keys(canvases, digest)
    with prepared(film_draft(film, surroundings), surroundings.farm, loaded or surroundings.loaded) as job:
        for key in (first_key, later_key):
            if key is not None and key.weights_sha256 != job.loaded.sha256:
                raise UserError(
                    f"{canvases.place} was begun with other weights (sha256 {key.weights_sha256[:12]}, now "
                    f"{job.loaded.sha256[:12]}): restore them, or fresh=true to start over"
                )
        machine = resources.farm_machine(film.resolved, job.workers)
        later = with_window_bytes(job, lambda window_bytes: _later_plan(film, job, machine, window_bytes, later_key))
        first = ResumeKey(digest, job.loaded.sha256, core_shapes(job.plan), job.resume_key.threads)
        write_grids(canvases.place, first, core_shapes(later))
        yield PreparedFilm(film, job, later, canvases, digest)


def core_shapes(plan: Plan) -> tuple[tuple[int, int], ...]:
    """Return the core of every octave's grid, (rows, columns) px."""
    return tuple(octave.grid.core_shape for octave in plan.octaves)


def with_window_bytes(job: Job, make: Callable[[WindowBytes], Plan]) -> Plan:
    """Return a plan that is made with the first worker's figures for the memory of windows."""
    workers = Workers(job.executor)
    while True:
        try:
            return make(lambda *window: workers.run([0], RemoteProcess.window_bytes, *window)[0])
        except WorkersLost:
            job.executor.mend()


def _later_plan(film: DreamedFilm, job: Job, machine: Machine, window_bytes: WindowBytes, key: ResumeKey | None) -> Plan:
    """Return the plan of later frames, with the grids that they have already."""
    tiles = key.tiles if key else None
    return film.plan(machine, window_bytes, workers=job.executor.workers, core_shapes=tiles)


def _canvases(film: DreamedFilm, surroundings: FilmSurroundings) -> FrameCanvases:
    place = joined(surroundings.place, CANVASES)
    return FrameCanvases(place, film.canvas_digest(surroundings.digest), surroundings.confirm)


@contextmanager
def frames_in(
    film: DreamedFilm,
    surroundings: FilmSurroundings,
    maker: Callable[..., DreamedFrames] = DreamedFrames,
    loaded: Loaded | None = None,
) -> Iterator[DreamedFrames]:
    """Yield the maker of a film's frames in its surroundings, with its workers: see `prepared_film`.

    Args:
        film: The film.
        surroundings: Its surroundings.
        maker: Returns the maker, by the arguments of `DreamedFrames`.
        loaded: The film's weights, if a farm is there and they are loaded already.
    """
    with prepared_film(film, surroundings, loaded) as ready:
        yield maker(film, ready.job, ready.later, ready.canvases, ready.digest, surroundings.on_event, surroundings.tell)
        # Not after an error: what goes on then needs the levels of a large picture again.
        film.resolved.source.discard()
