"""Cuts of a print that is larger than the press into overlapping panels of equal size. Pure.

All coordinates are pixels of the whole print, bleed included, rows before columns. Each axis is cut independently and a
panel is the product of two cuts; rows of panels have letters and columns have numbers, so A1 is at the top left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from render.errors import UserError
from render.geometry.geometry import Interval, Rect

_CM_PER_INCH, _MM_PER_INCH = 2.54, 25.4
#: More panels than this mean that a size was given in the wrong unit.
_MOST = 2000
#: Rounding error of a size in px: 2.54 cm at 100 dpi are 100 px, whatever the floats are.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Panel:
    """One sheet: its name on the map, such as B3, and its pixels of the print."""

    name: str
    rect: Rect


@dataclass(frozen=True)
class Panels:
    """A print of `shape` (rows, columns) px at `dpi`, cut; `panels` are in row order and all of one size."""

    shape: tuple[int, int]
    dpi: float
    rows: tuple[Interval, ...]
    columns: tuple[Interval, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
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
        """Smallest overlap of neighbours along rows and along columns, px; None where one panel is enough."""
        return _least_overlap(self.rows), _least_overlap(self.columns)

    def cm(self, pixels: float) -> float:
        """Return pixels as centimetres on paper."""
        return pixels / self.dpi * _CM_PER_INCH


def cut_panels(
    shape: tuple[int, int],
    dpi: float | None,
    *,
    width_cm: float | None = None,
    height_cm: float | None = None,
    overlap_mm: float = 10.0,
) -> Panels:
    """Cut a print of `shape` (rows, columns) px, bleed included, for a press that takes `width_cm` x `height_cm`.

    None is no limit. There are as few panels as possible, and they are as small as that number allows: all of one size,
    none larger than the press, every pixel on at least one, and neighbours share at least `overlap_mm`.

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
    overlap = math.ceil(overlap_mm / _MM_PER_INCH * dpi - _ROUNDING)
    rows = _cut(shape[0], height_cm, overlap, overlap_mm, dpi, "output.panels.height_cm")
    columns = _cut(shape[1], width_cm, overlap, overlap_mm, dpi, "output.panels.width_cm")
    if len(rows) * len(columns) > _MOST:
        raise UserError(
            f"output.panels.width_cm and height_cm cut {_size(shape[1], dpi)} x {_size(shape[0], dpi)} cm into "
            f"{len(rows) * len(columns):,} panels, and {_MOST:,} is the most: give the press' size in cm"
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
    limit = length if limit_cm is None else math.floor(min(length, limit_cm / _CM_PER_INCH * dpi) + _ROUNDING)
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
    return min((cut.stop - next_cut.start for cut, next_cut in zip(cuts, cuts[1:], strict=False)), default=None)


def _size(pixels: int, dpi: float) -> str:
    return f"{pixels / dpi * _CM_PER_INCH:,.1f}"
