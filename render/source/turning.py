"""Turning and mirroring of pictures, by EXIF orientation."""

from __future__ import annotations

from typing import NamedTuple


class Turn(NamedTuple):
    """Steps from a picture as stored in its file to upright: flips along the file's axes, then a transposition."""

    transposed: bool
    flip_rows: bool
    flip_columns: bool


#: Turns by EXIF orientation, 1 to 8 (Exif 2.32, tag 0x0112).
TURNS = (
    Turn(False, False, False),
    Turn(False, False, True),
    Turn(False, True, True),
    Turn(False, True, False),
    Turn(True, False, False),
    Turn(True, True, False),
    Turn(True, True, True),
    Turn(True, False, True),
)
