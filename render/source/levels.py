"""Levels of a source on disk: Zarr arrays of uint16 sRGB, each written completely or not at all.

Every chunk has a checksum.
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

from render.canvas.store import UNREADABLE, open_array
from render.dreaming.resample import Pixels
from render.errors import UserError
from render.geometry.geometry import Rect
from render.source.streaming import SCALE, Shrunk
from render.storage.local import sync
from render.storage.opening import open_storage, translate_errors
from render.storage.url import Place, last_name
from render.system.paths import cache_directory

if TYPE_CHECKING:
    import zarr

#: Side of a chunk, px; a chunk is 1.6 MB.
CHUNK = 512
_CHUNK_BYTES = CHUNK * CHUNK * 6
#: Columns that are written at once, px.
_WRITTEN = 4 * CHUNK
#: Interval of progress reports while a level is written, s.
_TOLD_EVERY = 10.0

#: Receiver of short progress messages.
Told = Callable[[str], None]


def level_bytes(shape: tuple[int, int]) -> int:
    """Return the bytes on disk of a level of (rows, columns) samples."""
    return -(-shape[0] // CHUNK) * -(-shape[1] // CHUNK) * _CHUNK_BYTES


def write_level(place: Place, shrunk: Shrunk, identity: dict[str, Any], told: Told) -> None:
    """Write the level to a path or a URL; for a URL it is built on this machine first. See `_write_local`."""
    if isinstance(place, Path):
        _write_local(place, shrunk, identity, told)
        return
    cache = cache_directory() / "levels"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as directory:
        local_path = Path(directory) / last_name(place)
        _write_local(local_path, shrunk, identity, told)
        told("sending it to the store")
        # Imported here, so that runs without an object store do not wait for its client.
        from render.storage.objects import ObjectStorage
        from render.storage.stored_pictures import send_picture

        send_picture(ObjectStorage(place.rpartition("/")[0], patient=True), local_path.name, local_path)


def _write_local(path: Path, shrunk: Shrunk, identity: dict[str, Any], told: Told) -> None:
    """Decode a picture into the level at `path`, which gets that name once it is complete and flushed to disk.

    `identity` holds attributes that identify the picture. Memory holds one row of chunks. Raises `UserError` for a damaged
    picture or a full disk.
    """
    temporary = path.with_name(f".{path.name}.partial")
    height, width = shrunk.shape
    try:
        # Remove what a killed run left unfinished.
        shutil.rmtree(temporary, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Imported here and below because the import is slow and every process that starts reads this module.
        import zarr
        from zarr.codecs import Crc32cCodec

        array = zarr.create_array(
            str(temporary),
            shape=(height, width, 3),
            chunks=(CHUNK, CHUNK, 3),
            dtype="uint16",
            compressors=[Crc32cCodec()],
            fill_value=0,
            attributes={**identity, "factors": list(shrunk.factors)},
            dimension_names=("row", "column", "channel"),
            config={"write_empty_chunks": True},
        )
        band = np.empty((min(CHUNK, height), width, 3), np.uint16)
        top = filled = 0
        last_report = time.monotonic()
        for decoded_rows in shrunk.rows():
            rows = decoded_rows
            while len(rows):
                part, rows = np.split(rows, [len(band) - filled])
                band[filled : filled + len(part)] = part
                filled += len(part)
                if filled == len(band) or top + filled == height:
                    # A few chunks at a time, because Zarr copies its input.
                    for left in range(0, width, _WRITTEN):
                        array[top : top + filled, left : left + _WRITTEN] = band[:filled, left : left + _WRITTEN]
                    top, filled = top + filled, 0
            if time.monotonic() - last_report > _TOLD_EVERY:
                last_report = time.monotonic()
                told(f"{100 * top // height} %")
        for directory, _, files in os.walk(temporary, topdown=False):
            for name in (*files, "."):
                sync(Path(directory) / name)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        hint = "free some space" if error.errno == errno.ENOSPC else "choose another output.dir"
        raise UserError(f"source level {path} cannot be written ({error.strerror or error}): {hint}") from None
    finally:
        # Without effect once it is renamed.
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class Level:
    """A level on disk or in an object store. Sample (i, j) covers `factors` px of the picture as stored in its file."""

    path: Place
    shape: tuple[int, int]
    factors: tuple[float, float]
    identity: dict[str, Any]
    array: zarr.Array = field(repr=False)

    @classmethod
    def open(cls, path: Place) -> Level | None:
        """Return the level at `path`; None where there is no complete one."""
        try:
            array = open_array(path, dtype="uint16", chunk=CHUNK)
            identity: dict[str, Any] = dict(array.attrs)
            down, across = identity.pop("factors")
            return cls(path, (array.shape[0], array.shape[1]), (float(down), float(across)), identity, array)
        except UNREADABLE:
            return None

    def read(self, rect: Rect) -> Pixels:
        """Return the pixels of `rect`, (rect.rows.size, rect.columns.size, 3) float32, 0..255.

        Raises:
            UserError: a chunk is damaged or missing.
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
        return stored.astype(np.float32) / np.float32(SCALE)

    def _refuse_missing(self, rect: Rect) -> None:
        """Raise ValueError for a missing chunk, which Zarr would read as zeros."""
        storage = open_storage(self.path, patient=True)
        for row in range(rect.rows.start // CHUNK, -(-rect.rows.stop // CHUNK)):
            for column in range(rect.columns.start // CHUNK, -(-rect.columns.stop // CHUNK)):
                if storage.info(f"c/{row}/{column}/0") is None:
                    raise ValueError(f"chunk {row}, {column} is missing")
