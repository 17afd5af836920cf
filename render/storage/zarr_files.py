"""Local Zarr store that reads only regular files of bounded size.

Import it only where an array is opened, because Zarr is slow to import.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

#: Maximum bytes of a chunk or of metadata: chunks of this program have 512 x 512 x 3 values of 4 bytes.
MAX_CHUNK_BYTES = 16 << 20


class RegularFiles(LocalStore):
    """Local Zarr store that reads only regular files of the size of a chunk at most.

    The files may be from somebody else: devices, pipes, links and larger files are refused.
    """

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of a file; None if there is none.

        Raises:
            OSError: It is not a regular file, or is too large.
        """
        _refuse_irregular(self.root / key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of a file as `get_sync` does."""
        _refuse_irregular(self.root / key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return the content of several files as `get_sync` does."""
        ranges = list(key_ranges)
        for key, _ in ranges:
            _refuse_irregular(self.root / key)
        return await super().get_partial_values(prototype, ranges)


def _refuse_irregular(path: Path) -> None:
    """Raise OSError if a path is a device, a pipe, a link or larger than a chunk."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(status.st_mode):
        return
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no file but a link, device or pipe", str(path))
    if status.st_size > MAX_CHUNK_BYTES:
        raise OSError(errno.EFBIG, "it is too large for a chunk", str(path))
