"""Storage in a directory: every file is written beside its name, flushed, renamed, and its name flushed, too."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any

import psutil

from render.errors import UserError
from render.storage.storage import Facts, Seen, Version, inner_name
from render.system.reading import read_regular

#: Bytes of the largest record that is read: a sweep of 100,000 points has 40 MB.
MAX_RECORD_BYTES = 256 << 20
#: A file in directories of the program's own that are not complete yet.
UNFINISHED = ".pareidolia-unfinished"
#: What exFAT, SMB and FUSE say to a link.
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_TEMPORARY = re.compile(r"\.render-(\d{1,9})-[0-9a-f]{8}")


@dataclass(frozen=True)
class LocalStorage:
    """The directory `place`, which need not exist yet."""

    place: Path

    def load(self, name: str) -> tuple[bytes, Version]:
        return read_record_file(self._path(name)), Version(None)

    def write(self, name: str, data: bytes, seen: Version | Seen = Seen.ANYTHING) -> Version:  # noqa: ARG002
        path = self._path(name)
        write_durably(path, data)
        sync(path.parent.parent)
        return Version(None)

    def write_file(self, name: str, path: Path) -> Facts:
        target = self._path(name)
        _copy(path, target)
        return Facts(name, target.stat().st_size, _tag(target))

    def fetch(self, name: str, path: Path, known: Facts | None = None) -> None:  # noqa: ARG002
        _copy(self._path(name), path)

    def facts(self, name: str) -> Facts | None:
        path = self._path(name)
        return Facts(name, path.stat().st_size, _tag(path)) if path.is_file() else None

    def children(self, prefix: str = "") -> list[str]:
        directory = self._path(prefix)
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []

    def tree(self, prefix: str = "") -> Iterator[Facts]:
        root = self._path(prefix)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield Facts(path.relative_to(root).as_posix(), path.stat().st_size, _tag(path))

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def remove_tree(self, prefix: str) -> None:
        # Of a link nothing is removed, not even what it points to.
        shutil.rmtree(self._path(prefix), ignore_errors=True)

    def zarr(self, name: str, *, read_only: bool) -> Any:
        from render.storage.zarr_files import RegularFiles

        return RegularFiles(self._path(name), read_only=read_only)

    def _path(self, name: str) -> Path:
        return self.place / inner_name(name) if name else self.place


def read_record_file(path: Path) -> bytes:
    """The content of a small file of the program's own.

    Raises OSError for what is no regular file (a link, a device, a pipe), and for one that is too large to be a record.
    """
    return read_regular(path, MAX_RECORD_BYTES, follow=False)


def write_durably(path: Path, content: bytes) -> None:
    """Writes a small file whole or not at all; it is there after a loss of power once this returns."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, keep: bool = False) -> Iterator[IO[bytes]]:
    """A file that takes the name `path` when it is complete and on the disk, and leaves nothing when it is not.

    With `keep`, a file that has that name by then stays, and FileExistsError is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep:
            _take_free_name(temporary, path)
        else:
            temporary.replace(path)
        sync(path.parent)
    finally:
        # Gone already where it was renamed, unreachable where its directory is.
        with suppress(OSError):
            temporary.unlink()


def _take_free_name(temporary: Path, path: Path) -> None:
    """Gives a file a name that nothing has yet; raises FileExistsError where something has it."""
    try:
        # A link, unlike a rename, fails where the name is taken.
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
    else:
        return
    # Such a file system has no links: an empty file holds the name until the rename.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink()
        raise


def temporary_name() -> str:
    """A name beside the final one for what is not complete yet."""
    return f".render-{os.getpid()}-{secrets.token_hex(4)}"


def refuse_links(directory: Path, *names: str) -> None:
    """Raises `UserError` where one of these names in a directory, or a directory on the way to it, is a link.

    What is written or removed there would be elsewhere.
    """
    for name in names:
        for path in (directory / name, *map(directory.joinpath, PurePath(name).parents)):
            if path != directory and path.is_symlink():
                raise UserError(f"{path} is a link, and nothing is written through links: put what it names there")


def remove_abandoned(directory: Path) -> None:
    """Removes what a killed process left half written in a directory whose lock is held.

    Of directories those that say of themselves that they are not complete.
    """
    for path in directory.glob(".render-*"):
        name = _TEMPORARY.fullmatch(path.name)
        if name is None or path.is_symlink() or psutil.pid_exists(int(name[1])):
            continue
        if not path.is_dir():
            path.unlink(missing_ok=True)
        elif (path / UNFINISHED).is_file():
            shutil.rmtree(path, ignore_errors=True)


def sync(path: Path) -> None:
    """Returns when what a file holds, or which names a directory holds, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file, replacing(target) as copy:
        shutil.copyfileobj(file, copy)


def _tag(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
