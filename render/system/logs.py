"""Log file of a run, an atlas or a sweep, and the entries of its record at the start and after a failure."""

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
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.system.version import __version__, package_version
from render.terminal.text import escaped


def opening(old: Mapping[str, Any], packages: Sequence[str]) -> dict[str, Any]:
    """Return the first entries of the record of a run, an atlas or a sweep.

    Args:
        old: Record of the run that is resumed; empty for a new run.
        packages: Packages whose versions are recorded.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    versions = {name: package_version(name) for name in packages}
    return {
        "status": "running",
        "started": old.get("started", now),
        "resumed": [*old.get("resumed", []), now] if old else [],
        "versions": {"render": __version__, "python": platform.python_version()} | versions,
    }


@contextmanager
def log_to(path: Path, record: Callable[..., None], json_of: str | None = None) -> Iterator[None]:
    """Inside the context, append the log messages of the program to a file, each line with its time.

    Args:
        path: The log file.
        record: Called with `status` ("interrupted" or "failed") and `error` when an exception leaves the context. The
            exception is logged first and raised again afterwards.
        json_of: Name of a run. If given, each line is a JSON object, see `JsonLines`; in a job on a cluster the same
            lines also go to standard output, because the cluster keeps only that of a job.

    Raises:
        UserError: The file cannot be written.
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
    for target in handlers:
        target.setFormatter(formatter)
        logger.addHandler(target)
    try:
        yield
    except BaseException as error:
        logger.error("%s: %s", type(error).__name__, error)
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        # On a full disk the record cannot be written either; the user still sees the error itself.
        with suppress(UserError):
            record(status=status, error=str(error) or type(error).__name__)
        raise
    finally:
        for target in handlers:
            logger.removeHandler(target)
        with suppress(OSError):
            handler.close()


class EscapedLines(logging.Formatter):
    """Formatter of lines for people: an escaped line each, and tracebacks on lines below."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the escaped line of the record, without a traceback."""
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback, escaped because its last lines may contain outside text."""
        return escaped(super().formatException(ei), keep="\n")


class JsonLines(logging.Formatter):
    """Formatter of JSON lines for programs.

    Keys are `time` (ISO 8601, UTC), `level`, `run` and `message`; `octave` (from 1) and `step` (completed steps) once they
    are known, and `exception` with the traceback if there is one. A log call sets octave and step by
    `extra={"octave": ..., "step": ...}`; they hold until the next such call.
    """

    def __init__(self, run: str) -> None:
        """Store the run's name."""
        super().__init__()
        self._run = run
        self._position: dict[str, int] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object on one line."""
        self._position |= {key: int(getattr(record, key)) for key in ("octave", "step") if hasattr(record, key)}
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "run": self._run,
            **self._position,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, ensure_ascii=False)
        return text if text.isprintable() else json.dumps(line)


def is_cluster_job() -> bool:
    """Return whether this process is the entry point of a job on a Ray cluster."""
    try:
        job_config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    except ValueError:
        return False
    return isinstance(job_config, dict) and "job_submission_id" in (job_config.get("metadata") or {})


class _LogFile(logging.FileHandler):
    """Log file that silently drops lines on a full disk.

    The code that writes pictures reports the full disk.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Report an error of logging, unless it is one of the disk."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
