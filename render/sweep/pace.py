"""How long a point takes: some time whatever its size (files, compiling its share), and some for what is computed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Points that the line is put through: it costs the square of them.
_FITTED = 40


@dataclass(frozen=True)
class Pace:
    """What a point takes on what it runs on: `each` seconds for 10^12 operations, and as long as `overhead` times so many
    take besides.
    """

    overhead: float
    each: float

    def seconds(self, teraflops: float) -> float:
        """What a point of so many should take."""
        return self.each * (self.overhead + teraflops)


def fit_pace(finished: Sequence[tuple[float, float]]) -> Pace | None:
    """From (teraflops, seconds) of finished points, the last of which count; None where there are none.

    The line through them is Theil and Sen's: the median of the slopes between any two, which a few odd ones do not turn.
    """
    sized = [(size, seconds) for size, seconds in finished if size > 0][-_FITTED:]
    if not sized:
        return None
    slopes = [
        (seconds - other_seconds) / (size - other_size)
        for position, (size, seconds) in enumerate(sized)
        for other_size, other_seconds in sized[:position]
        if abs(size - other_size) > 0.01 * max(size, other_size)
    ]
    each = statistics.median(seconds / size for size, seconds in sized)
    # Between two that cannot be: a point that takes no time for its size, and one that takes some only for its size.
    slope = min(each, max(0.01 * each, statistics.median(slopes))) if len(slopes) >= 3 else each
    own = max(0.0, statistics.median(seconds - slope * size for size, seconds in sized))
    return Pace(own / slope, slope) if own and slope < each else Pace(0.0, each)
