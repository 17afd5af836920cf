"""The tour that a flight makes by itself: rich places of a canvas, found on a small copy of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels
from render.export.colour import luma
from render.film.flight.camera_path import CameraPath, PathPoint, View, whole_view

#: Longest side of the small copy, px.
SMALL_SIDE = 256
#: Seconds of a tour for each place, at least; and most places.
_SECONDS_PER_PLACE, _MAX_PLACES = 6.0, 8
#: Bounds of a place's width, as shares of the whole view's.
_MIN_SHARE, _MAX_SHARE = 1 / 24, 1 / 2
#: Distance of two places at least, as a share of the canvas' diagonal for one place, by the root of their number.
_SPREAD = 0.45
#: Shares of a visit: flight there, and rest; the rest of it is the flight on.
_REST_SHARE = 0.12


def default_tour(small: Pixels, canvas: tuple[int, int], frame: tuple[int, int], seconds: float) -> CameraPath:
    """Return a tour of rich places that begins and ends with the whole picture.

    Args:
        small: (rows, columns, 3) float32, a copy of the whole canvas of `SMALL_SIDE` px at most.
        canvas: (rows, columns) px.
        frame: (rows, columns) px.
        seconds: Length of the film, s.
    """
    aspect = frame[0] / frame[1]
    whole = whole_view(canvas, aspect)
    width = float(np.clip(frame[1], whole.width * _MIN_SHARE, whole.width * _MAX_SHARE))
    count = int(np.clip(seconds / _SECONDS_PER_PLACE, 1, _MAX_PLACES))
    places = _in_short_order(rich_places(small, canvas, (width * aspect, width), count))
    views = [whole]
    for first, second in zip(places, [*places[1:], None], strict=True):
        near = View(first[1], first[0], width)
        views += [near, near]
        if second is not None:
            views.append(_view_of_both(first, second, width, whole, canvas, aspect))
    views.append(whole)
    return CameraPath(_timed(views, seconds), canvas=canvas, aspect=aspect)


def rich_places(small: Pixels, canvas: tuple[int, int], size: tuple[float, float], count: int) -> list[tuple[float, float]]:
    """Return the centres (y, x) px of the views of a canvas with the most to see, spread apart, richest first.

    Richness is the geometric mean of the spread of colours within a view and the energy of its edges.

    Args:
        small: (rows, columns, 3) float32 copy of the canvas.
        canvas: (rows, columns) px.
        size: (height, width) px of a view on the canvas.
        count: Number of places, at least 1; fewer are returned only where the small copy has fewer pixels.
    """
    shape = small.shape[:2]
    windows = [
        int(np.clip(round(part * have / full), 1, have)) for part, have, full in zip(size, shape, canvas, strict=True)
    ]
    picture = small.astype(np.float64)
    variance = np.maximum(_window_means(picture**2, windows) - _window_means(picture, windows) ** 2, 0).sum(axis=2)
    light = luma(small).astype(np.float64)
    edges = np.zeros(shape)
    edges[:-1] += np.abs(np.diff(light, axis=0))
    edges[:, :-1] += np.abs(np.diff(light, axis=1))
    # Rounded so that the order of two places does not depend on the last bits of a sum.
    richness = np.round(np.sqrt(np.sqrt(variance) * _window_means(edges[..., None], windows)[..., 0]), 4)
    # Entry (i, j) is the window whose first pixel is (i, j).
    down, across = canvas[0] / shape[0], canvas[1] / shape[1]
    ys = np.clip((np.arange(richness.shape[0]) + windows[0] / 2) * down, size[0] / 2, canvas[0] - size[0] / 2)
    xs = np.clip((np.arange(richness.shape[1]) + windows[1] / 2) * across, size[1] / 2, canvas[1] - size[1] / 2)
    distance = _SPREAD * float(np.hypot(*canvas)) / np.sqrt(count)
    places: list[tuple[float, float]] = []
    while len(places) < count:
        if not (richness >= 0).any():
            # Too few places lie this far apart: let them be nearer.
            distance /= 2
            if distance < 1:
                break
            continue
        row, column = np.unravel_index(int(richness.argmax()), richness.shape)
        places.append((float(ys[row]), float(xs[column])))
        far = np.hypot(ys[:, None] - ys[row], xs[None, :] - xs[column]) >= distance
        richness = np.where(far, richness, -1.0)
    return places


def _window_means(values: NDArray[np.float64], windows: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean of every window that lies within an array, (rows - height + 1, columns - width + 1, channels)."""
    height, width = windows
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1, values.shape[2]))
    np.cumsum(np.cumsum(values, axis=0), axis=1, out=sums[1:, 1:])
    totals = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    return totals / (height * width)


def _in_short_order(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the places in an order with short ways: the richest first, then always the nearest one left."""
    left = list(places)
    ordered = [left.pop(0)]
    while left:
        nearest = min(left, key=lambda place: np.hypot(place[0] - ordered[-1][0], place[1] - ordered[-1][1]))
        left.remove(nearest)
        ordered.append(nearest)
    return ordered


def _view_of_both(
    first: tuple[float, float],
    second: tuple[float, float],
    width: float,
    whole: View,
    canvas: tuple[int, int],
    aspect: float,
) -> View:
    """Return a view that shows two places, within the canvas."""
    across, down = abs(first[1] - second[1]), abs(first[0] - second[0])
    both = min(whole.width, max(across + width, (down + width * aspect) / aspect))
    y, x = (
        float(np.clip((one + other) / 2, extent / 2, max(extent / 2, side - extent / 2)))
        for one, other, extent, side in zip(first, second, (both * aspect, both), canvas, strict=True)
    )
    return View(x, y, both)


def _timed(views: Sequence[View], seconds: float) -> list[PathPoint]:
    """Return the views at times from 0 to `seconds`: a rest where one view follows itself, the flights by their length."""
    weights = []
    for first, second in zip(views, views[1:], strict=False):
        narrow = min(first.width, second.width)
        zoom = abs(float(np.log(second.width / first.width)))
        shift = float(np.hypot(first.x - second.x, first.y - second.y)) / narrow if zoom < 0.1 else 0.0
        weights.append(_REST_SHARE if first == second else 0.6 + zoom / 4 + min(shift, 4.0) / 4)
    total, at = sum(weights), 0.0
    points = [PathPoint(0.0, views[0])]
    for weight, view in zip(weights, views[1:], strict=True):
        at += weight * seconds / total
        points.append(PathPoint(at, view))
    return points
