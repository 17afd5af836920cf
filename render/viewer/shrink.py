"""The canvas made smaller by whole numbers, a band at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from render.dream.resample import Pixels
from render.geometry.geometry import CHUNK, Interval, Rect


def shrunk(read: Callable[[Rect], Pixels], shape: tuple[int, int], rect: Rect, factor: int) -> Pixels:
    """The rectangle `rect` of a canvas of `shape` shrunk `factor` times: means of squares, of what is left at the ends.

    `rect` is in shrunk pixels; `read` gives rectangles of the canvas, float32. Holds a band of the canvas at a time.
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
    """Means of every `factor` pixels along an axis; the last one is of those that are left."""
    if factor == 1:
        return pixels
    length = pixels.shape[axis]
    starts = np.arange(0, length, factor)
    counts = np.minimum(starts + factor, length) - starts
    sums = np.add.reduceat(pixels, starts, axis=axis)
    counts = counts.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return (sums / counts).astype(np.float32)
