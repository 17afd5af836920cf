"""Layout of contact sheets: cells as large as sheets allow, and names around them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from render.export.labelled_sheet import LARGEST_SHEET
from render.export.lettering import INK, QUIET, line_height, shortened, wrapped
from render.geometry.geometry import Interval, Rect
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint
from render.sweeps.gallery.sheet_blocks import MAX_NAME_LINES, BlockCut, MeasuredPage, blocks_by_sheet, cut_page
from render.sweeps.gallery.sheet_pages import SheetPage, pages_of
from render.sweeps.gallery.sheet_text import SheetHead, SheetStyle, SheetText, shared_text

#: Longest side of a cell, px: the least at which pictures can be distinguished, and the usual one for small pictures.
MIN_CELL_SIDE, _USUAL_CELL_SIDE = 96, 160
#: Least width of a cell, px, and least height in lines of text.
_MIN_CELL_WIDTH, _MIN_CELL_LINES = 72, 3


@dataclass(frozen=True)
class SheetCell:
    """Cell of a point; `point` is its number in the exhibition."""

    point: int
    rect: Rect


@dataclass(frozen=True)
class ContactSheetLayout:
    """Sheet of `shape` (rows, columns) px; `font` is its font size, px."""

    shape: tuple[int, int]
    font: int
    texts: tuple[SheetText, ...]
    cells: tuple[SheetCell, ...]


def lay_out(exhibition: Exhibition, side: int = 320, max_bytes: int = LARGEST_SHEET) -> list[ContactSheetLayout]:
    """Return the sheets of a sweep.

    Cells are as large as possible without more sheets than the smallest cells need.

    Args:
        exhibition: The sweep.
        side: Longest side of a picture, px.
        max_bytes: Largest size of a sheet, RGB; a sheet with a single row may exceed it.
    """
    pages = pages_of(exhibition)
    if not pages:
        return []
    settings = shared_text(exhibition)
    best: list[tuple[MeasuredPage, SheetHead, BlockCut]] = []
    count = math.inf
    for styles in _styles(exhibition.points, pages, side):
        cuts = []
        for page, style in zip(pages, styles, strict=True):
            measured, head = MeasuredPage(page, style), SheetHead(exhibition.title, page.heading, settings, style)
            cuts.append((measured, head, cut_page(measured, head, max_bytes)))
        sheets = sum(len(blocks_by_sheet(measured, cut)) for measured, _, cut in cuts)
        if sheets < count:
            best, count = cuts, sheets
    layouts: list[ContactSheetLayout] = []
    for measured, head, cut in best:
        for blocks in blocks_by_sheet(measured, cut):
            number = f" ({len(layouts) + 1} of {count})" if count > 1 else ""
            layouts.append(sheet_layout(measured, head, cut, blocks, number))
    return layouts


def _styles(points: Sequence[ShownPoint], pages: Sequence[SheetPage], side: int) -> Iterator[list[SheetStyle]]:
    """Yield a style per page, from the largest cells to the smallest.

    All cells of a page have one size, in which all its pictures fit. The longest side of a cell is the same on all pages.
    """
    sizes = [point.size for point in points if min(point.size) > 0]
    aspects = page_aspects(points, pages)
    longest = max(map(max, sizes), default=side)
    longest = max(MIN_CELL_SIDE, min(side, max(longest, _USUAL_CELL_SIDE)))
    while True:
        min_height = _MIN_CELL_LINES * line_height(SheetStyle((longest, longest)).font) + 8
        tiles = [
            (max(round(longest * rows), min_height), max(round(longest * columns), _MIN_CELL_WIDTH))
            for rows, columns in aspects
        ]
        yield [SheetStyle(tile) for tile in tiles]
        if longest == MIN_CELL_SIDE:
            return
        longest = max(MIN_CELL_SIDE, int(longest * 0.87))


def page_aspects(points: Sequence[ShownPoint], pages: Sequence[SheetPage]) -> list[tuple[float, float]]:
    """Return for each page the (rows, columns) of the box in which all its pictures fit, its longest side 1."""
    sizes = [point.size for point in points if min(point.size) > 0]
    return [_aspect([points[number].size for number in page.cells.values()] or sizes) for page in pages]


def _aspect(sizes: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return (rows, columns) of the box in which all pictures fit.

    Each picture is scaled to a longest side of 1.
    """
    valid_sizes = [size for size in sizes if min(size) > 0] or [(1, 1)]
    return max(size[0] / max(size) for size in valid_sizes), max(size[1] / max(size) for size in valid_sizes)


def sheet_layout(
    page: MeasuredPage, head: SheetHead, cut: BlockCut, blocks: Sequence[Rect], number: str = ""
) -> ContactSheetLayout:
    """Return one sheet: its head, then its blocks below each other or side by side."""
    style = page.style
    width = page.sheet_width(cut.columns, cut.across)
    head_height, texts = head.texts(width, number)
    cells: list[SheetCell] = []
    top = bottom = style.margin + head_height
    left = style.margin
    for block in blocks:
        texts += _names(page, block, top, left)
        cells += _cells(page, block, top, left)
        bottom = max(bottom, top + page.height(block.rows.size))
        if cut.across > 1:
            left += page.width(cut.columns) + page.apart
        else:
            top = bottom + page.apart
    return ContactSheetLayout((bottom + style.margin, width), style.font, tuple(texts), tuple(cells))


def _names(measured: MeasuredPage, block: Rect, top: int, left: int) -> Iterator[SheetText]:
    """Yield the names of axes, rows and columns around a block at (top, left).

    In a sequence, they are the names under points.
    """
    style, page = measured.style, measured.page
    line, font = style.line, style.font
    for position, column in enumerate(range(*block.columns)):
        lines = tuple(wrapped(page.columns[column], font, style.tile[1], MAX_NAME_LINES))
        text_left = left + measured.beside + position * measured.pitch[1]
        text_top = (
            top + style.tile[0] + style.pad
            if measured.is_sequence
            else top + measured.above - style.pad - len(lines) * line
        )
        yield SheetText(_rect(text_top, text_left, len(lines) * line, style.tile[1]), lines, font, INK, 0.5)
    if measured.is_sequence:
        return
    width = measured.width(block.columns.size) - measured.beside
    column_axis = (shortened(page.column_axis, font, width),)
    yield SheetText(_rect(top, left + measured.beside, line, width), column_axis, font, QUIET)
    label_width = measured.beside - 2 * style.pad
    row_axis = (shortened(page.row_axis, font, label_width),)
    yield SheetText(_rect(top + measured.above - style.pad - line, left, line, label_width), row_axis, font, QUIET, 1)
    for position, row in enumerate(range(*block.rows)):
        lines = tuple(wrapped(page.rows[row], font, label_width, max(1, style.tile[0] // line)))
        height = len(lines) * line
        text_top = top + measured.above + position * measured.pitch[0] + (style.tile[0] - height) // 2
        yield SheetText(_rect(text_top, left, height, label_width), lines, font, INK, 1)


def _cells(page: MeasuredPage, block: Rect, top: int, left: int) -> Iterator[SheetCell]:
    """Yield the cells of a block at (top, left)."""
    for down, row in enumerate(range(*block.rows)):
        for along, column in enumerate(range(*block.columns)):
            point = page.page.cells.get((row, column))
            if point is not None:
                corner = top + page.above + down * page.pitch[0], left + page.beside + along * page.pitch[1]
                yield SheetCell(point, _rect(*corner, *page.style.tile))


def _rect(top: int, left: int, height: int, width: int) -> Rect:
    return Rect(Interval(top, top + height), Interval(left, left + width))
