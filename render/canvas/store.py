"""The stored canvas: a Zarr array (format 3) of float32 pixels, 0..255.

Every chunk has a checksum (CRC32C). Other Zarr arrays that this program writes, such as the levels of a source, are opened
here as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from render.dreaming.resample import Pixels
from render.errors import DamagedCheckpoint
from render.geometry.geometry import CHUNK as CHUNK  # noqa: PLC0414 - callers name it by this module
from render.geometry.geometry import Rect, whole
from render.storage.local import sync
from render.storage.opening import open_storage, translate_errors
from render.storage.url import Place
from render.system.reading import open_regular

#: Largest metadata file of an array (zarr.json), bytes.
_MAX_METADATA_BYTES = 1 << 20
#: Longest side of a plausible canvas, px.
MAX_SIDE_PX = 1 << 25
#: Attribute of the array that holds the canvas' token.
_TOKEN_ATTRIBUTE = "token"
#: Exceptions that Zarr raises, at one place or another, for metadata that it did not write.
UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ArithmeticError,
    NotImplementedError,
)  # fmt: skip
#: Codecs of every array that this program writes. No other codec is ever run.
_CODECS = ("BytesCodec", "Crc32cCodec")


def get_ready() -> None:
    """Import the slow modules that this one needs, while the program waits for something else."""
    import zarr  # noqa: F401


def create(place: Place, shape: tuple[int, int], token: str, attributes: Mapping[str, Any] | None = None) -> None:
    """Create an empty canvas.

    Args:
        place: Path or URL of the canvas; its parent exists.
        shape: (rows, columns) px.
        token: Text that distinguishes this canvas from every other that had its place.
        attributes: Further attributes of the Zarr array.

    Raises:
        StorageError: the object store refuses it.
    """
    # Imported here and below because the import is slow and every process that starts reads this module.
    import zarr
    from zarr.codecs import Crc32cCodec

    with translate_errors(place):
        zarr.create_array(
            _array_store(place),
            shape=(*shape, 3),
            chunks=(CHUNK, CHUNK, 3),
            dtype="float32",
            # Pixels of a dream hardly compress; this codec only adds the checksum.
            compressors=[Crc32cCodec()],
            # A chunk that was never written, or is lost, reads as NaN, which no canvas holds.
            fill_value=float("nan"),
            attributes={_TOKEN_ATTRIBUTE: token, **(attributes or {})},
            dimension_names=("row", "column", "channel"),
        )
    if isinstance(place, Path):
        for path in (place / "zarr.json", place, place.parent):
            sync(path)


def open_array(place: Place, mode: str = "r", dtype: str = "float32", chunk: int | None = None) -> Any:
    """Open a Zarr array (rows, columns, 3) that this program wrote.

    No chunk is decoded before the format, the codecs and the chunk shape are known to be those that this program writes.

    Args:
        place: Path or URL of the array.
        mode: `r` to read, `r+` to read and write.
        dtype: Expected type of the numbers.
        chunk: Expected side of a chunk, px; None for a canvas' `CHUNK`.

    Raises:
        ValueError: it is another kind of array; another of `UNREADABLE` if it is none or damaged.
        StorageError: the object store does not answer.
    """
    import zarr

    chunk = CHUNK if chunk is None else chunk
    if isinstance(place, Path):
        # Refuse a missing array, as Zarr would create its directory.
        open_regular(place / "zarr.json", _MAX_METADATA_BYTES, follow=False).close()
    with translate_errors(place):
        # Chunks of zeros are written as well: a missing one means damage.
        array = zarr.open_array(_array_store(place, mode), mode=mode, zarr_format=3, config={"write_empty_chunks": True})
    codecs = tuple(type(codec).__name__ for codec in getattr(array.metadata, "codecs", ()))
    if codecs != _CODECS:
        raise ValueError(f"its codecs are {', '.join(codecs) or 'unknown'}")
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.dtype(dtype):
        raise ValueError(f"it is {array.shape} of {array.dtype}")
    if array.chunks != (chunk, chunk, 3) or not all(1 <= side <= MAX_SIDE_PX for side in array.shape):
        raise ValueError(f"it is {array.shape} in chunks of {array.chunks}")
    return array


class CanvasStore:
    """An existing canvas on disk or in an object store, opened to read or to write.

    An object store that does not answer raises `StorageError`; it is never treated as damage.
    """

    def __init__(self, path: Place, token: str | None = None, *, mode: str = "r") -> None:
        """Open the canvas.

        Args:
            path: Path or URL of the canvas.
            token: Expected token; None for any.
            mode: `r` to read, `r+` to read and write.

        Raises:
            DamagedCheckpoint: there is no canvas, or it has another token.
        """
        self._path = path
        try:
            self._array = open_array(path, mode)
        except UNREADABLE as error:
            reason = str(error).splitlines()[0] if isinstance(error, ValueError) and str(error) else type(error).__name__
            raise DamagedCheckpoint(f"{path} is no canvas store ({reason})") from None
        if token is not None and self._array.attrs.get(_TOKEN_ATTRIBUTE) != token:
            raise DamagedCheckpoint(f"{path} holds another canvas than the manifest names")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px."""
        return self._array.shape[0], self._array.shape[1]

    @property
    def token(self) -> str:
        """Text that distinguishes this canvas from every other that had its path."""
        return str(self._array.attrs.get(_TOKEN_ATTRIBUTE, ""))

    @property
    def rect(self) -> Rect:
        """Rectangle of the whole canvas."""
        return whole(*self.shape)

    def write(self, rect: Rect, pixels: Pixels) -> None:
        """Write whole chunks.

        Args:
            rect: Rectangle that begins on a chunk's border, and ends on one or at the canvas' end.
            pixels: (rect.rows.size, rect.columns.size, 3) float32, 0..255.
        """
        with translate_errors(self._path):
            self._array[slice(*rect.rows), slice(*rect.columns)] = pixels

    def flush(self, rects: Iterable[Rect]) -> None:
        """Flush the chunks of these rectangles, and their directory entries, to the disk."""
        if not isinstance(self._path, Path):
            # An object is durable once it is written.
            return
        directories = set()
        for rect in rects:
            for row in range(rect.rows.start // CHUNK, -(-rect.rows.stop // CHUNK)):
                for column in range(rect.columns.start // CHUNK, -(-rect.columns.stop // CHUNK)):
                    directory = self._path / "c" / str(row) / str(column)
                    sync(directory / "0")
                    # Up to the store itself: the first writer creates the directories.
                    directories |= {directory, *directory.parents[:3]}
        for directory in directories:
            sync(directory)

    def read(self, rect: Rect) -> Pixels:
        """Return the pixels of a rectangle: (rect.rows.size, rect.columns.size, 3) float32, 0..255.

        Raises:
            DamagedCheckpoint: a chunk is damaged or missing, or the rectangle is not within the canvas.
        """
        if whole(*self.shape).intersect(rect) != rect:
            raise DamagedCheckpoint(f"{self._path} is {self.shape[1]} x {self.shape[0]} px and lacks {rect}")
        try:
            with translate_errors(self._path):
                pixels = np.asarray(self._array[slice(*rect.rows), slice(*rect.columns)])
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DamagedCheckpoint(f"{self._path} has a damaged chunk ({reason})") from None
        # A sum is NaN if any value is, and needs no boolean array. It may also be NaN when infinities cancel.
        with np.errstate(over="ignore", invalid="ignore"):
            may_have_nan = np.isnan(pixels.sum())
        if may_have_nan and np.isnan(pixels).any():
            raise DamagedCheckpoint(f"{self._path} lacks a chunk")
        return pixels


def _array_store(place: Place, mode: str = "w") -> Any:
    """Return the store in which Zarr opens or creates an array."""
    return open_storage(place, patient=True).zarr("", read_only=mode == "r")
