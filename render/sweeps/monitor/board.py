"""State of a sweep's points, from its events alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from render.film.film_progress import FilmPosition
from render.job.progress_file import Progress
from render.sweeps.monitor.event_log import Event
from render.sweeps.monitor.pace import Pace, fit_pace
from render.sweeps.monitor.sweep_record import RecordedPoint, command_events, listed_points, read_sweep

State = Literal["waiting", "running", "done", "failed"]
#: Progress that the run of a running point reports: of a picture, or of a film.
PointProgress = Progress | FilmPosition


@dataclass
class PointStatus:
    """State of a point. Times are in seconds since the epoch.

    Attributes:
        point: The point.
        state: Its state.
        since: Start of its last attempt.
        until: End of its last attempt.
        worker: The worker that renders it, or did so last.
        attempt: Number of its last attempt, from 1; 0 before the first.
        skipped: True if an earlier command finished it.
        seconds: Duration of its last attempt, once it is done.
        megapixels: Window area that was dreamed, once it is done.
        reason: Why it failed or is retried.
        progress: What its run reports, while it is running.
    """

    point: RecordedPoint
    state: State = "waiting"
    since: float = 0.0
    until: float = 0.0
    worker: str = ""
    attempt: int = 0
    skipped: bool = False
    seconds: float = 0.0
    megapixels: float = 0.0
    reason: str = ""
    progress: PointProgress | None = None

    @property
    def dreamed_share(self) -> float:
        """Share of a done point that was dreamed for it, 0..1.

        It is 0 if only its picture was written again.
        """
        size = self.point.megapixels
        return min(1.0, self.megapixels / size) if size > 0 else 1.0

    def leave(self, state: State, time: float) -> None:
        """End the attempt at `time` and go into another state."""
        self.state, self.until, self.progress = state, time, None


@dataclass(frozen=True)
class PointCounts:
    """Numbers of points in each state; `done` includes `skipped`."""

    waiting: int
    running: int
    done: int
    failed: int
    skipped: int

    @property
    def total(self) -> int:
        """Number of all points."""
        return self.waiting + self.running + self.done + self.failed


class Board:
    """State of all points of one command.

    Events must be applied in order, by one thread at a time.

    Attributes:
        point_statuses: The state of each point, by its number.
        status: `running`, or how the command ended; None before it begins.
        begun: Time of its beginning, seconds since the epoch; 0 before it begins.
        ended: Time of its end; 0 until then.
        latest: Time of the last event.
        first_start: Time of the first start of a point; None before that.
        has_costs: False if the cost of no point is known.
    """

    def __init__(self, points: Iterable[RecordedPoint]) -> None:
        self.point_statuses = {point.number: PointStatus(point) for point in points}
        self.status: str | None = None
        self.begun = self.ended = self.latest = 0.0
        self.first_start: float | None = None
        self._pace: Pace | None = None
        self._is_pace_outdated = False
        self.has_costs = any(status.point.teraflops > 0 for status in self.point_statuses.values())

    @classmethod
    def of(cls, directory: Path) -> Board:
        """Return the board of the last command in a sweep's directory.

        Return an empty board if there is no sweep.
        """
        sweep = read_sweep(directory)
        board = cls(listed_points(sweep))
        for event in command_events(directory, sweep):
            board.apply(event)
        return board

    def apply(self, event: Event) -> None:
        """Update the board with an event; ignore events of points that are not on the board."""
        self.latest = max(self.latest, event.time)
        if event.kind == "begun":
            self.status, self.begun = "running", event.time
        elif event.kind == "ended":
            self.status, self.ended = str(event.facts.get("status", "finished")), event.time
            for status in self.running:
                status.leave("waiting", event.time)
        elif event.point is not None and event.point in self.point_statuses:
            self._apply_to_point(self.point_statuses[event.point], event)

    def _apply_to_point(self, status: PointStatus, event: Event) -> None:
        """Update the state of a point with one of its events."""
        facts = event.facts
        match event.kind:
            case "skipped":
                status.state, status.skipped = "done", True
            case "started":
                self.first_start = event.time if self.first_start is None else self.first_start
                status.state, status.since, status.progress = "running", event.time, None
                status.worker = str(facts.get("worker", ""))
                status.attempt = int(facts.get("attempt", status.attempt + 1))
            case "finished":
                status.leave("done", event.time)
                self._is_pace_outdated = True
                status.seconds = float(facts.get("seconds", status.until - status.since))
                status.megapixels = float(facts.get("megapixels", status.point.megapixels))
            case "failed":
                status.leave("failed", event.time)
                status.reason = str(facts.get("reason", ""))
            case "retried":
                status.leave("waiting", event.time)
                status.reason = str(facts.get("reason", ""))
            case "interrupted":
                status.leave("waiting", event.time)

    def set_progress(self, number: int, progress: PointProgress | None) -> None:
        """Store the progress that the run of a point reports."""
        if number in self.point_statuses:
            self.point_statuses[number].progress = progress

    @property
    def counts(self) -> PointCounts:
        """Numbers of points in each state."""
        statuses = list(self.point_statuses.values())
        states = [status.state for status in statuses]
        return PointCounts(
            waiting=states.count("waiting"),
            running=states.count("running"),
            done=states.count("done"),
            failed=states.count("failed"),
            skipped=sum(status.skipped for status in statuses),
        )

    @property
    def running(self) -> list[PointStatus]:
        """Running points, earliest start first."""
        return sorted(self._in_state("running"), key=lambda status: (status.since, status.point.number))

    @property
    def failures(self) -> list[PointStatus]:
        """Points that failed for good, in the order of their failures."""
        return sorted(self._in_state("failed"), key=lambda status: (status.until, status.point.number))

    @property
    def pace(self) -> Pace | None:
        """Pace of the points that this command finished; None if there are none."""
        if self._is_pace_outdated:
            finished = [status for status in self._in_state("done") if not status.skipped and status.until > status.since]
            finished.sort(key=lambda status: status.until)
            self._pace = fit_pace(
                [(status.dreamed_share * status.point.teraflops, status.until - status.since) for status in finished]
            )
            self._is_pace_outdated = False
        return self._pace

    def elapsed(self, now: float) -> float:
        """Return the seconds since the command began, or its duration if it has ended."""
        return max(0.0, (self.ended or now) - self.begun) if self.begun else 0.0

    def _in_state(self, state: State) -> list[PointStatus]:
        return [status for status in self.point_statuses.values() if status.state == state]
