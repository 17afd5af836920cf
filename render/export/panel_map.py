"""Map of a print in panels: a small picture with every panel outlined and named."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from render.export.lettering import font_of, text_width, wrapped
from render.export.panels import Panels, row_name
from render.geometry.geometry import Interval

#: Long side of the map's picture, and least length of its short side, px.
_LONG_SIDE, _MIN_SHORT_SIDE = 1000, 240
#: R,G,B of the background, the text, and secondary text.
_PAPER, _INK, _GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)
#: R,G,B of a panel's outline, and of the lines on both sides of it.
_OUTLINE, _CASING = (255, 255, 255), (10, 10, 10)
#: Share of white in the picture, so that lines and names are visible on it; it is larger where panels overlap.
_BLEACH, _BLEACH_OVERLAP = 0.18, 0.62
#: Margin of the map, and fonts of the text below it and of the names beside it, px.
_MARGIN, _CAPTION_FONT, _AXIS_FONT = 16, 18, 17
#: Most lines of a sentence below the map.
_MAX_LINES = 4
#: Font of a name by its panel's height, and its largest and smallest size, px.
_NAME_SHARE, _MAX_NAME_FONT, _MIN_NAME_FONT = 0.42, 64, 11


def map_picture(panels: Panels, thumbnail: NDArray[np.uint8]) -> Image.Image:
    """Draw the map of a print in panels, at most about 1,200 px a side.

    The letters of rows and the numbers of columns are beside it, as many as fit; a panel has its name in its middle if that
    is readable. Overlaps are bleached. Sizes and overlap are in words below.

    Args:
        panels: The panels.
        thumbnail: Small picture of the print, (rows, columns, 3) uint8 sRGB.
    """
    height, width = _map_shape(panels.shape)
    body = _body(panels, thumbnail, (height, width))
    left, top = _axis_room(panels)
    room = max(left + width, 420)
    sentences = caption(panels).splitlines()
    caption_lines = [line for sentence in sentences for line in wrapped(sentence, _CAPTION_FONT, room, _MAX_LINES)]
    line = round(_CAPTION_FONT * 1.4)
    total_width = max(left + width, *(math.ceil(text_width(text, _CAPTION_FONT)) for text in caption_lines))
    sheet = Image.new(
        "RGB", (total_width + 2 * _MARGIN, top + height + _MARGIN // 2 + line * len(caption_lines) + 2 * _MARGIN), _PAPER
    )
    sheet.paste(body, (_MARGIN + left, _MARGIN + top))
    draw = ImageDraw.Draw(sheet)
    _draw_axes(draw, panels, (height, width), (_MARGIN + top, _MARGIN + left))
    for number, text in enumerate(caption_lines):
        corner = (_MARGIN, _MARGIN + top + height + _MARGIN // 2 + number * line)
        draw.text(corner, text, _INK if number == 0 else _GREY, font_of(_CAPTION_FONT))
    return sheet


def caption(panels: Panels) -> str:
    """Return the text below the map: a sentence each on the panels, the print, the overlap."""
    rows, columns = panels.shape
    panel_rows, panel_columns = panels.panel_shape
    count = len(panels.rows) * len(panels.columns)
    sentences = [
        f"{count} panel{'s' if count > 1 else ''} of {panels.cm(panel_columns):.1f} x {panels.cm(panel_rows):.1f} cm "
        f"({panel_columns} x {panel_rows} px), {len(panels.columns)} across and {len(panels.rows)} down.",
        f"Print {panels.cm(columns):.1f} x {panels.cm(rows):.1f} cm ({columns} x {rows} px at {panels.dpi:g} dpi).",
    ]
    down, across = panels.overlaps
    overlaps = [
        f"{10 * panels.cm(pixels):.1f} mm {direction}"
        for pixels, direction in ((across, "across"), (down, "down"))
        if pixels
    ]
    if overlaps:
        sentences.append(f"Neighbours overlap by {' and '.join(overlaps)}, the pale bands.")
    return "\n".join(sentences)


def _map_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) px of the map's picture: the print's aspect, but not too narrow."""
    longest = max(shape)
    rows, columns = (max(1, round(side * _LONG_SIDE / longest)) for side in shape)
    return max(rows, min(_MIN_SHORT_SIDE, _LONG_SIDE)), max(columns, min(_MIN_SHORT_SIDE, _LONG_SIDE))


def _body(panels: Panels, thumbnail: NDArray[np.uint8], shape: tuple[int, int]) -> Image.Image:
    """Draw the bleached picture with outlines and names."""
    dream = Image.fromarray(thumbnail).convert("RGB").resize((shape[1], shape[0]), Image.Resampling.LANCZOS)
    paper = Image.new("RGB", dream.size, _PAPER)
    body = Image.blend(dream, paper, _BLEACH)
    overlap_mask = Image.new("L", dream.size, 0)
    bands = ImageDraw.Draw(overlap_mask)
    for first, second in zip(panels.rows, panels.rows[1:], strict=False):
        top, bottom = (_scaled(edge, panels.shape[0], shape[0]) for edge in (second.start, first.stop))
        bands.rectangle((0, top, shape[1], bottom), 255)
    for first, second in zip(panels.columns, panels.columns[1:], strict=False):
        left, right = (_scaled(edge, panels.shape[1], shape[1]) for edge in (second.start, first.stop))
        bands.rectangle((left, 0, right, shape[0]), 255)
    body.paste(Image.blend(dream, paper, _BLEACH_OVERLAP), mask=overlap_mask)
    draw = ImageDraw.Draw(body)
    boxes = [_box(panel.rect.rows, panel.rect.columns, panels.shape, shape) for panel in panels.panels]
    line_width = 1 if min(_least_cell(panels, shape)) < 60 else 2
    # A light line between dark ones is visible on any picture. Every dark one is drawn first, under all light ones.
    for box in boxes:
        draw.rectangle(box, outline=_CASING, width=line_width + 2)
    for left, top, right, bottom in boxes:
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=_OUTLINE, width=line_width)
    _draw_names(draw, panels, boxes, shape)
    return body


def _draw_names(
    draw: ImageDraw.ImageDraw, panels: Panels, boxes: list[tuple[int, int, int, int]], shape: tuple[int, int]
) -> None:
    """Draw each panel's name in its middle, if it is readable there."""
    cell_rows, cell_columns = _least_cell(panels, shape)
    longest = f"{row_name(len(panels.rows) - 1)}{len(panels.columns)}"
    # A letter is about 0.62 of the size wide; a little room stays on each side.
    size = min(_MAX_NAME_FONT, cell_rows * _NAME_SHARE, cell_columns * 0.8 / (0.62 * len(longest)))
    if size < _MIN_NAME_FONT:
        return
    font = font_of(size)
    for panel, (left, top, right, bottom) in zip(panels.panels, boxes, strict=True):
        draw.text(
            ((left + right) / 2, (top + bottom) / 2), panel.name, _PAPER, font, anchor="mm",
            stroke_width=max(2, round(size / 9)), stroke_fill=_INK,
        )  # fmt: skip


def _axis_room(panels: Panels) -> tuple[int, int]:
    """Return the room for letters at the left and numbers at the top, px."""
    font = font_of(_AXIS_FONT)
    widest = max(font.getlength(row_name(row)) for row in range(len(panels.rows)))
    return math.ceil(widest) + 10, round(_AXIS_FONT * 1.4)


def _draw_axes(draw: ImageDraw.ImageDraw, panels: Panels, shape: tuple[int, int], origin: tuple[int, int]) -> None:
    """Draw the letters of rows and the numbers of columns, as many as fit, beside the map."""
    font = font_of(_AXIS_FONT)
    widest = font.getlength(str(len(panels.columns)))
    for column in _visible_names(len(panels.columns), shape[1], widest * 1.5):
        middle = _middle(panels.columns[column], panels.shape[1], shape[1])
        draw.text((origin[1] + middle, origin[0] - 6), str(column + 1), _INK, font, anchor="ms")
    for row in _visible_names(len(panels.rows), shape[0], _AXIS_FONT * 1.25):
        middle = _middle(panels.rows[row], panels.shape[0], shape[0])
        draw.text((origin[1] - 7, origin[0] + middle), row_name(row), _INK, font, anchor="rm")


def _visible_names(count: int, length: int, room: float) -> range:
    """Return the indices of names that fit along `length` px: all, or every 2nd, 5th, 10th ..."""
    steps = (factor * 10**power for power in range(5) for factor in (1, 2, 5))
    return range(0, count, next(step for step in steps if step * length / count >= room))


def _least_cell(panels: Panels, shape: tuple[int, int]) -> tuple[float, float]:
    """Return the distance (down, across) of panels on the map, px: the room for a name."""
    return shape[0] / len(panels.rows), shape[1] / len(panels.columns)


def _middle(cut: Interval, print_length: int, map_length: int) -> float:
    """Return the middle of a cut on the map, px."""
    return (cut.start + cut.stop) / 2 * map_length / print_length


def _scaled(position: int, print_length: int, map_length: int) -> int:
    """Return a position of the print on the map, px."""
    return round(position * map_length / print_length)


def _box(
    rows: Interval, columns: Interval, print_shape: tuple[int, int], map_shape: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a panel on the map, px; at least 3 px a side."""
    top, bottom = (_scaled(edge, print_shape[0], map_shape[0]) for edge in rows)
    left, right = (_scaled(edge, print_shape[1], map_shape[1]) for edge in columns)
    return left, top, max(right - 1, left + 3), max(bottom - 1, top + 3)
