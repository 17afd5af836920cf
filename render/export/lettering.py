"""Text on pictures: what fits into how many pixels, and how it gets there. Lines only, from left to right of a picture.

Letters are Pillow's own font, the same on every machine. It has ASCII and little more, so that text with any other
character is drawn as a whole by Pango, which finds a font of the machine that has it.
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

Colour = tuple[int, int, int]
#: Of sheets: behind everything, text, text that steps back, where a picture should be, and what went wrong.
GROUND, INK, QUIET = (11, 12, 13), (236, 236, 234), (169, 173, 178)
EMPTY, ALARM = (28, 31, 34), (229, 120, 109)
#: Letters that can be read without effort, px.
LEAST = 11

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
#: Where a line may end: after a space or a joint of a name, but not within a number.
_JOINTS = re.compile(r"(?<=[\s_/=;:])|(?<=\w-)(?!\d)|(?<=[.,])(?!\d)")
_SPACES = re.compile(r"\s+")
#: Size at which Pango's letters are measured, px: once each.
_MEASURED = 32


def font_of(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font, letters of `size` px."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ImportError("Pillow was built without FreeType: it has one size of letters alone")
    return font


def line_height(size: int) -> int:
    """Rows of pixels that a line of text takes."""
    return math.ceil(1.3 * size)


def tidy(text: str) -> str:
    """The text in one line, without what no font has: control characters, halves of characters."""
    spaced = _SPACES.sub(" ", text).strip().encode("utf-8", "replace").decode()
    return "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cn", "Co"))


@lru_cache(1 << 16)
def text_width(text: str, size: int) -> float:
    """Columns of pixels that a tidy text takes; about, where Pango is to draw it."""
    if _is_known(text) or not _has_pango():
        return _sized_font(size).getlength(_replaced(text))
    return sum(map(_advance, text)) * size / _MEASURED


def shortened(text: str, size: int, room: float) -> str:
    """The text in at most `room` px: where it is wider an ellipsis takes the place of its middle."""
    text = tidy(text)
    width = text_width(text, size)
    if width <= room:
        return text
    # From somewhat more than would fit if all characters were equally wide.
    for kept in range(min(len(text), int(1.3 * len(text) * room / width) + 4), -1, -1):
        cut = _without_middle(text, kept)
        if text_width(cut, size) <= room:
            return cut
    return ""


def wrapped(text: str, size: int, room: float, most: int) -> list[str]:
    """The text in at most `most` lines of at most `room` px, its middle left out where there is more of it.

    Lines end between words and parts of names, and within them only where one is wider than a line.
    """
    text = tidy(text)
    lines = _lines(text, size, room)
    if len(lines) <= most:
        return lines
    kept = min(len(text), most * _at_most(size, room))
    # Where lines end decides what fits, so that more may fit than less: the first that does, from the long end.
    while kept > 0 and len(lines) > most:
        kept -= max(1, kept // 24)
        lines = _lines(_without_middle(text, kept), size, room)
    return lines[:most]


def most_lines(texts: Iterable[str], size: int, room: float, most: int) -> int:
    """How many lines the longest of `texts` takes, `most` at most."""
    longest = 0
    for text in texts:
        longest = max(longest, len(_lines(tidy(text), size, room)))
        if longest >= most:
            return most
    return longest


def fitted(text: str, size: int, room: float, least: int = LEAST) -> tuple[str, int]:
    """The text and the size of its letters: `size` px, less where it would be wider than `room`, at `least` shortened."""
    text = tidy(text)
    while size > least and text_width(text, size) > room:
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
    """Writes one tidy line whose top is at `at` (row, column), px.

    `across` says where along the text that column is: 0 at its left end, 0.5 in its middle, 1 at its right end. Text is
    squeezed into `room` px where it turns out wider than `text_width` said.
    """
    row, column = at
    if not text:
        return
    if _is_known(text) or not _has_pango():
        font, shown = _sized_font(size), _replaced(text)
        left = column - across * font.getlength(shown)
        ImageDraw.Draw(sheet).text((left, row), shown, colour, font, anchor="la")
        return
    ink, (down, right) = _pango_mask(text, size)
    mask = Image.fromarray(ink)
    scale = min(1.0, room / mask.width, line_height(size) / mask.height)
    if scale < 1:
        mask = mask.resize((max(1, int(mask.width * scale)), max(1, int(mask.height * scale))))
    # Some fonts have taller lines: what they would write into the next one begins higher.
    top = min(max(0, down), line_height(size) - mask.height)
    wide = mask.width if scale < 1 else mask.width + max(0, right)
    left = column - across * wide + (0 if scale < 1 else max(0, right))
    sheet.paste(colour, (round(left), round(row + top)), mask)


def _lines(text: str, size: int, room: float) -> list[str]:
    """As many lines as it takes."""
    lines, line = [], ""
    for part in filter(None, _JOINTS.split(text)):
        if line and text_width((line + part).rstrip(), size) > room:
            lines.append(line.rstrip())
            line = ""
        line += part
        while text_width(line.rstrip(), size) > room and len(line) > 1:
            fitting = next((n for n in range(len(line) - 1, 1, -1) if text_width(line[:n], size) <= room), 1)
            lines.append(line[:fitting])
            line = line[fitting:]
    return [*lines, line.rstrip()] if line.strip() else lines


def _without_middle(text: str, kept: int) -> str:
    return text[: -(-kept // 2)].rstrip() + _ELLIPSIS + (text[-(kept // 2) :].lstrip() if kept > 1 else "")


def _at_most(size: int, room: float) -> int:
    """Characters that can be in a line: the narrowest are a sixth as wide as the font is high."""
    return max(1, int(6 * room / size))


@cache
def _sized_font(size: int) -> ImageFont.FreeTypeFont:
    return font_of(size)


@cache
def _glyph(char: str) -> tuple[tuple[int, int], bytes]:
    mask = _sized_font(_MEASURED).getmask(char)
    return mask.size, bytes(mask)


@cache
def _is_in_font(char: str) -> bool:
    """Whether Pillow's font has it: what it lacks is drawn as what no font has."""
    return char == " " or _glyph(char) != _glyph("\uffff")


def _is_known(text: str) -> bool:
    return all(map(_is_in_font, text))


def _replaced(text: str) -> str:
    """The text in the letters of Pillow's font: without accents, and with question marks for what is no letter with one."""
    if _is_known(text):
        return text
    bare = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(char if _is_in_font(char) else "?" for char in bare)


@cache
def _has_pango() -> bool:
    """Whether libvips can write here, with a font: without any, all letters look the same."""
    try:
        first, second = (_pango_mask(char, _MEASURED)[0] for char in "xi")
    except pyvips.Error:
        return False
    return not np.array_equal(first, second)


@cache
def _advance(char: str) -> float:
    """How much wider a line gets by a character, px at the size of measuring."""
    wide, narrow = (_pango_mask(text, _MEASURED)[0].shape[1] for text in (f"H{char}H", "HH"))
    return max(0, wide - narrow)


@lru_cache(4096)
def _pango_mask(text: str, size: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The ink of a line, (rows, columns) uint8, and how far (down, right) of the line's corner it begins, px."""
    # At 72 dpi a point is a pixel.
    made = pyvips.Image.text(html.escape(text, quote=False), font=f"sans {size}", dpi=72)
    ink = made.numpy()
    return ink.reshape(ink.shape[:2]), (made.yoffset, made.xoffset)
