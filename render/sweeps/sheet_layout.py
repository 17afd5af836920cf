"""Layout of contact sheets: cells as large as sheets allow, grids cut into blocks if even small cells do not fit.

A grid is cut into blocks of rows and columns, each with its names beside and above it. Blocks of a grid much wider than
high are stacked vertically; those of a grid much higher than wide are placed side by side. A sequence of points is cut in
the same way, with a name under each point. Pure: text is measured, nothing is drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from render.export.labelled_sheet import LARGEST_SHEET
from render.export.lettering import ALARM, INK, QUIET, Colour, line_height, most_lines, shortened, text_width, tidy, wrapped
from render.geometry.geometry import Interval, Rect
from render.sweeps.sheet_pages import Page, pages_of
from render.sweeps.shown import Exhibition, Shown

#: Longest side of a sheet, px: one of the largest width is less than twice as wide as high.
LONGEST = 6000
#: Longest side of a cell, px: the least at which pictures can be distinguished, and the usual one for small pictures.
LEAST_CELL, _USUAL_CELL = 96, 160
#: Width over height above which a grid, or a sequence of points, is cut into blocks below each other.
_WIDEST, _FLOW = 5.0, 1.8
#: Least width of a sheet, px, so that the title fits.
_NARROWEST = 560
_LEAST_WIDTH, _LEAST_LINES = 72, 3
_CAPTION_LINES, _SHARED_LINES, _LABEL_LINES = 3, 4, 3


@dataclass(frozen=True)
class Text:
    """Lines of text that fill `rect` from its top; `across` is 0, 0.5 or 1 for left, middle and right."""

    rect: Rect
    lines: tuple[str, ...]
    size: int
    colour: Colour = INK
    across: float = 0


@dataclass(frozen=True)
class Place:
    """Cell of a point; `point` is its number in the exhibition."""

    point: int
    rect: Rect


@dataclass(frozen=True)
class Sheet:
    """Sheet of `shape` (rows, columns) px; `font` is its font size, px."""

    shape: tuple[int, int]
    font: int
    texts: tuple[Text, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class _Style:
    """Measures, px, for cells of `tile` (rows, columns) px."""

    tile: tuple[int, int]

    @property
    def font(self) -> int:
        return max(12, min(20, round(max(self.tile) * 0.065)))

    @property
    def line(self) -> int:
        return line_height(self.font)

    @property
    def gap(self) -> int:
        return max(4, round(max(self.tile) * 0.03))

    @property
    def margin(self) -> int:
        return 4 * self.gap

    @property
    def pad(self) -> int:
        """Space between a cell and its name."""
        return max(4, round(0.4 * self.font))


class _Measured:
    """Page in a style, with the space that its names take."""

    def __init__(self, page: Page, style: _Style) -> None:
        self.page, self.style = page, style
        self.rows, self.columns = page.shape
        self.is_flow = not page.rows
        #: Largest width of column names.
        self.label_room = style.tile[1]
        lines = _most_lines(page.columns, style.font, self.label_room)
        under = lines * style.line + style.pad if self.is_flow else 0
        #: Height of the names above a block, including the axis name, and width of the names beside it.
        self.above = 0 if self.is_flow else (1 + lines) * style.line + 2 * style.pad
        self.beside = 0 if self.is_flow else _beside(page, style) + 2 * style.pad
        #: Space between blocks.
        self.apart = style.gap if self.is_flow else 4 * style.gap
        self.pitch = style.tile[0] + under + style.gap, style.tile[1] + style.gap

    def height(self, rows: int) -> int:
        """Return the height of a block of so many rows, px."""
        return self.above + rows * self.pitch[0] - self.style.gap

    def width(self, columns: int) -> int:
        """Return the width of a block of so many columns, px."""
        return self.beside + columns * self.pitch[1] - self.style.gap


@dataclass(frozen=True)
class _Cut:
    """Cut of a page into blocks of at most `rows` x `columns` points; a sheet has `down` or `across` of them."""

    rows: int
    columns: int
    down: int = 1
    across: int = 1


def lay_out(exhibition: Exhibition, side: int = 320, largest: int = LARGEST_SHEET) -> list[Sheet]:
    """Return the sheets of a sweep.

    Cells are as large as possible without more sheets than the smallest cells need.

    Args:
        exhibition: The sweep.
        side: Longest side of a picture, px.
        largest: Most bytes of a sheet, RGB; a sheet with a single row may exceed it.
    """
    pages = pages_of(exhibition)
    if not pages:
        return []
    shared = shared_text(exhibition)
    fewest: list[tuple[_Measured, _Cut]] = []
    count = math.inf
    for styles in _styles(exhibition.points, pages, side):
        pages_measured = [_Measured(page, style) for page, style in zip(pages, styles, strict=True)]
        cuts = [(page_layout, _cut(page_layout, exhibition.title, shared, largest)) for page_layout in pages_measured]
        sheets = sum(len(_blocks_by_sheet(page_layout, cut)) for page_layout, cut in cuts)
        if sheets < count:
            fewest, count = cuts, sheets
    sheet_list: list[Sheet] = []
    for page_layout, cut in fewest:
        for blocks in _blocks_by_sheet(page_layout, cut):
            number = f" ({len(sheet_list) + 1} of {count})" if count > 1 else ""
            sheet_list.append(_sheet(page_layout, cut, blocks, exhibition.title, number, shared))
    return sheet_list


def shared_text(exhibition: Exhibition) -> str:
    """Return the number of points in each state, and the settings that all points share."""
    states = Counter(point.state for point in exhibition.points)
    total = states.total()
    points = f"{total} point{'' if total == 1 else 's'}"
    if states["done"] < total:
        points += ": " + ", ".join(f"{states[state]} {state}" for state in sorted(states))
    return " \N{MIDDLE DOT} ".join([points, *(f"{name} {words}" for name, words in exhibition.made)])


def remarks(point: Shown, rect: Rect, font: int) -> list[Text]:
    """Return the text of a cell without picture: the state of the point and, as far as it fits, the reason."""
    inner = Rect(*(Interval(part.start + 4, part.stop - 4) for part in rect))
    line_limit = inner.rows.size // line_height(font)
    state = ("no picture", QUIET) if point.state == "done" else (point.state, ALARM if point.state == "failed" else QUIET)
    small_font = max(11, round(0.8 * font))
    reason_lines = max(0, (inner.rows.size - line_height(font)) // line_height(small_font))
    reason = (
        wrapped(point.reason, small_font, inner.columns.size, reason_lines)
        if reason_lines and point.reason and line_limit
        else []
    )
    height = line_height(font) + len(reason) * line_height(small_font)
    top = inner.rows.start + max(0, inner.rows.size - height) // 2
    state_lines = (shortened(state[0], font, inner.columns.size),)
    texts = [Text(Rect(Interval(top, top + line_height(font)), inner.columns), state_lines, font, state[1], 0.5)]
    if reason:
        top += line_height(font)
        rows = Interval(top, top + len(reason) * line_height(small_font))
        texts.append(Text(Rect(rows, inner.columns), tuple(reason), small_font, QUIET, 0.5))
    return texts


def _styles(points: Sequence[Shown], pages: Sequence[Page], side: int) -> Iterator[list[_Style]]:
    """Yield a style per page, from the largest cells to the smallest.

    All cells of a page have one size, in which all its pictures fit. The longest side of a cell is the same on all pages.
    """
    sizes = [point.size for point in points if min(point.size) > 0]
    aspects = [_aspect([points[number].size for number in page.cells.values()] or sizes) for page in pages]
    longest = max(map(max, sizes), default=side)
    longest = max(LEAST_CELL, min(side, max(longest, _USUAL_CELL)))
    while True:
        least_height = _LEAST_LINES * line_height(_Style((longest, longest)).font) + 8
        tiles = [
            (max(round(longest * rows), least_height), max(round(longest * columns), _LEAST_WIDTH))
            for rows, columns in aspects
        ]
        yield [_Style(tile) for tile in tiles]
        if longest == LEAST_CELL:
            return
        longest = max(LEAST_CELL, int(longest * 0.87))


def _aspect(sizes: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return (rows, columns) of the box in which all pictures fit, each scaled to a longest side of 1."""
    valid_sizes = [size for size in sizes if min(size) > 0] or [(1, 1)]
    return max(size[0] / max(size) for size in valid_sizes), max(size[1] / max(size) for size in valid_sizes)


def _cut(one: _Measured, title: str, shared: str, largest: int) -> _Cut:
    """Return the cut of a page into as few sheets as its cells allow."""
    style = one.style
    rows, columns = one.rows, one.columns

    def most_rows(width: int) -> int:
        """Return the height that blocks may take on a sheet of this width, px."""
        head = _head_height(one.page.heading, style, title, shared, width)
        return min(LONGEST, largest // (3 * width)) - head - 2 * style.margin

    fit_columns = _balanced(columns, (LONGEST - 2 * style.margin - one.beside) // one.pitch[1])
    fit_rows = rows
    height, width = one.height(rows), one.width(columns)
    if one.is_flow or width >= height:
        bands = _bands(columns, one.pitch[1], one.beside, height + one.apart, _FLOW if one.is_flow else _WIDEST)
        # Keep up to three points, or as many as the narrowest sheet holds, in one row.
        available = _NARROWEST - 2 * style.margin
        if one.is_flow and (columns <= 3 or width <= available):
            bands = 1
        fit_columns = min(fit_columns, math.ceil(columns / bands))
    elif fit_columns == columns:
        bands = _bands(rows, one.pitch[0], one.above, width + one.apart, _WIDEST)
        fit_rows = math.ceil(rows / bands)
    sheet_width = _sheet_width(one, fit_columns, 1)
    available = most_rows(sheet_width)
    if one.height(fit_rows) > available:
        fit_rows = _balanced(rows, (available - one.above) // one.pitch[0])
    cut = _Cut(fit_rows, fit_columns)
    blocks = math.ceil(rows / fit_rows) * math.ceil(columns / fit_columns)
    if fit_rows == rows:
        down = max(1, (available + one.apart) // (one.height(rows) + one.apart))
        return _Cut(fit_rows, fit_columns, down=_balanced(blocks, down))
    if fit_columns == columns:
        across = 1
        while across < blocks:
            wider = _sheet_width(one, columns, across + 1)
            if wider > LONGEST or one.height(fit_rows) > most_rows(wider):
                break
            across += 1
        return _Cut(fit_rows, fit_columns, across=_balanced(blocks, across))
    return cut


def _balanced(count: int, most: int) -> int:
    """Return the size of the parts when `count` is split evenly into as few parts of at most `most` as possible."""
    return math.ceil(count / math.ceil(count / max(1, most)))


def _bands(count: int, each: int, beside: int, height: int, aspect: float) -> int:
    """Return into how many stacked parts a row is cut, so that they are at most `aspect` times as wide as high."""
    bands = 1
    while bands < count and beside + math.ceil(count / bands) * each > aspect * bands * height:
        bands += 1
    return bands


def _blocks_by_sheet(one: _Measured, cut: _Cut) -> list[list[Rect]]:
    """Return the blocks of every sheet, as intervals of rows and columns of points."""
    blocks = [
        Rect(Interval(top, min(top + cut.rows, one.rows)), Interval(left, min(left + cut.columns, one.columns)))
        for top in range(0, one.rows, cut.rows)
        for left in range(0, one.columns, cut.columns)
    ]
    blocks_per_sheet = cut.down * cut.across
    return [blocks[first : first + blocks_per_sheet] for first in range(0, len(blocks), blocks_per_sheet)]


def _sheet_width(one: _Measured, columns: int, across: int) -> int:
    style = one.style
    blocks = across * (one.width(columns) + one.apart) - one.apart
    return max(_NARROWEST, 2 * style.margin + blocks)


def _sheet(one: _Measured, cut: _Cut, blocks: Sequence[Rect], title: str, number: str, shared: str) -> Sheet:
    style = one.style
    width = _sheet_width(one, cut.columns, cut.across)
    head, texts = _head(one.page.heading, style, title, number, shared, width)
    places: list[Place] = []
    top = bottom = style.margin + head
    left = style.margin
    for block in blocks:
        texts += _names(one, block, top, left)
        places += _places(one, block, top, left)
        bottom = max(bottom, top + one.height(block.rows.size))
        if cut.across > 1:
            left += one.width(cut.columns) + one.apart
        else:
            top = bottom + one.apart
    return Sheet((bottom + style.margin, width), style.font, tuple(texts), tuple(places))


def _head(heading: str, style: _Style, title: str, number: str, shared: str, width: int) -> tuple[int, list[Text]]:
    """Return the height and the texts of the head: title, heading of the page, settings that all points share."""
    room = width - 2 * style.margin
    columns = Interval(style.margin, width - style.margin)
    large = round(1.6 * style.font)
    title_text = shortened(title, large, room - text_width(number, large)) + number
    parts = (
        ((title_text,), large, INK),
        (tuple(wrapped(heading, style.font, room, _CAPTION_LINES)), style.font, INK),
        (tuple(wrapped(shared, style.font, room, _SHARED_LINES)), style.font, QUIET),
    )
    texts: list[Text] = []
    top = style.margin
    for lines, size, colour in parts:
        if lines:
            bottom = top + len(lines) * line_height(size)
            texts.append(Text(Rect(Interval(top, bottom), columns), lines, size, colour))
            top = bottom + style.pad
    return top - style.margin + style.gap, texts


@lru_cache(4096)
def _head_height(heading: str, style: _Style, title: str, shared: str, width: int) -> int:
    return _head(heading, style, title, "", shared, width)[0]


def _names(one: _Measured, block: Rect, top: int, left: int) -> Iterator[Text]:
    """Yield the names of axes, rows and columns around a block at (top, left); in a flow, the names under points."""
    style, page = one.style, one.page
    line, font = style.line, style.font
    for position, column in enumerate(range(*block.columns)):
        lines = tuple(wrapped(page.columns[column], font, one.label_room, _LABEL_LINES))
        text_left = left + one.beside + position * one.pitch[1]
        text_top = top + style.tile[0] + style.pad if one.is_flow else top + one.above - style.pad - len(lines) * line
        yield Text(_rect(text_top, text_left, len(lines) * line, style.tile[1]), lines, font, INK, 0.5)
    if one.is_flow:
        return
    width = one.width(block.columns.size) - one.beside
    yield Text(_rect(top, left + one.beside, line, width), (shortened(page.column_axis, font, width),), font, QUIET)
    label_width = one.beside - 2 * style.pad
    name = (shortened(page.row_axis, font, label_width),)
    yield Text(_rect(top + one.above - style.pad - line, left, line, label_width), name, font, QUIET, 1)
    for position, row in enumerate(range(*block.rows)):
        lines = tuple(wrapped(page.rows[row], font, label_width, max(1, style.tile[0] // line)))
        height = len(lines) * line
        text_top = top + one.above + position * one.pitch[0] + (style.tile[0] - height) // 2
        yield Text(_rect(text_top, left, height, label_width), lines, font, INK, 1)


def _places(one: _Measured, block: Rect, top: int, left: int) -> Iterator[Place]:
    for down, row in enumerate(range(*block.rows)):
        for along, column in enumerate(range(*block.columns)):
            point = one.page.cells.get((row, column))
            if point is not None:
                corner = top + one.above + down * one.pitch[0], left + one.beside + along * one.pitch[1]
                yield Place(point, _rect(*corner, *one.style.tile))


def _beside(page: Page, style: _Style) -> int:
    """Return the width of the row names, px; limited to about a cell."""
    widest = max(text_width(tidy(label), style.font) for label in (*page.rows, page.row_axis))
    return math.ceil(min(widest, max(120, 1.1 * style.tile[1])))


@lru_cache(256)
def _most_lines(labels: tuple[str, ...], size: int, room: int) -> int:
    return most_lines(labels, size, room, _LABEL_LINES)


def _rect(top: int, left: int, height: int, width: int) -> Rect:
    return Rect(Interval(top, top + height), Interval(left, left + width))
