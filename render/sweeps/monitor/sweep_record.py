"""Record `sweep.json` of a sweep's directory: its shape, and the points that it lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from render.storage.local import read_record_file
from render.storage.records import Between, MalformedRecord, Matching, WholeNumber, check_shape, parse_record
from render.sweeps.monitor.event_log import EVENTS, Event, last_command, read_events

#: File name of the record in a sweep's directory.
SWEEP = "sweep.json"
#: Pattern of a point's run directory, relative to the sweep's. Other paths are refused.
_POINT_DIRECTORY = r"|points/(?!\.{1,2}$)[^/\0]{1,255}"


class _PointRequired(TypedDict):
    number: WholeNumber
    label: str


class _RecordedPoint(_PointRequired, total=False):
    megapixels: Annotated[float, Between(0, 1e12)] | None
    teraflops: Annotated[float, Between(0, 1e15)] | None
    directory: Annotated[str, Matching(_POINT_DIRECTORY)] | None


class _Required(TypedDict):
    status: str
    points: list[_RecordedPoint]


class _SweepRecord(_Required, total=False):
    """Keys of `sweep.json` that are read."""

    pid: int
    command: str | list[str]
    started: str
    resumed: list[str]


@dataclass(frozen=True)
class RecordedPoint:
    """Point as `sweep.json` lists it, with the keys of its fields.

    Attributes:
        number: Its place in the grid, from 0.
        label: Its display name.
        megapixels: Window area to dream; 0 if unknown.
        teraflops: Work in 10^12 operations; 0 if unknown.
        directory: Its run directory, relative to the sweep's; empty if it has none.
    """

    number: int
    label: str
    megapixels: float
    teraflops: float
    directory: str


def read_sweep(directory: Path) -> dict[str, Any]:
    """Read `sweep.json` in a sweep's directory.

    Return an empty record if it is missing or malformed.
    """
    try:
        sweep = parse_record(read_record_file(directory / SWEEP))
        check_shape(sweep, _SweepRecord)
    except (OSError, MalformedRecord):
        return {}
    assert isinstance(sweep, dict)
    return sweep


def listed_points(sweep: Mapping[str, Any]) -> list[RecordedPoint]:
    """Return the points that a sweep's record lists."""
    return [
        RecordedPoint(
            point["number"],
            point["label"],
            point.get("megapixels") or 0.0,
            point.get("teraflops") or 0.0,
            point.get("directory") or "",
        )
        for point in sweep.get("points", [])
    ]


def command_events(directory: Path, sweep: Mapping[str, Any]) -> list[Event]:
    """Return the events of the command that wrote a sweep's record.

    There are none if that command has not begun yet.
    """
    events = last_command(read_events(directory / EVENTS))
    # A command writes `sweep.json` before its first event: until then the last events are of an earlier command.
    pid = sweep.get("pid")
    return events if events and pid in (None, events[0].facts.get("pid", pid)) else []
