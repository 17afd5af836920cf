"""Standard output and error of a command: they outlive the terminal, and are kept from what native code prints.

A terminal may go at any moment, as a closed laptop's does: what is written to it then goes nowhere, and ends nothing.
Native libraries print on the process' standard error by themselves; where that is diverted their words go to the log.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO

log = logging.getLogger(__name__)

_ERROR = 2
_diverted = False


class _Lasting(io.FileIO):
    """A file whose reader may go: what cannot be written is dropped."""

    def __init__(self, descriptor: int, *, pipe_ends: bool) -> None:
        """With `pipe_ends`, a pipe that nobody reads any more is an error as ever: the program may have to stop for it."""
        super().__init__(descriptor, "w", closefd=False)
        self._pipe_ends = pipe_ends

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            if self._pipe_ends:
                raise
        except OSError:
            # Such as EIO: the terminal is gone.
            pass
        return memoryview(data).nbytes


def accept_any_text() -> None:
    """Let standard output and error show characters that their encoding lacks as backslash escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def outlast() -> None:
    """Have this process' standard output and error outlive the terminal; to be called once, when a command begins."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # One that is somebody else's, as a test's, is left alone.
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _lasting(stream, os.dup(stream.fileno()), pipe_ends=name == "stdout"))


def divert_native() -> None:
    """From now on what native code prints on standard error goes to the log, line by line; what Python prints does not.

    Does nothing where standard error is not this command's to divert: see `outlast`.
    """
    global _diverted  # noqa: PLW0603
    stream = sys.stderr
    if _diverted or not isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Lasting):
        return
    _diverted = True
    reading, writing = os.pipe()
    # Where nobody gets to read in time, words are lost: better than a process that waits for itself.
    os.set_blocking(writing, False)
    os.dup2(writing, _ERROR)
    os.close(writing)
    threading.Thread(target=_log_lines, args=(reading,), name="native", daemon=True).start()


def write_error(words: bytes) -> None:
    """Write on standard error at once, also from a signal handler; nothing where there is nobody to read it."""
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), words)


def _lasting(stream: io.TextIOWrapper, descriptor: int, *, pipe_ends: bool) -> TextIO:
    raw: Any = _Lasting(descriptor, pipe_ends=pipe_ends)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering, write_through=False
    )


def _log_lines(reading: int) -> None:
    with os.fdopen(reading, "r", encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            if line.strip():
                log.info("native code says: %s", line.rstrip())
