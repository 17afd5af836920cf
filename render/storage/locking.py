"""One process at a time in a directory that runs and atlases write to."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from render.errors import UserError
from render.storage.local import refuse_links
from render.storage.url import Place

LOCK = ".lock"


def lock_directory(directory: Path, holder: str, key: str = "output.dir", shown: str | None = None) -> FileLock:
    """The lock on a directory, which is made where there is none; whoever gets it releases it.

    Raises `UserError` where another process has it (`holder` says what that is doing), or where nothing can be written;
    `key` is what names the directory, and `shown` its name in messages where it stands for another place.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # To lock a file is to empty it.
        refuse_links(directory, LOCK)
        lock = FileLock(directory / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{shown or directory} belongs to {holder}: wait for it or choose another {key}") from None
    except OSError as error:
        raise UserError(f"{directory} cannot be written to ({error.strerror}): choose another {key}") from None
    return lock


def is_locked(directory: Place) -> bool:
    """Whether a process holds the lock on a directory, which is left as it is; True where that cannot be found out."""
    if not isinstance(directory, Path):
        from render.storage.lease import is_held
        from render.storage.objects import ObjectStorage

        return is_held(ObjectStorage(directory))
    try:
        import fcntl
    except ImportError:
        return True
    try:
        file = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    try:
        # Shared, so that two who ask do not take each other for the holder; closing the file gives it back.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
