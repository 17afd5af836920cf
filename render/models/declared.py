"""Bounds what is read of a file of weights: arrays of the architecture's own shapes alone, whatever the file declares.

A header may declare terabytes that a few compressed bytes become, or nothing at all. So names and shapes are read first,
and the values of those arrays only that the architecture has; of the others no more is needed than to name them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from render.models.architecture import Architecture
from render.system.reading import open_regular

#: Bytes of the largest file that is looked into: several times the largest model's, in float64.
MAX_FILE_BYTES = 1 << 30
#: Arrays and other parts that a file may hold; the largest model has 378 parameters.
MAX_PARTS = 10_000

_NORM_PARTS = ("beta", "mean", "var")


@dataclass(frozen=True)
class Declared:
    """An array that is not read, as it fits no parameter: its shape, and what the file calls its type."""

    shape: tuple[int, ...]
    dtype: str


class Expected:
    """The arrays that an architecture has: its parameters, and what batch norms have in their place."""

    def __init__(self, architecture: Architecture) -> None:
        self._shapes = architecture.parameters()
        for name, shape in architecture.parameters().items():
            layer, _, kind = name.rpartition("/")
            if kind == "bias":
                self._shapes |= {f"{layer}/{part}": shape for part in _NORM_PARTS}

    @property
    def largest(self) -> int:
        """Values of the largest array."""
        return max(map(math.prod, self._shapes.values()))

    def has(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """Whether there is an array of the name, the shape and of real numbers."""
        return self._shapes.get(name) == tuple(shape) and dtype.kind in "fiub"


def check_file(path: Path) -> None:
    """Raise `OSError`, whose `strerror` says why, unless the path is a regular file that is not too large."""
    open_regular(path, MAX_FILE_BYTES).close()
