"""Opening of a dreamed film's maker: its farm with the weights and all objectives, and the plans of its frames."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from render.errors import UserError, WorkersLost
from render.farm.checkpoint import ResumeKey
from render.farm.farms import Farm
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.film.dreamed.canvases import FrameCanvases
from render.film.dreamed.dreamed_film import DreamedFilm
from render.film.dreamed.dreamed_frames import DreamedFrames, OnEvent
from render.film.film_directory import CANVASES
from render.film.film_draft import FilmSurroundings
from render.film.film_dreams import FilmDreams
from render.job import resources
from render.job.job import Draft, Job, prepared
from render.networks.weights import Loaded
from render.planning.plan import Machine, Plan
from render.planning.planner import make_plan
from render.storage.url import Place, joined

log = logging.getLogger(__name__)


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


def film_dreams(film: DreamedFilm) -> FilmDreams:
    """Return the dreams of a film's frames as this machine would plan them; raise `UserError` if they cannot work."""
    return FilmDreams(film.resolved, *film_plans(film), film.schedule.all_stages())


@contextmanager
def opened_frames(
    film: DreamedFilm,
    place: Place,
    digest: str,
    begun: float,
    *,
    confirm: Callable[[], None] = lambda: None,
    on_event: OnEvent = lambda _frame, _event, _conductor: None,
    tell: Callable[[str], None] = log.info,
    farm: Farm | None = None,
    loaded: Loaded | None = None,
    maker: Callable[..., DreamedFrames] = DreamedFrames,
) -> Iterator[DreamedFrames]:
    """Yield the maker of a film's frames, with its workers.

    Args:
        film: The film. Its run directory holds the levels of a large picture.
        place: Path or URL of the directory of its canvases; absolute, as workers read it.
        digest: Digest of the film, a sha256 in hex: two films of one digest have the same frames.
        begun: Time of `time.perf_counter` when the job began, s.
        confirm: Raises if another process has taken the film over.
        on_event: Receiver of what happens within a frame.
        tell: Called with lines about how a large picture is read.
        farm: Farm to lease workers from; None opens one for this film.
        loaded: The film's weights, if a farm is given and they are loaded already.
        maker: Returns the maker, by the arguments of `DreamedFrames`.

    Raises:
        UserError: The film cannot be prepared, or its canvases are of another film or of other weights.
    """
    resolved, digest = film.resolved, film.canvas_digest(digest)
    canvases = FrameCanvases(place, digest, confirm)
    first_key, later_key = _resume_keys(canvases)
    first, _ = film_plans(film)
    draft = Draft(resolved, first, first_key, begun)
    with prepared(draft, farm, loaded) as job:
        for key in (first_key, later_key):
            if key is not None and key.weights_sha256 != job.loaded.sha256:
                raise UserError(
                    f"{place} was begun with other weights (sha256 {key.weights_sha256[:12]}, now "
                    f"{job.loaded.sha256[:12]}): restore them, or fresh=true to start over"
                )
        later = _later_plan(film, job, later_key)
        yield maker(film, job, later, canvases, digest, on_event, tell)
        # Not after an error: what goes on then needs the levels of a large picture again.
        resolved.source.discard()


def _resume_keys(canvases: FrameCanvases) -> tuple[ResumeKey | None, ResumeKey | None]:
    """Return the values that the first frame and later ones were saved with, as far as there are canvases of them.

    Threads of kernels are the same in all frames, so those of a later one stand for the first's.
    """
    first = later = None
    for frame in canvases.frames():
        key = canvases.resume_key(frame)
        if key is not None and frame == 0:
            first = key
        elif key is not None:
            later = key
    if first is None and later is not None:
        first = replace(later, tiles=())
    return first, later


def _later_plan(film: DreamedFilm, job: Job, key: ResumeKey | None) -> Plan:
    """Return the plan of later frames, with XLA's figures for the memory."""
    workers = Workers(job.executor)
    machine = resources.farm_machine(film.resolved, job.workers)
    while True:
        try:
            return film.plan(
                machine,
                lambda *window: workers.run([0], RemoteProcess.window_bytes, *window)[0],
                workers=job.executor.workers,
                core_shapes=key.tiles if key else None,
            )
        except WorkersLost:
            job.executor.mend()


def frames_in(
    film: DreamedFilm, surroundings: FilmSurroundings, maker: Callable[..., DreamedFrames] = DreamedFrames
) -> AbstractContextManager[DreamedFrames]:
    """Return `opened_frames` of a film in its surroundings."""
    return opened_frames(
        film,
        joined(surroundings.place, CANVASES),
        surroundings.digest,
        surroundings.begun,
        confirm=surroundings.confirm,
        on_event=surroundings.on_event,
        tell=surroundings.tell,
        farm=surroundings.farm,
        loaded=surroundings.loaded,
        maker=maker,
    )
