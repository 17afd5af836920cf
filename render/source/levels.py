"""Levels of a source on disk: shrunk copies of it as Zarr arrays of uint16 sRGB.

Samples are 0..65535, 257 per level of 8 bits. Every chunk has a checksum (CRC32C). A level is written completely or not
at all.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from render.canvas.image import UINT16_PER_LEVEL
from render.canvas.store import UNREADABLE, open_array
from render.dreaming.resample import Pixels
from render.errors import UserError
from render.geometry.geometry import Rect
from render.source.streaming import ShrunkPicture
from render.storage.local import sync
from render.storage.opening import open_storage, translate_errors
from render.storage.url import Place, last_name
from render.system.paths import cache_directory

if TYPE_CHECKING:
    import zarr

#: Side of a chunk, px; a chunk is 1.6 MB.
CHUNK = 512
#: Bytes of a chunk: three channels of 2 bytes. The checksum's 4 bytes are not counted.
_CHUNK_BYTES = CHUNK * CHUNK * 6
#: Most columns that are written at once, px: Zarr copies its input.
_MAX_COLUMNS_PER_WRITE = 4 * CHUNK
#: Least time between two progress messages while a level is written, s.
_PROGRESS_INTERVAL_S = 10.0

#: Receiver of short progress messages.
OnProgress = Callable[[str], None]


def level_bytes(shape: tuple[int, int]) -> int:
    """Return the bytes on disk of a level of `shape` (rows, columns) samples."""
    return -(-shape[0] // CHUNK) * -(-shape[1] // CHUNK) * _CHUNK_BYTES


def write_level(place: Place, shrunk: ShrunkPicture, identity: dict[str, Any], on_progress: OnProgress) -> None:
    """Decode a picture into the level at `place`.

    For a URL the level is first built on this machine, then sent.

    Args:
        place: Path or URL of the level. It gets this name only when it is complete and flushed to disk.
        shrunk: Picture to be decoded. Memory holds one row of chunks of it.
        identity: Attributes that identify the picture and the rule; they are stored with the array.
        on_progress: Receiver of progress messages.

    Raises:
        UserError: the picture is damaged, or the disk is full or not writable.
        StorageError: the object store refuses the level.
    """
    if isinstance(place, Path):
        _write_local(place, shrunk, identity, on_progress)
        return
    cache = cache_directory() / "levels"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        local_path = Path(directory) / last_name(place)
        _write_local(local_path, shrunk, identity, on_progress)
        on_progress("sending it to the store")
        # Imported here, so that runs without an object store do not wait for its client.
        from render.storage.objects import ObjectStorage
        from render.storage.stored_pictures import send_picture

        send_picture(ObjectStorage(place.rpartition("/")[0], patient=True), local_path.name, local_path)


def _write_local(path: Path, shrunk: ShrunkPicture, identity: dict[str, Any], on_progress: OnProgress) -> None:
    """Write a level under a temporary name and rename it; see `write_level`."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        # Remove the unfinished level of a killed run.
        shutil.rmtree(temporary, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        _fill(_create_array(temporary, shrunk, identity), shrunk, on_progress)
        _sync_tree(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        hint = "free some space" if error.errno == errno.ENOSPC else "choose another output.dir"
        raise UserError(f"source level {path} cannot be written ({error.strerror or error}): {hint}") from None
    finally:
        # Without effect once it is renamed.
        shutil.rmtree(temporary, ignore_errors=True)


def _create_array(path: Path, shrunk: ShrunkPicture, identity: dict[str, Any]) -> zarr.Array:
    """Create the empty Zarr array of a level, (rows, columns, 3) uint16."""
    # Imported here because the import is slow and every process that starts reads this module.
    import zarr
    from zarr.codecs import Crc32cCodec

    return zarr.create_array(
        str(path),
        shape=(*shrunk.shape, 3),
        chunks=(CHUNK, CHUNK, 3),
        dtype="uint16",
        compressors=[Crc32cCodec()],
        fill_value=0,
        attributes={**identity, "factors": list(shrunk.factors)},
        dimension_names=("row", "column", "channel"),
        config={"write_empty_chunks": True},
    )


def _fill(array: zarr.Array, shrunk: ShrunkPicture, on_progress: OnProgress) -> None:
    """Decode a picture into a Zarr array of its shape, one row of chunks at a time."""
    height, width = shrunk.shape
    band = np.empty((min(CHUNK, height), width, 3), np.uint16)
    top = filled = 0
    last_message = time.monotonic()
    for decoded_rows in shrunk.rows():
        rows = decoded_rows
        while len(rows):
            part, rows = np.split(rows, [len(band) - filled])
            band[filled : filled + len(part)] = part
            filled += len(part)
            if filled == len(band) or top + filled == height:
                for left in range(0, width, _MAX_COLUMNS_PER_WRITE):
                    columns = slice(left, left + _MAX_COLUMNS_PER_WRITE)
                    array[top : top + filled, columns] = band[:filled, columns]
                top, filled = top + filled, 0
        if time.monotonic() - last_message > _PROGRESS_INTERVAL_S:
            last_message = time.monotonic()
            on_progress(f"{100 * top // height} %")


def _sync_tree(directory: Path) -> None:
    """Flush all files and directories below `directory`, and itself, to the disk."""
    for parent, _, files in os.walk(directory, topdown=False):
        for name in (*files, "."):
            sync(Path(parent) / name)


@dataclass(frozen=True)
class Level:
    """A level on disk or in an object store.

    Attributes:
        path: Path or URL of the Zarr array.
        shape: (rows, columns) samples.
        factors: (rows, columns) px of the picture, as stored in its file, that a sample covers.
        identity: Attributes that identify the picture and the rule that made the level.
        array: The open array, (rows, columns, 3) uint16.
    """

    path: Place
    shape: tuple[int, int]
    factors: tuple[float, float]
    identity: dict[str, Any]
    array: zarr.Array = field(repr=False)

    @classmethod
    def open(cls, path: Place) -> Level | None:
        """Return the level at `path`; None if there is no complete one."""
        try:
            array = open_array(path, dtype="uint16", chunk=CHUNK)
            identity: dict[str, Any] = dict(array.attrs)
            down, across = identity.pop("factors")
            return cls(path, (array.shape[0], array.shape[1]), (float(down), float(across)), identity, array)
        except UNREADABLE:
            return None

    def read(self, rect: Rect) -> Pixels:
        """Return a rectangle of samples: (rows, columns, 3) float32 sRGB, 0..255.

        Raises:
            UserError: a chunk is damaged or missing.
            StorageError: the object store does not answer.
        """
        try:
            self._refuse_missing(rect)
            with translate_errors(self.path):
                stored: NDArray[np.uint16] = np.asarray(self.array[slice(*rect.rows), slice(*rect.columns)])
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"source level {self.path} has a damaged chunk ({reason}): remove that directory, and the same command "
                "makes it anew and goes on"
            ) from None
        return stored.astype(np.float32) / np.float32(UINT16_PER_LEVEL)

    def _refuse_missing(self, rect: Rect) -> None:
        """Raise ValueError for a missing chunk, which Zarr would read as zeros."""
        storage = open_storage(self.path, patient=True)
        for row in range(rect.rows.start // CHUNK, -(-rect.rows.stop // CHUNK)):
            for column in range(rect.columns.start // CHUNK, -(-rect.columns.stop // CHUNK)):
                if storage.info(f"c/{row}/{column}/0") is None:
                    raise ValueError(f"chunk {row}, {column} is missing")
