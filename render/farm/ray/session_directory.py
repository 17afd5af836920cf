"""The private directory of a Ray of our own: its logs, its sockets, and whatever else it keeps in files.

It lies in the temporary directory, wherever that is. Sockets have names of at most 107 bytes, and Ray splits some paths at
blanks: where the directory's own path does not serve, Ray is told a link to it in a place with a short name.
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

#: What begins the names of these directories, and of those that hold links to them.
PREFIX = "dream"
#: What Ray puts after its directory's path in the longest name of a socket; process numbers have up to seven digits.
_LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"
#: A directory that nobody has locked is being made, unless it is older, s.
_MAKING = 60.0
_LOCK, _ROOT = ".lock", "ray"
_PLAIN = re.compile(r"[\w./+-]+", re.ASCII)


@dataclass
class Session:
    """A directory that is this process' as long as its lock is held.

    `root` is what Ray is told; `home` holds the files, also where `root` leads there by a link. No other user can pass
    through `home`: Ray opens its own directories to all users of the machine.
    """

    home: Path
    root: Path
    _locks: list[FileLock] = field(default_factory=list)

    def close(self) -> None:
        """Removes all of it."""
        for directory in {self.home, self.root.parent}:
            shutil.rmtree(directory, ignore_errors=True)
        for lock in self._locks:
            lock.release()


def open_session() -> Session:
    """Return a new session; those of processes that are gone are removed on the way.

    Raises `UserError` where no directory can be written, or none takes sockets.
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
    """Return whether Ray's sockets can be made below `root`, whatever number its processes get."""
    if not _PLAIN.fullmatch(str(root)):
        return False
    name = Path(f"{root}{_LONGEST_SOCKET}")
    try:
        name.parent.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(name))
    except OSError:
        return False
    finally:
        shutil.rmtree(root / name.relative_to(root).parts[0], ignore_errors=True)
    return True


def remove_stale(base: Path) -> None:
    """Remove the sessions in a directory whose processes are gone; leave alone what cannot be told or is not ours."""
    with suppress(OSError):
        for path in sorted(base.iterdir()):
            if re.fullmatch(rf"{PREFIX}-\d{{1,9}}-\w+", path.name):
                _remove_if_stale(path)


def _remove_if_stale(directory: Path) -> None:
    try:
        facts = directory.lstat()
        if not directory.is_dir() or directory.is_symlink() or facts.st_uid != os.getuid():
            return
        # Also where its number is another process' by now: whoever uses a session has its lock.
        names = {path.name for path in directory.iterdir()}
        if _LOCK not in names or not names <= {_LOCK, _ROOT}:
            return
        young = time.time() - facts.st_mtime < _MAKING
        if psutil.pid_exists(int(directory.name.split("-")[1])) and young:
            return
        lock = FileLock(directory / _LOCK)
        lock.acquire(timeout=0)
    except (OSError, Timeout):
        # Somebody removes it just now, or uses it.
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
            # Whoever took it for stale in this very moment has removed it; the lock has then made it anew.
            directory.chmod(0o700)
            return directory, lock


def _link(session: Session) -> None:
    """Have `root` lead to the session's files by a link in a place with a short name. Raises `UserError`."""
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
    named = [os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    return [place for place in map(Path, filter(None, named)) if place.is_absolute()]
