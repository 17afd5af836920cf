"""Reader of a film's directory for the viewer: progress, pictures of frames, their sources, and the film's file."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from render.errors import UserError
from render.film.film_directory import PICTURES
from render.film.film_progress import read_film_progress
from render.film.film_state import read_state
from render.film.rate import MAX_FRAMES, rate_text
from render.job.progress import duration_text
from render.job.run_record import missing_record_message, read_record, read_run
from render.pages.film_page import FilmFacts, film_page
from render.pages.zoom_page import flat, setting_text
from render.storage.locking import is_locked
from render.storage.records import Between, FileName, Matching, fits
from render.viewer.encoded_frames import encoded_frame
from render.viewer.film_sources import SourceJpegs, open_frame_sources
from render.viewer.open_part import NoSuchPart, OpenPart, opened_part

#: Content types of the files that browsers may be able to play, by suffix; they tell the page whether they can.
VIDEO_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
}
_POLL_MS = 2000
_MAX_SIDE = 1_000_000
_Rate = Annotated[str, Matching(r"[1-9]\d{0,8}(/[1-9]\d{0,8})?")]
_Side, _Count = Annotated[int, Between(1, _MAX_SIDE)], Annotated[int, Between(1, MAX_FRAMES)]


def is_film(record: Mapping[str, Any]) -> bool:
    """Return whether a run's record is that of a film."""
    return isinstance(record.get("film"), dict)


class LiveFilm:
    """Reader of one film's directory for the viewer. Safe for any number of threads."""

    def __init__(self, directory: Path) -> None:
        """Open a film's directory. Raise `UserError` if `directory` is none, or its record is damaged."""
        reading = read_run(directory)
        if not reading.record:
            raise UserError(missing_record_message(directory, reading))
        self._directory, self._record = directory, reading.record
        if not (is_film(self._record) and _has_facts(self._record)):
            raise UserError(f"run={directory}: its run.json has not the length, size and rate of a film")

    @cached_property
    def _sources(self) -> SourceJpegs | None:
        reader = open_frame_sources(self._record, self._rate, self._shape)
        return None if reader is None else SourceJpegs(reader)

    @property
    def _rate(self) -> Fraction:
        """Frames a second."""
        return Fraction(self._record["rate"])

    @property
    def _shape(self) -> tuple[int, int]:
        """(rows, columns) px of the frames."""
        rows, columns = self._record["shape"]
        return rows, columns

    def page(self) -> str:
        """Return the HTML of the viewer's page for this film."""
        self._read_record()
        record, (rows, columns), rate = self._record, self._shape, self._rate
        film, config = record["film"], record["config"]
        seconds = float(record["frames"] / rate)
        facts = [
            ("Length", duration_text(seconds) if seconds >= 60 else f"{seconds:.2f} s"),
            ("Frames", f"{record['frames']:,}"),
            ("Size", f"{columns} x {rows} px"),
            ("Rate", f"{rate_text(rate)} frames/s"),
            ("Kind", setting_text(film.get("of"))),
            ("Of", setting_text(film.get("run") or config.get("image"))),
            ("Look", setting_text(config.get("look"))),
            ("Objective", setting_text(_objective(record))),
            ("File", setting_text(record.get("film_file") or "not yet written")),
        ]
        settings = [(key, setting_text(value)) for key, value in flat({**config, "film": film}) if value is not None]
        sources = self._sources
        return film_page(
            FilmFacts(
                title=str(config.get("name", "")),
                shape=(rows, columns),
                rate=float(rate),
                times=None if sources is None else sources.times,
                facts=facts,
                settings=settings,
                has_source=sources is not None,
                is_loop=film.get("loop") is True,
                poll_ms=_POLL_MS,
            )
        )

    def status(self) -> dict[str, Any]:
        """Return what the page polls: state, finished frames, time left, and the film's file if it is finished."""
        self._read_record()
        state, finished = str(self._record.get("status", "running")), self._finished()
        frames = max(finished, self._record["frames"])
        status: dict[str, Any] = {"state": state, "finished": finished, "frames": frames, "left": None, "video": None}
        if state == "finished":
            return status | {"words": "finished", "video": self._video_address(), "file": self._video_name()}
        words = f"{finished} of {frames} frames finished"
        if state == "running" and not is_locked(self._directory):
            broken = f"broken off: {words}; the command that began it goes on from the next"
            return status | {"state": "interrupted", "words": broken}
        if state != "running":
            return status | {"words": f"{state}: {words}"}
        progress = read_film_progress(self._directory)
        if finished >= frames:
            words = "writing the film"
        elif progress is not None:
            left = "" if progress.left is None else f", about {duration_text(progress.left)} left"
            words += (f", {progress.within}" if progress.within else "") + left
            status["left"] = progress.left
        return status | {"words": words}

    def picture(self, number: int) -> OpenPart:
        """Return the picture of a finished frame. Raise `NoSuchPart` if there is none."""
        directory = self._directory / PICTURES
        if number >= self._finished() or directory.is_symlink():
            raise NoSuchPart(f"frame {number} is not finished")
        path = directory / f"{number:06}.png"
        if os.path.lexists(path):
            return opened_part(path, "image/png")
        try:
            content = encoded_frame(self._directory, number)
        except UserError as error:
            raise NoSuchPart(str(error)) from None
        return OpenPart(io.BytesIO(content), len(content), "image/png")

    def source(self, number: int) -> bytes:
        """Return the source of a frame as JPEG. Raise `NoSuchPart` if there is none."""
        sources = self._sources
        if sources is None or number >= self._record["frames"]:
            raise NoSuchPart("the source is not here")
        try:
            return sources.jpeg(number)
        except UserError as error:
            raise NoSuchPart(str(error)) from None

    def video(self) -> OpenPart:
        """Return the film's file. Raise `NoSuchPart` if it is not finished, or no video file."""
        self._read_record()
        name = self._video_name()
        if name is None:
            raise NoSuchPart("the film's file is not here")
        return opened_part(self._directory / name, VIDEO_TYPES[Path(name).suffix.lower()])

    def _video_name(self) -> str | None:
        name = self._record.get("film_file")
        if self._record.get("status") != "finished" or not isinstance(name, str) or not fits(name, FileName):
            return None
        return name if Path(name).suffix.lower() in VIDEO_TYPES else None

    def _video_address(self) -> str | None:
        """Return the address of the film's file, another for other content; None if there is none."""
        try:
            part = self.video()
        except NoSuchPart:
            return None
        with part.file as file:
            return f"film?version={os.fstat(file.fileno()).st_mtime_ns:x}"

    def _finished(self) -> int:
        state = read_state(self._directory)
        return state.finished if state is not None and state.digest == self._record.get("digest") else 0

    def _read_record(self) -> None:
        """Read the record again; a film that starts over has none for a moment."""
        record = read_record(self._directory)
        if is_film(record) and _has_facts(record):
            self._record = record


def _has_facts(record: Mapping[str, Any]) -> bool:
    """Return whether a record has the facts of a film that are calculated with."""
    shape = record.get("shape")
    has_shape = isinstance(shape, list) and len(shape) == 2 and all(fits(side, _Side) for side in shape)
    return has_shape and fits(record.get("rate"), _Rate) and fits(record.get("frames"), _Count)


def _objective(record: Mapping[str, Any]) -> Any:
    identity = record.get("identity")
    return identity.get("objective") if isinstance(identity, Mapping) else None
