"""What happens in a sweep, one line of JSON each in `events.jsonl`: the record that the screen and `status` read."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from render.errors import UserError
from render.storage.local import read_record_file
from render.storage.records import Between, MalformedRecord, Seconds, WholeNumber, check_shape, parse_record

#: Its name in a sweep's directory.
EVENTS = "events.jsonl"

#: begun and ended frame a command; the others are about a point. `skipped` was done before; `failed` is for good;
#: `retried` goes back into the queue; `interrupted` was saved and waits for the next command.
Kind = Literal["begun", "skipped", "started", "finished", "failed", "retried", "interrupted", "ended"]


class _StoredFacts(TypedDict, total=False):
    pid: int
    points: int
    worker: str
    attempt: WholeNumber
    seconds: Seconds
    megapixels: Annotated[float, Between(0, 1e12)]
    reason: str
    status: str


class _EventRequired(TypedDict):
    kind: Kind
    time: Seconds


class _StoredEvent(_EventRequired, total=False):
    """A line as it is read."""

    point: WholeNumber | None
    facts: _StoredFacts


@dataclass(frozen=True)
class Event:
    """`time` is seconds since the epoch; `point` the number of a point of this command, None for begun and ended.

    What `facts` holds, by kind. begun: pid, points, axes. started: worker (what it runs on, such as `pid 12 on host`),
    attempt (from 1). finished: seconds, megapixels (of windows dreamed). failed, retried: reason. ended: status (finished,
    failed where a point failed, interrupted, stopped by an error), seconds.
    """

    kind: Kind
    time: float
    point: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class EventLog:
    """The file that a command appends its events to; any number of threads may."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it. `UserError` where it cannot be written."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space, or choose another place"
            ) from None
        # A driver that was killed, or a disk that was full, may have left half a line.
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def append(self, event: Event) -> None:
        """Adds a line, in one write, so that whoever reads meets whole lines. `UserError` where the disk is full."""
        line = json.dumps(asdict(event)).encode() + b"\n"
        with self._lock:
            written, whole = 0, b"\n" + line if self._torn else line
            try:
                written = os.write(self._file, whole)
            except OSError as error:
                raise UserError(f"{self._path} cannot be written ({error.strerror}): free some space") from None
            self._torn = written < len(whole)
        if self._torn:
            raise UserError(f"{self._path} cannot be written (the disk is full): free some space")

    def close(self) -> None:
        """Closes the file; nothing can be appended after."""
        os.close(self._file)


def read_events(path: Path) -> list[Event]:
    """The events in a file, in their order; none where there is no file. Lines that are no events are left out."""
    try:
        lines = read_record_file(path).split(b"\n")
    except OSError:
        return []
    # What follows the last line's end is being written, or never will be.
    return [event for event in map(_event, lines[:-1]) if event is not None]


def last_command(events: Sequence[Event]) -> list[Event]:
    """The events of the last command: from its `begun` on."""
    begun = [position for position, event in enumerate(events) if event.kind == "begun"]
    return list(events[begun[-1] :]) if begun else []


def _event(line: bytes) -> Event | None:
    try:
        told = parse_record(line)
        check_shape(told, _StoredEvent)
    except MalformedRecord:
        return None
    return Event(told["kind"], float(told["time"]), told.get("point"), told.get("facts", {}))
