"""Text of contact sheets: the head, and cells without picture. It is measured, not drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from render.export.lettering import ALARM, INK, QUIET, Colour, line_height, shortened, text_width, wrapped
from render.geometry.geometry import Interval, Rect
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint

#: Largest number of lines of a page's heading, and of the settings that all points share.
_MAX_HEADING_LINES, _MAX_SETTING_LINES = 3, 4
#: Smallest font size of the reason in a cell, px.
_MIN_REASON_FONT = 11


@dataclass(frozen=True)
class SheetText:
    """Lines of text on a sheet.

    Attributes:
        rect: Rectangle that the lines fill from its top, px.
        lines: The lines.
        size: Font size, px.
        colour: Colour of the text.
        across: Alignment: 0 is left, 0.5 the middle, 1 right.
    """

    rect: Rect
    lines: tuple[str, ...]
    size: int
    colour: Colour = INK
    across: float = 0


@dataclass(frozen=True)
class SheetStyle:
    """Measures of a page, px, for cells of `tile` (rows, columns) px. A `font_size` of 0 follows from the cells."""

    tile: tuple[int, int]
    font_size: int = 0

    @property
    def font(self) -> int:
        """Font size."""
        return self.font_size or max(12, min(20, round(max(self.tile) * 0.065)))

    @property
    def line(self) -> int:
        """Height of a line of text."""
        return line_height(self.font)

    @property
    def gap(self) -> int:
        """Space between cells."""
        return max(4, round(max(self.tile) * 0.03))

    @property
    def margin(self) -> int:
        """Space around everything on a sheet."""
        return 4 * self.gap

    @property
    def pad(self) -> int:
        """Space between a cell and its name."""
        return max(4, round(0.4 * self.font))


def shared_text(exhibition: Exhibition) -> str:
    """Return the number of points in each state, and the settings that all points share."""
    states = Counter(point.state for point in exhibition.points)
    total = states.total()
    points = f"{total} point{'' if total == 1 else 's'}"
    if states["done"] < total:
        points += ": " + ", ".join(f"{states[state]} {state}" for state in sorted(states))
    return " \N{MIDDLE DOT} ".join([points, *(f"{name} {text}" for name, text in exhibition.settings)])


def cell_texts(point: ShownPoint, rect: Rect, font: int) -> list[SheetText]:
    """Return the text of a cell without picture.

    It is the state of the point and, as far as it fits, the reason.
    """
    inner = Rect(*(Interval(part.start + 4, part.stop - 4) for part in rect))
    max_lines = inner.rows.size // line_height(font)
    state = ("no picture", QUIET) if point.state == "done" else (point.state, ALARM if point.state == "failed" else QUIET)
    small_font = max(_MIN_REASON_FONT, round(0.8 * font))
    reason_lines = max(0, (inner.rows.size - line_height(font)) // line_height(small_font))
    reason = (
        wrapped(point.reason, small_font, inner.columns.size, reason_lines)
        if reason_lines and point.reason and max_lines
        else []
    )
    height = line_height(font) + len(reason) * line_height(small_font)
    top = inner.rows.start + max(0, inner.rows.size - height) // 2
    state_lines = (shortened(state[0], font, inner.columns.size),)
    texts = [SheetText(Rect(Interval(top, top + line_height(font)), inner.columns), state_lines, font, state[1], 0.5)]
    if reason:
        top += line_height(font)
        rows = Interval(top, top + len(reason) * line_height(small_font))
        texts.append(SheetText(Rect(rows, inner.columns), tuple(reason), small_font, QUIET, 0.5))
    return texts


@dataclass(frozen=True)
class SheetHead:
    """Head of the sheets of one page.

    Attributes:
        title: Title of the sweep.
        heading: Heading of the page; may be empty.
        settings: Text of the settings that all points share.
        style: Style of the page.
    """

    title: str
    heading: str
    settings: str
    style: SheetStyle

    def texts(self, width: int, number: str = "") -> tuple[int, list[SheetText]]:
        """Return the height of the head, px, and its texts, on a sheet of this width.

        Args:
            width: Width of the sheet, px.
            number: Text about the sheet's number, behind the title.
        """
        style = self.style
        room = width - 2 * style.margin
        columns = Interval(style.margin, width - style.margin)
        large = round(1.6 * style.font)
        title = shortened(self.title, large, room - text_width(number, large)) + number
        parts = (
            ((title,) if title else (), large, INK),
            (tuple(wrapped(self.heading, style.font, room, _MAX_HEADING_LINES)), style.font, INK),
            (tuple(wrapped(self.settings, style.font, room, _MAX_SETTING_LINES)), style.font, QUIET),
        )
        texts: list[SheetText] = []
        top = style.margin
        for lines, size, colour in parts:
            if lines:
                bottom = top + len(lines) * line_height(size)
                texts.append(SheetText(Rect(Interval(top, bottom), columns), lines, size, colour))
                top = bottom + style.pad
        return top - style.margin + style.gap, texts


@lru_cache(4096)
def head_height(head: SheetHead, width: int) -> int:
    """Return the height of a head on a sheet of this width, px."""
    return head.texts(width)[0]
