"""Limits on what is read from a weights file: only arrays that the architecture has.

A damaged or hostile header can declare terabytes. Readers therefore read names and shapes first, and values only for the
arrays that the architecture has. Of other arrays only the name, shape and type are kept, for the error message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from render.networks.architecture import Architecture
from render.system.reading import open_regular

#: Largest file that is read, bytes. It is several times the size of the largest model in float64.
MAX_FILE_BYTES = 1 << 30
#: Most arrays and other parts that a file may hold. The largest model has 378 parameters.
MAX_PARTS = 10_000
#: Most classes of a classifier. ImageNet has 21,841 in all.
MAX_CLASSES = 50_000

_NORM_PARTS = ("beta", "mean", "var")


@dataclass(frozen=True)
class Declared:
    """Shape and type, as the file names it, of an array that fits no parameter and is not read."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


class Expected:
    """Arrays that a file for an architecture may hold.

    These are its parameters, with any number of classes, and batch norm statistics in place of biases.
    """

    def __init__(self, architecture: Architecture) -> None:
        self._shapes = architecture.parameters()
        self._classifier = f"{architecture.classifier}/" if architecture.classes else None
        for name, shape in architecture.parameters().items():
            layer, _, kind = name.rpartition("/")
            if kind == "bias":
                self._shapes |= {f"{layer}/{part}": shape for part in _NORM_PARTS}

    @property
    def largest(self) -> int:
        """Number of values of the largest array."""
        return max(map(math.prod, self._shapes.values()))

    def has(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> bool:
        """Return True if an array has the name and shape of an expected one and holds real numbers.

        Args:
            name: Name of the array in the file.
            shape: Its shape.
            dtype: Its type.
        """
        shape, expected = tuple(shape), self._shapes.get(name)
        if self._classifier is not None and expected is not None and name.startswith(self._classifier):
            fits = len(shape) == len(expected) and shape[1:] == expected[1:] and 0 < shape[0] <= MAX_CLASSES
        else:
            fits = shape == expected
        return fits and dtype.kind in "fiub"


class NothingExpected(Expected):
    """Expectation of no array: readers return declarations only."""

    def has(self, *_: object) -> bool:
        """Return False."""
        return False


def check_file(path: Path) -> None:
    """Check that a path is a regular file of at most `MAX_FILE_BYTES`.

    Raises:
        OSError: It is not; `strerror` has the reason.
    """
    open_regular(path, MAX_FILE_BYTES).close()
