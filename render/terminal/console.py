"""Tables and bars for people, by rich, which takes its time to import."""

from __future__ import annotations

import io
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from render.terminal.text import escaped


class PatientConsole(Console):
    """A console that goes on when nobody reads it any more, and takes no text for markup or for control characters.

    Line breaks in cells of tables are the program's own: text from outside goes in through `escaped`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Does not end the process, as rich would."""
        self.file = io.StringIO()

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text as rich shows it, escaped."""
        return super().render_str(escaped(text, keep="\n"), **options)

    def write_line(self, line: str) -> None:
        """Print one line, escaped, as long as it is."""
        self.print(Text(escaped(line)), soft_wrap=True)


def plain_console() -> PatientConsole:
    """Return standard output for tables; wide enough for one when it is not a terminal."""
    return PatientConsole(file=sys.stdout, soft_wrap=True, width=None if sys.stdout.isatty() else 110)
