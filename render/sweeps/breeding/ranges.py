"""Ranges of the numbers that breeding changes.

What is valid is what `render.config` accepts: a change that it refuses is reversed and halved until it accepts it. So no
limit stands in two places. How far a change goes follows from the favourites and from the axes of their sweep.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from render.config.schema import Config
from render.config.sweep_kinds import check_point
from render.errors import UserError
from render.sweeps.axes.points import set_value
from render.sweeps.breeding.draws import Draws

#: Digits of a bred number. More would make differences that nobody sees.
_DIGITS = 3
#: Largest number of times that a change is halved.
_MAX_HALVINGS = 12
#: Share of the range's width that is always another number after rounding.
_LEAST_SHARE = 0.02
#: Ratio of the least to the largest value that is assumed for a positive number at least, and at most.
_MIN_RATIO, _MAX_RATIO = 4.0, 64.0


class ValueCheck:
    """Check of single values, each in an otherwise unchanged config."""

    def __init__(self, config: Config) -> None:
        self._pickled = pickle.dumps(config)

    def accepts(self, key: str, value: object) -> bool:
        """Return whether the config is valid with this value of a dotted key."""
        config = pickle.loads(self._pickled)
        try:
            set_value(config, key, value)
            check_point(config)
        except (UserError, TypeError, ValueError, ArithmeticError):
            return False
        return True


@dataclass(frozen=True)
class NumberRange:
    """Range of the numbers of one key.

    Attributes:
        least: Least number that a change may give.
        largest: Largest number that a change may give.
        is_integer: True for whole numbers.
        is_log: True if ratios count, and not differences.
        width: Extent of the favourites: a difference, or of `is_log` the logarithm of a ratio.
        accepts: Returns whether a number is valid.
    """

    least: float
    largest: float
    is_integer: bool
    is_log: bool
    width: float
    accepts: Callable[[float], bool]

    def changed(self, value: float, draws: Draws, spread: float) -> float:
        """Return a number that differs from `value` by about `spread` of the range's width; `value` itself if none does."""
        drawn = spread * self.width * draws.normal()
        # In turns in both directions, each half as far; at last by a step that no rounding undoes.
        shifts = [drawn / (-2) ** halvings for halvings in range(_MAX_HALVINGS)]
        for shift in (*shifts, _LEAST_SHARE * self.width, -_LEAST_SHARE * self.width):
            candidate = self.rounded(value * math.exp(shift) if self.is_log and value > 0 else value + shift)
            if self.is_integer and candidate == value:
                candidate = value + (1 if shift > 0 else -1)
            candidate = self.rounded(min(max(candidate, self.least), self.largest))
            if candidate != value and self.accepts(candidate):
                return candidate
        return value

    def between(self, first: float, second: float, draws: Draws) -> float:
        """Return a number between two others."""
        share = draws.share()
        if self.is_log and first > 0 and second > 0:
            return self.rounded(math.exp((1 - share) * math.log(first) + share * math.log(second)))
        return self.rounded((1 - share) * first + share * second)

    def rounded(self, value: float) -> float:
        """Return a number with the digits, and of the type, that the range has."""
        if self.is_integer:
            return round(value)
        return float(f"{value:.{_DIGITS}g}")


def number_range(
    values: Sequence[float],
    axis_range: tuple[float, float] | None,
    limits: tuple[float, float] | None,
    is_integer: bool,
    accepts: Callable[[float], bool],
) -> NumberRange:
    """Return the range of a key's numbers.

    Numbers that may not be 0, such as step sizes, are of a logarithmic scale.

    Args:
        values: The favourites' numbers, at least one.
        axis_range: (least, largest) on the axis of their sweep; None if it was no axis.
        limits: (least, largest) that a change may give; None for all that is valid.
        is_integer: True for whole numbers.
        accepts: Returns whether a number is valid.
    """
    covered = [*values, *(axis_range or ())]
    least, largest = limits or (-math.inf, math.inf)
    is_log = min(covered) > 0 and not accepts(0)
    if is_log:
        ratio = min(_MAX_RATIO, max(_MIN_RATIO, max(covered) / min(covered)))
        return NumberRange(least, largest, is_integer, True, math.log(ratio), accepts)
    width = max(covered) - min(covered)
    if width == 0:
        width = (largest - least) / 2 if limits else max(1.0, abs(covered[0]))
    return NumberRange(least, largest, is_integer, False, width, accepts)
