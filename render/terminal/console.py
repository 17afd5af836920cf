"""Progress bars for people, drawn by rich, which is slow to import."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.text import Text

from render.terminal.text import escaped


class PatientConsole(Console):
    """A rich console that survives a closed pipe.

    It shows markup and control characters as plain text.

    Line breaks in table cells stay, because the program writes them itself: pass outside text through `escaped` first.
    """

    def __init__(self, **options: Any) -> None:
        """Open it with rich's options."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def on_broken_pipe(self) -> None:
        """Drop all further output instead of ending the process, which is the default of rich."""
        self.file = io.StringIO()

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the escaped text as rich shows it, with its line breaks."""
        return super().render_str(escaped(text, keep="\n"), **options)

    def write_line(self, line: str) -> None:
        """Print one escaped line without wrapping it."""
        self.print(Text(escaped(line)), soft_wrap=True)
