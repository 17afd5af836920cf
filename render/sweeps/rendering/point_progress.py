"""Progress of drawing and checking the points of a sweep."""

from __future__ import annotations

import time
from collections.abc import Callable

from render.job.progress import say

#: Minimum seconds between two lines.
LINE_EVERY_S = 15.0


class PointProgress:
    """Lines about work on many points: none in the first seconds, nothing when quiet."""

    def __init__(self, work: str, total: int, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Count points from now.

        Args:
            work: The work on each, such as "drawing".
            total: Number of points.
            quiet: True to print nothing.
            clock: Returns seconds.
        """
        self._work, self._total, self._quiet, self._clock = work, total, quiet, clock
        self._count = 0
        self._started_at = self._line_at = clock()

    def advance(self) -> None:
        """Count a point, and print a line if the last one was long ago."""
        self._count += 1
        now = self._clock()
        if now - self._line_at < LINE_EVERY_S or self._count >= self._total:
            return
        self._line_at = now
        elapsed = now - self._started_at
        left = elapsed * (self._total - self._count) / self._count
        say(
            f"{self._work}: {self._count:,} of {self._total:,} points, {elapsed:.0f} s so far, about {left:.0f} s left",
            quiet=self._quiet,
        )
