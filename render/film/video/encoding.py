"""Encoding of a film's frames into segments: closed, complete files that are later joined without encoding again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from render.film.video.formats import VideoSettings

#: Frame of a film: (rows, columns, 3) RGB, uint8 of 0..255 or uint16 of 0..65535.
Picture = np.ndarray[Any, np.dtype[np.uint8]] | np.ndarray[Any, np.dtype[np.uint16]]


def encode_segment(path: Path, frames: Iterable[Picture], settings: VideoSettings, first_number: int = 0) -> int:
    """Encode frames into a segment, an atomically written Matroska file; return their number.

    Args:
        path: The segment's file; replaced if it exists.
        frames: The segment's frames in order, (rows, columns, 3) RGB, uint8 or uint16. Each is read before the next is asked for.
        settings: Settings of the film.
        first_number: Number of the first frame in the film, for messages.

    Raises:
        UserError: A frame has another shape, or the encoder or the disk refuses.
    """
    raise NotImplementedError
