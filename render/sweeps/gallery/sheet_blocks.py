"""Blocks of contact sheets: a page that does not fit into one sheet is cut.

A grid is cut into blocks of rows and columns, each with its names beside and above it. Blocks of a grid much wider than
high are stacked vertically; those of a grid much higher than wide are placed side by side. A sequence of points is cut in
the same way, with a name under each point. Pure: text is measured, nothing is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from render.export.lettering import most_lines, text_width, tidy
from render.geometry.geometry import Interval, Rect
from render.sweeps.gallery.sheet_pages import SheetPage
from render.sweeps.gallery.sheet_text import SheetHead, SheetStyle, head_height

#: Longest side of a sheet, px: a sheet of the largest width is less than twice as wide as high.
MAX_SHEET_SIDE = 6000
#: Least width of a sheet, px, so that the title fits.
_MIN_SHEET_WIDTH = 560
#: Width over height above which a grid, or a sequence of points, is cut into blocks below each other.
_MAX_GRID_ASPECT, _MAX_SEQUENCE_ASPECT = 5.0, 1.8
#: Largest number of lines of a value's name.
MAX_NAME_LINES = 3


class MeasuredPage:
    """Page in a style, with the space that its names take, px.

    Attributes:
        page: The page.
        style: The style.
        rows: Number of rows of points.
        columns: Number of columns of points.
        is_sequence: True if each point has its name under it.
        above: Height of the names above a block, including the axis name.
        beside: Width of the names beside a block.
        apart: Space between blocks.
        pitch: Distance from one point to the next, (rows, columns).
    """

    def __init__(self, page: SheetPage, style: SheetStyle) -> None:
        self.page, self.style = page, style
        self.rows, self.columns = page.shape
        self.is_sequence = not page.rows
        lines = _max_lines(page.columns, style.font, style.tile[1])
        under = lines * style.line + style.pad if self.is_sequence else 0
        self.above = 0 if self.is_sequence else (1 + lines) * style.line + 2 * style.pad
        self.beside = 0 if self.is_sequence else _row_names_width(page, style) + 2 * style.pad
        self.apart = style.gap if self.is_sequence else 4 * style.gap
        self.pitch = style.tile[0] + under + style.gap, style.tile[1] + style.gap

    def height(self, rows: int) -> int:
        """Return the height of a block of so many rows, px."""
        return self.above + rows * self.pitch[0] - self.style.gap

    def width(self, columns: int) -> int:
        """Return the width of a block of so many columns, px."""
        return self.beside + columns * self.pitch[1] - self.style.gap

    def sheet_width(self, columns: int, across: int) -> int:
        """Return the width of a sheet with `across` blocks of so many columns side by side, px."""
        blocks = across * (self.width(columns) + self.apart) - self.apart
        return max(_MIN_SHEET_WIDTH, 2 * self.style.margin + blocks)


@dataclass(frozen=True)
class BlockCut:
    """Cut of a page into blocks of at most `rows` x `columns` points.

    A sheet has `down` or `across` of them.
    """

    rows: int
    columns: int
    down: int = 1
    across: int = 1


def cut_page(page: MeasuredPage, head: SheetHead, max_bytes: int) -> BlockCut:
    """Return the cut of a page into as few sheets as its cells allow.

    Args:
        page: The page.
        head: The head of its sheets.
        max_bytes: Largest size of a sheet, RGB; a sheet with a single row may exceed it.
    """
    style, rows, columns = page.style, page.rows, page.columns

    def max_height(width: int) -> int:
        """Return the height that blocks may take on a sheet of this width, px."""
        return min(MAX_SHEET_SIDE, max_bytes // (3 * width)) - head_height(head, width) - 2 * style.margin

    fit_rows, fit_columns = _banded(page)
    available = max_height(page.sheet_width(fit_columns, 1))
    if page.height(fit_rows) > available:
        fit_rows = _balanced(rows, (available - page.above) // page.pitch[0])
    blocks = math.ceil(rows / fit_rows) * math.ceil(columns / fit_columns)
    if fit_rows == rows:
        down = max(1, (available + page.apart) // (page.height(rows) + page.apart))
        return BlockCut(fit_rows, fit_columns, down=_balanced(blocks, down))
    if fit_columns == columns:
        across = 1
        while across < blocks:
            wider = page.sheet_width(columns, across + 1)
            if wider > MAX_SHEET_SIDE or page.height(fit_rows) > max_height(wider):
                break
            across += 1
        return BlockCut(fit_rows, fit_columns, across=_balanced(blocks, across))
    return BlockCut(fit_rows, fit_columns)


def blocks_by_sheet(page: MeasuredPage, cut: BlockCut) -> list[list[Rect]]:
    """Return the blocks of every sheet, as intervals of rows and columns of points."""
    blocks = [
        Rect(Interval(top, min(top + cut.rows, page.rows)), Interval(left, min(left + cut.columns, page.columns)))
        for top in range(0, page.rows, cut.rows)
        for left in range(0, page.columns, cut.columns)
    ]
    blocks_per_sheet = cut.down * cut.across
    return [blocks[first : first + blocks_per_sheet] for first in range(0, len(blocks), blocks_per_sheet)]


def _banded(page: MeasuredPage) -> tuple[int, int]:
    """Return the (rows, columns) of a block: a page much wider than high is cut into bands.

    So is a page much higher than wide.
    """
    style, rows, columns = page.style, page.rows, page.columns
    max_columns = _balanced(columns, (MAX_SHEET_SIDE - 2 * style.margin - page.beside) // page.pitch[1])
    height, width = page.height(rows), page.width(columns)
    if page.is_sequence or width >= height:
        aspect = _MAX_SEQUENCE_ASPECT if page.is_sequence else _MAX_GRID_ASPECT
        bands = _bands(columns, page.pitch[1], page.beside, height + page.apart, aspect)
        # Keep up to three points, or as many as the narrowest sheet holds, in one row.
        if page.is_sequence and (columns <= 3 or width <= _MIN_SHEET_WIDTH - 2 * style.margin):
            bands = 1
        return rows, min(max_columns, math.ceil(columns / bands))
    if max_columns == columns:
        bands = _bands(rows, page.pitch[0], page.above, width + page.apart, _MAX_GRID_ASPECT)
        return math.ceil(rows / bands), columns
    return rows, max_columns


def _balanced(count: int, max_part: int) -> int:
    """Return the part size that splits `count` into the fewest parts of at most `max_part`."""
    return math.ceil(count / math.ceil(count / max(1, max_part)))


def _bands(count: int, pitch: int, beside: int, height: int, aspect: float) -> int:
    """Return the number of bands that are at most `aspect` times as wide as high when stacked."""
    bands = 1
    while bands < count and beside + math.ceil(count / bands) * pitch > aspect * bands * height:
        bands += 1
    return bands


def _row_names_width(page: SheetPage, style: SheetStyle) -> int:
    """Return the width of the row names, px; limited to about a cell."""
    widest = max(text_width(tidy(label), style.font) for label in (*page.rows, page.row_axis))
    return math.ceil(min(widest, max(120, 1.1 * style.tile[1])))


@lru_cache(256)
def _max_lines(labels: tuple[str, ...], size: int, room: int) -> int:
    """Return the number of lines of the longest label, at most `MAX_NAME_LINES`."""
    return most_lines(labels, size, room, MAX_NAME_LINES)
