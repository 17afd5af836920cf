"""Documents that commands print: text for people within the width of the terminal, or JSON for programs.

A fact is added once, with its text and its value, so that both forms say the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from render.terminal.line_layout import table_lines, wrapped
from render.terminal.lines import line_width, print_lines
from render.terminal.text import escaped

#: Version of the keys in JSON. Keys may be added; a change of those that are there needs the next number.
VERSION = 1
#: Columns of the label before a fact.
_LABEL = 13
_RULE, _PLAIN_RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-"

#: A row of a table: values by their keys in JSON.
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table for people.

    Attributes:
        heading: Its heading.
        text: Returns the text of its cell in a record; may be empty, and have several lines.
        is_number: True to align it to the right.
    """

    heading: str
    text: Callable[[Record], str]
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """Records, for programs, and what people see of them.

    Attributes:
        title: Line above the table; empty for none.
        columns: Columns that are shown.
        records: Values of every row.
    """

    title: str
    columns: Sequence[Column]
    records: Sequence[Record]

    def lines(self, width: int, *, rule: str = _PLAIN_RULE) -> list[str]:
        """Return the table in lines of at most `width` columns of a terminal, escaped."""
        headings = [escaped(column.heading) for column in self.columns]
        rows = [[escaped(column.text(record), keep="\n") for column in self.columns] for record in self.records]
        title = wrapped(escaped(self.title), width, indent=2) if self.title else []
        return title + table_lines(headings, rows, [column.is_number for column in self.columns], width, rule=rule)


class Document:
    """Facts and tables that a command prints, in order.

    Attributes:
        data: The values, as JSON has them. Keys end in the unit of their value, such as `_px` or `_seconds`.
    """

    def __init__(self, name: str) -> None:
        """Begin a document; `name` tells programs which keys it has."""
        self.data: dict[str, Any] = {"document": name, "version": VERSION}
        self._parts: list[Callable[[int, str], list[str]]] = []
        #: Positions of the tables among the parts.
        self._tables: set[int] = set()

    def values(self, **values: Any) -> None:
        """Add values that only programs see."""
        assert not values.keys() & self.data.keys(), values.keys() & self.data.keys()
        self.data |= values

    def sentence(self, text: str, *, indent: int = 0, **values: Any) -> None:
        """Add text without a label, all of it after `indent` spaces if there are any, and its values."""
        self.values(**values)
        shown, label = escaped(text), " " if indent else ""
        self._parts.append(lambda width, _rule: wrapped(shown, width, label=label, indent=indent or 2))

    def fact(self, label: str, text: str, *, indent: int = _LABEL, **values: Any) -> None:
        """Add text behind a label that takes `indent` columns, and its values."""
        self.values(**values)
        shown, shown_label = escaped(text), escaped(label)
        self._parts.append(lambda width, _rule: wrapped(shown, width, label=shown_label, indent=indent))

    def table(self, table: Table, *, key: str = "") -> None:
        """Add a table; JSON has its records below `key`, if there is one."""
        if key:
            self.values(**{key: [dict(record) for record in table.records]})
        self._tables.add(len(self._parts))
        self._parts.append(lambda width, rule: table.lines(width, rule=rule))

    def lines(self, width: int, *, rule: str = _PLAIN_RULE) -> list[str]:
        """Return the text in lines of at most `width` columns, or of a single word that is longer.

        A blank line parts tables from what is around them.
        """
        lines: list[str] = []
        for number, part in enumerate(self._parts):
            if number and (number in self._tables or number - 1 in self._tables):
                lines.append("")
            lines += part(width, rule)
        return lines

    def json(self) -> str:
        """Return the values as one JSON object."""
        return json.dumps(self.data, indent=1, allow_nan=False)

    def print(self, *, as_json: bool) -> None:
        """Print the document on standard output, as text or as JSON."""
        print_lines(*(self.json().splitlines() if as_json else self.lines(line_width(), rule=_rule())))


def print_table(table: Table) -> None:
    """Print a table on standard output."""
    print_lines(*table.lines(line_width(), rule=_rule()))


def _rule() -> str:
    """Return the character of lines below headings, as far as standard output can write it."""
    try:
        _RULE.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _PLAIN_RULE
    return _RULE
