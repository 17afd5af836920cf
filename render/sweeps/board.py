"""State of a sweep's points, from its events alone: counts, failures, the pace of the whole farm, the time left.

The time left is computed from costs in teraflops: those of a point's kernels, plus the equivalent of the fixed time that
every point takes (pace.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypedDict

from render.job.progress_file import Progress
from render.storage.local import read_record_file
from render.storage.records import Between, MalformedRecord, Matching, WholeNumber, check_shape, parse_record
from render.sweeps.event_log import EVENTS, Event, last_command, read_events
from render.sweeps.pace import Pace, fit_pace

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


State = Literal["waiting", "running", "done", "failed"]

#: Seconds over which the pace is measured: machines come and go.
_WINDOW_S = 1800.0
#: Share of a point that counts as done once its expected time is over.
_OVERDUE = 0.95
#: Least share of a point from which its elapsed time predicts its remaining time.
_TELLING = 0.1


class Listed(Protocol):
    """Point of a command, with the fields that the board needs.

    `megapixels` is the window area to dream, `teraflops` the work in 10^12 operations, and `directory` the run directory
    relative to the sweep's.
    """

    @property
    def number(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def megapixels(self) -> float: ...
    @property
    def teraflops(self) -> float: ...
    @property
    def directory(self) -> str: ...


@dataclass(frozen=True)
class BoardPoint:
    """Point as `sweep.json` lists it."""

    number: int
    label: str
    megapixels: float
    teraflops: float
    directory: str


@dataclass
class Standing:
    """State of a point.

    `since` and `until` are the start and end of its last attempt, in seconds since the epoch. `seconds` is its duration and
    `megapixels` the window area that was dreamed, once it is done. `skipped` is true if an earlier command finished it.
    `reason` says why it failed or is retried.
    """

    point: Listed
    state: State = "waiting"
    since: float = 0.0
    until: float = 0.0
    worker: str = ""
    attempt: int = 0
    skipped: bool = False
    seconds: float = 0.0
    megapixels: float = 0.0
    reason: str = ""
    progress: Progress | None = None


@dataclass(frozen=True)
class Counts:
    """Numbers of points in each state; `done` includes `skipped`."""

    waiting: int
    running: int
    done: int
    failed: int
    skipped: int

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.done + self.failed


class Board:
    """State of all points of one command. Events must be applied in order, by one thread at a time.

    `status` is running, or how the command ended; None before it begins. `latest` is the time of the last event.
    Times are seconds since the epoch.
    """

    def __init__(self, points: Iterable[Listed]) -> None:
        self.standings = {point.number: Standing(point) for point in points}
        self.status: str | None = None
        self.begun = self.ended = self.latest = 0.0
        self._first: float | None = None
        self._known: Pace | None = None
        self._stale = False
        # Without known teraflops, all points have the same cost.
        self._sized = any(standing.point.teraflops > 0 for standing in self.standings.values())

    @classmethod
    def of(cls, directory: Path) -> Board:
        """Return the board of the last command in a sweep's directory; an empty board if there is no sweep."""
        sweep = read_sweep(directory)
        board = cls(listed_points(sweep))
        for event in told(directory, sweep):
            board.apply(event)
        return board

    def apply(self, event: Event) -> None:
        """Update the board with an event; ignore events of points that are not on the board."""
        self.latest = max(self.latest, event.time)
        if event.kind == "begun":
            self.status, self.begun = "running", event.time
        elif event.kind == "ended":
            self.status, self.ended = str(event.facts.get("status", "finished")), event.time
            for standing in self.running:
                _leave(standing, "waiting", event)
        elif event.point is not None and event.point in self.standings:
            self._apply(self.standings[event.point], event)

    def _apply(self, standing: Standing, event: Event) -> None:
        facts = event.facts
        match event.kind:
            case "skipped":
                standing.state, standing.skipped = "done", True
            case "started":
                self._first = event.time if self._first is None else self._first
                standing.state, standing.since, standing.progress = "running", event.time, None
                standing.worker = str(facts.get("worker", ""))
                standing.attempt = int(facts.get("attempt", standing.attempt + 1))
            case "finished":
                _leave(standing, "done", event)
                self._stale = True
                standing.seconds = float(facts.get("seconds", standing.until - standing.since))
                standing.megapixels = float(facts.get("megapixels", standing.point.megapixels))
            case "failed":
                _leave(standing, "failed", event)
                standing.reason = str(facts.get("reason", ""))
            case "retried":
                _leave(standing, "waiting", event)
                standing.reason = str(facts.get("reason", ""))
            case "interrupted":
                _leave(standing, "waiting", event)

    def heard(self, number: int, progress: Progress | None) -> None:
        """Store the progress that a running point reports."""
        if number in self.standings:
            self.standings[number].progress = progress

    @property
    def counts(self) -> Counts:
        standings = list(self.standings.values())
        states = [standing.state for standing in standings]
        return Counts(
            waiting=states.count("waiting"),
            running=states.count("running"),
            done=states.count("done"),
            failed=states.count("failed"),
            skipped=sum(standing.skipped for standing in standings),
        )

    @property
    def running(self) -> list[Standing]:
        """Running points, earliest start first."""
        return sorted(self._in("running"), key=lambda standing: (standing.since, standing.point.number))

    @property
    def failures(self) -> list[Standing]:
        """Points that failed for good, in the order of their failures."""
        return sorted(self._in("failed"), key=lambda standing: (standing.until, standing.point.number))

    def elapsed(self, now: float) -> float:
        """Return the seconds since the command began, or its duration if it has ended."""
        return max(0.0, (self.ended or now) - self.begun) if self.begun else 0.0

    def share(self, now: float) -> float:
        """Return the share of the work that is over, 0..1; failed and skipped points count as over."""
        pace = self._pace()
        total = finished = 0.0
        for standing in self.standings.values():
            cost = self._cost(standing, pace)
            total += cost
            finished += cost * self._share(standing, now, pace)
        return min(1.0, finished / total) if total else 1.0

    def share_of(self, standing: Standing, now: float) -> float:
        """Return the share of one point that is over, 0..1: as it reports, or else as the pace of other points predicts."""
        return self._share(standing, now, self._pace())

    def megapixels(self, now: float) -> tuple[float, float]:
        """Return the window megapixels that are done, by any command, and those left; estimates for running points."""
        pace = self._pace()
        done_megapixels = remaining_megapixels = 0.0
        for standing in self.standings.values():
            if standing.state == "failed":
                continue
            share = self._share(standing, now, pace)
            done_megapixels += share * standing.point.megapixels
            remaining_megapixels += (1 - share) * standing.point.megapixels
        return done_megapixels, remaining_megapixels

    def rate(self, now: float) -> float:
        """Return the window megapixels per second of the whole farm; 0 if nothing is known yet.

        The rate covers the last half hour, or the whole command if it has ended. It is approximate for running points,
        since their share of the work counts operations.
        """
        now, pace = self.ended or now, self._pace()
        span = self._span(now)
        return (
            sum(self._recent(standing, now, self._worked(standing, now, pace)) for standing in self._worked_on()) / span
            if span
            else 0.0
        )

    def left(self, now: float) -> float | None:
        """Return the seconds until all points are done; None if unknown, 0 if the command has ended."""
        if self.ended:
            return 0.0
        pace, span = self._pace(), self._span(now)
        recent_cost = remaining_cost = longest = 0.0
        for standing in self.standings.values():
            full_cost, share = self._cost(standing, pace), self._share(standing, now, pace)
            remaining_cost += (1 - share) * full_cost
            if standing.state == "waiting" and pace is not None:
                longest = max(longest, pace.seconds(standing.point.teraflops))
            elif standing.state == "running":
                longest = max(longest, self._remaining(standing, now, pace))
            recent_cost += self._recent(standing, now, full_cost * self._done_now(standing, now, pace))
        if remaining_cost <= 0:
            return 0.0
        # With any number of workers, the sweep takes at least as long as its longest point.
        return max(longest, remaining_cost * span / recent_cost) if recent_cost > 0 and span > 0 else None

    def _in(self, state: State) -> list[Standing]:
        return [standing for standing in self.standings.values() if standing.state == state]

    def _worked_on(self) -> list[Standing]:
        return [
            standing
            for standing in self.standings.values()
            if standing.state in ("running", "done") and not standing.skipped
        ]

    def _pace(self) -> Pace | None:
        if not self._stale:
            return self._known
        finished = [
            standing
            for standing in self.standings.values()
            if standing.state == "done" and not standing.skipped and standing.until > standing.since
        ]
        finished.sort(key=lambda standing: standing.until)
        samples = [
            (_dreamed(standing) * standing.point.teraflops, standing.until - standing.since) for standing in finished
        ]
        self._known, self._stale = fit_pace(samples), False
        return self._known

    def _cost(self, standing: Standing, pace: Pace | None) -> float:
        """Return the cost of a point in teraflops, including its fixed overhead."""
        if not self._sized:
            return 1.0
        return standing.point.teraflops + (pace.overhead if pace is not None else 0.0)

    def _share(self, standing: Standing, now: float, pace: Pace | None) -> float:
        """Return the share of a point that is over, 0..1."""
        if standing.state in ("done", "failed"):
            return 1.0
        if standing.state == "waiting":
            return 0.0
        if standing.progress is not None:
            return min(1.0, standing.progress.share)
        if pace is None:
            return 0.0
        expected = pace.seconds(standing.point.teraflops)
        return min(_OVERDUE, (now - standing.since) / expected) if expected > 0 else 0.0

    def _done_now(self, standing: Standing, now: float, pace: Pace | None) -> float:
        """Return the share of a point that this command has done, 0..1; less than the share over if a run was resumed."""
        if standing.state == "running":
            progress = standing.progress
            return min(1.0, progress.worked) if progress else self._share(standing, now, pace)
        return _dreamed(standing) if standing.state == "done" and not standing.skipped else 0.0

    def _worked(self, standing: Standing, now: float, pace: Pace | None) -> float:
        """Return the window megapixels of a point that this command has dreamed."""
        if standing.state == "done":
            return standing.megapixels
        return self._done_now(standing, now, pace) * standing.point.megapixels

    def _remaining(self, standing: Standing, now: float, pace: Pace | None) -> float:
        """Return the seconds that a running point still needs; 0 if unknown."""
        share, progress = self._share(standing, now, pace), standing.progress
        if progress is None:
            return (1 - share) * pace.seconds(standing.point.teraflops) if pace is not None else 0.0
        is_reliable = share >= _TELLING and progress.worked > 0
        return (now - standing.since) * (1 - share) / progress.worked if is_reliable else 0.0

    def _span(self, now: float) -> float:
        """Return the seconds over which the pace is measured: since the first start, at most half an hour."""
        return 0.0 if self._first is None else max(0.0, min(now - self._first, self._window))

    @property
    def _window(self) -> float:
        return math.inf if self.ended else _WINDOW_S

    def _recent(self, standing: Standing, now: float, work: float) -> float:
        """Return the part of a point's work that falls into the measured time, assuming a constant speed."""
        until = standing.until if standing.state == "done" else now
        duration = until - standing.since
        recent = until - (now - self._window)
        return work * max(0.0, min(1.0, recent / duration)) if duration > 0 else work


def read_sweep(directory: Path) -> dict[str, Any]:
    """Read `sweep.json` in a sweep's directory; return an empty record if it is missing or malformed."""
    try:
        sweep = parse_record(read_record_file(directory / SWEEP))
        check_shape(sweep, _SweepRecord)
    except (OSError, MalformedRecord):
        return {}
    assert isinstance(sweep, dict)
    return sweep


def listed_points(sweep: Mapping[str, Any]) -> list[BoardPoint]:
    """Return the points that a sweep's record lists."""
    return [
        BoardPoint(
            point["number"],
            point["label"],
            point.get("megapixels") or 0.0,
            point.get("teraflops") or 0.0,
            point.get("directory") or "",
        )
        for point in sweep.get("points", [])
    ]


def told(directory: Path, sweep: Mapping[str, Any]) -> list[Event]:
    """Return the events of the command that wrote a sweep's record; none if it has not begun yet."""
    events = last_command(read_events(directory / EVENTS))
    # A command writes `sweep.json` before its first event: until then the last events are of an earlier command.
    pid = sweep.get("pid")
    return events if events and pid in (None, events[0].facts.get("pid", pid)) else []


def _dreamed(standing: Standing) -> float:
    """Return the share of a done point that was dreamed for it, 0..1; 0 if only its picture was written again."""
    size = standing.point.megapixels
    return min(1.0, standing.megapixels / size) if size > 0 else 1.0


def _leave(standing: Standing, state: State, event: Event) -> None:
    standing.state, standing.until, standing.progress = state, event.time, None
