"""Pages of a print in PDF: their boxes, the pixels that they show, and the marks by which they are cut. Pure.

Lengths are in points, 72 an inch, and coordinates count from the lower left corner, as PDF has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from render.config.schema import OutputConfig, exact_height, exact_width
from render.errors import UserError
from render.export.panels import Panels
from render.geometry.geometry import Rect, whole
from render.geometry.units import CM_PER_INCH, MM_PER_INCH

POINTS_PER_INCH = 72.0
#: Resolution of a print without `output.dpi`, as other formats state it.
_SCREEN_DPI = 72.0
#: Shortest and longest side of a page (ISO 32000-1, table C.1).
_MIN_PAGE, _MAX_PAGE = 3.0, 14_400.0
#: Side of panels that messages propose, cm.
_PANEL_CM = 200
#: Distance of a mark from the bleed, its length, and the paper beyond it, mm.
_MARK_GAP_MM, _MARK_LENGTH_MM, _MARK_ROOM_MM = 2.0, 5.0, 1.0


class Box(NamedTuple):
    """Rectangle of a page."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def size(self) -> tuple[float, float]:
        """(width, height)."""
        return self.right - self.left, self.top - self.bottom

    def shifted(self, by: float) -> Box:
        """Return the box moved to the right and up."""
        return Box(*(side + by for side in self))


@dataclass(frozen=True)
class Sheet:
    """A page.

    Attributes:
        rect: Its pixels, bleed included.
        media: The paper.
        bleed: The picture on it, which fills the bleed.
        trim: What is left when it is cut.
        name: Name of the panel; None for a page that shows the whole print.
        has_marks: True if marks show where it is cut.
    """

    rect: Rect
    media: Box
    bleed: Box
    trim: Box
    name: str | None = None
    has_marks: bool = False

    def box_of(self, rect: Rect) -> Box:
        """Return where a part of the sheet's pixels lies on the page."""
        width, height = self.bleed.size
        across, down = width / self.rect.columns.size, height / self.rect.rows.size
        return Box(
            self.bleed.left + (rect.columns.start - self.rect.columns.start) * across,
            self.bleed.top - (rect.rows.stop - self.rect.rows.start) * down,
            self.bleed.left + (rect.columns.stop - self.rect.columns.start) * across,
            self.bleed.top - (rect.rows.start - self.rect.rows.start) * down,
        )

    def marks(self) -> Iterator[tuple[float, float, float, float]]:
        """Yield the lines (from x, y, to x, y) that prolong the edges of the trim box, outside of the bleed."""
        if not self.has_marks:
            return
        gap, length = _points(_MARK_GAP_MM), _points(_MARK_LENGTH_MM)
        for y in (self.trim.bottom, self.trim.top):
            yield self.bleed.left - gap - length, y, self.bleed.left - gap, y
            yield self.bleed.right + gap, y, self.bleed.right + gap + length, y
        for x in (self.trim.left, self.trim.right):
            yield x, self.bleed.bottom - gap - length, x, self.bleed.bottom - gap
            yield x, self.bleed.top + gap, x, self.bleed.top + gap + length


def lay_out_sheets(
    shape: tuple[int, int], output: OutputConfig, bleed_px: int | None = None, panels: Panels | None = None
) -> tuple[Sheet, ...]:
    """Return the pages of a print: one, or one for each panel.

    A size in cm or inches is that of the page, to the last digit, although pixels are whole: the picture is stretched by
    less than half a pixel to it. So is the bleed.

    Args:
        shape: (rows, columns) px of the print, bleed included.
        output: The output section.
        bleed_px: Bleed on every side, px; None if the picture has none.
        panels: Cuts of the print; None for one page.

    Raises:
        UserError: A page is larger or smaller than PDF allows.
    """
    dpi = output.dpi or _SCREEN_DPI
    trim_px = tuple(side - 2 * (bleed_px or 0) for side in shape)
    exact = [
        side if ordered is None or round(ordered) != side else ordered
        for side, ordered in zip(trim_px, (exact_height(output), exact_width(output)), strict=True)
    ]
    height, width = (side / dpi * POINTS_PER_INCH for side in exact)
    bleed = _points(output.bleed_mm or 0.0) if bleed_px else 0.0
    trim = Box(bleed, bleed, bleed + width, bleed + height)
    room = _points(_MARK_GAP_MM + _MARK_LENGTH_MM + _MARK_ROOM_MM) if output.marks else 0.0
    print_box = Box(0.0, 0.0, width + 2 * bleed, height + 2 * bleed)
    print_sheet = Sheet(whole(*shape), print_box, print_box, trim)
    parts = [(None, whole(*shape))] if panels is None else [(panel.name, panel.rect) for panel in panels.panels]
    sheets = tuple(_sheet(print_sheet, rect, name, room) for name, rect in parts)
    _refuse_page(sheets[0], has_panels=panels is not None)
    return sheets


def _sheet(print_sheet: Sheet, rect: Rect, name: str | None, room: float) -> Sheet:
    """Return the page of a part of the print, with `room` for marks on every side."""
    part, trim = print_sheet.box_of(rect), print_sheet.trim
    kept = Box(
        max(part.left, trim.left), max(part.bottom, trim.bottom), min(part.right, trim.right), min(part.top, trim.top)
    )
    if min(kept.size) <= 0:
        # The part is all bleed.
        kept = part
    width, height = part.size
    media = Box(0.0, 0.0, width + 2 * room, height + 2 * room)
    on_page = (
        Box(a.left - part.left, a.bottom - part.bottom, a.right - part.left, a.top - part.bottom) for a in (part, kept)
    )
    bleed_box, trim_box = (box.shifted(room) for box in on_page)
    return Sheet(rect, media, bleed_box, trim_box, name, has_marks=room > 0)


def _refuse_page(sheet: Sheet, *, has_panels: bool) -> None:
    """Raise `UserError` if PDF has no page of a sheet's size."""
    sides = sheet.media.size
    text = " x ".join(f"{side / POINTS_PER_INCH * CM_PER_INCH:,.1f}" for side in sides)
    if max(sides) > _MAX_PAGE:
        limit = _MAX_PAGE / POINTS_PER_INCH * CM_PER_INCH
        cut = "smaller panels" if has_panels else "panels"
        raise UserError(
            f"output.format=pdf: a page has at most {limit:.0f} cm a side and this one {text} cm: cut it into {cut}, with "
            f"output.panels.width_cm={_PANEL_CM} output.panels.height_cm={_PANEL_CM}, or set a higher output.dpi"
        )
    if min(sides) < _MIN_PAGE:
        raise UserError(f"output.format=pdf: a page of {text} cm is smaller than PDF allows (1 mm): set a lower output.dpi")


def _points(mm: float) -> float:
    """Return a length in points."""
    return mm / MM_PER_INCH * POINTS_PER_INCH
