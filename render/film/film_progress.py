"""Progress of a film: a bar or lines on the terminal, and the file `progress.json` that `status` reads."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Annotated, TypedDict

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from render.farm.events import Event, OctaveStarted, StepDone
from render.film.rate import MAX_FRAMES
from render.job.progress import duration_text
from render.job.run_home import RunHome
from render.storage.local import write_durably
from render.storage.opening import open_storage
from render.storage.records import Between, MalformedRecord, Matching, Seconds, check_shape, parse_record
from render.storage.url import Place
from render.terminal.console import PatientConsole

log = logging.getLogger(__name__)

#: Name of the file, and seconds between two writes of it.
FILM_PROGRESS, _WRITE_EVERY_S = "film-progress.json", 1.0
_LINE_EVERY_S = 15.0
_Count = Annotated[int, Between(0, MAX_FRAMES)]


@dataclass
class FilmPosition:
    """Position of a film that is being made.

    Attributes:
        finished: Finished frames.
        frames: Frames of the film.
        rate: Frames a second since this process began, those ahead included; 0 before the first.
        left: Estimated seconds left; None if unknown.
        within: Octave and step within the frame in hand, as text; empty if nothing is dreamed.
        time: When this was recorded, in seconds since the epoch.
        ahead: Frames that are made before their turn, and wait for it.
        first: Frames that were finished when this process began.
    """

    finished: int
    frames: int
    rate: float = 0.0
    left: float | None = None
    within: str = ""
    time: float = 0.0
    ahead: int = 0
    first: int = 0

    @property
    def share(self) -> float:
        """Share of the frames that are finished, 0 to 1."""
        return self.finished / max(1, self.frames)

    @property
    def worked(self) -> float:
        """Share of the frames that this process has finished, 0 to 1."""
        return max(0, self.finished - self.first) / max(1, self.frames)

    @property
    def text(self) -> str:
        """Frame, position within it and rate, for a person."""
        pace = f"{self.rate:.2f} frames/s" if self.rate >= 0.1 or not self.rate else f"{1 / self.rate:.1f} s a frame"
        within = f" {self.within}" if self.within else ""
        ahead = f" (+{self.ahead} ahead)" if self.ahead else ""
        return f"frame {min(self.finished + 1, self.frames)}/{self.frames}{ahead}{within} {pace}"


class _StoredRequired(TypedDict):
    finished: _Count
    frames: _Count
    rate: Annotated[float, Between(0, 1e9)]
    left: Seconds | None
    within: Annotated[str, Matching(r"[ -~]{0,80}")]
    time: Seconds


class _StoredPosition(_StoredRequired, total=False):
    #: Missing in older files.
    ahead: _Count
    first: _Count


class FilmDisplay:
    """Display of a film's progress, which also keeps the file up to date."""

    def __init__(self, home: RunHome, finished: int, frames: int, *, quiet: bool) -> None:
        """Begin with the frames that were finished before; remove the file that a killed process may have left."""
        self._home, self._first, self._counts_ahead = home, finished, False
        self.position = FilmPosition(finished, frames, first=finished)
        self._begun = self._written_at = self._line_at = time.monotonic()
        self._console = None if quiet else PatientConsole(file=sys.stderr)
        self._bar: Progress | None = None
        if self._console is not None and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("ETA {task.fields[left]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(self.position.text, total=frames, completed=finished, left="-:--:--")
            self._bar.start()

    def event(self, frame: int, event: Event) -> None:
        """Show what happens within a frame, and log it."""
        match event:
            case OctaveStarted():
                self._within(frame, event.octave.index + 1, event.steps, event.octave.steps)
            case StepDone():
                self._within(frame, event.octave.index + 1, event.step + 1, event.octave.steps)
                log.info("frame %d octave %d step %d", frame, event.octave.index + 1, event.step + 1)

    def frame_finished(self, number: int) -> None:
        """Count a finished frame."""
        self.position.finished, self.position.within = number + 1, ""
        self._measure_pace()
        self._show()

    def ahead(self, count: int) -> None:
        """Show how many frames are made before their turn; the first call has those of earlier processes."""
        if not self._counts_ahead:
            self._counts_ahead, self._first = True, self._first + count
        self.position.ahead = count
        self._measure_pace()
        self._show()

    def say(self, line: str) -> None:
        """Show a line that the user should know of."""
        if self._console is not None:
            self._console.write_line(line)

    def close(self) -> None:
        """Remove the bar and the file."""
        if self._bar is not None:
            self._bar.stop()
        with suppress(OSError):
            (self._home.path / FILM_PROGRESS).unlink(missing_ok=True)
        self._home.store_progress(FILM_PROGRESS, None)

    def _measure_pace(self) -> None:
        """Measure the pace of all frames that this process has made, in whatever order."""
        position = self.position
        made = position.finished + position.ahead
        if made > self._first:
            position.rate = (made - self._first) / max(1e-9, time.monotonic() - self._begun)
            position.left = max(0, position.frames - made) / position.rate

    def _within(self, frame: int, octave: int, step: int, steps: int) -> None:
        """Note where the frame in hand is; others are made ahead of their turn."""
        if frame != self.position.finished:
            return
        self.position.within = f"octave {octave} step {step}/{steps}"
        self._show()

    def _show(self) -> None:
        position, now = self.position, time.monotonic()
        if self._bar is not None:
            left = "-:--:--" if position.left is None else str(timedelta(seconds=round(position.left)))
            self._bar.update(self._task, completed=position.finished, description=position.text, left=left)
        elif self._console is not None and now - self._line_at > _LINE_EVERY_S:
            self._line_at = now
            remainder = "" if position.left is None else f", about {duration_text(position.left)} left"
            self._console.write_line(f"{100 * position.finished // position.frames:3} % {position.text}{remainder}")
        if now - self._written_at >= _WRITE_EVERY_S:
            self._written_at = now
            position.time = time.time()
            content = (json.dumps(asdict(position)) + "\n").encode()
            # The file only informs: a failure to write it must not stop the film.
            with suppress(OSError):
                write_durably(self._home.path / FILM_PROGRESS, content)
            self._home.store_progress(FILM_PROGRESS, content)


def read_film_progress(directory: Place) -> FilmPosition | None:
    """Return the position of the film that is made in a directory or at a URL; None if there is no valid file."""
    try:
        stored = parse_record(open_storage(directory).load(FILM_PROGRESS)[0])
        check_shape(stored, _StoredPosition)
    except (OSError, MalformedRecord):
        return None
    return FilmPosition(**{field.name: stored[field.name] for field in fields(FilmPosition) if field.name in stored})
