"""Files of compiled programs in a directory of the user's own cache.

A compiled program is code: whoever loads it runs it. So a file is read only if this user owns it and nobody else may write
it, in a directory of which the same is true; never from a run directory or an object store. Its facts are JSON. What is
damaged is ignored, and replaced by the next write.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from render.storage.local import remove_abandoned, temporary_name
from render.system.reading import open_regular

#: Most bytes of all files together; the programs used least recently are removed first.
MAX_TOTAL_BYTES = 1 << 30
#: Share of the limit down to which files are removed once it is exceeded.
_KEPT_SHARE = 0.8
#: Most bytes of a program, and of a file.
_MAX_PROGRAM_BYTES, _MAX_FILE_BYTES = 1 << 29, (1 << 29) + (1 << 22)
_MAGIC = b"pareidolia program 1\n"
_SUFFIX = ".program"
#: Bytes that hold the length of the header.
_LENGTH_BYTES = 4


class StoredProgram(NamedTuple):
    """Facts about a compiled program, as JSON holds them, and its code."""

    facts: Mapping[str, Any]
    code: bytes


class ProgramFiles:
    """Bounded directory of compiled programs, safe to be used by several processes at once."""

    def __init__(self, directory: Path, limit: int = MAX_TOTAL_BYTES) -> None:
        """Store the settings; the directory is made by the first write.

        Args:
            directory: Directory of the user's own cache.
            limit: Most bytes of all files together.
        """
        self._directory = directory
        self._limit = limit

    def read(self, key: str) -> StoredProgram | None:
        """Return a program, or None if there is none that can be trusted and is intact.

        Args:
            key: Hexadecimal digest of all that the program depends on.
        """
        path = self._path(key)
        try:
            if not self._is_private():
                return None
            with open_regular(path, _MAX_FILE_BYTES, follow=False) as file:
                if not _belongs_to_user(os.fstat(file.fileno())):
                    return None
                content = file.read(_MAX_FILE_BYTES)
            program = _unpacked(content, key)
        except (OSError, ValueError, LookupError, TypeError, zlib.error):
            return None
        with suppress(OSError):
            # The time by which `_prune` knows which programs are used.
            os.utime(path)
        return program

    def write(self, key: str, program: StoredProgram) -> None:
        """Write a program completely or not at all. Do nothing where the directory cannot be written or is not private."""
        if len(program.code) > _MAX_PROGRAM_BYTES:
            return
        content = _packed(program, key)
        if len(content) > self._limit * _KEPT_SHARE:
            return
        temporary = self._directory / temporary_name()
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_private():
                return
            try:
                # Not flushed to the disk: what a loss of power damages is compiled again.
                with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(content)
                temporary.replace(self._path(key))
            finally:
                temporary.unlink(missing_ok=True)
            self._prune()

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{_SUFFIX}"

    def _is_private(self) -> bool:
        """Return True if the directory is this user's, is no link, and nobody else may write to it."""
        status = self._directory.stat(follow_symlinks=False)
        return stat.S_ISDIR(status.st_mode) and _belongs_to_user(status)

    def _prune(self) -> None:
        """Remove what killed processes left, and the programs used least recently if all take more than the limit."""
        remove_abandoned(self._directory)
        remove_oldest(self._directory, lambda name: name.endswith(_SUFFIX), self._limit)


def remove_oldest(directory: Path, is_ours: Callable[[str], bool], limit: int) -> None:
    """Remove the files with the oldest times until those left take well below a limit; do nothing if all take less.

    Args:
        directory: Directory of the user's own cache.
        is_ours: Function that returns True for the names of files that count and may be removed.
        limit: Most bytes of all files together.
    """
    files: list[tuple[int, int, str]] = []
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if is_ours(entry.name):
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    files.append((status.st_mtime_ns, status.st_size, entry.name))
    total = sum(size for _, size, _ in files)
    if total <= limit:
        return
    for _, size, name in sorted(files):
        if total <= _KEPT_SHARE * limit:
            break
        with suppress(OSError):
            (directory / name).unlink(missing_ok=True)
            total -= size


def make_private(directory: Path) -> bool:
    """Make a directory, and let nobody else write to it. Return False if that cannot be."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat(follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode) or not hasattr(os, "geteuid") or status.st_uid != os.geteuid():
            return False
        if not _belongs_to_user(status):
            directory.chmod(stat.S_IMODE(status.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    except OSError:
        return False
    return True


def _belongs_to_user(status: os.stat_result) -> bool:
    """Return True if this user owns a file or directory, and nobody else may write it. False without such owners."""
    return hasattr(os, "geteuid") and status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _packed(program: StoredProgram, key: str) -> bytes:
    """Return the content of a file: a first line, the digest of the rest, the header with its length, and the code."""
    header = json.dumps({"key": key, "bytes": len(program.code), "facts": dict(program.facts)}).encode()
    rest = b"".join((len(header).to_bytes(_LENGTH_BYTES, "little"), header, zlib.compress(program.code, 1)))
    return b"".join((_MAGIC, hashlib.sha256(rest).digest(), rest))


def _unpacked(content: bytes, key: str) -> StoredProgram:
    """Return the program in a file. Raise ValueError or zlib.error if it is damaged, or another one's."""
    start = len(_MAGIC) + hashlib.sha256().digest_size
    rest = content[start:]
    if content[:start] != _MAGIC + hashlib.sha256(rest).digest():
        raise ValueError("damaged")
    end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "little")
    header = json.loads(rest[_LENGTH_BYTES:end])
    if header["key"] != key:
        raise ValueError("another program's file")
    # One byte more would show that the size is wrong.
    code = zlib.decompressobj().decompress(rest[end:], header["bytes"] + 1)
    if len(code) != header["bytes"]:
        raise ValueError("another size")
    return StoredProgram(header["facts"], code)
