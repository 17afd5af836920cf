"""Contact sheet of a given width in one file: PNG, JPEG or WebP, for a page or a letter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvips
from PIL import Image

from render.errors import UserError
from render.export.picture import Encoding, image_of, write_picture
from render.sweeps.axes.definition import POINT
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint
from render.sweeps.gallery.sheet import draw_sheet, fitted_thumbnail
from render.sweeps.gallery.sheet_blocks import BlockCut, MeasuredPage, blocks_by_sheet
from render.sweeps.gallery.sheet_layout import ContactSheetLayout, page_aspects, sheet_layout
from render.sweeps.gallery.sheet_pages import SheetPage, pages_of
from render.sweeps.gallery.sheet_text import SheetHead, SheetStyle
from render.sweeps.rendering.thumbnails import small_picture

#: Narrowest and widest sheet, px; WebP and JPEG hold no larger sides than the second.
MIN_WIDTH, MAX_WIDTH = 320, 16_000
#: Largest number of pixels of a sheet.
_MAX_PIXELS = 150_000_000
#: Smallest longest side of a cell, px.
_MIN_CELL = 32
#: Width of a sheet over the size of its font, and the smallest and largest font, px. Pages show sheets at half their size.
_WIDTH_PER_FONT, _MIN_FONT, _MAX_FONT = 76, 12, 48
#: Quality of a picture without a limit of its size, and those that are tried to keep a limit.
_QUALITY, _QUALITIES = 88, (88, 82, 76, 70, 62, 54, 46, 38, 30)
#: Usual aspect of a sequence of pictures, width over height.
_SEQUENCE_ASPECT = 1.6


def write_single_sheet(
    path: Path, format_name: str, exhibition: Exhibition, directory: Path, width: int, max_bytes: int | None = None
) -> int:
    """Write a contact sheet and return the quality that it was encoded with.

    Args:
        path: The file; an existing one is replaced.
        format_name: png, jpeg or webp.
        exhibition: What is on the sheet.
        directory: The directory that the names of its files are relative to.
        width: Largest width of the sheet, px. Cells are as large as it allows.
        max_bytes: Largest size of the file; None for no limit.

    Raises:
        UserError: There are more than two axes, the width is too small for the cells, or the limit cannot be kept.
    """
    layout = layout_of_width(exhibition, width)

    def picture(point: ShownPoint, room: tuple[int, int]) -> Image.Image | None:
        return _cell_picture(directory, point, room)

    image = image_of(draw_sheet(exhibition.points, layout, picture))
    if format_name == "png" or max_bytes is None:
        _write_once(path, image, format_name, _QUALITY)
        if max_bytes is not None and path.stat().st_size > max_bytes:
            size = math.ceil(path.stat().st_size / 1000)
            path.unlink()
            raise UserError(f"the sheet takes {size:,} kB as {format_name}: name a .webp file, or a smaller width")
        return _QUALITY
    for quality in _QUALITIES:
        size = len(_encoded(image, format_name, quality))
        if size <= max_bytes:
            _write_once(path, image, format_name, quality)
            return quality
    raise UserError(
        f"the sheet takes {math.ceil(size / 1000):,} kB even at quality {quality}: allow more kilobytes, or a smaller width"
    )


def layout_of_width(exhibition: Exhibition, width: int) -> ContactSheetLayout:
    """Return the sheet with the largest cells that is at most `width` px wide. Raise `UserError` if there is none."""
    pages = pages_of(exhibition)
    if len(pages) != 1:
        names = ", ".join(axis.key for axis in exhibition.axes)
        raise UserError(f"a sheet has two axes, and there are {names}: give one of them a single value")
    # Named points say themselves what they are.
    page = replace(pages[0], row_axis=_shown_name(pages[0].row_axis), column_axis=_shown_name(pages[0].column_axis))
    font = max(_MIN_FONT, min(_MAX_FONT, round(width / _WIDTH_PER_FONT)))
    for measured, cut in _candidates(exhibition, page, font, width):
        head = SheetHead(exhibition.title, page.heading if page.rows else "", "", measured.style)
        layout = sheet_layout(measured, head, cut, blocks_by_sheet(measured, cut)[0])
        if layout.shape[1] <= width and math.prod(layout.shape) <= _MAX_PIXELS:
            return layout
    raise UserError(
        f"width={width} is too narrow for {page.shape[1]} columns with their names: give more, or fewer columns"
    )


def _shown_name(axis_name: str) -> str:
    return "" if axis_name == POINT else axis_name


def _candidates(exhibition: Exhibition, page: SheetPage, font: int, width: int) -> Iterator[tuple[MeasuredPage, BlockCut]]:
    """Yield the page with cells of ever smaller size, as one block or, for a sequence, in rows below each other."""
    (aspect,) = page_aspects(exhibition.points, [page])
    rows, columns = page.shape
    across = columns
    if not page.rows:
        # Rows of a sequence are somewhat wider than high in all.
        across = min(columns, max(1, math.ceil(math.sqrt(columns * _SEQUENCE_ASPECT * aspect[0] / aspect[1]))))
        across = math.ceil(columns / math.ceil(columns / across))
    longest = width
    while longest >= _MIN_CELL:
        tile = max(1, round(longest * aspect[0])), max(1, round(longest * aspect[1]))
        yield MeasuredPage(page, SheetStyle(tile, font)), BlockCut(rows, across, down=math.ceil(columns / across))
        longest = min(longest - 1, int(longest * 0.99))


def _cell_picture(directory: Path, point: ShownPoint, room: tuple[int, int]) -> Image.Image | None:
    """Return a point's picture that fits into `room`, (rows, columns) px: from its thumbnail if that is large enough."""
    thumbnail = fitted_thumbnail(directory, point, room)
    is_small = max(point.size) < max(room) if point.thumbnail is not None else True
    if not is_small or point.picture is None:
        return thumbnail
    try:
        image = small_picture(directory / point.picture, max(room))
    except UserError:
        return thumbnail
    pixels = np.ndarray(buffer=image.write_to_memory(), dtype=np.uint8, shape=(image.height, image.width, image.bands))
    scale = min(room[0] / image.height, room[1] / image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return Image.fromarray(pixels[..., :3]).resize(size, Image.Resampling.LANCZOS)


def _encoded(image: pyvips.Image, format_name: str, quality: int) -> bytes:
    """Return the sheet as a JPEG or WebP file, without metadata."""
    save = image.webpsave_buffer if format_name == "webp" else image.jpegsave_buffer
    content: bytes = save(Q=quality, keep="none")
    return content


def _write_once(path: Path, image: pyvips.Image, format_name: str, quality: int) -> None:
    write_picture(path, image, format_name, None, Encoding(quality=quality))
