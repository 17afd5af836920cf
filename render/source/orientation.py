"""EXIF orientation: how the pixels of a file are flipped and transposed to stand upright."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyvips
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """Steps from stored to upright: flips along the file's axes, then a transposition."""

    transposed: bool
    flip_rows: bool
    flip_columns: bool

    @property
    def flips(self) -> tuple[bool, bool]:
        """Whether the (rows, columns) of the file are flipped."""
        return self.flip_rows, self.flip_columns

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn stored pixels upright, as a view of the same memory.

        Args:
            pixels: (rows, columns) or (rows, columns, channels).
        """
        flipped = pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return np.swapaxes(flipped, 0, 1) if self.transposed else flipped


#: Steps for the values 1 to 8 of tag Orientation (EXIF 2.32, tag 0x0112), at index value - 1.
ORIENTATIONS = (
    Orientation(False, False, False),
    Orientation(False, False, True),
    Orientation(False, True, True),
    Orientation(False, True, False),
    Orientation(True, False, False),
    Orientation(True, True, False),
    Orientation(True, True, True),
    Orientation(True, False, True),
)


def read_orientation(picture: pyvips.Image) -> int:
    """Return the value of a picture's tag Orientation, 1 to 8; 1 (upright) if it has none."""
    value = picture.get("orientation") if picture.get_typeof("orientation") != 0 else 1
    return value if 1 <= value <= 8 else 1
