"""Path of a camera over a canvas: what each moment of a flight shows. Pure.

Between two points the logarithm of the view's width follows the time, so that a zoom seems even to the eye (van Wijk and
Nuij, Smooth and Efficient Zooming and Panning, 2003), and the view's edges move in proportion to its width: such a view
lies between those at its ends, and so within the canvas. Through inner points the camera flies without a rest: widths and
turns are monotone cubics of time (Fritsch and Butland, 1984), and centres leave their straight way just so much that their
speed is the same on both sides of a point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from render.errors import UserError

#: Most frame pixels that a pixel of the canvas may be enlarged to, along a side.
MAX_ENLARGEMENT = 8.0
#: Share of the canvas' side that a view may overhang by rounding.
_ROUNDING_SHARE = 1e-6
#: Differences of width below which a segment is a mere shift, as a logarithm.
_SAME_WIDTH = 1e-6


@dataclass(frozen=True)
class View:
    """Part of a canvas that a frame shows. Lengths are px of the canvas, whose edges lie at whole numbers.

    Attributes:
        x: Centre, from the left.
        y: Centre, from the top.
        width: Width; the height follows from the frame's aspect.
        turn: Rotation of the camera, degrees, counterclockwise: the picture turns clockwise.
    """

    x: float
    y: float
    width: float
    turn: float = 0.0

    def extent(self, aspect: float) -> tuple[float, float]:
        """Return (height, width) px of the upright rectangle around the view; `aspect` is rows / columns of the frame."""
        if not self.turn:
            return self.width * aspect, self.width
        cosine, sine = (abs(part(math.radians(self.turn))) for part in (math.cos, math.sin))
        return self.width * (aspect * cosine + sine), self.width * (cosine + aspect * sine)

    def is_within(self, canvas: tuple[int, int], aspect: float) -> bool:
        """Return whether the view lies in a canvas of (rows, columns) px."""
        return all(
            extent / 2 - side * _ROUNDING_SHARE <= centre <= side - extent / 2 + side * _ROUNDING_SHARE
            for centre, extent, side in zip((self.y, self.x), self.extent(aspect), canvas, strict=True)
        )


@dataclass(frozen=True)
class PathPoint:
    """Point of a path.

    Attributes:
        at: Time, s.
        view: View at that time.
    """

    at: float
    view: View


class _Speed(NamedTuple):
    """Speed of the camera at a point, a second: of the logarithm of the width, of the turn, and of the centre in px."""

    zoom: float
    turn: float
    x: float
    y: float


_REST = _Speed(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class CameraPath:
    """Smooth course of views through points; before the first and after the last one the camera stands still.

    Attributes:
        points: Points in order of time, at least one.
        eases_in: True to begin at rest.
        eases_out: True to end at rest.
        canvas: (rows, columns) px of the canvas that upright views stay within; None for any.
        aspect: Rows / columns of a frame.
    """

    points: Sequence[PathPoint]
    eases_in: bool = True
    eases_out: bool = True
    canvas: tuple[int, int] | None = None
    aspect: float = 1.0

    def view(self, seconds: float) -> View:
        """Return the view at a time, s."""
        if seconds <= self.points[0].at:
            return self.points[0].view
        for number, (first, second) in enumerate(zip(self.points, self.points[1:], strict=False)):
            if seconds < second.at:
                view = _between(first, second, self._speeds[number], self._speeds[number + 1], seconds)
                return view if self.canvas is None or view.turn else _moved_inside(view, self.canvas, self.aspect)
        return self.points[-1].view

    def widest(self) -> float:
        """Return the largest width of a view, px: no view between two points is wider than both."""
        return max(point.view.width for point in self.points)

    def narrowest(self) -> float:
        """Return the smallest width of a view, px."""
        return min(point.view.width for point in self.points)

    @cached_property
    def _speeds(self) -> list[_Speed]:
        """Speed of the camera at every point."""
        points = self.points
        segments = list(zip(points, points[1:], strict=False))
        arrivals = [_straight_speed(first, second, second.view) for first, second in segments]
        departures = [_straight_speed(first, second, first.view) for first, second in segments]
        inner = [
            _Speed(*(_joined_speed(*speeds, before.at, at.at, after.at) for speeds in zip(arrival, departure, strict=True)))
            for arrival, departure, before, at, after in zip(
                arrivals, departures[1:], points, points[1:], points[2:], strict=False
            )
        ]
        first = _REST if self.eases_in or not segments else departures[0]
        last = _REST if self.eases_out or not segments else arrivals[-1]
        return [first, *inner, last]


def whole_view(canvas: tuple[int, int], aspect: float) -> View:
    """Return the largest view in the middle of a canvas of (rows, columns) px, for a frame of `aspect` rows / columns."""
    rows, columns = canvas
    return View(columns / 2, rows / 2, min(float(columns), rows / aspect))


def check_views(path: CameraPath, times: Sequence[float], canvas: tuple[int, int], frame: tuple[int, int]) -> None:
    """Raise `UserError` if a view between two points leaves the canvas, as that of a turning camera may.

    Args:
        path: The path; its points lie within the canvas.
        times: Times of the frames, s.
        canvas: (rows, columns) px.
        frame: (rows, columns) px.
    """
    aspect = frame[0] / frame[1]
    if not any(point.view.turn for point in path.points):
        return
    for seconds in times:
        if not path.view(seconds).is_within(canvas, aspect):
            raise UserError(
                f"film.tour: {seconds:.3g} s into the flight, the turned view reaches beyond the canvas: make the widths "
                "of the points around it smaller, or move them inwards"
            )


def _straight_speed(first: PathPoint, second: PathPoint, at: View) -> _Speed:
    """Return the speed at one end of the straight way between two points, flown evenly."""
    seconds = second.at - first.at
    ratio = math.log(second.view.width / first.view.width)
    # Of the share of the way that the centre has moved.
    moved = 1.0 if abs(ratio) < _SAME_WIDTH else at.width * ratio / (second.view.width - first.view.width)
    return _Speed(
        ratio / seconds,
        (second.view.turn - first.view.turn) / seconds,
        (second.view.x - first.view.x) * moved / seconds,
        (second.view.y - first.view.y) * moved / seconds,
    )


def _joined_speed(arrival: float, departure: float, before: float, at: float, after: float) -> float:
    """Return the speed between those of a point's two sides: their harmonic mean, weighted by time; 0 at a turn back."""
    if arrival * departure <= 0:
        return 0.0
    near, far = at - before, after - at
    return 3 * (near + far) / ((2 * far + near) / arrival + (far + 2 * near) / departure)


def _between(first: PathPoint, second: PathPoint, start: _Speed, end: _Speed, time: float) -> View:
    """Return the view at a time between two points, which are passed with these speeds."""
    seconds = second.at - first.at
    share = (time - first.at) / seconds
    before, after = first.view, second.view
    ratio = math.log(after.width / before.width)
    grown = _cubic(0.0, ratio, start.zoom * seconds, end.zoom * seconds, share)
    width = before.width * math.exp(grown)
    is_shift = abs(ratio) < _SAME_WIDTH
    # Share of the way that the centre moves where it follows the width, and the speed of that at both ends.
    moved = share if is_shift else math.expm1(grown) / math.expm1(ratio)
    speeds = (1.0, 1.0) if is_shift else (start.zoom * seconds, end.zoom * seconds * math.exp(ratio))
    speeds = speeds if is_shift else (speeds[0] / math.expm1(ratio), speeds[1] / math.expm1(ratio))

    def centre(from_: float, to: float, leaving: float, arriving: float) -> float:
        """Return a coordinate of the centre: on the straight way, and off it by what the speeds at its ends ask for."""
        off_start = (leaving * seconds - speeds[0] * (to - from_)) / before.width
        off_end = (arriving * seconds - speeds[1] * (to - from_)) / after.width
        return from_ + (to - from_) * moved + width * _cubic(0.0, 0.0, off_start, off_end, share)

    return View(
        centre(before.x, after.x, start.x, end.x),
        centre(before.y, after.y, start.y, end.y),
        width,
        _cubic(before.turn, after.turn, start.turn * seconds, end.turn * seconds, share),
    )


def _cubic(first: float, last: float, first_slope: float, last_slope: float, share: float) -> float:
    """Return the value at a share of the way of the cubic with these ends and slopes."""
    square, cube = share * share, share * share * share
    eased = 3 * square - 2 * cube
    slopes = first_slope * (cube - 2 * square + share) + last_slope * (cube - square)
    return first + (last - first) * eased + slopes


def _moved_inside(view: View, canvas: tuple[int, int], aspect: float) -> View:
    """Return an upright view that lies in the canvas: moved, if it is not too large."""
    x, y = (
        min(max(centre, extent / 2), max(side - extent / 2, extent / 2))
        for centre, extent, side in zip((view.x, view.y), (view.width, view.width * aspect), canvas[::-1], strict=True)
    )
    return View(x, y, view.width, view.turn)
