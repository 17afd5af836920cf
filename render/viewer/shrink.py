"""Reduction of a canvas by a whole factor, one band at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from render.dreaming.resample import Pixels
from render.geometry.geometry import CHUNK, Interval, Rect


def shrink_rect(read: Callable[[Rect], Pixels], shape: tuple[int, int], rect: Rect, factor: int) -> Pixels:
    """Return a rectangle of a canvas that is shrunk by a whole factor.

    Its pixels are means of squares of `factor` px, of smaller ones at the far ends.

    Holds one band of the canvas in memory at a time.

    Args:
        read: returns a rectangle of the canvas, float32.
        shape: (rows, columns) px of the canvas.
        rect: the rectangle, in px of the shrunk canvas.
        factor: px of the canvas per px of the result, along each axis.
    """
    result = np.empty((*rect.shape, 3), np.float32)
    step = max(1, CHUNK // factor)
    columns = Interval(rect.columns.start * factor, min(rect.columns.stop * factor, shape[1]))
    for start in range(0, rect.rows.size, step):
        stop = min(start + step, rect.rows.size)
        rows = Interval((rect.rows.start + start) * factor, min((rect.rows.start + stop) * factor, shape[0]))
        result[start:stop] = _means(_means(read(Rect(rows, columns)), factor, 0), factor, 1)
    return result


def _means(pixels: Pixels, factor: int, axis: int) -> Pixels:
    """Return means of every `factor` pixels along an axis; the last mean may be of fewer."""
    if factor == 1:
        return pixels
    length = pixels.shape[axis]
    starts = np.arange(0, length, factor)
    counts = np.minimum(starts + factor, length) - starts
    sums = np.add.reduceat(pixels, starts, axis=axis)
    counts = counts.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return (sums / counts).astype(np.float32)
