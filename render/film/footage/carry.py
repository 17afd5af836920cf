"""Start of a frame's dream: the footage, and what dreaming added to the frame before, carried along the motion.

Every pixel is computed from its global coordinates by the same operations in the same order, so the parts of a rectangle
are bit-identical to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from render.dreaming.resample import Pixels, ReadPixels
from render.film.footage.flow import Displacements, Field, Motion, bilinear
from render.geometry.geometry import Interval, Rect, whole

#: Side of the neighbourhood in which most pixels decide whether one is trusted, px: single ones are errors.
_VOTE_PX = 3
#: Distance over which a dream fades out before the edge of what is carried, as a share of the flow's shorter side.
_SOFT_SHARE = 1 / 240
#: Taps of Catmull-Rom interpolation along an axis.
_TAPS = 4


@dataclass(frozen=True)
class Carrier:
    """Motion between two frames at the size of the canvas, by which a dream is carried.

    Attributes:
        shape: (rows, columns) px of the canvas.
        back: Where each pixel was in the frame before, px of the flow's picture, which may be smaller than the canvas.
        share: Share of the dream that is carried, 0 to 1, for each of the same pixels.
    """

    shape: tuple[int, int]
    back: Displacements
    share: Field

    @classmethod
    def of(cls, motion: Motion, shape: tuple[int, int], carry: float) -> Carrier:
        """Return the carrier of a measured motion.

        Args:
            motion: The motion, measured on pictures of any size.
            shape: (rows, columns) px of the canvas.
            carry: Share of the dream that is carried where the motion is trusted, 0 to 1.
        """
        return cls(shape, motion.back, soft_edges(motion.trust) * np.float32(carry))

    def start(self, rect: Rect, footage: ReadPixels, detail: ReadPixels) -> Pixels:
        """Return a rectangle of the canvas from which a frame is dreamed.

        Args:
            rect: Rectangle of the canvas.
            footage: Reader of the frame's footage at the size of the canvas.
            detail: Reader of what dreaming added to the frame before: its canvas minus its footage. It is asked for at
                most one rectangle, within the canvas.

        Returns:
            (*rect.shape, 3) float32, 0..255.
        """
        rows, columns, share = self._origins(rect)
        carried = np.zeros((*rect.shape, 3), np.float32)
        is_carried = share > 0
        if is_carried.any():
            # Others are not read, so that a wrong flow does not reach for far parts of the canvas.
            rows = np.where(is_carried, rows, rows[is_carried].min())
            columns = np.where(is_carried, columns, columns[is_carried].min())
            carried = share[..., None] * _interpolated(detail, self.shape, rows, columns)
        return np.clip(footage(rect) + carried, np.float32(0), np.float32(255))

    def _origins(self, rect: Rect) -> tuple[NDArray[np.float64], NDArray[np.float64], Field]:
        """Return for each pixel of a rectangle its (row, column) in the canvas before, and the share that is carried."""
        down, across = (self.shape[axis] / self.back.shape[axis] for axis in (0, 1))
        rows = np.arange(*rect.rows, dtype=np.float64)[:, None]
        columns = np.arange(*rect.columns, dtype=np.float64)[None, :]
        flow_rows = np.broadcast_to((rows + 0.5) / down - 0.5, rect.shape)
        flow_columns = np.broadcast_to((columns + 0.5) / across - 0.5, rect.shape)
        values = np.concatenate([self.back, self.share[..., None]], axis=2)
        moved = bilinear(values, flow_rows, flow_columns)
        return rows + moved[..., 1] * down, columns + moved[..., 0] * across, moved[..., 2]


def soft_edges(trust: Field) -> Field:
    """Return shares that fall to 0 within the trusted parts, so that no edge of a carried dream shows.

    Args:
        trust: 1 where a dream may be carried, 0 where not.

    Returns:
        Shares of the same shape, 0 to 1; 0 wherever `trust` is, but for single pixels.
    """
    width = 2 * max(1, round(min(trust.shape) * _SOFT_SHARE)) + 1
    voted = ndimage.median_filter((trust > 0).astype(np.uint8), size=_VOTE_PX, mode="nearest")
    inner = ndimage.minimum_filter(voted, size=width, mode="nearest").astype(np.int64)
    # Whole numbers, so that the sums are the same in any order.
    near = np.full(width, 1, np.int64)
    sums = ndimage.correlate1d(ndimage.correlate1d(inner, near, axis=0, mode="nearest"), near, axis=1, mode="nearest")
    return (sums / width**2).astype(np.float32)


def _interpolated(
    read: ReadPixels, shape: tuple[int, int], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> Pixels:
    """Return the values of a picture between its pixels by Catmull-Rom; its edges go on beyond it."""
    reach = [_reach(positions, length) for positions, length in zip((rows, columns), shape, strict=True)]
    window = Rect(*reach)
    pixels = read(whole(*shape).intersect(window))
    row_taps, column_taps = _taps(rows, window.rows, shape[0]), _taps(columns, window.columns, shape[1])
    result = np.zeros((*rows.shape, pixels.shape[2]), np.float32)
    for row, row_weight in row_taps:
        along = np.zeros_like(result)
        for column, column_weight in column_taps:
            along += pixels[row, column] * column_weight[..., None]
        result += along * row_weight[..., None]
    return result


def _reach(positions: NDArray[np.float64], length: int) -> Interval:
    """Return the pixels of an axis that interpolation at these positions needs."""
    first = int(np.floor(positions.min())) - 1
    last = int(np.floor(positions.max())) + 2
    return Interval(min(max(first, 0), length - 1), min(max(last, 0), length - 1) + 1)


def _taps(
    positions: NDArray[np.float64], window: Interval, length: int
) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Return the indices into a window of an axis, and the weights, of Catmull-Rom's four taps."""
    base = np.floor(positions)
    t = (positions - base).astype(np.float32)
    # Products, since the rounding of a power may depend on the processor.
    square = t * t
    cube = square * t
    half, weights = np.float32(0.5), np.empty((_TAPS, *t.shape), np.float32)
    weights[0] = half * (2 * square - t - cube)
    weights[1] = half * (2 - 5 * square + 3 * cube)
    weights[2] = half * (t + 4 * square - 3 * cube)
    weights[3] = half * (cube - square)
    firsts = base.astype(np.intp) - 1
    return [(np.clip(firsts + tap, 0, length - 1) - window.start, weights[tap]) for tap in range(_TAPS)]
