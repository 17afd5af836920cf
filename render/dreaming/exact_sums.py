"""Sums of floating-point numbers that are the same to the bit in any order and any grouping.

Every number is rounded once to a multiple of 2^-45 and then added as an integer, which is associative. So each worker can
add up its own tiles and send one sum, however many tiles it has, and the total does not depend on the deal. Fixed-point
accumulators are an old idea (Kulisch, Computer Arithmetic and Validity, 2008); two words suffice here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Binary digits of a low word, and of its part behind the point: a high word counts units of 2^5.
_LOW_DIGITS, _FRACTION_DIGITS = 50, 45
_HIGH_UNIT = 2.0 ** (_LOW_DIGITS - _FRACTION_DIGITS)
#: Largest size of a number that may be added: 2^13 of them fit into a high word.
LARGEST = _HIGH_UNIT * 2.0**50


@dataclass(frozen=True, eq=False)
class ExactSums:
    """Vector of sums: each is high * 2^5 + low * 2^-45, with low in [-2^49, 2^49).

    Attributes:
        high: (n,) int64.
        low: (n,) int64.
    """

    high: NDArray[np.int64]
    low: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> ExactSums:
        """Return sums of one number each, rounded to the nearest multiple of 2^-45.

        Args:
            values: (n,) float64.

        Raises:
            ValueError: A number is not finite, or larger than `LARGEST`.
        """
        # NaN compares as False.
        if not (np.abs(values) <= LARGEST).all():
            raise ValueError("numbers to be added must be finite and at most 2^55")
        high = np.rint(values / _HIGH_UNIT)
        # Exact: both are multiples of the number's last digit, and what remains is smaller.
        low = np.rint((values - high * _HIGH_UNIT) * 2.0**_FRACTION_DIGITS)
        return cls._normalised(high.astype(np.int64), low.astype(np.int64))

    def plus(self, other: ExactSums) -> ExactSums:
        """Return the sums of both, exactly."""
        return self._normalised(self.high + other.high, self.low + other.low)

    def added_to(self, earlier: ExactSums | None) -> ExactSums:
        """Return the sums of both, exactly; these alone if there are no earlier ones."""
        return self if earlier is None else earlier.plus(self)

    def totals(self) -> NDArray[np.float64]:
        """Return the sums as floating-point numbers: (n,) float64."""
        return self.high * _HIGH_UNIT + self.low * 2.0**-_FRACTION_DIGITS

    @classmethod
    def _normalised(cls, high: NDArray[np.int64], low: NDArray[np.int64]) -> ExactSums:
        """Return the sums with as much as possible in the high words, so that equal sums have equal words."""
        carry = (low + (1 << (_LOW_DIGITS - 1))) >> _LOW_DIGITS
        return cls(high + carry, low - (carry << _LOW_DIGITS))
