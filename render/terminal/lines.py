"""Printing of lines on standard output and standard error, which may be closed."""

from __future__ import annotations

import os
import shutil
import sys
from typing import IO

from render.terminal.text import escaped

#: Width of lines where neither COLUMNS nor a terminal says another, and the smallest one.
_USUAL_WIDTH, _MIN_WIDTH = 80, 20


def line_width() -> int:
    """Return the width for text on standard output, in columns: COLUMNS, or else that of the terminal, or else 80."""
    return max(_MIN_WIDTH, shutil.get_terminal_size((_USUAL_WIDTH, 24)).columns)


def print_lines(*lines: str, file: IO[str] | None = None) -> None:
    """Print lines, each escaped, on standard output or `file`.

    Do nothing if the reader has closed it.
    """
    if not lines:
        return
    stream = file or sys.stdout
    try:
        print("\n".join(map(escaped, lines)), file=stream, flush=True)
    except OSError:
        # The reader has closed the pipe, but the run must go on. Without the null device, the flush at exit fails again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
