"""Seam meter: measures whether a picture is less smooth along tile borders than elsewhere. Pure NumPy, on strips.

A seam is a step across a border that cannot be predicted from the picture around it. The prediction is fitted locally:
on every stretch of `SEGMENT` px of a border, the difference across the border is predicted from the three differences on
either side, with weights fitted by least squares to the lines 4 to 8 px beside it. This removes structure that is smooth
or that repeats, as dreamed texture does, and gives bright and dark stretches the same weight. The excess of a border is
the mean |error| of the prediction at the border, divided by that beside it. The same excess is computed for lines that
are not borders, 16, 32, ... px away. These have the same phase in the network's stride and in the blocks of a JPEG or
WebP, so a regular pattern of either does not count as a seam. The ratio is the mean excess of the borders divided by the
mean excess of those lines: 1.00 without seams.

Its standard error is the larger of two: a jackknife over the stretches (Efron and Stein, The Annals of Statistics 9,
1981), and the variation between the means of whole lines that are not borders. Lines vary more than their stretches do:
pixels enlarged by 1.4 from one octave to the next repeat their phase every 7, and some phases are 5 % sharper than others.

Of the measures tried on renders of 1400 x 1221 px in tiles of 192 px (`python -m tests.reports.seam_meter`), this one
separates halo 0 from exact best: 1.17 against 0.99, which is 8 standard errors. The plain |difference| at the border,
divided by that of lines up to 8 px beside it, gives 1.03 (2 standard errors), and up to 24 px 0.95: a dream without halo
is also fainter near the borders, which hides the step. A third difference gives 1.10. Squares, which a few bright stars
dominate, have three times the standard error. A JPEG of low quality hides seams from this meter, as it does from the eye.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.geometry.geometry import Interval, Rect, whole

#: Length of the stretch of a border on which the prediction is fitted, px.
SEGMENT = 48
#: Differences on either side that the prediction uses; nearest and farthest line that it is fitted to, px from the border.
_TAPS = 3
_NEAREST, _FARTHEST = 4, 8
#: Pixels on either side of a line on which its excess depends.
REACH = _FARTHEST + _TAPS + 1
#: Distance between compared lines, px: the block side of a JPEG with subsampled colour, and of a WebP.
_PHASE = 16
#: Most lines on either side of a border with which it is compared.
_MOST_LINES = 6
#: Smallest tile side for which the meter works, px.
LEAST_TILE = 2 * _PHASE
#: Added to every error, levels of 255: the error of rounding to 8 bits, the only error that a flat stretch has.
_FLOOR = 0.25
#: Regularisation of the least squares: assumed noise of each difference, levels of 255.
_NOISE = 0.6
#: Stretches processed at once: 60 MB.
_BATCH = 256

#: Largest excess of a ratio over 1 that is no seam, and largest standard error of a certain result.
_MAY_DIFFER = 0.02


@dataclass(frozen=True)
class Seams:
    """Ratio and standard error, from `segments` stretches of `borders` (along rows, along columns) borders."""

    ratio: float
    error: float
    segments: int
    borders: tuple[int, int]

    @property
    def found(self) -> bool:
        """Whether there are seams: the ratio is over 1.02 by more than three standard errors."""
        return self.ratio - 3 * self.error > 1 + _MAY_DIFFER

    @property
    def certain(self) -> bool:
        """Whether the picture is large enough to distinguish a ratio of 1.08 from 1.00."""
        return self.error <= _MAY_DIFFER


class SeamMeter:
    """Meter that receives a picture strip by strip from the top, and measures along given borders.

    It holds about 60 rows of the picture besides the strip, and one number for every 48 px of each line.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        row_borders: Sequence[int],
        column_borders: Sequence[int],
        *,
        white: float = 255.0,
    ) -> None:
        """Prepare for a picture.

        Args:
            shape: (rows, columns) px of the picture.
            row_borders: borders between rows; 192 lies between pixels 191 and 192.
            column_borders: borders between columns, likewise.
            white: pixel value of white.
        """
        self._scale = 255.0 / white
        self._row_lines = _lines(shape[0], row_borders)
        self._column_lines = _lines(shape[1], column_borders)
        # Excess of every line, by its position: a row line is measured at once, a column line segment by segment.
        self._waiting = sorted({line for lines in self._row_lines.values() for line in lines})
        self._rows_done: dict[int, NDArray[np.float64]] = {}
        self._columns = np.array(sorted({line for lines in self._column_lines.values() for line in lines}), np.int64)
        self._columns_done: list[NDArray[np.float64]] = []
        # Rows `_top` to `_bottom` of the picture, at the beginning of a reused buffer: a buffer that grew and shrank
        # with every strip would leave holes in the heap, in the end as large as the picture.
        self._buffer: NDArray[Any] = np.empty((0, shape[1], 0))
        self._top = self._bottom = 0

    def add(self, strip: NDArray[Any]) -> None:
        """Add the next rows of the picture: (rows, columns, channels) of any real type."""
        self._take(strip)
        bottom = self._bottom
        while self._waiting and self._waiting[0] + REACH <= bottom:
            line = self._waiting.pop(0)
            band = self._rows(line - REACH, line + REACH)
            length = band.shape[1] // SEGMENT * SEGMENT
            # (segments, px along the line, px across it, channels)
            stretches = band[:, :length].reshape(2 * REACH, -1, SEGMENT, band.shape[2]).transpose(1, 2, 0, 3)
            self._rows_done[line] = self._excess(stretches)
        while (len(self._columns_done) + 1) * SEGMENT <= bottom:
            first = len(self._columns_done) * SEGMENT
            rows = self._rows(first, first + SEGMENT)
            across = self._columns[:, None] + np.arange(-REACH, REACH)
            groups = [self._excess(rows[:, batch].transpose(1, 0, 2, 3)) for batch in _batches(across)]
            self._columns_done.append(np.concatenate(groups) if groups else np.empty(0))
        first_needed = min(len(self._columns_done) * SEGMENT, self._waiting[0] - REACH if self._waiting else bottom)
        if first_needed > self._top:
            needed_rows = self._rows(first_needed, bottom).copy()
            self._buffer[: len(needed_rows)] = needed_rows
            self._top = first_needed

    def result(self, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> Seams | None:
        """Return the result along all borders, or only those at `rows` and `columns`; None if nothing was measured."""
        column_excess = np.array(self._columns_done).reshape(len(self._columns_done), len(self._columns))
        along_columns = {int(line): column_excess[:, index] for index, line in enumerate(self._columns)}
        axes = []
        for lines, excess, borders in (
            (self._row_lines, self._rows_done, rows),
            (self._column_lines, along_columns, columns),
        ):
            measured = [
                [excess[line] for line in group]
                for border, group in lines.items()
                if (borders is None or border in borders) and all(line in excess and excess[line].size for line in group)
            ]
            axes.append(_Axis(measured))
        return _combine(axes)

    def _take(self, strip: NDArray[Any]) -> None:
        row_count = self._bottom - self._top
        if row_count + len(strip) > len(self._buffer) or strip.shape[2] != self._buffer.shape[2]:
            buffer = np.empty((row_count + len(strip) + SEGMENT, *strip.shape[1:]), strip.dtype)
            if row_count:
                buffer[:row_count] = self._buffer[:row_count]
            self._buffer = buffer
        self._buffer[row_count : row_count + len(strip)] = strip
        self._bottom += len(strip)

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        return self._buffer[start - self._top : stop - self._top]

    def _excess(self, stretches: NDArray[Any]) -> NDArray[np.float64]:
        parts = [_excess(batch.astype(np.float64) * self._scale) for batch in _batches(stretches)]
        return np.concatenate(parts) if parts else np.empty(0)


def measure(
    read: Callable[[Rect], NDArray[Any]],
    shape: tuple[int, int],
    row_borders: Sequence[int],
    column_borders: Sequence[int],
    *,
    white: float = 255.0,
) -> Seams | None:
    """Run the seam meter on a picture; `read` returns a rectangle of it as (rows, columns, channels)."""
    meter = SeamMeter(shape, row_borders, column_borders, white=white)
    strip = max(1, (1 << 21) // shape[1])
    for rect in whole(*shape).bands(strip * shape[1]):
        meter.add(read(rect))
    return meter.result()


def _lines(length: int, at: Sequence[int]) -> dict[int, list[int]]:
    """Return, for each border that can be measured, that border and then the lines with which it is compared.

    The lines are nearer to it than to any other border, and all pixels on which they depend lie within the picture.
    """
    lines_by_border = {}
    fits = Interval(REACH, length - REACH + 1)
    marks = sorted({0, *at, length})
    for before, border, after in zip(marks, marks[1:], marks[2:], strict=False):
        # The ends of the picture are not borders, so the lines of a border may go up to them.
        room = (before - border) // (1 if before == 0 else 2), (after - border) // (1 if after == length else 2)
        lines = [
            border + step * _PHASE
            for step in range(-_MOST_LINES, _MOST_LINES + 1)
            if step and room[0] <= step * _PHASE <= room[1] and fits.start <= border + step * _PHASE < fits.stop
        ]
        if lines and fits.start <= border < fits.stop:
            lines_by_border[border] = [border, *lines]
    return lines_by_border


def _excess(stretches: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the excess of each stretch: prediction error of the middle difference over that of those beside it.

    `stretches` is (stretches, px along, 2 * REACH px across, channels) in levels of 255; returns (stretches,).
    """
    differences = np.diff(stretches, axis=2)
    # (stretches, px along, position of the predicted difference, channels, that difference and the taps around it)
    runs = np.lib.stride_tricks.sliding_window_view(differences, 2 * _TAPS + 1, axis=2)
    middle = _FARTHEST
    offsets = np.arange(-_FARTHEST, _FARTHEST + 1)
    beside = runs[:, :, middle + offsets[np.abs(offsets) >= _NEAREST]].reshape(len(runs), -1, 2 * _TAPS + 1)
    across = runs[:, :, middle].reshape(len(runs), -1, 2 * _TAPS + 1)
    taps = np.arange(2 * _TAPS + 1) != _TAPS
    predictors = beside[..., taps]
    transposed = predictors.transpose(0, 2, 1)
    gram = transposed @ predictors + np.eye(2 * _TAPS) * _NOISE**2 * predictors.shape[1]
    weights = np.linalg.solve(gram, transposed @ beside[..., _TAPS, None])
    error = np.abs(across[..., _TAPS, None] - across[..., taps] @ weights).mean(axis=(1, 2))
    error_beside = np.abs(beside[..., _TAPS, None] - predictors @ weights).mean(axis=(1, 2))
    return (error + _FLOOR) / (error_beside + _FLOOR)


class _Axis:
    """Borders of one direction: excesses of their stretches, and of the stretches of the lines beside them."""

    def __init__(self, measured: list[list[NDArray[np.float64]]]) -> None:
        self.borders = len(measured)
        self.at_borders = np.concatenate([group[0] for group in measured]) if measured else np.empty(0)
        elsewhere = [np.mean(group[1:], axis=0) for group in measured]
        self.elsewhere = np.concatenate(elsewhere) if measured else np.empty(0)
        #: Mean excess of every line that is not a border.
        self.lines = np.array([line.mean() for group in measured for line in group[1:]])

    @property
    def variance(self) -> float:
        """Variance of the mean excess of borders minus that of lines, if borders varied as lines do."""
        if len(self.lines) < 2:
            return 0.0
        return float(self.lines.var(ddof=1)) * (1 / self.borders + 1 / len(self.lines))


def _combine(axes: Sequence[_Axis]) -> Seams | None:
    at_borders = np.concatenate([axis.at_borders for axis in axes])
    elsewhere = np.concatenate([axis.elsewhere for axis in axes])
    count = len(at_borders)
    if count < 2:
        return None
    ratio = at_borders.sum() / elsewhere.sum()
    jackknife_ratios = (at_borders.sum() - at_borders) / (elsewhere.sum() - elsewhere)
    of_stretches = (count - 1) / count * float(((jackknife_ratios - jackknife_ratios.mean()) ** 2).sum())
    of_lines = sum((len(axis.at_borders) / elsewhere.sum()) ** 2 * axis.variance for axis in axes)
    return Seams(float(ratio), math.sqrt(max(of_stretches, of_lines)), count, (axes[0].borders, axes[1].borders))


def _batches(array: NDArray[Any]) -> list[NDArray[Any]]:
    return [array[start : start + _BATCH] for start in range(0, len(array), _BATCH)]
