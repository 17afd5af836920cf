"""Window of a source picture that a canvas shows, in real coordinates.

Lengths are real numbers in the source's own pixels, whose edges lie at whole numbers (pixel 0 covers 0 to 1). So a
window means the same at every octave, even if a bleed of 3 mm is a fraction of a pixel there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from render.geometry.geometry import AxisMode

#: Content beyond the source's ends along an axis. `cut`: nothing; resampling renormalises the weights of the pixels inside,
#: as Pillow does. `mirror`: the source mirrored without its edge pixel; `background`: one colour; `wrap`: the source again.
Beyond = Literal["cut", "mirror", "background", "wrap"]

#: Share of the source's length that a window may overhang by rounding.
_ROUNDING_SHARE = 1e-9


@dataclass(frozen=True)
class Span:
    """Part of the source that one axis of the canvas shows: [start, start + extent).

    Attributes:
        length: Length of the source along the axis, px.
        start: First coordinate, in the source's pixels.
        extent: Length of the part, in the source's pixels.
        beyond: Content beyond the source's ends.
    """

    length: int
    start: float
    extent: float
    beyond: Beyond = "cut"

    @classmethod
    def whole(cls, length: int, mode: AxisMode = "reflect") -> Span:
        """Return the span of a whole axis of `length` px; one that wraps has no ends."""
        return cls(length, 0.0, float(length), "wrap" if mode == "wrap" else "cut")

    @property
    def overhangs(self) -> bool:
        """True if the span reaches beyond the source."""
        slack = _ROUNDING_SHARE * self.length
        return self.start < -slack or self.start + self.extent > self.length + slack

    def shift(self, out_length: int) -> int | None:
        """Return the source pixel that the first of `out_length` pixels shows.

        None if the span has another number of pixels, or does not begin at one.
        """
        return int(self.start) if self.extent == out_length and self.start == int(self.start) else None


@dataclass(frozen=True)
class SourceWindow:
    """Part of the source, and of the content beyond it, that fills the canvas at every octave."""

    rows: Span
    columns: Span

    @classmethod
    def whole(cls, size: tuple[int, int], modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")) -> SourceWindow:
        """Return the window of a whole source of `size` (rows, columns) px."""
        return cls(Span.whole(size[0], modes[0]), Span.whole(size[1], modes[1]))
