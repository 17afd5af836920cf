"""Model of a point's duration: a fixed time plus a time per operation.

The fixed time is for files and the point's share of compilation.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Largest number of points that the line is fitted to: the cost is quadratic.
_MAX_FITTED = 40


@dataclass(frozen=True)
class Pace:
    """Duration of a point as a line in its work.

    Attributes:
        overhead_teraflops: Work that takes as long as the fixed time of a point, 10^12 operations.
        seconds_per_teraflop: Seconds per 10^12 operations.
    """

    overhead_teraflops: float
    seconds_per_teraflop: float

    def seconds(self, teraflops: float) -> float:
        """Return the expected seconds of a point with so many teraflops."""
        return self.seconds_per_teraflop * (self.overhead_teraflops + teraflops)


def fit_pace(finished: Sequence[tuple[float, float]]) -> Pace | None:
    """Fit the pace to (teraflops, seconds) of the last finished points.

    Return None if there are none.

    The line is a Theil-Sen estimate, the median of the slopes between all pairs, which is robust to outliers.
    """
    samples = [(size, seconds) for size, seconds in finished if size > 0][-_MAX_FITTED:]
    if not samples:
        return None
    slopes = [
        (seconds - other_seconds) / (size - other_size)
        for position, (size, seconds) in enumerate(samples)
        for other_size, other_seconds in samples[:position]
        if abs(size - other_size) > 0.01 * max(size, other_size)
    ]
    seconds_per_teraflop = statistics.median(seconds / size for size, seconds in samples)
    # Keep the slope between its limits: nearly all time is fixed, or all time is proportional to size.
    slope = (
        min(seconds_per_teraflop, max(0.01 * seconds_per_teraflop, statistics.median(slopes)))
        if len(slopes) >= 3
        else seconds_per_teraflop
    )
    fixed_seconds = max(0.0, statistics.median(seconds - slope * size for size, seconds in samples))
    return (
        Pace(fixed_seconds / slope, slope)
        if fixed_seconds and slope < seconds_per_teraflop
        else Pace(0.0, seconds_per_teraflop)
    )
