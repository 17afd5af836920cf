"""Reading of views: the pixels of a frame from a canvas and its levels.

Upright views are resampled by Lanczos in one step, by the coordinates of the level: a filter as wide as the scale, so
nothing finer than the frame's pixels is left to shimmer. A turned view is resampled so to a grid as fine as the frame's,
upright, and then read from it by cubic splines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels, resample_window
from render.film.flight.camera_path import View
from render.geometry.geometry import Interval, Rect, whole
from render.geometry.source_window import SourceWindow, Span

#: Pixels of the finest grid that are held at once in strips of a frame.
_STRIP_PIXELS = 1 << 20
#: Pixels around a turned view's strip, of the grid: more than a cubic spline's prefilter reaches.
_MARGIN = 16
#: Most of a round, degrees, that is taken for upright.
_UPRIGHT = 1e-9


class ViewReader:
    """Reader of the views of a canvas."""

    def __init__(self, levels: Sequence[CanvasStore], frame: tuple[int, int]) -> None:
        """Keep the canvas and its levels.

        Args:
            levels: The canvas, then its levels, each with half the sides of the one before.
            frame: (rows, columns) px of a frame.
        """
        self._levels = levels
        self._frame = frame

    def read(self, view: View) -> Pixels:
        """Return the pixels of a view: (rows, columns, 3) float32 of the canvas' values, which Lanczos may overshoot.

        The level is the coarsest one that has at least a pixel for each of the frame's. Memory is bounded by the frame.

        Raises:
            DamagedCheckpoint: The canvas or a level cannot be read.
        """
        scale = view.width / self._frame[1]
        store = self._levels[self._level(scale)]
        # Sides are rounded up, so a level's pixel is not exactly 2, 4, 8 px of the canvas.
        down, across = (level / side for level, side in zip(store.shape, self._levels[0].shape, strict=True))
        if abs(view.turn % 360.0) < _UPRIGHT:
            return self._upright(store, view, down, across)
        return self._turned(store, view, down, across)

    def _level(self, scale: float) -> int:
        """Return the level for `scale` px of the canvas to a frame's pixel."""
        return min(len(self._levels) - 1, max(0, int(scale).bit_length() - 1))

    def _upright(self, store: CanvasStore, view: View, down: float, across: float) -> Pixels:
        rows, columns = self._frame
        height = view.width / columns * rows
        window = SourceWindow(
            _inner_span(store.shape[0], (view.y - height / 2) * down, height * down),
            _inner_span(store.shape[1], (view.x - view.width / 2) * across, view.width * across),
        )
        picture = np.empty((rows, columns, 3), np.float32)
        for strip in whole(rows, columns).bands(_STRIP_PIXELS):
            picture[strip.rows.start : strip.rows.stop, strip.columns.start : strip.columns.stop] = resample_window(
                store.read, window, self._frame, strip
            )
        return picture

    def _turned(self, store: CanvasStore, view: View, down: float, across: float) -> Pixels:
        # Imported here because it is slow to import, and only turned views need it.
        from scipy import ndimage

        rows, columns = self._frame
        scale = view.width / columns
        picture = np.empty((rows, columns, 3), np.float32)
        strip_rows = max(1, _STRIP_PIXELS // columns)
        for top in range(0, rows, strip_rows):
            strip = Interval(top, min(top + strip_rows, rows))
            ys, xs = _turned_positions(view, self._frame, strip)
            grid_rows, row_origin = _grid_span(ys, scale, down, store.shape[0])
            grid_columns, column_origin = _grid_span(xs, scale, across, store.shape[1])
            sizes = round(grid_rows.extent / (scale * down)), round(grid_columns.extent / (scale * across))
            grid = resample_window(
                lambda rect: _read_mirrored(store, rect), SourceWindow(grid_rows, grid_columns), sizes, whole(*sizes)
            )
            positions = np.stack([(ys - row_origin) / scale - 0.5, (xs - column_origin) / scale - 0.5])
            for channel in range(3):
                picture[strip.start : strip.stop, :, channel] = ndimage.map_coordinates(
                    grid[..., channel], positions, order=3, mode="mirror", output=np.float32
                )
        return picture


def _inner_span(length: int, start: float, extent: float) -> Span:
    """Return the span of a level, moved by a rounding so that it lies within."""
    return Span(length, min(max(0.0, start), max(0.0, length - extent)), min(extent, float(length)))


def _turned_positions(
    view: View, frame: tuple[int, int], strip: Interval
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the y and x of the pixels of a frame's rows on the canvas, px: each (rows of the strip, columns)."""
    rows, columns = frame
    scale = view.width / columns
    down = (np.arange(strip.start, strip.stop)[:, None] + 0.5 - rows / 2) * scale
    across = (np.arange(columns)[None, :] + 0.5 - columns / 2) * scale
    cosine, sine = math.cos(math.radians(view.turn)), math.sin(math.radians(view.turn))
    # A camera that turns counterclockwise: its right is up the canvas.
    return view.y + down * cosine - across * sine, view.x + across * cosine + down * sine


def _grid_span(positions: NDArray[np.float64], scale: float, factor: float, length: int) -> tuple[Span, float]:
    """Return the span of a level that a grid around positions shows, and the grid's origin on the canvas.

    The grid begins at a multiple of its pixels, so that strips of a frame share it.

    Args:
        positions: Coordinates on the canvas, px.
        scale: Side of the grid's pixels on the canvas, px.
        factor: Pixels of the level to a pixel of the canvas.
        length: Length of the level, px.
    """
    first = math.floor(float(positions.min()) / scale) - _MARGIN
    last = math.ceil(float(positions.max()) / scale) + _MARGIN
    return Span(length, first * scale * factor, (last - first) * scale * factor, "mirror"), first * scale


def _read_mirrored(store: CanvasStore, rect: Rect) -> Pixels:
    """Return a rectangle of a level, mirrored beyond its ends without the edge pixel."""
    inside = store.rect.intersect(rect)
    if inside == rect:
        return store.read(rect)
    rows, columns = (
        _mirrored(interval, length) for interval, length in zip((rect.rows, rect.columns), store.shape, strict=True)
    )
    part = Rect(Interval(int(rows.min()), int(rows.max()) + 1), Interval(int(columns.min()), int(columns.max()) + 1))
    pixels = store.read(part)
    return pixels[rows - part.rows.start][:, columns - part.columns.start]


def _mirrored(interval: Interval, length: int) -> NDArray[np.int64]:
    """Return the index within an axis of each index of an interval."""
    period = max(1, 2 * length - 2)
    indices = np.arange(interval.start, interval.stop, dtype=np.int64) % period
    return np.where(indices >= length, period - indices, indices)
