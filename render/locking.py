"""One process at a time in a directory that runs and atlases write to."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from render.errors import UserError

LOCK = ".lock"


def lock_directory(directory: Path, holder: str, key: str = "output.dir") -> FileLock:
    """The lock on a directory, which is made where there is none; whoever gets it releases it.

    Raises `UserError` where another process has it (`holder` says what that is doing), or where nothing can be written;
    `key` is what names the directory.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{directory} belongs to {holder}: wait for it or choose another {key}") from None
    except OSError as error:
        raise UserError(f"{directory} cannot be written to ({error.strerror}): choose another {key}") from None
    return lock
