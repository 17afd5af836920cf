"""Warp of a picture by an affine map: any rectangle of the result, bit-identical to the whole.

Upright maps are separable: Lanczos-3 along columns, then rows, as octaves are resampled. Turned ones are two passes of
Lanczos-3, first along the picture's rows and then along the result's columns (Catmull and Smith 1980), after whole quarters
of a turn, which move pixels without arithmetic. What would shrink is resampled to the result's scale before.

Positions and weights depend on global coordinates alone, and every pixel is summed tap by tap in one order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import LANCZOS, Pixels, ReadPixels, resample_window
from render.geometry.affine import Affine, Point
from render.geometry.geometry import AxisMode, Interval, Rect, boundary_runs
from render.geometry.source_window import Beyond, SourceWindow, Span

#: Content beyond a picture's ends, by the mode of the axis.
_BEYOND: dict[AxisMode, Beyond] = {"reflect": "mirror", "wrap": "wrap"}
#: Taps of a turned pixel along each axis, and the distance of the first from the pixel's position, px.
_TAPS, _FIRST_TAP = 2 * LANCZOS.support, LANCZOS.support - 1
#: Positions between two pixels that have weights of their own.
_PHASES = 4096
#: Rows and columns of the result that are turned at once, px: what they need fits into a processor's cache.
_TURNED_ROWS, _TURNED_COLUMNS = 128, 512
#: The map that turns the plane by a quarter, clockwise as one sees it, and the one that undoes it.
_QUARTER, _QUARTER_BACK = Affine(0.0, -1.0, 0.0, 1.0, 0.0, 0.0), Affine(0.0, 1.0, 0.0, -1.0, 0.0, 0.0)


def warp(
    read: ReadPixels,
    shape: tuple[int, int],
    modes: tuple[AxisMode, AxisMode],
    to_picture: Affine,
    out_shape: tuple[int, int],
    rect: Rect,
) -> Pixels:
    """Return a rectangle of a warped picture.

    Args:
        read: Reader of rectangles inside the picture.
        shape: (rows, columns) of the picture, px.
        modes: Behaviour of rows and columns beyond its ends.
        to_picture: Map from points of the result to those of the picture. It does not mirror.
        out_shape: (rows, columns) of the whole result, px.
        rect: Rectangle of the result, px.

    Returns:
        (*rect.shape, channels) float32 in the picture's value range; Lanczos may overshoot it.
    """
    extended = extended_reader(read, shape, modes)
    if to_picture.is_upright:
        return resample_window(extended, _upright_window(shape, modes, to_picture, out_shape), out_shape, rect)
    scale = to_picture.scale
    if scale > 1:
        small = max(1, round(shape[0] / scale)), max(1, round(shape[1] / scale))
        window = _whole_window(shape, modes)
        full, extended = extended, lambda part: resample_window(full, window, small, part)
        to_picture = Affine.scaling(small[1] / shape[1], small[0] / shape[0]).after(to_picture)
    quarters = round(math.degrees(math.atan2(to_picture.yx, to_picture.xx)) / 90)
    for _ in range(quarters % 4):
        extended, to_picture = _turned_reader(extended), _QUARTER_BACK.after(to_picture)
    result = np.empty((*rect.shape, 3), np.float32)
    for piece in _pieces(rect):
        result[piece.slices_from(rect)] = _turned(extended, to_picture, piece)
    return result


def extended_reader(read: ReadPixels, shape: tuple[int, int], modes: tuple[AxisMode, AxisMode]) -> ReadPixels:
    """Return a reader of any rectangle, in which a picture of `shape` (rows, columns) px goes on beyond its ends."""

    def read_extended(rect: Rect) -> Pixels:
        """Read any rectangle."""
        pixels = np.empty((*rect.shape, 3), np.float32)
        for down in boundary_runs(rect.rows, shape[0], modes[0]):
            for across in boundary_runs(rect.columns, shape[1], modes[1]):
                part = read(Rect(down.source, across.source))
                target = Rect(down.target, across.target).slices_from(rect)
                pixels[target] = part[:: -1 if down.reversed else 1, :: -1 if across.reversed else 1]
        return pixels

    def read_any(rect: Rect) -> Pixels:
        """Read any rectangle, without a copy if it lies inside."""
        inside = Interval(0, shape[0]).contains(rect.rows) and Interval(0, shape[1]).contains(rect.columns)
        return read(rect) if inside else read_extended(rect)

    return read_any


def _whole_window(shape: tuple[int, int], modes: tuple[AxisMode, AxisMode]) -> SourceWindow:
    """Return the window of a whole picture that goes on beyond its ends."""
    rows, columns = (Span(length, 0.0, float(length), _BEYOND[mode]) for length, mode in zip(shape, modes, strict=True))
    return SourceWindow(rows, columns)


def _upright_window(
    shape: tuple[int, int], modes: tuple[AxisMode, AxisMode], to_picture: Affine, out_shape: tuple[int, int]
) -> SourceWindow:
    """Return the window of a picture that a result shows which is scaled and shifted."""
    return SourceWindow(
        Span(shape[0], to_picture.y0, to_picture.yy * out_shape[0], _BEYOND[modes[0]]),
        Span(shape[1], to_picture.x0, to_picture.xx * out_shape[1], _BEYOND[modes[1]]),
    )


def _turned_reader(read: ReadPixels) -> ReadPixels:
    """Return a reader of the picture in the plane that `_QUARTER` turns."""

    def read_turned(rect: Rect) -> Pixels:
        """Read any rectangle."""
        rows, columns = rect
        pixels = read(Rect(columns, Interval(-rows.stop, -rows.start)))
        return np.ascontiguousarray(pixels[:, ::-1].transpose(1, 0, 2))

    return read_turned


def _pieces(rect: Rect) -> Iterator[Rect]:
    """Yield the pieces of a rectangle that are turned one by one."""
    for top in range(*rect.rows, _TURNED_ROWS):
        for left in range(*rect.columns, _TURNED_COLUMNS):
            yield Rect(
                Interval(top, min(top + _TURNED_ROWS, rect.rows.stop)),
                Interval(left, min(left + _TURNED_COLUMNS, rect.columns.stop)),
            )


def _turned(read: ReadPixels, to_picture: Affine, rect: Rect) -> Pixels:
    """Return a rectangle of a picture that is turned by at most an eighth and not shrunk."""
    needed = _needed(to_picture, rect)
    pixels = np.ascontiguousarray(read(needed), np.float32)
    x = np.arange(*rect.columns, dtype=np.float64) + 0.5
    y = np.arange(*rect.rows, dtype=np.float64) + 0.5
    picture_y = np.arange(*needed.rows, dtype=np.float64) + 0.5
    # Along a row of the picture, where the result's columns cross it.
    slope = to_picture.xy / to_picture.yy
    crossing = (to_picture.xx - slope * to_picture.yx) * x + to_picture.x0
    positions = crossing[None, :] + (slope * (picture_y - to_picture.y0))[:, None]
    rows = np.arange(needed.rows.size)[:, None] * needed.columns.size
    across = _interpolate(pixels, positions - 0.5 - needed.columns.start, rows, 1)
    # Then along the result's columns.
    positions = (to_picture.yx * x + to_picture.y0)[None, :] + (to_picture.yy * y)[:, None]
    return _interpolate(across, positions - 0.5 - needed.rows.start, np.arange(rect.columns.size)[None, :], len(x))


def _needed(to_picture: Affine, rect: Rect) -> Rect:
    """Return the rectangle of the picture that a rectangle of a turned result depends on, with room for rounding."""
    corners = [to_picture(Point(x, y)) for x in rect.columns for y in rect.rows]
    reach = LANCZOS.support + 1
    rows = Interval(
        math.floor(min(corner.y for corner in corners)) - reach, math.ceil(max(corner.y for corner in corners)) + reach
    )
    slope = to_picture.xy / to_picture.yy
    # The first pass reads rows beyond the corners, too.
    crossings = [
        (to_picture.xx - slope * to_picture.yx) * x + to_picture.x0 + slope * (y - to_picture.y0)
        for x in rect.columns
        for y in rows
    ]
    return Rect(rows, Interval(math.floor(min(crossings)) - reach, math.ceil(max(crossings)) + reach))


def _interpolate(pixels: Pixels, positions: NDArray[np.float64], origins: NDArray[np.intp], pitch: int) -> Pixels:
    """Return pixels interpolated along one axis, tap by tap.

    Args:
        pixels: (rows, columns, 3) float32.
        positions: (rows, columns) of the result: positions along the axis, 0 at the first pixel's centre.
        origins: Index among all pixels of the first pixel of each result's axis, to broadcast.
        pitch: Distance of neighbours along the axis in that index.
    """
    firsts = np.floor(positions)
    phases = np.rint((positions - firsts) * _PHASES).astype(np.intp)
    indices = (firsts.astype(np.intp) - _FIRST_TAP) * pitch + origins
    flat, weights = pixels.reshape(-1, 3), _phase_weights()
    result = np.zeros((*positions.shape, 3), np.float32)
    for tap in range(_TAPS):
        part = flat.take(indices, 0)
        part *= weights[tap].take(phases)[..., None]
        result += part
        indices += pitch
    return result


@cache
def _phase_weights() -> NDArray[np.float32]:
    """Return the weights of all taps at every phase, (taps, phases + 1) float32; those of a phase sum to 1."""
    phases = np.arange(_PHASES + 1) / _PHASES
    distances = np.arange(_TAPS)[:, None] - _FIRST_TAP - phases
    weights = np.where(np.abs(distances) < LANCZOS.support, LANCZOS.weights(distances), 0.0)
    return np.ascontiguousarray(weights / weights.sum(axis=0), np.float32)
