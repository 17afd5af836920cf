"""The seam meter: is a picture less smooth along the borders of its tiles than elsewhere? Pure NumPy, on strips.

A seam is a step across a border that the picture around it does not explain. What is explained is found out on the
spot: on every stretch of `SEGMENT` px of a border, the difference across it is predicted from the three differences on
either side, with weights fitted by least squares to the lines 4 to 8 px beside it. So structure that is smooth, or that
repeats as dreamed texture does, is taken out, and bright and dark stretches count the same. The mean |error| of the
prediction at the border over that beside it is the border's excess. The same excess is worked out for lines that are no
borders, 16, 32, ... px off. Those are on the same phase of the network's stride and of a JPEG's or WebP's blocks, so that
a regular pattern of either is no seam. The ratio is the mean excess of the borders over the mean excess of those lines:
1.00 without seams.

Its standard error is the larger of two: a jackknife over the stretches (Efron and Stein, The Annals of Statistics 9,
1981), and how much the means of whole lines vary that are no borders. They vary more than their stretches do: pixels
enlarged by 1.4 from one octave to the next repeat their phase every 7, and some phases are 5 % sharper than others.

Of the measures tried on renders of 1400 x 1221 px in tiles of 192 px (`python -m tests.seam_meter_report`) this one tells
halo 0 from exact best: 1.17 against 0.99, by 8 standard errors. The plain |difference| at the border over that of lines up
to 8 px beside it comes to 1.03 (2 standard errors), up to 24 px to 0.95: a dream without halo is also fainter
near the borders, which hides the step. A third difference comes to 1.10; squares, which a few bright stars decide,
have three times the standard error. A JPEG of low quality hides seams from this meter, as it does from the eye.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.geometry.geometry import Interval, Rect, whole

#: Stretch of a border on which the prediction is fitted, px.
SEGMENT = 48
#: Differences on either side that the prediction uses, and the lines beside that it is fitted to, px from the middle.
_TAPS = 3
_NEAREST, _FARTHEST = 4, 8
#: Pixels on either side of a line that its excess depends on.
REACH = _FARTHEST + _TAPS + 1
#: Distance between lines that are compared, px: the side of a block in a JPEG with subsampled colour, and in a WebP.
_PHASE = 16
#: Lines on either side of a border that it is compared with, at most.
_MOST_LINES = 6
#: The least tile on whose borders the meter works, px.
LEAST_TILE = 2 * _PHASE
#: Added to every error, levels of 255: rounding to 8 bits makes as much, and a flat stretch has nothing else.
_FLOOR = 0.25
#: Least squares are drawn towards zero weights by a noise of so many levels of 255 in each difference.
_NOISE = 0.6
#: Stretches worked on at once: 60 MB.
_BATCH = 256

#: What a ratio may be above 1, and its error, before anything is said of it.
_MAY_DIFFER = 0.02


@dataclass(frozen=True)
class Seams:
    """The ratio with its standard error, from `segments` stretches of `borders` (along rows, along columns) borders."""

    ratio: float
    error: float
    segments: int
    borders: tuple[int, int]

    @property
    def found(self) -> bool:
        """Whether there are seams: more than 0.02 above 1, by three standard errors."""
        return self.ratio - 3 * self.error > 1 + _MAY_DIFFER

    @property
    def certain(self) -> bool:
        """Whether the picture is large enough to tell a ratio of 1.00 from one of 1.08."""
        return self.error <= _MAY_DIFFER


class SeamMeter:
    """Takes a picture strip by strip from the top and measures along given borders.

    Memory: about 60 rows of the picture besides the strip, and a number for every 48 px of each line.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        row_borders: Sequence[int],
        column_borders: Sequence[int],
        *,
        white: float = 255.0,
    ) -> None:
        """A picture of `shape` (rows, columns) whose white is `white`; a border at 192 lies between pixels 191 and 192."""
        self._scale = 255.0 / white
        self._row_lines = _lines(shape[0], row_borders)
        self._column_lines = _lines(shape[1], column_borders)
        # Excess of every line, by its position: at once along a row, segment by segment along a column.
        self._waiting = sorted({line for lines in self._row_lines.values() for line in lines})
        self._rows_done: dict[int, NDArray[np.float64]] = {}
        self._columns = np.array(sorted({line for lines in self._column_lines.values() for line in lines}), np.int64)
        self._columns_done: list[NDArray[np.float64]] = []
        # Rows of the picture from `_top` to `_bottom`, at the beginning of a buffer that is kept: one that grew and shrank
        # with every strip would leave holes in the process' memory, in the end as large as the picture.
        self._buffer: NDArray[Any] = np.empty((0, shape[1], 0))
        self._top = self._bottom = 0

    def add(self, strip: NDArray[Any]) -> None:
        """The next rows of the picture: (rows, columns, channels) of any real type."""
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
            groups = [self._excess(rows[:, some].transpose(1, 0, 2, 3)) for some in _batches(across)]
            self._columns_done.append(np.concatenate(groups) if groups else np.empty(0))
        needed = min(len(self._columns_done) * SEGMENT, self._waiting[0] - REACH if self._waiting else bottom)
        if needed > self._top:
            kept = self._rows(needed, bottom).copy()
            self._buffer[: len(kept)] = kept
            self._top = needed

    def result(self, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> Seams | None:
        """What was measured, along all borders or along those at `rows` and `columns` only; None where there is nothing."""
        done = np.array(self._columns_done).reshape(len(self._columns_done), len(self._columns))
        along_columns = {int(line): done[:, place] for place, line in enumerate(self._columns)}
        axes = []
        for lines, excess, wanted in (
            (self._row_lines, self._rows_done, rows),
            (self._column_lines, along_columns, columns),
        ):
            measured = [
                [excess[line] for line in group]
                for border, group in lines.items()
                if (wanted is None or border in wanted) and all(line in excess and excess[line].size for line in group)
            ]
            axes.append(_Axis(measured))
        return _combine(axes)

    def _take(self, strip: NDArray[Any]) -> None:
        held = self._bottom - self._top
        if held + len(strip) > len(self._buffer) or strip.shape[2] != self._buffer.shape[2]:
            larger = np.empty((held + len(strip) + SEGMENT, *strip.shape[1:]), strip.dtype)
            if held:
                larger[:held] = self._buffer[:held]
            self._buffer = larger
        self._buffer[held : held + len(strip)] = strip
        self._bottom += len(strip)

    def _rows(self, start: int, stop: int) -> NDArray[Any]:
        return self._buffer[start - self._top : stop - self._top]

    def _excess(self, stretches: NDArray[Any]) -> NDArray[np.float64]:
        parts = [_excess(some.astype(np.float64) * self._scale) for some in _batches(stretches)]
        return np.concatenate(parts) if parts else np.empty(0)


def measure(
    read: Callable[[Rect], NDArray[Any]],
    shape: tuple[int, int],
    row_borders: Sequence[int],
    column_borders: Sequence[int],
    *,
    white: float = 255.0,
) -> Seams | None:
    """The seam meter on a picture that `read` reads by rectangles as (rows, columns, channels)."""
    meter = SeamMeter(shape, row_borders, column_borders, white=white)
    strip = max(1, (1 << 21) // shape[1])
    for rect in whole(*shape).bands(strip * shape[1]):
        meter.add(read(rect))
    return meter.result()


def _lines(length: int, at: Sequence[int]) -> dict[int, list[int]]:
    """Each border that can be measured with the lines it is compared with: the border itself comes first.

    Those are nearer to it than to any other border, and everything they depend on lies within the picture.
    """
    found = {}
    fits = Interval(REACH, length - REACH + 1)
    marks = sorted({0, *at, length})
    for before, border, after in zip(marks, marks[1:], marks[2:], strict=False):
        # The picture's own ends are no borders: up to them all is the border's.
        room = (before - border) // (1 if before == 0 else 2), (after - border) // (1 if after == length else 2)
        lines = [
            border + step * _PHASE
            for step in range(-_MOST_LINES, _MOST_LINES + 1)
            if step and room[0] <= step * _PHASE <= room[1] and fits.start <= border + step * _PHASE < fits.stop
        ]
        if lines and fits.start <= border < fits.stop:
            found[border] = [border, *lines]
    return found


def _excess(stretches: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much worse each line's middle difference is predicted than those beside it.

    `stretches` is (stretches, px along, 2 * REACH px across, channels) in levels of 255; returns (stretches,).
    """
    differences = np.diff(stretches, axis=2)
    # (stretches, px along, place of the difference that is predicted, channels, it and the taps around it)
    runs = np.lib.stride_tricks.sliding_window_view(differences, 2 * _TAPS + 1, axis=2)
    middle = _FARTHEST
    offsets = np.arange(-_FARTHEST, _FARTHEST + 1)
    beside = runs[:, :, middle + offsets[np.abs(offsets) >= _NEAREST]].reshape(len(runs), -1, 2 * _TAPS + 1)
    across = runs[:, :, middle].reshape(len(runs), -1, 2 * _TAPS + 1)
    taps = np.arange(2 * _TAPS + 1) != _TAPS
    known = beside[..., taps]
    turned = known.transpose(0, 2, 1)
    gram = turned @ known + np.eye(2 * _TAPS) * _NOISE**2 * known.shape[1]
    weights = np.linalg.solve(gram, turned @ beside[..., _TAPS, None])
    error = np.abs(across[..., _TAPS, None] - across[..., taps] @ weights).mean(axis=(1, 2))
    usual = np.abs(beside[..., _TAPS, None] - known @ weights).mean(axis=(1, 2))
    return (error + _FLOOR) / (usual + _FLOOR)


class _Axis:
    """The borders of one direction, each as the excesses of its own stretches and of those of the lines beside it."""

    def __init__(self, measured: list[list[NDArray[np.float64]]]) -> None:
        self.borders = len(measured)
        self.at_borders = np.concatenate([group[0] for group in measured]) if measured else np.empty(0)
        elsewhere = [np.mean(group[1:], axis=0) for group in measured]
        self.elsewhere = np.concatenate(elsewhere) if measured else np.empty(0)
        #: Mean excess of every line that is no border.
        self.lines = np.array([line.mean() for group in measured for line in group[1:]])

    @property
    def variance(self) -> float:
        """Of the mean excess of all borders less that of the lines beside them, if they were lines like those."""
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
    without = (at_borders.sum() - at_borders) / (elsewhere.sum() - elsewhere)
    of_stretches = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
    of_lines = sum((len(axis.at_borders) / elsewhere.sum()) ** 2 * axis.variance for axis in axes)
    return Seams(float(ratio), math.sqrt(max(of_stretches, of_lines)), count, (axes[0].borders, axes[1].borders))


def _batches(array: NDArray[Any]) -> list[NDArray[Any]]:
    return [array[start : start + _BATCH] for start in range(0, len(array), _BATCH)]
