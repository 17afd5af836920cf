"""Layout of text and tables in lines of a given width. Pure.

A line is broken between words only, and never between a number and its unit: `1 min 46 s` and `184 x 160 px` stay whole. A
word that is longer than a line stays whole, too, so that a path can still be copied. Widths are columns of a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

#: Words with the spaces before them.
_WORD = re.compile(r"( *)([^ ]+)")
#: Word that ends in a number, to which the next word belongs, such as `46` before `s`, or `(40,000` before `px)`.
_NUMBER = re.compile(r"[^\w\s]*\d(?:[\d.,]*\d)?")
#: Word that begins with a number.
_STARTS_WITH_NUMBER = re.compile(r"[^\w\s]*\d")
#: Words that belong to the number after them.
_SIGNS = frozenset(("x", "<", ">", "+-"))
#: Units that a number of a smaller unit may follow.
_LARGE_UNITS = frozenset(("min", "h"))
#: Spaces between two columns.
_GAP = 2
#: Width to which a column of prose is narrowed at most; a table with less room has one fact on each line.
_MIN_PROSE = 18


def cell_len(text: str) -> int:
    """Return the columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    # Imported only then: help must not wait for it.
    from rich.cells import cell_len as columns_of

    return columns_of(text)


def wrapped(text: str, width: int, *, label: str = "", indent: int = 0) -> list[str]:
    """Return text in lines of at most `width` columns.

    Args:
        text: Text on one line.
        width: Width of the lines. Only one with a word that is longer itself is longer.
        label: Beginning of the first line, which is filled up to `indent` columns.
        indent: Spaces before every line after the first, fewer before a word that only fits so.
    """
    lines: list[str] = []
    line = label + " " * max(1, indent - cell_len(label)) if label else ""
    has_words = False
    for gap, part in _parts(text, width):
        if has_words:
            if cell_len(line) + len(gap) + cell_len(part) <= width:
                line += gap + part
                continue
        elif cell_len(line) + cell_len(part) <= width or cell_len(part) > width:
            line += part
            has_words = True
            continue
        if line.strip(" "):
            lines.append(line.rstrip(" "))
        line = " " * (min(indent, width - cell_len(part)) if cell_len(part) <= width else indent) + part
        has_words = True
    return [*lines, line.rstrip(" ")]


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int, *, rule: str = "-"
) -> list[str]:
    """Return a table in lines of at most `width` columns.

    If not even the narrowest columns fit, rows and columns are exchanged. If these do not fit either, each row becomes a
    paragraph with one fact on each line.

    Args:
        headings: Headings of the columns.
        rows: Text of every cell, row by row. A line break begins a new line in the cell.
        numbers: Whether each column has numbers, which are aligned to the right.
        width: Width of the lines. Only one with a word that is longer itself is longer.
        rule: Character of the line below the headings.
    """
    widths = _column_widths(headings, rows, width)
    if widths is None and rows:
        headings_across, *rows_across = zip(headings, *rows, strict=True)
        widths = _column_widths(headings_across, rows_across, width)
        if widths is None:
            return _paragraphs(headings, rows, width)
        headings, rows, numbers = headings_across, rows_across, [False, *[any(numbers)] * len(rows)]
    if widths is None:
        return wrapped((" " * _GAP).join(headings), width)
    lines = list(_row_lines(headings, widths, numbers))
    lines.append((" " * _GAP).join(rule * column for column in widths))
    for row in rows:
        lines += _row_lines(row, widths, numbers)
    return lines


def _parts(text: str, width: int) -> Iterator[tuple[str, str]]:
    """Yield the parts of text that stay whole, each with the spaces before it.

    What is longer than `width` is broken between its words all the same.
    """
    for words in _groups(_WORD.findall(text)):
        part = words[0][1] + "".join(gap + word for gap, word in words[1:])
        if cell_len(part) <= width:
            yield words[0][0], part
        else:
            yield from words


def _groups(words: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield the words in groups that belong together, each word with the spaces before it."""
    group: list[tuple[str, str]] = []
    for gap, word in words:
        if group and not _belongs([earlier for _, earlier in group], word):
            yield group
            group = []
        group.append((gap, word))
    if group:
        yield group


def _belongs(group: Sequence[str], word: str) -> bool:
    """Return whether a word belongs to the words before it: a number to its unit, or the reverse."""
    if _NUMBER.fullmatch(group[-1]):
        return not _STARTS_WITH_NUMBER.match(word)
    if not _STARTS_WITH_NUMBER.match(word):
        return False
    return group[-1] in _SIGNS or (len(group) > 1 and group[-1] in _LARGE_UNITS)


def _column_widths(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return the width of each column, the widest narrowed to a common limit; None if they do not fit."""
    columns = [[line for cell in cells for line in cell.split("\n")] for cells in zip(*rows, strict=True)]
    columns = columns or [[] for _ in headings]
    natural, least = [], []
    for heading, cells in zip(headings, columns, strict=True):
        cells_width = max(map(cell_len, cells), default=0)
        parts = max((cell_len(part) for line in (heading, *cells) for _, part in _parts(line, width)), default=0)
        natural.append(max(cell_len(heading), cells_width))
        least.append(max(parts, min(cells_width, _MIN_PROSE)))
    room = width - _GAP * (len(headings) - 1)
    if sum(least) > room:
        return None
    for limit in range(max(natural), 0, -1):
        widths = [min(column, max(smallest, limit)) for column, smallest in zip(natural, least, strict=True)]
        if sum(widths) <= room:
            return widths
    return least


def _row_lines(cells: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> Iterator[str]:
    """Yield the lines of one row of a table."""
    columns = [
        [line for paragraph in cell.split("\n") for line in wrapped(paragraph, column)]
        for cell, column in zip(cells, widths, strict=True)
    ]
    for lines in zip_longest(*columns, fillvalue=""):
        texts = []
        for text, column, is_number in zip(lines, widths, numbers, strict=True):
            filler = " " * (column - cell_len(text))
            texts.append(filler + text if is_number else text + filler)
        yield (" " * _GAP).join(texts).rstrip(" ")


def _paragraphs(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return each row as a paragraph with one fact on each line; empty cells are left out."""
    indent = min(max(map(cell_len, headings)) + _GAP, width // 2)
    lines: list[str] = []
    for number, row in enumerate(rows):
        lines += [""] if number else []
        for heading, cell in zip(headings, row, strict=True):
            for position, paragraph in enumerate(cell.split("\n") if cell else ()):
                lines += wrapped(paragraph, width, label=(heading or " ") if position == 0 else " ", indent=indent)
    return lines
