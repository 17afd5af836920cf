"""Private directory of a local Ray: its logs, its sockets, and all its other files.

It lies in the temporary directory. Names of sockets have at most 107 bytes, and Ray splits some paths at blanks. If the
directory's own path does not work, Ray gets a link to it in a place with a short name.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from render.errors import UserError

#: Prefix of the names of these directories, and of those that hold links to them.
PREFIX = "dream"
#: Longest path of a socket below Ray's directory; process numbers have up to seven digits.
_LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"
#: Least age of an unlocked directory to be removed, s: a younger one is still being made.
_MIN_STALE_AGE_S = 60.0
#: Names of the lock and of Ray's directory in a session's.
_LOCK, _ROOT = ".lock", "ray"
#: Paths that Ray does not split.
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)


@dataclass
class Session:
    """Directory that belongs to this process as long as its lock is held.

    `root` is the path for Ray; `home` holds the files, also if `root` is a link to them. No other user can pass through
    `home`: Ray opens its own directories to all users of the machine.
    """

    home: Path
    root: Path
    _locks: list[FileLock] = field(default_factory=list)

    def close(self) -> None:
        """Remove all its files, and release its locks."""
        for directory in {self.home, self.root.parent}:
            shutil.rmtree(directory, ignore_errors=True)
        for lock in self._locks:
            lock.release()


def open_session() -> Session:
    """Return a new session, after removing those of processes that are gone.

    Raises:
        UserError: No directory can be written, or none allows sockets.
    """
    try:
        base = Path(tempfile.gettempdir())
        remove_stale(base)
        home, lock = _make(base)
    except OSError as error:
        raise UserError(
            f"no temporary directory can be written ({error.strerror or error}): free some space, or set TMPDIR to a "
            "directory that can be"
        ) from None
    session = Session(home, home / _ROOT, [lock])
    try:
        session.root.mkdir(mode=0o700)
        if not takes_sockets(session.root):
            _link(session)
    except BaseException:
        session.close()
        raise
    return session


def takes_sockets(root: Path) -> bool:
    """Return True if Ray's sockets can be made below `root`, for any process number."""
    if not _PLAIN_PATH.fullmatch(str(root)):
        return False
    name = Path(f"{root}{_LONGEST_SOCKET}")
    try:
        name.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(name))
    except OSError:
        return False
    finally:
        shutil.rmtree(root / name.relative_to(root).parts[0], ignore_errors=True)
    return True


def remove_stale(base: Path) -> None:
    """Remove the sessions of ended processes from a directory; keep unclear ones and other users'."""
    with suppress(OSError):
        for path in sorted(base.iterdir()):
            if re.fullmatch(rf"{PREFIX}-\d{{1,9}}-\w+", path.name):
                _remove_if_stale(path)


def _remove_if_stale(directory: Path) -> None:
    try:
        status = directory.lstat()
        if not directory.is_dir() or directory.is_symlink() or status.st_uid != os.getuid():
            return
        # A reused process number does not matter: the user of a session holds its lock.
        names = {path.name for path in directory.iterdir()}
        if _LOCK not in names or not names <= {_LOCK, _ROOT}:
            return
        is_young = time.time() - status.st_mtime < _MIN_STALE_AGE_S
        if psutil.pid_exists(int(directory.name.split("-")[1])) and is_young:
            return
        lock = FileLock(directory / _LOCK)
        lock.acquire(timeout=0)
    except (OSError, Timeout):
        # Another process removes or uses it.
        return
    try:
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        lock.release()


def _make(base: Path) -> tuple[Path, FileLock]:
    """Return a new directory, for this user alone, and its lock."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-", dir=base))
        lock = FileLock(directory / _LOCK)
        with suppress(Timeout, FileNotFoundError):
            lock.acquire(timeout=0)
            # If another process removed it as stale just now, the lock has made it again: set its mode.
            directory.chmod(0o700)
            return directory, lock


def _link(session: Session) -> None:
    """Set `root` to a link to the session's files in a place with a short name.

    Raise `UserError` if no place works.
    """
    for place in _short_places():
        try:
            remove_stale(place)
            directory, lock = _make(place)
        except OSError:
            continue
        root = directory / _ROOT
        with suppress(OSError):
            root.symlink_to(session.home / _ROOT, target_is_directory=True)
            if takes_sockets(root):
                session.root = root
                session._locks.append(lock)
                return
        shutil.rmtree(directory, ignore_errors=True)
        lock.release()
    raise UserError(
        f"Ray's sockets can be made neither in {session.home.parent} nor in {', '.join(map(str, _short_places()))}: set "
        "TMPDIR to a directory of a local disk, or farm.executor=inline to do without Ray"
    )


def _short_places() -> list[Path]:
    names = [os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    return [place for place in map(Path, filter(None, names)) if place.is_absolute()]
