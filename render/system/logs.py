"""The log file that a run, an atlas or a sweep keeps in its directory, and how its record begins and breaks off."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.system.version import __version__
from render.terminal.text import escaped


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
def log_to(path: Path, record: Callable[..., None], json_of: str | None = None) -> Iterator[None]:
    """Inside, what the program logs is appended to a file, each line with its time.

    With `json_of`, the name of a run, each line is a JSON object: see `JsonLines`. Where the program runs as a job on a
    cluster, the same lines go to standard output, which is what is kept of a job.
    An exception is logged, and `record` is told of it before it goes on: `status` (interrupted or failed) and `error`.
    Raises `UserError` where the file cannot be written.
    """
    try:
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): move it away, or free some space") from None
    formatter = EscapedLines("%(asctime)s %(levelname)s %(message)s") if json_of is None else JsonLines(json_of)
    handlers: list[logging.Handler] = [handler]
    if json_of is not None and is_cluster_job():
        handlers.append(logging.StreamHandler(sys.stdout))
    logger = logging.getLogger("render")
    for one in handlers:
        one.setFormatter(formatter)
        logger.addHandler(one)
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
        for one in handlers:
            logger.removeHandler(one)
        with suppress(OSError):
            handler.close()


class EscapedLines(logging.Formatter):
    """Lines for people: each message on one, with what is not printable escaped, and a traceback's lines below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the record's line without a traceback."""
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return a traceback, whose last lines may hold text from outside."""
        return escaped(super().formatException(ei), keep="\n")


class JsonLines(logging.Formatter):
    """Lines that programs read: `time` (ISO 8601, UTC), `level`, `run`, `message`; `octave` (from 1) and `step` (those
    done) once they are known, and `exception` with a traceback where there is one.

    Whoever knows where the run stands says so by `extra={"octave": ..., "step": ...}`; it holds until the next who does.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run
        self._where: dict[str, int] = {}

    def format(self, record: logging.LogRecord) -> str:
        self._where |= {key: int(getattr(record, key)) for key in ("octave", "step") if hasattr(record, key)}
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "run": self._run,
            **self._where,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, ensure_ascii=False)
        return text if text.isprintable() else json.dumps(line)


def is_cluster_job() -> bool:
    """Whether this process is the entry point of a job that a Ray cluster runs."""
    try:
        told = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    except ValueError:
        return False
    return isinstance(told, dict) and "job_submission_id" in (told.get("metadata") or {})


class _LogFile(logging.FileHandler):
    """A log that lacks what a full disk has no room for: whoever writes pictures there says so, in a line."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
