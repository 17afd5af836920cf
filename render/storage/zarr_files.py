"""The directory that a local Zarr array lies in, of which only regular files of a bounded size are ever read.

Imports Zarr, which takes its time: imported where an array is opened.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

#: Bytes of a chunk or of the metadata at most: chunks of this program have 512 x 512 x 3 numbers of 4 bytes.
MOST_BYTES = 16 << 20


class RegularFiles(LocalStore):
    """A local store that refuses devices, pipes, links and files too large to be a chunk: somebody may have sent it."""

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what a file holds; None without one. Raises OSError for what is no regular file, or too large."""
        _refuse_odd(self.root / key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """As `get_sync`."""
        _refuse_odd(self.root / key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """As `get_sync`, of several files."""
        ranges = list(key_ranges)
        for key, _ in ranges:
            _refuse_odd(self.root / key)
        return await super().get_partial_values(prototype, ranges)


def _refuse_odd(path: Path) -> None:
    try:
        facts = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(facts.st_mode):
        return
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "it is no file but a link, device or pipe", str(path))
    if facts.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, "it is too large for a chunk", str(path))
