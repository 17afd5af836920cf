"""Path of a camera over a canvas: what each moment of a flight shows. Pure.

Between two points the logarithm of the view's width follows the time, so that a zoom seems even to the eye (van Wijk and
Nuij, Smooth and Efficient Zooming and Panning, 2003). The view's edges move in proportion to its width: every view of a
segment without a turn lies between those at its ends, and so within the canvas. At inner points the camera rests for a
moment, which keeps its speed continuous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class CameraPath:
    """Smooth course of views through points; before the first and after the last one the camera stands still.

    Attributes:
        points: Points in order of time, at least one.
        eases_in: True to begin at rest.
        eases_out: True to end at rest.
    """

    points: Sequence[PathPoint]
    eases_in: bool = True
    eases_out: bool = True

    def view(self, seconds: float) -> View:
        """Return the view at a time, s."""
        if seconds <= self.points[0].at:
            return self.points[0].view
        for number, (first, second) in enumerate(zip(self.points, self.points[1:], strict=False)):
            if seconds < second.at:
                share = (seconds - first.at) / (second.at - first.at)
                start_speed = 1.0 if number == 0 and not self.eases_in else 0.0
                end_speed = 1.0 if number == len(self.points) - 2 and not self.eases_out else 0.0
                return _between(first.view, second.view, _eased(share, start_speed, end_speed))
        return self.points[-1].view

    def widest(self) -> float:
        """Return the largest width of a view, px: no view between two points is wider than both."""
        return max(point.view.width for point in self.points)

    def narrowest(self) -> float:
        """Return the smallest width of a view, px."""
        return min(point.view.width for point in self.points)


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


def _eased(share: float, start_speed: float, end_speed: float) -> float:
    """Return the progress at a share of a segment's time: the cubic from 0 to 1 with these speeds at its ends."""
    square, cube = share * share, share * share * share
    return (3 * square - 2 * cube) + start_speed * (cube - 2 * square + share) + end_speed * (cube - square)


def _between(first: View, second: View, progress: float) -> View:
    """Return the view at a share of the way from one view to another."""
    ratio = math.log(second.width / first.width)
    # Where the width is between both; of a mere shift the share itself.
    moved = progress if abs(ratio) < _SAME_WIDTH else math.expm1(progress * ratio) / math.expm1(ratio)
    return View(
        first.x + (second.x - first.x) * moved,
        first.y + (second.y - first.y) * moved,
        first.width + (second.width - first.width) * moved,
        first.turn + (second.turn - first.turn) * progress,
    )
