"""Text on pictures: its width in pixels, its line ends, and its drawing.

Lines run from left to right only. Letters are of Pillow's own font, the same on every machine. It has ASCII and little
more, so text with any other character is drawn as a whole by Pango, with a font of the machine that has the character.

In all functions `size` is the size of the font, px, and `room` the largest width of a line, px.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

#: R, G, B, 0..255.
Colour = tuple[int, int, int]
#: Colours of sheets: background, text, secondary text, the place of a missing picture, and failures.
GROUND, INK, QUIET = (11, 12, 13), (236, 236, 234), (169, 173, 178)
EMPTY, ALARM = (28, 31, 34), (229, 120, 109)
#: Smallest font that is easy to read, px.
MIN_FONT = 11

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
#: Possible line ends: after a space or a separator in a name, but not within a number.
_LINE_ENDS = re.compile(r"(?<=[\s_/=;:])|(?<=\w-)(?!\d)|(?<=[.,])(?!\d)")
_SPACES = re.compile(r"\s+")
#: Size at which the widths of Pango's letters are measured, px; each is measured once.
_MEASURING_SIZE = 32


def font_of(size: float) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font.

    Raises:
        ImportError: Pillow was built without FreeType.
    """
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ImportError("Pillow was built without FreeType: it has one size of letters alone")
    return font


def line_height(size: int) -> int:
    """Return the height of a line of text, px."""
    return math.ceil(1.3 * size)


def tidy(text: str) -> str:
    """Return the text in one line, without control characters and lone surrogates."""
    spaced = _SPACES.sub(" ", text).strip().encode("utf-8", "replace").decode()
    return "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cn", "Co"))


@lru_cache(1 << 16)
def text_width(text: str, size: int) -> float:
    """Return the width of a tidy text, px; an estimate if Pango draws it."""
    if _is_drawable(text) or not _has_pango():
        return _sized_font(size).getlength(_replaced(text))
    return sum(map(_advance, text)) * size / _MEASURING_SIZE


def shortened(text: str, size: int, room: float) -> str:
    """Return the text, with an ellipsis in place of its middle if it is wider than `room`."""
    text = tidy(text)
    width = text_width(text, size)
    if width <= room:
        return text
    # Start somewhat above the length that would fit if all characters were equally wide.
    for length in range(min(len(text), int(1.3 * len(text) * room / width) + 4), -1, -1):
        candidate = _without_middle(text, length)
        if text_width(candidate, size) <= room:
            return candidate
    return ""


def wrapped(text: str, size: int, room: float, max_lines: int) -> list[str]:
    """Break the text into at most `max_lines` lines, with an ellipsis in a longer text.

    Lines end between words and parts of names, and within a word only if it is wider than a line.
    """
    text = tidy(text)
    lines = _lines(text, size, room)
    if len(lines) <= max_lines:
        return lines
    length = min(len(text), max_lines * _max_characters(size, room))
    # The length that fits depends on the line ends, so lengths are tried from the longest on.
    while length > 0 and len(lines) > max_lines:
        length -= max(1, length // 24)
        lines = _lines(_without_middle(text, length), size, room)
    return lines[:max_lines]


def most_lines(texts: Iterable[str], size: int, room: float, max_lines: int) -> int:
    """Return the largest number of lines that one of `texts` takes, `max_lines` at most."""
    largest = 0
    for text in texts:
        largest = max(largest, len(_lines(tidy(text), size, room)))
        if largest >= max_lines:
            return max_lines
    return largest


def fitted(text: str, size: int, room: float, min_size: int = MIN_FONT) -> tuple[str, int]:
    """Return the text and the size at which it fits; at `min_size` it is shortened instead."""
    text = tidy(text)
    while size > min_size and text_width(text, size) > room:
        size -= 1
    return shortened(text, size, room), size


def draw_line(
    sheet: Image.Image,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    *,
    across: float = 0,
    room: float = 1e9,
) -> None:
    """Draw one line of text.

    Args:
        sheet: RGB picture to draw on.
        at: (row, column) px of the line's top, and of the point of the line that `across` names.
        text: Tidy text.
        size: Size of the font, px.
        colour: Colour of the text.
        across: Point of the line at column `at[1]`: 0 for its left end, 0.5 for its middle, 1 for its right end.
        room: Width, px, into which text is squeezed that is wider than `text_width` estimated.
    """
    row, column = at
    if not text:
        return
    if _is_drawable(text) or not _has_pango():
        font, glyphs = _sized_font(size), _replaced(text)
        left = column - across * font.getlength(glyphs)
        ImageDraw.Draw(sheet).text((left, row), glyphs, colour, font, anchor="la")
        return
    ink, (down, right) = _pango_mask(text, size)
    mask = Image.fromarray(ink)
    scale = min(1.0, room / mask.width, line_height(size) / mask.height)
    if scale < 1:
        mask = mask.resize((max(1, int(mask.width * scale)), max(1, int(mask.height * scale))))
    # Text of fonts with taller lines starts higher, so that it does not reach into the next line.
    top = min(max(0, down), line_height(size) - mask.height)
    width = mask.width if scale < 1 else mask.width + max(0, right)
    left = column - across * width + (0 if scale < 1 else max(0, right))
    sheet.paste(colour, (round(left), round(row + top)), mask)


def _lines(text: str, size: int, room: float) -> list[str]:
    """Break a tidy text into lines, as many as needed."""
    lines, line = [], ""
    for part in filter(None, _LINE_ENDS.split(text)):
        if line and text_width((line + part).rstrip(), size) > room:
            lines.append(line.rstrip())
            line = ""
        line += part
        while text_width(line.rstrip(), size) > room and len(line) > 1:
            fitting = next((n for n in range(len(line) - 1, 1, -1) if text_width(line[:n], size) <= room), 1)
            lines.append(line[:fitting])
            line = line[fitting:]
    return [*lines, line.rstrip()] if line.strip() else lines


def _without_middle(text: str, length: int) -> str:
    """Return `length` characters of the text, half from each end, with an ellipsis between."""
    return text[: -(-length // 2)].rstrip() + _ELLIPSIS + (text[-(length // 2) :].lstrip() if length > 1 else "")


def _max_characters(size: int, room: float) -> int:
    """Return the most characters in a line: the narrowest are a sixth of the size wide."""
    return max(1, int(6 * room / size))


@cache
def _sized_font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font; each size is loaded once."""
    return font_of(size)


@cache
def _glyph(char: str) -> tuple[tuple[int, int], bytes]:
    """Return size and ink of a character in Pillow's own font."""
    mask = _sized_font(_MEASURING_SIZE).getmask(char)
    return mask.size, bytes(mask)


@cache
def _is_in_font(char: str) -> bool:
    """Return whether Pillow's font has a character; it draws all others alike."""
    return char == " " or _glyph(char) != _glyph("\uffff")


def _is_drawable(text: str) -> bool:
    """Return whether Pillow's font has all characters of a text."""
    return all(map(_is_in_font, text))


def _replaced(text: str) -> str:
    """Return the text in characters of Pillow's font.

    Accents are removed; a question mark stands for any other character that is missing.
    """
    if _is_drawable(text):
        return text
    bare = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(char if _is_in_font(char) else "?" for char in bare)


@cache
def _has_pango() -> bool:
    """Return whether libvips can draw text and has a font: without one, all letters look alike."""
    try:
        first, second = (_pango_mask(char, _MEASURING_SIZE)[0] for char in "xi")
    except pyvips.Error:
        return False
    return not np.array_equal(first, second)


@cache
def _advance(char: str) -> float:
    """Return the width that a character adds to a line, px at `_MEASURING_SIZE`."""
    with_char, without_char = (_pango_mask(text, _MEASURING_SIZE)[0].shape[1] for text in (f"H{char}H", "HH"))
    return max(0, with_char - without_char)


@lru_cache(4096)
def _pango_mask(text: str, size: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the ink of a line, (rows, columns) uint8, and its (down, right) offset, px."""
    # At 72 dpi a point is a pixel.
    try:
        rendered = pyvips.Image.text(html.escape(text, quote=False), font=f"sans {size}", dpi=72)
    except pyvips.Error as error:
        if "no text to render" not in str(error):
            raise
        # A line of characters that have no ink, such as soft hyphens.
        return np.zeros((1, 1), np.uint8), (0, 0)
    ink = rendered.numpy()
    return ink.reshape(ink.shape[:2]), (rendered.yoffset, rendered.xoffset)
