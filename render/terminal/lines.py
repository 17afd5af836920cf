"""Lines for people, on standard output and standard error, which may be closed or hold few letters."""

from __future__ import annotations

import os
import sys
from typing import IO

from render.terminal.text import escaped


def print_lines(*lines: str, file: IO[str] | None = None) -> None:
    """Print lines, each escaped, on standard output or `file`; where nobody can read them any more, nothing happens."""
    if not lines:
        return
    stream = file or sys.stdout
    try:
        print("\n".join(map(escaped, lines)), file=stream, flush=True)
    except OSError:
        # The reader has gone, and the picture matters more. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
