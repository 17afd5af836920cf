"""Lock that lets one process at a time write to the directory of a run or an atlas."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from render.errors import UserError
from render.storage.local import refuse_links
from render.storage.url import Place

LOCK = ".lock"


def lock_directory(directory: Path, holder: str, key: str = "output.dir", shown: str | None = None) -> FileLock:
    """Lock a directory, creating it if needed, and return the lock, which the caller releases.

    Args:
        directory: The directory.
        holder: What another process that holds the lock is doing, for messages.
        key: Config key that names the directory, for messages.
        shown: Name of the directory in messages, if it stands for another place.

    Raises:
        UserError: Another process holds the lock, or the directory cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Locking empties the file, which through a link would be a file elsewhere.
        refuse_links(directory, LOCK)
        lock = FileLock(directory / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{shown or directory} belongs to {holder}: wait for it or choose another {key}") from None
    except OSError as error:
        raise UserError(f"{directory} cannot be written to ({error.strerror}): choose another {key}") from None
    return lock


def is_locked(directory: Place) -> bool:
    """Return whether a process holds the lock on a directory, without changing it.

    True if that is unknown.
    """
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
        # Shared, so that two processes that check at once do not see each other; closing the file releases the lock.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
