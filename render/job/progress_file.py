"""`progress.json` in a run directory: where the run stands at this moment, for whoever looks on from another process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, TypedDict

from render.job.progress import Count
from render.planning.plan import Octave, Plan
from render.storage.local import write_durably
from render.storage.opening import open_storage
from render.storage.records import Between, MalformedRecord, Seconds, WholeNumber, check_shape, parse_record
from render.storage.url import Place

PROGRESS = "progress.json"
Told = Callable[[str, bytes | None], None]
#: Seconds between two writes, and before the first: a run that is over sooner leaves the disk alone.
_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands. `octave` counts from 1, `step` those done of it; `share` of all its work is done, 0..1.

    `worked` is how much of it has been done since the run was begun or taken up, 0..1, `rate` the megapixels of windows a
    second since then, `left` the seconds that it may still take (None where nothing tells yet), `time` when it was so, in
    seconds since the epoch.
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
    """The file as it is read."""

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
    """A `Display` that keeps the file up to date. It is removed when the display is closed."""

    def __init__(self, directory: Path, plan: Plan, told: Told = lambda _name, _data: None) -> None:
        """`directory` is the run's; it need not exist yet. What a killed run left there is removed.

        `told` hears what is written, and None when it is removed.
        """
        self._told = told
        self._path = directory / PROGRESS
        self._count = Count(plan)
        self._last = time.monotonic()
        self._remove()

    def octave_started(self, octave: Octave, steps: int) -> None:
        self._count.begin(octave, steps)
        self._write()

    def tiles_done(self, tiles: int) -> None:
        self._count.add(tiles)
        self._write()

    def step_done(self, step: int) -> None:
        self._count.finish_step(step)
        self._write()

    def say(self, line: str) -> None:
        """What is said goes to the log."""

    def close(self) -> None:
        self._remove()
        self._told(PROGRESS, None)

    def _write(self) -> None:
        now = time.monotonic()
        if now - self._last < _EVERY_S:
            return
        self._last = now
        count = self._count
        progress = Progress(
            octave=count.octave.index + 1,
            octaves=count.octaves,
            step=count.step,
            steps=count.octave.steps,
            share=round(count.share, 8),
            worked=round(count.worked_share, 8),
            rate=round(count.rate, 4),
            left=None if count.left is None else round(count.left, 1),
            time=time.time(),
        )
        # It only tells: where it cannot be written, the picture is none the worse.
        content = (json.dumps(asdict(progress)) + "\n").encode()
        with suppress(OSError):
            write_durably(self._path, content)
        self._told(PROGRESS, content)

    def _remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_progress(directory: Place) -> Progress | None:
    """Where the run in a directory or at a URL stands; None where nothing says so."""
    try:
        stored = parse_record(open_storage(directory).load(PROGRESS)[0])
        check_shape(stored, _StoredProgress)
    except (OSError, MalformedRecord):
        return None
    return Progress(**{field.name: stored[field.name] for field in fields(Progress)})
