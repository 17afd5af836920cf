"""Affine maps of the plane, in px with edges at whole numbers: the centre of pixel 0 lies at 0.5. Exact in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


class Point(NamedTuple):
    """Place in the plane: to the right and down, px."""

    x: float
    y: float


@dataclass(frozen=True)
class Affine:
    """Map of points: x' = xx * x + xy * y + x0, and y' = yx * x + yy * y + y0."""

    xx: float = 1.0
    xy: float = 0.0
    x0: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    y0: float = 0.0

    @classmethod
    def similarity(cls, scale: float, degrees: float, fixed: Point, shift: Point) -> Affine:
        """Return the map that scales and turns about a point, and then shifts.

        Args:
            scale: Factor of all lengths, above 0.
            degrees: Turn, counterclockwise as one sees it.
            fixed: Point that stays where it is, but for the shift.
            shift: Shift to the right and down, px.
        """
        cosine, sine = (scale * part for part in _unit(degrees))
        return cls(
            cosine, sine, fixed.x + shift.x - (cosine * fixed.x + sine * fixed.y),
            -sine, cosine, fixed.y + shift.y - (cosine * fixed.y - sine * fixed.x),
        )  # fmt: skip

    @classmethod
    def scaling(cls, across: float, down: float) -> Affine:
        """Return the map that scales columns and rows about the first pixel's corner."""
        return cls(xx=across, yy=down)

    @property
    def determinant(self) -> float:
        """Factor of areas; below 0 if the map mirrors."""
        return self.xx * self.yy - self.xy * self.yx

    @property
    def scale(self) -> float:
        """Factor of lengths: the root of that of areas."""
        return math.sqrt(abs(self.determinant))

    @property
    def is_upright(self) -> bool:
        """True if rows stay rows and columns columns, in their order."""
        return self.xy == 0 == self.yx and self.xx > 0 and self.yy > 0

    def __call__(self, point: Point) -> Point:
        """Return the image of a point."""
        return Point(
            self.xx * point.x + self.xy * point.y + self.x0,
            self.yx * point.x + self.yy * point.y + self.y0,
        )

    def after(self, first: Affine) -> Affine:
        """Return the map that applies `first`, and then this one."""
        origin = self(Point(first.x0, first.y0))
        return Affine(
            self.xx * first.xx + self.xy * first.yx, self.xx * first.xy + self.xy * first.yy, origin.x,
            self.yx * first.xx + self.yy * first.yx, self.yx * first.xy + self.yy * first.yy, origin.y,
        )  # fmt: skip

    def inverse(self) -> Affine:
        """Return the map that undoes this one; raise `ZeroDivisionError` if there is none."""
        area = self.determinant
        xx, xy, yx, yy = self.yy / area, -self.xy / area, -self.yx / area, self.xx / area
        return Affine(xx, xy, -(xx * self.x0 + xy * self.y0), yx, yy, -(yx * self.x0 + yy * self.y0))


def _unit(degrees: float) -> tuple[float, float]:
    """Return cosine and sine of an angle, exact for whole quarters of a turn."""
    quarters, rest = divmod(degrees, 90.0)
    cosine, sine = math.cos(math.radians(rest)), math.sin(math.radians(rest))
    for _ in range(int(quarters) % 4):
        cosine, sine = -sine, cosine
    # Not -0.0.
    return cosine + 0.0, sine + 0.0
