"""Log of a sweep's events, one line of JSON each in `events.jsonl`.

The screen and `status` read it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from render.errors import UserError
from render.storage.local import read_record_file
from render.storage.records import Between, MalformedRecord, Seconds, WholeNumber, check_shape, parse_record

#: File name of the log in a sweep's directory.
EVENTS = "events.jsonl"

#: `begun` and `ended` enclose a command; the others are about a point. `skipped`: done by an earlier command. `failed`:
#: for good. `retried`: failed and back in the queue. `interrupted`: saved, to be resumed by the next command.
EventKind = Literal["begun", "skipped", "started", "finished", "failed", "retried", "interrupted", "ended"]


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
    kind: EventKind
    time: Seconds


class _StoredEvent(_EventRequired, total=False):
    """Shape of a line that is read."""

    point: WholeNumber | None
    facts: _StoredFacts


@dataclass(frozen=True)
class Event:
    """Event of a command or of one of its points.

    `time` is in seconds since the epoch. `point` is the number of a point of this command, None for begun and ended.
    The keys of `facts`, by kind:

    - begun: pid, points (how many).
    - started: worker (such as `pid 12 on host`), attempt (from 1).
    - finished: seconds, megapixels (of windows dreamed).
    - failed, retried: reason.
    - ended: status (finished; failed if a point failed; interrupted; stopped by an error), seconds.
    """

    kind: EventKind
    time: float
    point: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def point_event(kind: EventKind, number: int, **facts: Any) -> Event:
    """Return an event that happens now to the point `number`."""
    return Event(kind, time.time(), number, facts)


class EventLog:
    """File to which a command appends its events, from any number of threads."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raise `UserError` if it cannot be written."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space, or choose another place"
            ) from None
        # A killed driver or a full disk may have left an incomplete line.
        size = os.fstat(self._file).st_size
        self._ends_in_partial_line = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def append(self, event: Event) -> None:
        """Append a line in one write, so that readers see whole lines.

        Raise `UserError` if the disk is full.
        """
        line = json.dumps(asdict(event)).encode() + b"\n"
        with self._lock:
            content = b"\n" + line if self._ends_in_partial_line else line
            try:
                byte_count = os.write(self._file, content)
            except OSError as error:
                raise UserError(f"{self._path} cannot be written ({error.strerror}): free some space") from None
            self._ends_in_partial_line = byte_count < len(content)
        if self._ends_in_partial_line:
            raise UserError(f"{self._path} cannot be written (the disk is full): free some space")

    def close(self) -> None:
        """Close the file; nothing can be appended afterwards."""
        os.close(self._file)


def read_events(path: Path) -> list[Event]:
    """Read the events of a file in order.

    Lines that are not events are skipped; a file that does not exist has no events.
    """
    try:
        lines = read_record_file(path).split(b"\n")
    except OSError:
        return []
    # Text after the last line break is an incomplete line.
    return [event for event in map(_event, lines[:-1]) if event is not None]


def last_command(events: Sequence[Event]) -> list[Event]:
    """Return the events of the last command, from its `begun` on."""
    positions = [position for position, event in enumerate(events) if event.kind == "begun"]
    return list(events[positions[-1] :]) if positions else []


def _event(line: bytes) -> Event | None:
    """Return the event that a line holds; None if it is not one."""
    try:
        record = parse_record(line)
        check_shape(record, _StoredEvent)
    except MalformedRecord:
        return None
    return Event(record["kind"], float(record["time"]), record.get("point"), record.get("facts", {}))
