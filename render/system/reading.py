"""Safe reading of outside files: regular files only, and never more bytes than a limit."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from pathlib import Path
from typing import IO, BinaryIO


def open_regular(path: Path, limit: int, *, follow: bool = True) -> BinaryIO:
    """Open a regular file of at most `limit` bytes for reading; without `follow`, not through a link.

    Raises:
        OSError: The file cannot be opened, is not a regular file, or is larger than `limit`; `strerror` says which.
    """
    # Checked before opening: to open a device can have effects, and to open a pipe can block.
    _refuse_special(path, path.stat(follow_symlinks=follow))
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | (0 if follow else os.O_NOFOLLOW)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        status = os.fstat(file.fileno())
        _refuse_special(path, status)
        if status.st_size > limit:
            raise _too_large(path, limit)
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: Path, limit: int, *, follow: bool = True) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        OSError: As `open_regular` raises it.
    """
    with open_regular(path, limit, follow=follow) as file:
        # Kernel files report a size of 0, so the size is checked again on what was read.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _too_large(path, limit)
    return content


def open_member(archive: tarfile.TarFile, name: str, limit: int) -> IO[bytes]:
    """Open a regular file of at most `limit` bytes in an archive, not through a link.

    Raises:
        KeyError: There is no such file.
        ValueError: It is larger than `limit`.
        tarfile.TarError: The archive is damaged.
    """
    member = archive.getmember(name)
    # A sparse member of a few bytes stands for zeros of any size.
    if member.size > limit:
        raise ValueError(f"{name} is larger than {_size(limit)}, the most that is read")
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise KeyError(f"{name} is no file")
    return file


def _refuse_special(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a directory, not a file", str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "a device, a pipe or a socket"
        raise OSError(errno.EINVAL, f"{kind}, not a file", str(path))


def _too_large(path: Path, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {_size(limit)}, the most that is read", str(path))


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count:,} bytes"
