"""The canvas as it is kept, and what is kept beside it: Zarr arrays of float32 pixels, a checksum on every chunk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from render.dream.resample import Pixels
from render.errors import DamagedCheckpoint
from render.geometry.geometry import CHUNK as CHUNK  # noqa: PLC0414 - callers name it by this module
from render.geometry.geometry import Rect, whole
from render.storage.local import sync
from render.storage.opening import asking, open_storage
from render.storage.url import Place
from render.system.reading import open_regular

#: Bytes of what Zarr says of an array at most.
_MOST_METADATA = 1 << 20

_TOKEN = "token"
#: Longest side of an array that anybody dreams, px.
_MOST_SIDE = 1 << 25
#: What Zarr raises, at one place or another, for metadata that it did not write.
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ArithmeticError,
    NotImplementedError,
)  # fmt: skip
#: How every array of this program turns numbers into bytes, and back. No other is ever run.
_CODECS = ("BytesCodec", "Crc32cCodec")


def get_ready() -> None:
    """Imports what the first `create` or `CanvasStore` would wait for; called where something else is waited for."""
    import zarr  # noqa: F401


def create(place: Place, shape: tuple[int, int], token: str, attributes: Mapping[str, Any] | None = None) -> None:
    """Makes an empty canvas of `shape` (rows, columns); `token` tells it from every other that had this place.

    `attributes` are kept beside it. Raises `StorageError` for an object store that does not take it.
    """
    # Imported where it is needed, here and below: it takes its time, and every process that starts reads this module.
    import zarr
    from zarr.codecs import Crc32cCodec

    with asking(place):
        zarr.create_array(
            _array_store(place),
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
    if isinstance(place, Path):
        for written in (place / "zarr.json", place, place.parent):
            sync(written)


def open_array(place: Place, mode: str = "r", dtype: str = "float32", chunk: int | None = None) -> Any:
    """The Zarr array of (rows, columns, 3) numbers that this program made at a place, opened to read or to write.

    Raises ValueError, or another of `UNREADABLE`, for whatever is no such array: nothing of it is decoded before its
    format, its codecs and its chunks are known to be those that this program writes.
    """
    import zarr

    chunk = CHUNK if chunk is None else chunk
    if isinstance(place, Path):
        # Zarr would make the directory that it is to write to.
        open_regular(place / "zarr.json", _MOST_METADATA, follow=False).close()
    with asking(place):
        # Chunks of zeros, too, are written: a missing one means damage.
        array = zarr.open_array(_array_store(place, mode), mode=mode, zarr_format=3, config={"write_empty_chunks": True})
    codecs = tuple(type(codec).__name__ for codec in getattr(array.metadata, "codecs", ()))
    if codecs != _CODECS:
        raise ValueError(f"its codecs are {', '.join(codecs) or 'unknown'}")
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.dtype(dtype):
        raise ValueError(f"it is {array.shape} of {array.dtype}")
    if array.chunks != (chunk, chunk, 3) or not all(1 <= side <= _MOST_SIDE for side in array.shape):
        raise ValueError(f"it is {array.shape} in chunks of {array.chunks}")
    return array


class CanvasStore:
    """An existing canvas on disk or in an object store, opened to read or to write.

    An object store that cannot be asked is a `StorageError`, and never taken for damage.
    """

    def __init__(self, path: Place, token: str | None = None, *, mode: str = "r") -> None:
        """Raises `DamagedCheckpoint` where there is no such canvas, or not the one that `token` names."""
        self._path = path
        try:
            self._array = open_array(path, mode)
        except UNREADABLE as error:
            why = str(error).splitlines()[0] if isinstance(error, ValueError) and str(error) else type(error).__name__
            raise DamagedCheckpoint(f"{path} is no canvas store ({why})") from None
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
        with asking(self._path):
            self._array[slice(*rect.rows), slice(*rect.columns)] = pixels

    def flush(self, rects: Iterable[Rect]) -> None:
        """Returns when the chunks of these rectangles, and their names, have reached the disk."""
        if not isinstance(self._path, Path):
            # An object that has been written is there.
            return
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
            with asking(self._path):
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


def _array_store(place: Place, mode: str = "w") -> Any:
    """What Zarr opens or makes an array in."""
    return open_storage(place, patient=True).zarr("", read_only=mode == "r")
