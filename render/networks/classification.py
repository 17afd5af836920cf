"""Classification of a picture: its likeliest classes, and the place of one that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from render.networks.labels import top_classes

#: Classes that are listed.
_TOP_CLASSES = 5


@dataclass(frozen=True)
class Guess:
    """A class that a network sees in a picture, and its probability, 0..1, among all classes."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Sight:
    """Classification of a picture: its most likely classes, and the place of the probed class.

    `top` has the best first. `rank`, which counts from 1, and `probability`, 0..1, are those of the probed class.
    """

    top: tuple[Guess, ...]
    rank: int
    probability: float


class _StoredGuess(TypedDict):
    name: str
    probability: float


class _StoredSight(TypedDict):
    top: list[_StoredGuess]
    rank: int
    probability: float


class _StoredClass(TypedDict):
    index: int
    name: str


class ProbeRecord(TypedDict):
    """Record of a probe, as it is read back: the probed class, and `Sight` before and after."""

    asked: _StoredClass
    before: _StoredSight
    after: _StoredSight


def sight(scores: NDArray[np.float32], names: Sequence[Sequence[str]], target: int) -> Sight:
    """Return the classification for scores before softmax.

    Args:
        scores: (classes,); of equal scores the first ranks higher.
        names: names of every class.
        target: index of the probed class.
    """
    guesses = [Guess(*guess) for guess in top_classes(scores, names, len(names))]
    position = next(number for number, guess in enumerate(guesses) if guess.index == target)
    return Sight(tuple(guesses[:_TOP_CLASSES]), position + 1, guesses[position].probability)
