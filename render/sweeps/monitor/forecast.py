"""Forecast of a sweep: the share that is over, the rate of the farm, and the time left.

The time left is computed from costs in teraflops: those of a point's kernels, plus the equivalent of the fixed time that
every point takes (pace.py). Without known teraflops, all points have the same cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from render.sweeps.monitor.board import Board, PointStatus

#: Seconds over which the rate is measured: machines come and go.
_RATE_WINDOW_S = 1800.0
#: Largest share of a point that counts as done while it only overruns its expected time.
_MAX_EXPECTED_SHARE = 0.95
#: Least share of a point from which its elapsed time predicts its remaining time.
_MIN_RELIABLE_SHARE = 0.1


@dataclass(frozen=True)
class Forecast:
    """Estimates of a command's progress.

    Attributes:
        board: The points' states.
        now: The current time, seconds since the epoch.
    """

    board: Board
    now: float

    @property
    def share(self) -> float:
        """Share of the work that is over, 0..1; failed and skipped points count as over."""
        total = finished = 0.0
        for status in self.board.point_statuses.values():
            cost = self._cost(status)
            total += cost
            finished += cost * self.share_of(status)
        return min(1.0, finished / total) if total else 1.0

    @property
    def megapixels(self) -> tuple[float, float]:
        """Window megapixels that are done, by any command, and those left.

        Those of running points are estimates.
        """
        done_megapixels = remaining_megapixels = 0.0
        for status in self.board.point_statuses.values():
            if status.state == "failed":
                continue
            share = self.share_of(status)
            done_megapixels += share * status.point.megapixels
            remaining_megapixels += (1 - share) * status.point.megapixels
        return done_megapixels, remaining_megapixels

    @property
    def rate(self) -> float:
        """Window megapixels per second of the whole farm; 0 if nothing is known yet.

        The rate covers the last half hour, or the whole command if it has ended. It is approximate for running points,
        since their share of the work counts operations.
        """
        if self.board.ended not in (0.0, self.now):
            return replace(self, now=self.board.ended).rate
        span = self._measured_seconds
        if not span:
            return 0.0
        active = [
            status
            for status in self.board.point_statuses.values()
            if status.state in ("running", "done") and not status.skipped
        ]
        return sum(self._recent_part(status, self._dreamed_megapixels(status)) for status in active) / span

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all points are done; None if unknown, 0 if the command has ended."""
        if self.board.ended:
            return 0.0
        pace, span = self.board.pace, self._measured_seconds
        recent_cost = remaining_cost = longest = 0.0
        for status in self.board.point_statuses.values():
            cost = self._cost(status)
            remaining_cost += (1 - self.share_of(status)) * cost
            if status.state == "waiting" and pace is not None:
                longest = max(longest, pace.seconds(status.point.teraflops))
            elif status.state == "running":
                longest = max(longest, self._seconds_left_of(status))
            recent_cost += self._recent_part(status, cost * self._share_by_command(status))
        if remaining_cost <= 0:
            return 0.0
        # With any number of workers, the sweep takes at least as long as its longest point.
        return max(longest, remaining_cost * span / recent_cost) if recent_cost > 0 and span > 0 else None

    def share_of(self, status: PointStatus) -> float:
        """Return the share of one point that is over, 0..1.

        It is what the point reports, or else what the pace of other points predicts.
        """
        if status.state in ("done", "failed"):
            return 1.0
        if status.state == "waiting":
            return 0.0
        if status.progress is not None:
            return min(1.0, status.progress.share)
        pace = self.board.pace
        if pace is None:
            return 0.0
        expected_seconds = pace.seconds(status.point.teraflops)
        return min(_MAX_EXPECTED_SHARE, (self.now - status.since) / expected_seconds) if expected_seconds > 0 else 0.0

    def _cost(self, status: PointStatus) -> float:
        """Return the cost of a point in teraflops, including its fixed overhead."""
        if not self.board.has_costs:
            return 1.0
        pace = self.board.pace
        return status.point.teraflops + (pace.overhead_teraflops if pace is not None else 0.0)

    def _share_by_command(self, status: PointStatus) -> float:
        """Return the share of a point that this command has done, 0..1.

        It is less than the share that is over if a run was resumed.
        """
        if status.state == "running":
            return min(1.0, status.progress.worked) if status.progress else self.share_of(status)
        return status.dreamed_share if status.state == "done" and not status.skipped else 0.0

    def _dreamed_megapixels(self, status: PointStatus) -> float:
        """Return the window megapixels of a point that this command has dreamed."""
        if status.state == "done":
            return status.megapixels
        return self._share_by_command(status) * status.point.megapixels

    def _seconds_left_of(self, status: PointStatus) -> float:
        """Return the seconds that a running point still needs; 0 if unknown."""
        share, progress, pace = self.share_of(status), status.progress, self.board.pace
        if progress is None:
            return (1 - share) * pace.seconds(status.point.teraflops) if pace is not None else 0.0
        is_reliable = share >= _MIN_RELIABLE_SHARE and progress.worked > 0
        return (self.now - status.since) * (1 - share) / progress.worked if is_reliable else 0.0

    @property
    def _measured_seconds(self) -> float:
        """Seconds over which the rate is measured: since the first start, at most half an hour."""
        first_start = self.board.first_start
        return 0.0 if first_start is None else max(0.0, min(self.now - first_start, self._window_seconds))

    @property
    def _window_seconds(self) -> float:
        return math.inf if self.board.ended else _RATE_WINDOW_S

    def _recent_part(self, status: PointStatus, work: float) -> float:
        """Return the part of a point's work in the measured time, assuming a constant speed."""
        until = status.until if status.state == "done" else self.now
        duration = until - status.since
        recent_seconds = until - (self.now - self._window_seconds)
        return work * max(0.0, min(1.0, recent_seconds / duration)) if duration > 0 else work
