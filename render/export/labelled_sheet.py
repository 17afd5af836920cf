"""Labelled sheets of pictures: a title, a grid, and a name under each picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from render.export.lettering import EMPTY, GROUND, INK, QUIET, Colour, draw_line, fitted, line_height

#: Largest sheet, bytes of its RGB pixels.
LARGEST_SHEET = 64_000_000
#: Usual aspect of a sheet, width over height.
_ASPECT = 1.5
#: Least width of a sheet, px: room for the title.
_MIN_WIDTH = 420
#: Smallest and largest font of the names, px, and the share of a picture's short side between them.
_MIN_FONT, _MAX_FONT, _FONT_SHARE = 11, 28, 0.105


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        label: Name under the picture.
        remark: Text shown in place of the picture; empty to show the picture.
    """

    label: str
    remark: str = ""


@dataclass(frozen=True)
class SheetLayout:
    """Layout of a sheet.

    Attributes:
        columns: Pictures beside one another.
        rows: Pictures below one another.
        tile: (rows, columns) px of a picture.
    """

    columns: int
    rows: int
    tile: tuple[int, int]

    @property
    def font(self) -> int:
        """Size of the font of names, px."""
        return max(_MIN_FONT, min(_MAX_FONT, round(min(self.tile) * _FONT_SHARE)))

    @property
    def title_font(self) -> int:
        """Size of the font of the title, px."""
        return round(self.font * 1.7)

    @property
    def gap(self) -> int:
        """Gap between pictures, px."""
        return max(4, round(min(self.tile) * 0.04))

    @property
    def margin(self) -> int:
        """Margin around the sheet, px."""
        return 3 * self.gap

    @property
    def head(self) -> int:
        """Height of the title and the line below it, px."""
        return round(1.5 * self.title_font + 2.2 * self.font)

    @property
    def pitch(self) -> tuple[int, int]:
        """(rows, columns) px from one picture to the next."""
        return self.tile[0] + round(1.7 * self.font) + self.gap, self.tile[1] + self.gap

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) px of the sheet."""
        return (
            2 * self.margin + self.head + self.rows * self.pitch[0] - self.gap,
            max(_MIN_WIDTH, 2 * self.margin + self.columns * self.pitch[1] - self.gap),
        )

    def corner(self, number: int) -> tuple[int, int]:
        """Return the (row, column) at which the picture of a cell begins, px."""
        row, column = divmod(number, self.columns)
        return self.margin + self.head + row * self.pitch[0], self.margin + column * self.pitch[1]


def sheet_layouts(count: int, tile: tuple[int, int], columns: int | None = None) -> list[tuple[int, SheetLayout]]:
    """Spread pictures over as many sheets as needed.

    A sheet of more than one row has at most `LARGEST_SHEET` bytes.

    Args:
        count: Number of pictures.
        tile: (rows, columns) px of each.
        columns: Pictures beside one another; None for a sheet somewhat wider than high.

    Returns:
        The number of pictures and the layout of each sheet, in order.
    """
    single = SheetLayout(1, 1, tile)
    if columns is None:
        columns = math.ceil(math.sqrt(count * _ASPECT * single.pitch[0] / single.pitch[1]))
        # Keep the number of rows, and fill them evenly.
        columns = math.ceil(count / math.ceil(count / columns))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    width = SheetLayout(columns, 1, tile).size[1]
    head = single.size[0] - single.pitch[0]
    max_rows = max(1, (LARGEST_SHEET // (3 * width) - head) // single.pitch[0])
    sheets = math.ceil(rows / max_rows)
    cells_per_sheet = math.ceil(rows / sheets) * columns
    counts = [min(cells_per_sheet, count - first) for first in range(0, count, cells_per_sheet)]
    return [(cell_count, SheetLayout(columns, math.ceil(cell_count / columns), tile)) for cell_count in counts]


def draw_sheets(
    title: str,
    subtitle: str,
    cells: Sequence[Cell],
    picture: Callable[[int], NDArray[np.uint8]],
    columns: int | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Draw the sheets, one after another.

    Args:
        title: Line at the top of each sheet.
        subtitle: Line below it.
        cells: Pictures in order.
        picture: Function that returns the pixels of a cell by its index, (rows, columns, 3) uint8, all of one size. It is
            called for each cell without a remark, and once more for the size.
        columns: Pictures beside one another; None for a sheet somewhat wider than high.

    Yields:
        (rows, columns, 3) uint8 RGB.
    """
    layouts = sheet_layouts(len(cells), picture(0).shape[:2], columns)
    first = 0
    for number, (count, layout) in enumerate(layouts):
        suffix = f" ({number + 1} of {len(layouts)})" if len(layouts) > 1 else ""
        yield _draw(
            title + suffix, subtitle, cells[first : first + count], partial(_offset_picture, picture, first), layout
        )
        first += count


def _offset_picture(picture: Callable[[int], NDArray[np.uint8]], first: int, number: int) -> NDArray[np.uint8]:
    """Return the picture of a sheet's cell, whose index on all sheets is `first` higher."""
    return picture(first + number)


def _draw(
    title: str, subtitle: str, cells: Sequence[Cell], picture: Callable[[int], NDArray[np.uint8]], layout: SheetLayout
) -> NDArray[np.uint8]:
    """Draw one sheet: (rows, columns, 3) uint8 RGB."""
    height, width = layout.size
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    room = width - 2 * layout.margin
    _write(sheet, (layout.margin, layout.margin), title, layout.title_font, room, INK)
    _write(sheet, (layout.margin + round(1.5 * layout.title_font), layout.margin), subtitle, layout.font, room, QUIET)
    for number, cell in enumerate(cells):
        top, left = layout.corner(number)
        middle = left + layout.tile[1] / 2
        if cell.remark:
            draw.rectangle((left, top, left + layout.tile[1] - 1, top + layout.tile[0] - 1), EMPTY)
            row = top + (layout.tile[0] - line_height(layout.font)) / 2
            _write(sheet, (row, middle), cell.remark, layout.font, layout.tile[1] - 4, QUIET, 0.5)
        else:
            sheet.paste(Image.fromarray(picture(number)), (left, top))
        row = top + layout.tile[0] + 0.3 * layout.font
        _write(sheet, (row, middle), cell.label, layout.font, layout.pitch[1], INK, 0.5)
    return np.asarray(sheet)


def _write(
    sheet: Image.Image, at: tuple[float, float], text: str, size: int, room: float, colour: Colour, across: float = 0
) -> None:
    """Draw a line of text, reduced or shortened to fit into `room` px; see `draw_line`."""
    line, line_size = fitted(text, size, room)
    draw_line(sheet, at, line, line_size, colour, across=across, room=room)
