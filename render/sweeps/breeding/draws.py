"""Random numbers from a counter: the same on every machine and with every version of Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

T = TypeVar("T")

#: Bits of a random number.
_BITS = 53


class Draws:
    """Stream of random numbers that a key identifies.

    The n-th number is the hash of the key and n.
    """

    def __init__(self, *key: int) -> None:
        """Begin the stream of a key, such as (seed, generation, child, attempt)."""
        self._key = ",".join(map(str, key))
        self._count = 0

    def share(self) -> float:
        """Return a number from 0 to below 1, uniformly distributed."""
        digest = hashlib.sha256(f"{self._key}:{self._count}".encode()).digest()
        self._count += 1
        return float((int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / (1 << _BITS))

    def normal(self) -> float:
        """Return a number of the standard normal distribution."""
        return NormalDist().inv_cdf(max(self.share(), 1e-12))

    def happens(self, probability: float) -> bool:
        """Return True with a probability, 0 to 1."""
        return self.share() < probability

    def below(self, count: int) -> int:
        """Return a whole number from 0 to below `count`."""
        return min(count - 1, int(self.share() * count))

    def pick(self, items: Sequence[T]) -> T:
        """Return one of several items."""
        return items[self.below(len(items))]
