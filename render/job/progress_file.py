"""The file `progress.json` in a run directory, with which other processes follow a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, TypedDict

from render.job.progress import WorkCount
from render.planning.plan import Octave, Plan
from render.storage.local import write_durably
from render.storage.opening import open_storage
from render.storage.records import Between, MalformedRecord, Seconds, WholeNumber, check_shape, parse_record
from render.storage.url import Place

#: Name of the file.
PROGRESS = "progress.json"
#: Function that stores the content of a file with a name elsewhere; None removes it.
Store = Callable[[str, bytes | None], None]
#: Seconds between two writes, and before the first: a shorter run writes nothing.
_WRITE_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        octave: Current octave, counted from 1.
        octaves: Number of octaves.
        step: Finished steps of the octave.
        steps: Steps of the octave.
        share: Share of all the run's work that is done, 0..1.
        worked: Share that was done since the run was begun or resumed, 0..1.
        rate: Window megapixels per second since then.
        left: Estimated seconds left; None if unknown.
        time: When this was recorded, in seconds since the epoch.
    """

    octave: int
    octaves: int
    step: int
    steps: int
    share: float
    worked: float
    rate: float
    left: float | None
    time: float


_Share = Annotated[float, Between(0.0, 1.0)]


class _StoredProgress(TypedDict):
    """The shape of the file."""

    octave: WholeNumber
    octaves: WholeNumber
    step: WholeNumber
    steps: WholeNumber
    share: _Share
    worked: _Share
    rate: Annotated[float, Between(0, 1e12)]
    left: Seconds | None
    time: Seconds


class ProgressFile:
    """A `Display` that keeps the file up to date, and removes it when closed."""

    def __init__(self, directory: Path, plan: Plan, store: Store = lambda _name, _content: None) -> None:
        """Remove the file that a killed run may have left.

        Args:
            directory: The run's directory; it need not exist yet.
            plan: The run's plan.
            store: Called with the file's name and its new content, or None once it is removed.
        """
        self._store = store
        self._path = directory / PROGRESS
        self._count = WorkCount(plan)
        self._written_at = time.monotonic()
        self._remove()

    def octave_started(self, octave: Octave, steps: int) -> None:
        """Count from the start of an octave, or from where it continues."""
        self._count.begin(octave, steps)
        self._write()

    def tiles_done(self, tiles: int) -> None:
        """Count the gradients of `tiles` more tiles."""
        self._count.add(tiles)
        self._write()

    def step_done(self, step: int) -> None:
        """Count a finished step."""
        self._count.finish_step(step)
        self._write()

    def say(self, line: str) -> None:
        """Ignore the line: the log has it."""

    def close(self) -> None:
        """Remove the file, here and elsewhere."""
        self._remove()
        self._store(PROGRESS, None)

    def _write(self) -> None:
        """Write the current count, unless the last write was a moment ago."""
        now = time.monotonic()
        if now - self._written_at < _WRITE_EVERY_S:
            return
        self._written_at = now
        count = self._count
        progress = Progress(
            octave=count.octave.index + 1,
            octaves=count.octaves,
            step=count.step,
            steps=count.octave.steps,
            share=round(count.done_share, 8),
            worked=round(count.run_share, 8),
            rate=round(count.rate, 4),
            left=None if count.seconds_left is None else round(count.seconds_left, 1),
            time=time.time(),
        )
        # The file only informs: a failure to write it must not stop the run.
        content = (json.dumps(asdict(progress)) + "\n").encode()
        with suppress(OSError):
            write_durably(self._path, content)
        self._store(PROGRESS, content)

    def _remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_progress(directory: Place) -> Progress | None:
    """Return the progress of the run in a directory or at a URL.

    None if there is no valid file.
    """
    try:
        stored = parse_record(open_storage(directory).load(PROGRESS)[0])
        check_shape(stored, _StoredProgress)
    except (OSError, MalformedRecord):
        return None
    return Progress(**{field.name: stored[field.name] for field in fields(Progress)})
