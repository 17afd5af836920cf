"""The window of a source picture that a canvas shows, on real coordinates.

Lengths are real numbers in the source's own pixels, whose edges lie at whole numbers (pixel 0 covers 0 to 1), so that a
window means the same at every octave, whatever part of a pixel a bleed of 3 mm comes to there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from render.geometry.geometry import AxisMode

#: What lies beyond the source's ends along an axis. `cut`: nothing, and resampling weighs what there is more, as Pillow
#: does; `mirror`: the source again without its edge pixel; `background`: one colour; `wrap`: the source again.
Beyond = Literal["cut", "mirror", "background", "wrap"]

#: Share of the source's length by which a window may miss its ends, for rounding.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Span:
    """What one axis of the canvas shows: [start, start + extent) of a source of `length` px."""

    length: int
    start: float
    extent: float
    beyond: Beyond = "cut"

    @classmethod
    def whole(cls, length: int, mode: AxisMode = "reflect") -> Span:
        """All of an axis; one that wraps has no ends."""
        return cls(length, 0.0, float(length), "wrap" if mode == "wrap" else "cut")

    @property
    def overhangs(self) -> bool:
        """Whether it reaches beyond the source."""
        slack = _NOTHING * self.length
        return self.start < -slack or self.start + self.extent > self.length + slack

    def shift(self, out_length: int) -> int | None:
        """The source pixel that the first of `out_length` pixels is, where pixels are source pixels; None elsewhere."""
        return int(self.start) if self.extent == out_length and self.start == int(self.start) else None


@dataclass(frozen=True)
class SourceWindow:
    """The part of the source, and of what lies beyond it, that fills the canvas at every octave."""

    rows: Span
    columns: Span

    @classmethod
    def whole(cls, size: tuple[int, int], modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")) -> SourceWindow:
        """All of a source of `size` (rows, columns) px."""
        return cls(Span.whole(size[0], modes[0]), Span.whole(size[1], modes[1]))
