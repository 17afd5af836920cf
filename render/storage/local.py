"""Storage in a directory.

Files are written under a temporary name, flushed and renamed; then the directory is flushed, too.
"""

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
from render.storage.storage import ObjectInfo, Precondition, Version, inner_name
from render.system.reading import read_regular

#: Maximum bytes of a record that is read: a sweep of 100,000 points has 40 MB.
MAX_RECORD_BYTES = 256 << 20
#: Name of a file that marks a directory of the program as incomplete.
UNFINISHED = ".pareidolia-unfinished"
#: Error numbers with which exFAT, SMB and FUSE refuse a hard link.
_HARD_LINK_REFUSALS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_TEMPORARY = re.compile(r"\.render-(\d{1,9})-[0-9a-f]{8}")


@dataclass(frozen=True)
class LocalStorage:
    """Storage in the directory `place`, which need not exist yet."""

    place: Path

    def load(self, name: str) -> tuple[bytes, Version]:
        """Return the content of a file, and an empty version.

        Raise `OSError` as `read_record_file` does.
        """
        return read_record_file(self._path(name)), Version(None)

    def write(
        self,
        name: str,
        data: bytes,
        expected: Version | Precondition = Precondition.ANY,  # noqa: ARG002
    ) -> Version:
        """Write a small file durably.

        `expected` is ignored, because the directory's lock keeps other writers out.
        """
        path = self._path(name)
        write_durably(path, data)
        sync(path.parent.parent)
        return Version(None)

    def write_file(self, name: str, path: Path) -> ObjectInfo:
        """Copy a file into the directory, completely or not at all."""
        target = self._path(name)
        _copy(path, target)
        return ObjectInfo(name, target.stat().st_size, _tag(target))

    def copy(self, name: str, target: str) -> None:
        """Give a file a second name: a hard link, or a copy where the file system has none."""
        path, other = self._path(name), self._path(target)
        other.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, other, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (*_HARD_LINK_REFUSALS, errno.EXDEV):
                raise
            _copy(path, other)

    def fetch(self, name: str, path: Path, info: ObjectInfo | None = None) -> None:  # noqa: ARG002
        """Copy a file out of the directory, completely or not at all."""
        _copy(self._path(name), path)

    def info(self, name: str) -> ObjectInfo | None:
        """Return name, size and tag of a file, the tag from its time and size.

        None if there is none.
        """
        path = self._path(name)
        return ObjectInfo(name, path.stat().st_size, _tag(path)) if path.is_file() else None

    def children(self, prefix: str = "") -> list[str]:
        """Return the names of all files and directories in a directory, sorted."""
        directory = self._path(prefix)
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []

    def tree(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the info of all files below a directory, with names relative to it."""
        root = self._path(prefix)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield ObjectInfo(path.relative_to(root).as_posix(), path.stat().st_size, _tag(path))

    def remove(self, name: str) -> None:
        """Remove a file; do nothing if there is none."""
        self._path(name).unlink(missing_ok=True)

    def remove_tree(self, prefix: str) -> None:
        """Remove a directory with all it contains; a link stays, and so does its target."""
        shutil.rmtree(self._path(prefix), ignore_errors=True)

    def zarr(self, name: str, *, read_only: bool) -> Any:
        """Return the Zarr store in which an array is opened or created."""
        from render.storage.zarr_files import RegularFiles

        return RegularFiles(self._path(name), read_only=read_only)

    def _path(self, name: str) -> Path:
        return self.place / inner_name(name) if name else self.place


def read_record_file(path: Path) -> bytes:
    """Return the content of a small file that the program wrote.

    Raises:
        OSError: It is not a regular file (a link, a device, a pipe), or is larger than `MAX_RECORD_BYTES`.
    """
    return read_regular(path, MAX_RECORD_BYTES, follow=False)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file completely or not at all.

    After the return it survives a loss of power.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, keep: bool = False) -> Iterator[IO[bytes]]:
    """Yield a file that is renamed to `path` once it is complete and on the disk.

    After a failure it is removed.

    With `keep`, an existing `path` is not replaced: FileExistsError is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep:
            _rename_to_free(temporary, path)
        else:
            temporary.replace(path)
        sync(path.parent)
    finally:
        # Missing after the rename, unreachable if its directory is.
        with suppress(OSError):
            temporary.unlink()


def _rename_to_free(temporary: Path, path: Path) -> None:
    """Rename a file to a free name; raise FileExistsError if the name is taken."""
    try:
        # Unlike a rename, a hard link fails if the name is taken.
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _HARD_LINK_REFUSALS:
            raise
    else:
        return
    # This file system has no hard links: an empty file reserves the name until the rename.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        temporary.replace(path)
    except BaseException:
        path.unlink()
        raise


def temporary_name() -> str:
    """Return a name with this process' PID for an incomplete file or directory."""
    return f".render-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def temporary_directory(parent: Path) -> Iterator[Path]:
    """Yield a new directory in `parent`, which is made if need be; it is removed afterwards.

    If this process is killed, `remove_abandoned` removes it. Raise `UserError` if it cannot be made.
    """
    directory = parent / temporary_name()
    try:
        directory.mkdir(parents=True)
        (directory / UNFINISHED).touch()
    except OSError as error:
        raise UserError(
            f"{parent} cannot be written to ({error.strerror}): choose another output.path or output.dir"
        ) from None
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def refuse_links(directory: Path, *names: str) -> None:
    """Raise `UserError` if one of `names` in a directory, or a parent of it there, is a link.

    Through a link, files outside of the directory would be written or removed.
    """
    for name in names:
        for path in (directory / name, *map(directory.joinpath, PurePath(name).parents)):
            if path != directory and path.is_symlink():
                raise UserError(f"{path} is a link, and nothing is written through links: put what it names there")


def remove_abandoned(directory: Path) -> None:
    """Remove incomplete files of killed processes from a directory whose lock is held.

    Directories are removed only if they contain `UNFINISHED`.
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
    """Flush the content of a file, or the names in a directory, to the disk."""
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
