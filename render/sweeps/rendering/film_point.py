"""Points that are films."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from render.config.film_schema import FilmJob
from render.errors import UserError
from render.farm.farms import Farm
from render.film.dreamed.dreamed_frames import DreamedFrames
from render.film.film_draft import FilmNeeds, FilmSurroundings
from render.film.film_run import FilmWorkers, OpenedFilm, make_opened_film, resolve_film
from render.job.resources import store_bytes
from render.job.run_record import read_record
from render.networks.weights import Loaded
from render.storage.records import Seconds, fits
from render.sweeps.rendering.film_thumbnails import MOTION, make_film_thumbnails
from render.sweeps.rendering.kernel_keys import kernel_keys
from render.sweeps.rendering.point_job import PointCost, PointState, unusable_directory
from render.sweeps.rendering.thumbnails import THUMBNAIL

#: Keys of a film whose meaning stands in other facts of its identity, or that change no file.
_OTHER_KEYS = ("seconds", "rate", "format", "codec", "run", "keep", "ahead_gb", "pictures")


class _Timings(TypedDict):
    """Times in a film's record."""

    total: Seconds


class _TimedRecord(TypedDict):
    """Part of a film's record that says how long it took."""

    seconds: _Timings


@dataclass(frozen=True)
class FilmPoint:
    """A `PointJob` of a film.

    Attributes:
        film: The film.
        needs: What making its frames needs.
        cost: Planned cost: see `PointJob.cost`.
    """

    film: OpenedFilm
    needs: FilmNeeds
    cost: PointCost

    @property
    def identity(self) -> Sequence[object]:
        """Facts that identify the film's file: its frames, how many there are, and how they are encoded."""
        film, draft = self.film, self.film.draft
        settings = {key: value for key, value in asdict(film.job.film).items() if key not in _OTHER_KEYS}
        encoding = film.file.settings
        file = [str(draft.rate), draft.frames, encoding.format.name, encoding.codec.name]
        return [film.job.job().picture_settings(), settings, dict(draft.identity), file]

    def state_in(self, directory: Path) -> PointState:
        """Return the state of this film: see `PointJob.state_in`."""
        film = self.film.moved(directory)
        record = _finished_record(film)
        if record is not None and all((directory / name).is_file() for name in (THUMBNAIL, MOTION)):
            return PointState(is_done=True, seconds=_total_seconds(record))
        try:
            film.check()
        except UserError as error:
            raise unusable_directory(error, directory) from None
        return PointState(is_begun=film.directory.finished() > 0)

    def compile(self, farm: Farm, loaded: Loaded | None) -> None:
        """Compile all kernels: see `PointJob.compile`."""
        film = self.film
        if self.needs.dreams is None or film.directory.finished() >= film.draft.frames:
            return
        # Elsewhere: the film's own directory is not held yet.
        with tempfile.TemporaryDirectory() as place:
            surroundings = FilmSurroundings(Path(place), film.directory.digest, film.begun, farm=farm, loaded=loaded)
            with film.draft.opened(surroundings) as maker:
                assert isinstance(maker, DreamedFrames)
                maker.compile()

    def render(self, farm: Farm, loaded: Loaded | None, thumbnail_side: int, check: Callable[[], None]) -> float:
        """Make the film, or go on with it: see `PointJob.render`."""
        film = self.film
        film.check()
        frames = film.draft.frames
        left = frames - min(film.directory.finished(), frames)
        if _finished_record(film) is None:
            make_opened_film(film, FilmWorkers(farm, loaded, check))
        make_film_thumbnails(film, thumbnail_side)
        return self.cost.megapixels * left / frames

    def seconds_per_teraflop(self) -> float | None:
        """Measure a window of the first frame: see `PointJob.seconds_per_teraflop`."""
        dreams = self.needs.dreams
        return None if dreams is None else 1e12 / dreams.pace()

    def store_bytes(self) -> int:
        """Return the bytes of transfers between workers: see `PointJob.store_bytes`."""
        dreams = self.needs.dreams
        return 0 if dreams is None else max(store_bytes(dreams.resolved, plan) for plan in (dreams.first, dreams.later))


def film_point(job: FilmJob) -> FilmPoint:
    """Check and plan a film; raise `RenderError` if it cannot work."""
    film = resolve_film(job)
    frames, needs = film.draft.frames, film.draft.needs()
    dreams, disk_bytes = needs.dreams, film.disk_bytes(needs)
    if dreams is None:
        return FilmPoint(film, needs, PointCost(film.draft.shape, 0.0, 0.0, 1, False, disk_bytes, frozenset()))
    plans = dreams.first, dreams.later
    cost = PointCost(
        film.draft.shape,
        dreams.window_pixels(frames) / 1e6,
        dreams.flops(frames) / 1e12,
        max(octave.grid.tiles for plan in plans for octave in plan.octaves),
        any(plan.scratch_bytes for plan in plans),
        disk_bytes,
        kernel_keys(dreams.resolved, dreams.windows()),
    )
    return FilmPoint(film, needs, cost)


def _finished_record(film: OpenedFilm) -> dict[str, Any] | None:
    """Return the record of a film whose file is written; None for any other."""
    record, frames = read_record(film.directory.place), film.draft.frames
    is_written = (
        record.get("status") == "finished"
        and record.get("digest") == film.directory.digest
        and record.get("frames") == frames
        and film.directory.finished() >= frames
        and film.file.path.exists()
    )
    return record if is_written else None


def _total_seconds(record: Mapping[str, Any]) -> float:
    """Return the time that a film took, s; 0 if its record does not say."""
    return float(record["seconds"]["total"]) if fits(record, _TimedRecord) else 0.0
