"""Cuts of a print, larger than the press, into overlapping panels of one size. Pure.

All coordinates are pixels of the whole print, bleed included, rows before columns. Each axis is cut independently and a
panel is the product of two cuts; rows of panels have letters and columns have numbers, so A1 is at the top left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from render.errors import UserError
from render.geometry.geometry import Interval, Rect
from render.geometry.units import CM_PER_INCH, MM_PER_INCH

#: Most panels of a print; more mean that a size is in the wrong unit.
_MAX_PANELS = 2000
#: Largest rounding error of a size, px: 2.54 cm at 100 dpi are 100 px, whatever the floats are.
_MAX_ROUNDING = 1e-6


@dataclass(frozen=True)
class Panel:
    """One panel: its name on the map, such as B3, and its pixels of the print."""

    name: str
    rect: Rect


@dataclass(frozen=True)
class Panels:
    """A print that is cut into panels, all of one size.

    Attributes:
        shape: (rows, columns) px of the print.
        dpi: Resolution of the print.
        rows: Cuts along the rows, overlapping.
        columns: Cuts along the columns, overlapping.
    """

    shape: tuple[int, int]
    dpi: float
    rows: tuple[Interval, ...]
    columns: tuple[Interval, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, row by row."""
        return tuple(
            Panel(f"{row_name(row)}{column + 1}", Rect(rows, columns))
            for row, rows in enumerate(self.rows)
            for column, columns in enumerate(self.columns)
        )

    @property
    def panel_shape(self) -> tuple[int, int]:
        """(rows, columns) px of every panel."""
        return self.rows[0].size, self.columns[0].size

    @property
    def overlaps(self) -> tuple[int | None, int | None]:
        """Smallest overlap of neighbours (down, across), px; None for a single panel."""
        return _least_overlap(self.rows), _least_overlap(self.columns)

    def cm(self, pixels: float) -> float:
        """Convert pixels to centimetres on paper."""
        return pixels / self.dpi * CM_PER_INCH


def cut_panels(
    shape: tuple[int, int],
    dpi: float | None,
    *,
    width_cm: float | None = None,
    height_cm: float | None = None,
    overlap_mm: float = 10.0,
) -> Panels:
    """Cut a print into panels that a press can take.

    There are as few panels as possible, and they are as small as that number allows: all of one size, none larger than the
    press, every pixel on at least one, and neighbours share at least `overlap_mm`.

    Args:
        shape: (rows, columns) px of the print, bleed included.
        dpi: Resolution of the print.
        width_cm: Widest panel; None for no limit.
        height_cm: Tallest panel; None for no limit.
        overlap_mm: Least overlap of neighbours.

    Raises:
        UserError: a size is not possible, or the overlap is as large as a panel.
    """
    if dpi is None:
        raise UserError("panels are cut in cm, and the print has no resolution: set output.dpi")
    for key, value in (("output.dpi", dpi), ("output.panels.width_cm", width_cm), ("output.panels.height_cm", height_cm)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{key}={value:g}: must be above 0")
    if not (math.isfinite(overlap_mm) and overlap_mm >= 0):
        raise UserError(f"output.panels.overlap_mm={overlap_mm:g}: must be 0 or more")
    overlap = math.ceil(overlap_mm / MM_PER_INCH * dpi - _MAX_ROUNDING)
    rows = _cut(shape[0], height_cm, overlap, overlap_mm, dpi, "output.panels.height_cm")
    columns = _cut(shape[1], width_cm, overlap, overlap_mm, dpi, "output.panels.width_cm")
    if len(rows) * len(columns) > _MAX_PANELS:
        raise UserError(
            f"output.panels.width_cm and height_cm cut {_size(shape[1], dpi)} x {_size(shape[0], dpi)} cm into "
            f"{len(rows) * len(columns):,} panels, and {_MAX_PANELS:,} is the most: give the press' size in cm"
        )
    return Panels(shape, dpi, rows, columns)


def row_name(row: int) -> str:
    """Return the letters of a row: A to Z, then AA, AB and so on, as spreadsheets name columns."""
    name = ""
    row += 1
    while row:
        row, letter = divmod(row - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def _cut(
    length: int, limit_cm: float | None, overlap: int, overlap_mm: float, dpi: float, key: str
) -> tuple[Interval, ...]:
    """Cut an axis of `length` px into overlapping intervals of at most `limit_cm`."""
    limit = length if limit_cm is None else math.floor(min(length, limit_cm / CM_PER_INCH * dpi) + _MAX_ROUNDING)
    if limit >= length:
        return (Interval(0, length),)
    if overlap >= limit:
        raise UserError(
            f"{key}={limit_cm:g} is {limit} px at {dpi:g} dpi and output.panels.overlap_mm={overlap_mm:g} is {overlap} px: "
            "a panel must be larger than the overlap"
        )
    # n panels of the press' size cover limit + (n - 1) * (limit - overlap) px.
    count = -(-(length - overlap) // (limit - overlap))
    size = -(-(length + (count - 1) * overlap) // count)
    # Even starts are at most (length - size) / (count - 1) apart, rounded up; that is at most size - overlap, an integer.
    starts = (index * (length - size) // (count - 1) for index in range(count))
    return tuple(Interval(start, start + size) for start in starts)


def _least_overlap(cuts: tuple[Interval, ...]) -> int | None:
    """Return the smallest overlap of neighbouring cuts, px; None for a single cut."""
    return min((cut.stop - next_cut.start for cut, next_cut in zip(cuts, cuts[1:], strict=False)), default=None)


def _size(pixels: int, dpi: float) -> str:
    """Return pixels in centimetres, for messages."""
    return f"{pixels / dpi * CM_PER_INCH:,.1f}"
