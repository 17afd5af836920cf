"""Standard output and standard error of a command, made to survive the terminal and cleared of native output.

A terminal can disappear at any time, for example with a closed laptop: later output is dropped and the command continues.
Native libraries print directly on the standard error of the process: `divert_native` sends that to the log.
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

#: File descriptor of standard error.
_STANDARD_ERROR = 2
_is_diverted = False


class _LastingFile(io.FileIO):
    """A file that drops what it cannot write, because its reader may disappear, and notes why."""

    def __init__(self, descriptor: int, *, pipe_ends: bool) -> None:
        """Open `descriptor` for writing; with `pipe_ends`, a closed pipe still raises BrokenPipeError."""
        super().__init__(descriptor, "w", closefd=False)
        self._pipe_ends = pipe_ends
        #: Why output was dropped last; None if none was.
        self.error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write the data, or drop it; return its length in bytes."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            if self._pipe_ends:
                raise
        except OSError as error:
            # For example EIO, when the terminal has disappeared.
            self.error = error
        return memoryview(data).nbytes


def accept_any_text() -> None:
    """Make standard output and error write characters that their encoding lacks as backslash escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def outlast() -> None:
    """Make standard output and error of this process survive the terminal, and stand in for those that are closed.

    Call it once, when a command starts.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Closed, as by `>&-`. The lowest free descriptor is its own: no other file may get it.
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        # A replaced stream, for example of a test, is left alone.
        if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _lasting(stream, os.dup(stream.fileno()), pipe_ends=name == "stdout"))


def dropped_output() -> OSError | None:
    """Write what is still in memory of standard output; return why some was dropped since `outlast`, or None."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _LastingFile) else None


def divert_native() -> None:
    """Send what native code prints on standard error to the log, line by line.

    Output of Python is not affected.

    Do nothing if `outlast` has not replaced standard error.
    """
    global _is_diverted  # noqa: PLW0603
    stream = sys.stderr
    if _is_diverted or not isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _LastingFile):
        return
    _is_diverted = True
    read_end, write_end = os.pipe()
    # A full pipe loses output; a blocking write would make the process wait for its own reader thread.
    os.set_blocking(write_end, False)
    os.dup2(write_end, _STANDARD_ERROR)
    os.close(write_end)
    threading.Thread(target=_log_lines, args=(read_end,), name="native", daemon=True).start()


def write_error(words: bytes) -> None:
    """Write on standard error without buffering, also from a signal handler.

    Do nothing if it is closed.
    """
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), words)


def _lasting(stream: io.TextIOWrapper, descriptor: int, *, pipe_ends: bool) -> TextIO:
    raw: Any = _LastingFile(descriptor, pipe_ends=pipe_ends)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering, write_through=False
    )


def _log_lines(descriptor: int) -> None:
    with os.fdopen(descriptor, "r", encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            if line.strip():
                log.info("native code says: %s", line.rstrip())
