"""Reading of `film.tour`: the points that a user's flight passes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from render.errors import UserError
from render.film.flight.camera_path import MAX_ENLARGEMENT, CameraPath, PathPoint, View, whole_view

#: Keys of a point, and the values of those that may be missing; None: must be there.
_KEYS: Mapping[str, float | None] = {"at": None, "x": 0.5, "y": 0.5, "width": None, "turn": 0.0}
#: Most points of a tour.
MAX_POINTS = 1000
#: Largest turn, degrees either way: a hundred rounds.
_MAX_TURN = 36_000.0
#: Largest time of a point, s: a day.
_MAX_SECONDS = 86_400.0
#: Share of the canvas by which a view may overhang it and is fitted.
_MAX_FITTED_SHARE = 0.02
_EXAMPLE = "{at: 0, x: 0.5, y: 0.5, width: 1}"


def read_tour(
    tour: Sequence[Any], canvas: tuple[int, int], frame: tuple[int, int], easing: str, loop_seconds: float | None = None
) -> CameraPath:
    """Return the path of a tour.

    Args:
        tour: Points as in `film.tour`; x, y and width are shares of the canvas, y of its height, the others of its width.
        canvas: (rows, columns) px.
        frame: (rows, columns) px.
        easing: `linear`: the film begins and ends in motion; `in`, `out`, `in_out`: it begins, ends, or does both at rest.
        loop_seconds: Length of a film that ends where it began, s; None for another.

    Raises:
        UserError: A point is bad, outside of the canvas or out of order; the message names it.
    """
    if len(tour) > MAX_POINTS:
        raise UserError(f"film.tour has {len(tour):,} points: at most {MAX_POINTS:,}")
    points: list[PathPoint] = []
    for number, entry in enumerate(tour, 1):
        name = f"film.tour: point {number}"
        point = _read_point(entry, name, canvas)
        point = PathPoint(point.at, _fitted(point.view, canvas, frame[0] / frame[1]))
        _check_view(point.view, name, canvas, frame)
        if points and point.at <= points[-1].at:
            raise UserError(
                f"{name} is at {point.at:g} s, not after point {number - 1} at {points[-1].at:g} s: list them in "
                "order of time"
            )
        points.append(point)
    if loop_seconds is not None and points[-1].view != points[0].view:
        if points[-1].at >= loop_seconds:
            raise UserError(
                f"film.loop: the last point is at {points[-1].at:g} s, which leaves no time to fly back: set film.seconds "
                "to more, or let it be where the first one is"
            )
        points.append(PathPoint(loop_seconds, points[0].view))
    return CameraPath(points, easing in ("in", "in_out"), easing in ("out", "in_out"), canvas, frame[0] / frame[1])


def _read_point(entry: Any, name: str, canvas: tuple[int, int]) -> PathPoint:
    """Return a point by its entry, every number checked."""
    if not isinstance(entry, Mapping):
        raise UserError(f"{name} is no mapping: write it like {_EXAMPLE}")
    unknown = [str(key) for key in entry if key not in _KEYS]
    if unknown:
        raise UserError(f"{name} has the unknown key {unknown[0][:80]!r}: its keys are {', '.join(_KEYS)}")
    at, x, y, width, turn = (_number(entry, key, name) for key in _KEYS)
    if not 0 <= at <= _MAX_SECONDS:
        raise UserError(f"{name}: at={at:g} must be 0 to {_MAX_SECONDS:g} s")
    if not 0 < width <= 1:
        raise UserError(f"{name}: width={width:g} must be a share of the canvas' width, above 0 and at most 1")
    if not abs(turn) <= _MAX_TURN:
        raise UserError(f"{name}: turn={turn:g} must be degrees from {-_MAX_TURN:g} to {_MAX_TURN:g}")
    return PathPoint(at, View(x * canvas[1], y * canvas[0], width * canvas[1], turn))


def _number(entry: Mapping[Any, Any], key: str, name: str) -> float:
    """Return a number of a point."""
    value = entry.get(key, _KEYS[key])
    if value is None:
        raise UserError(f"{name} says no {key}: write it like {_EXAMPLE}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: {key}={str(value)[:80]} is no number")
    return float(value)


def _fitted(view: View, canvas: tuple[int, int], aspect: float) -> View:
    """Return an upright view that overhangs the canvas by little, as by the frame's even sides, shrunk and moved inside."""
    largest = whole_view(canvas, aspect).width
    width = min(view.width, largest)
    x, y = (
        min(max(centre, extent / 2), side - extent / 2)
        for centre, extent, side in zip((view.x, view.y), (width, width * aspect), canvas[::-1], strict=True)
    )
    moved = max(abs(x - view.x) / canvas[1], abs(y - view.y) / canvas[0], view.width / width - 1)
    return View(x, y, width) if not view.turn and moved <= _MAX_FITTED_SHARE else view


def _check_view(view: View, name: str, canvas: tuple[int, int], frame: tuple[int, int]) -> None:
    """Raise `UserError` if a point's view leaves the canvas or is enlarged too much."""
    aspect = frame[0] / frame[1]
    if not view.is_within(canvas, aspect):
        largest = whole_view(canvas, aspect).width / canvas[1]
        # Rounded down, so that the width that is named fits.
        shown = math.floor(largest * 1000) / 1000
        raise UserError(
            f"{name} shows more than the canvas: its view of {view.width:.0f} x {view.width * aspect:.0f} px at "
            f"({view.x:.0f}, {view.y:.0f}) leaves the {canvas[1]} x {canvas[0]} px; upright in the middle, a width of "
            f"{shown:g} fits"
        )
    if frame[1] / view.width > MAX_ENLARGEMENT:
        least = MAX_ENLARGEMENT * canvas[1]
        raise UserError(
            f"{name} enlarges the canvas {frame[1] / view.width:.1f} times, at most {MAX_ENLARGEMENT:g}: take a width of "
            f"{math.ceil(frame[1] / least * 1000) / 1000:g} or more, or make the film smaller"
        )
