"""The canvas on disk, and what is kept with it: Zarr arrays of float32 pixels whose every chunk carries a checksum."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from render.dream.resample import Pixels
from render.errors import DamagedCheckpoint
from render.geometry import Rect, whole

#: Side of a chunk, px: 3 MB each. One writer per chunk: see `geometry.chunk_extent`.
CHUNK = 512

_TOKEN = "token"
#: What Zarr raises, at one place or another, for metadata that it did not write.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def get_ready() -> None:
    """Imports what the first `create` or `CanvasStore` would wait for; called where something else is waited for."""
    import zarr  # noqa: F401


def create(path: Path, shape: tuple[int, int], token: str, attributes: Mapping[str, Any] | None = None) -> None:
    """Makes an empty canvas of `shape` (rows, columns); `token` tells it from every other that had this path.

    `attributes` are kept beside it.
    """
    # Imported where it is needed, here and below: it takes its time, and every process that starts reads this module.
    import zarr
    from zarr.codecs import Crc32cCodec

    zarr.create_array(
        str(path),
        shape=(*shape, 3),
        chunks=(CHUNK, CHUNK, 3),
        dtype="float32",
        # Pixels of a dream hardly compress; the checksum is what this codec is for.
        compressors=[Crc32cCodec()],
        # A chunk that was never written, or is gone, reads as NaN, which no canvas holds.
        fill_value=float("nan"),
        attributes={_TOKEN: token, **(attributes or {})},
        dimension_names=("row", "column", "channel"),
    )
    for written in (path / "zarr.json", path, path.parent):
        sync(written)


class CanvasStore:
    """An existing canvas on disk, opened to read or to write."""

    def __init__(self, path: Path, token: str | None = None, *, mode: str = "r") -> None:
        """Raises `DamagedCheckpoint` where there is no such canvas, or not the one that `token` names."""
        import zarr

        self._path = path
        try:
            # Chunks of zeros, too, are written: a missing one means damage.
            self._array = zarr.open_array(str(path), mode=mode, config={"write_empty_chunks": True})
        except _UNREADABLE as error:
            raise DamagedCheckpoint(f"{path} is no canvas store ({type(error).__name__})") from None
        if self._array.shape[2:] != (3,) or self._array.dtype != np.float32:
            raise DamagedCheckpoint(f"{path} is no canvas but {self._array.shape} of {self._array.dtype}")
        if token is not None and self._array.attrs.get(_TOKEN) != token:
            raise DamagedCheckpoint(f"{path} holds another canvas than the manifest names")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px."""
        return self._array.shape[0], self._array.shape[1]

    @property
    def token(self) -> str:
        """Tells this canvas from every other that had its path."""
        return str(self._array.attrs.get(_TOKEN, ""))

    @property
    def rect(self) -> Rect:
        """The whole canvas."""
        return whole(*self.shape)

    def write(self, rect: Rect, pixels: Pixels) -> None:
        """Writes whole chunks: `rect` begins on a chunk's border and ends on one, or at the canvas' end."""
        self._array[slice(*rect.rows), slice(*rect.columns)] = pixels

    def flush(self, rects: Iterable[Rect]) -> None:
        """Returns when the chunks of these rectangles, and their names, have reached the disk."""
        directories = set()
        for rect in rects:
            for row in range(rect.rows.start // CHUNK, -(-rect.rows.stop // CHUNK)):
                for column in range(rect.columns.start // CHUNK, -(-rect.columns.stop // CHUNK)):
                    directory = self._path / "c" / str(row) / str(column)
                    sync(directory / "0")
                    # Up to the store itself: whoever comes first makes the directories.
                    directories |= {directory, *directory.parents[:3]}
        for directory in directories:
            sync(directory)

    def read(self, rect: Rect) -> Pixels:
        """(rect.rows.size, rect.columns.size, 3) float32. Raises `DamagedCheckpoint` for chunks damaged or missing."""
        if whole(*self.shape).intersect(rect) != rect:
            raise DamagedCheckpoint(f"{self._path} is {self.shape[1]} x {self.shape[0]} px and lacks {rect}")
        try:
            pixels = np.asarray(self._array[slice(*rect.rows), slice(*rect.columns)])
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DamagedCheckpoint(f"{self._path} has a damaged chunk ({reason})") from None
        # A sum is NaN where any of it is, and needs no array of answers; seldom it is where none is, as infinities cancel.
        with np.errstate(over="ignore", invalid="ignore"):
            perhaps = np.isnan(pixels.sum())
        if perhaps and np.isnan(pixels).any():
            raise DamagedCheckpoint(f"{self._path} lacks a chunk")
        return pixels


def sync(path: Path) -> None:
    """Returns when what a file holds, or which names a directory holds, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
