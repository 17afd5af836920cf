"""Where the points of a sweep stand, from its events alone: counts, failures, the pace of the whole farm, the time left.

The time left is reckoned in cost: teraflops of kernels, plus as many as the time would be worth that a point takes
whatever its size (pace.py).
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
from render.sweep.event_log import EVENTS, Event, last_command, read_events
from render.sweep.pace import Pace, fit_pace

#: Its name in a sweep's directory.
SWEEP = "sweep.json"
#: Where a point's run directory lies in a sweep's: nothing else is looked into.
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
    """The keys that are read of `sweep.json`."""

    pid: int
    command: str | list[str]
    started: str
    resumed: list[str]


State = Literal["waiting", "running", "done", "failed"]

#: The pace is that of the last half hour: machines come and go.
_WINDOW_S = 1800.0
#: A point that should be over by now is taken to be so far done.
_OVERDUE = 0.95
#: From this share on, what a point took so far says how long it will take.
_TELLING = 0.1


class Listed(Protocol):
    """A point of a command, as the board needs to know it.

    `megapixels` of windows are to be dreamed for it, in 10^12 times `teraflops` operations, and its run directory is
    `directory` in the sweep's.
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
    """A point as `sweep.json` lists it."""

    number: int
    label: str
    megapixels: float
    teraflops: float
    directory: str


@dataclass
class Standing:
    """Where a point stands. `since` is when its last attempt was started, `until` when that ended: seconds since the epoch.

    `seconds` it took and `megapixels` were dreamed for it, once it is done; `skipped` was done before. `reason` says why
    it failed, or why it is tried again.
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
    """How many points stand where; `skipped` are among those done."""

    waiting: int
    running: int
    done: int
    failed: int
    skipped: int

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.done + self.failed


class Board:
    """The points of one command. Told its events in order, by one thread at a time.

    `status` is running, or how the command ended; None before it has begun. `latest` is the time of the last event.
    Times are seconds since the epoch.
    """

    def __init__(self, points: Iterable[Listed]) -> None:
        self.standings = {point.number: Standing(point) for point in points}
        self.status: str | None = None
        self.begun = self.ended = self.latest = 0.0
        self._first: float | None = None
        self._known: Pace | None = None
        self._stale = False
        # What is left cannot be reckoned in teraflops where nobody knows them.
        self._sized = any(standing.point.teraflops > 0 for standing in self.standings.values())

    @classmethod
    def of(cls, directory: Path) -> Board:
        """The board of the last command in a sweep's directory; empty where no sweep is."""
        sweep = read_sweep(directory)
        board = cls(listed_points(sweep))
        for event in told(directory, sweep):
            board.apply(event)
        return board

    def apply(self, event: Event) -> None:
        """Takes in what happened; events of points that are not on the board do nothing."""
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
        """Takes in how far a running point says it is."""
        if number in self.standings:
            self.standings[number].progress = progress

    @property
    def counts(self) -> Counts:
        every = list(self.standings.values())
        states = [standing.state for standing in every]
        return Counts(
            waiting=states.count("waiting"),
            running=states.count("running"),
            done=states.count("done"),
            failed=states.count("failed"),
            skipped=sum(standing.skipped for standing in every),
        )

    @property
    def running(self) -> list[Standing]:
        """The points under way, those that began first before others."""
        return sorted(self._in("running"), key=lambda standing: (standing.since, standing.point.number))

    @property
    def failures(self) -> list[Standing]:
        """The points that failed for good, in the order in which they did."""
        return sorted(self._in("failed"), key=lambda standing: (standing.until, standing.point.number))

    def elapsed(self, now: float) -> float:
        """Seconds since the command began, or that it took."""
        return max(0.0, (self.ended or now) - self.begun) if self.begun else 0.0

    def share(self, now: float) -> float:
        """How much of the work is over, 0..1, that of points that failed or were done before included."""
        pace = self._pace()
        total = over = 0.0
        for standing in self.standings.values():
            cost = self._cost(standing, pace)
            total += cost
            over += cost * self._share(standing, now, pace)
        return min(1.0, over / total) if total else 1.0

    def share_of(self, standing: Standing, now: float) -> float:
        """How much of one point is over, 0..1: what it says itself, or else what others lead to expect."""
        return self._share(standing, now, self._pace())

    def megapixels(self, now: float) -> tuple[float, float]:
        """Window megapixels that are done, by whomever and whenever, and those that are left: of running points about."""
        pace = self._pace()
        done = left = 0.0
        for standing in self.standings.values():
            if standing.state == "failed":
                continue
            share = self._share(standing, now, pace)
            done += share * standing.point.megapixels
            left += (1 - share) * standing.point.megapixels
        return done, left

    def rate(self, now: float) -> float:
        """Window megapixels per second of the whole farm, over the last half hour, or all of a command that has ended: of
        running points about, since their share of the work is one of operations.

        0 where nothing is known yet.
        """
        now, pace = self.ended or now, self._pace()
        span = self._span(now)
        return (
            sum(self._recent(one, now, self._worked(one, now, pace)) for one in self._worked_on()) / span if span else 0.0
        )

    def left(self, now: float) -> float | None:
        """Seconds until all points are done; None where nothing tells yet, 0 where the command has ended."""
        if self.ended:
            return 0.0
        pace, span = self._pace(), self._span(now)
        done = cost = longest = 0.0
        for standing in self.standings.values():
            whole, share = self._cost(standing, pace), self._share(standing, now, pace)
            cost += (1 - share) * whole
            if standing.state == "waiting" and pace is not None:
                longest = max(longest, pace.seconds(standing.point.teraflops))
            elif standing.state == "running":
                longest = max(longest, self._remaining(standing, now, pace))
            done += self._recent(standing, now, whole * self._done_now(standing, now, pace))
        if cost <= 0:
            return 0.0
        # However many workers there are, the last point cannot be over sooner than it takes.
        return max(longest, cost * span / done) if done > 0 and span > 0 else None

    def _in(self, state: State) -> list[Standing]:
        return [standing for standing in self.standings.values() if standing.state == state]

    def _worked_on(self) -> list[Standing]:
        return [one for one in self.standings.values() if one.state in ("running", "done") and not one.skipped]

    def _pace(self) -> Pace | None:
        if not self._stale:
            return self._known
        finished = [
            one for one in self.standings.values() if one.state == "done" and not one.skipped and one.until > one.since
        ]
        finished.sort(key=lambda one: one.until)
        sized = [(_dreamed(one) * one.point.teraflops, one.until - one.since) for one in finished]
        self._known, self._stale = fit_pace(sized), False
        return self._known

    def _cost(self, standing: Standing, pace: Pace | None) -> float:
        """What a point costs in teraflops, its own time included."""
        if not self._sized:
            return 1.0
        return standing.point.teraflops + (pace.overhead if pace is not None else 0.0)

    def _share(self, standing: Standing, now: float, pace: Pace | None) -> float:
        """How much of a point is over, 0..1."""
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
        """How much of a point this command has done, 0..1: less than is over where a run was taken up again."""
        if standing.state == "running":
            progress = standing.progress
            return min(1.0, progress.worked) if progress else self._share(standing, now, pace)
        return _dreamed(standing) if standing.state == "done" and not standing.skipped else 0.0

    def _worked(self, standing: Standing, now: float, pace: Pace | None) -> float:
        """Megapixels that this command has dreamed of a point."""
        if standing.state == "done":
            return standing.megapixels
        return self._done_now(standing, now, pace) * standing.point.megapixels

    def _remaining(self, standing: Standing, now: float, pace: Pace | None) -> float:
        """Seconds that a running point still takes; 0 where nothing tells."""
        share, progress = self._share(standing, now, pace), standing.progress
        if progress is None:
            return (1 - share) * pace.seconds(standing.point.teraflops) if pace is not None else 0.0
        telling = share >= _TELLING and progress.worked > 0
        return (now - standing.since) * (1 - share) / progress.worked if telling else 0.0

    def _span(self, now: float) -> float:
        """Seconds that the pace is taken over: from the first point that was started, half an hour at most."""
        return 0.0 if self._first is None else max(0.0, min(now - self._first, self._window))

    @property
    def _window(self) -> float:
        return math.inf if self.ended else _WINDOW_S

    def _recent(self, standing: Standing, now: float, work: float) -> float:
        """What of a point's work falls into the last half hour, as if it had been done evenly."""
        until = standing.until if standing.state == "done" else now
        took = until - standing.since
        recent = until - (now - self._window)
        return work * max(0.0, min(1.0, recent / took)) if took > 0 else work


def read_sweep(directory: Path) -> dict[str, Any]:
    """The record `sweep.json` of the sweep in a directory; empty where there is none."""
    try:
        sweep = parse_record(read_record_file(directory / SWEEP))
        check_shape(sweep, _SweepRecord)
    except (OSError, MalformedRecord):
        return {}
    assert isinstance(sweep, dict)
    return sweep


def listed_points(sweep: Mapping[str, Any]) -> list[BoardPoint]:
    """The points that a sweep's record lists."""
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
    """The events of the command that wrote a sweep's record; none where it has not begun yet."""
    events = last_command(read_events(directory / EVENTS))
    # A command that has written its list, but not yet that it has begun, is another than the last in the events.
    pid = sweep.get("pid")
    return events if events and pid in (None, events[0].facts.get("pid", pid)) else []


def _dreamed(standing: Standing) -> float:
    """How much of a point that is done was dreamed for it, 0..1: nothing where its picture alone was made again."""
    size = standing.point.megapixels
    return min(1.0, standing.megapixels / size) if size > 0 else 1.0


def _leave(standing: Standing, state: State, event: Event) -> None:
    standing.state, standing.until, standing.progress = state, event.time, None
