"""The log file that a run, an atlas or a sweep keeps in its directory, and how its record begins and breaks off."""

from __future__ import annotations

import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from render import __version__
from render.errors import UserError


def opening(old: Mapping[str, Any], packages: Sequence[str]) -> dict[str, Any]:
    """How the record of a run, an atlas or a sweep begins; `old` is the one that is gone on with, empty for none.

    `packages` are those whose versions it says.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    versions = {name: version(name) for name in packages}
    return {
        "status": "running",
        "started": old.get("started", now),
        "resumed": [*old.get("resumed", []), now] if old else [],
        "versions": {"render": __version__, "python": platform.python_version()} | versions,
    }


@contextmanager
def log_to(path: Path, record: Callable[..., None]) -> Iterator[None]:
    """Inside, what the program logs is appended to a file, each line with its time.

    An exception is logged, and `record` is told of it before it goes on: `status` (interrupted or failed) and `error`.
    Raises `UserError` where the file cannot be written.
    """
    try:
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): move it away, or free some space") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("render")
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        logger.error("%s: %s", type(error).__name__, error)
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        # Where the disk is full the record cannot say it: the error itself is what the user must read.
        with suppress(UserError):
            record(status=status, error=str(error) or type(error).__name__)
        raise
    finally:
        logger.removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _LogFile(logging.FileHandler):
    """A log that lacks what a full disk has no room for: whoever writes pictures there says so, in a line."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
