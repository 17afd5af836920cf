"""A canvas on disk as a libvips image: libvips writes it to any format while only a few chunks are in memory.

libvips reads bytes from a custom source: a virtual TIFF file. Its header is generated here, and each of its tiles is one
of the store's chunks, converted on demand. The tiles are not compressed, so no chunk is read twice and no temporary file
is written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyvips

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.geometry.geometry import BAND, CHUNK, Interval, Rect, whole
from render.system import interrupts

#: Number of chunks that are read ahead, and of threads that read them.
_AHEAD, _READERS = 6, 2
#: Samples that are converted at once: 100 kB of float32.
_CACHED = 25_000
#: Tiles begin at a page boundary.
_ALIGNMENT = 4096
_CHANNELS = 3

#: Function from float pixels, (rows, columns, 3), to the pixels that are shown; it treats each pixel alone.
Show = Callable[[Pixels], Pixels]


def to_integers(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Return float pixels 0..255 rounded to uint8, or to uint16 0..65535, without dithering.

    Values outside are clipped. In 16 bits, 257 steps equal one step of 8 bits, so white is white in both.
    """
    whole_numbers = np.empty(pixels.shape, np.uint8 if bits == 8 else np.uint16)
    # A few rows at a time: the intermediate values fit into the processor's cache, which is eight times as fast.
    rows = max(1, _CACHED * len(pixels) // max(1, pixels.size))
    buffer = np.empty((min(rows, len(pixels)), *pixels.shape[1:]), np.float32)
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows]
        scaled = buffer[: len(part)]
        np.rint(part if bits == 8 else np.multiply(part, np.float32(257), out=scaled), out=scaled)
        whole_numbers[start : start + rows] = np.clip(scaled, 0, 2**bits - 1, out=scaled)
    return whole_numbers


@dataclass(frozen=True)
class CanvasImage:
    """An sRGB image of 8 or 16 bits. Results made from it are valid only after `check` has returned without error."""

    image: pyvips.Image
    check: Callable[[], None] = lambda: None


@contextmanager
def canvas_image(
    store: CanvasStore, bits: int = 8, *, random: bool = False, shown: Show = lambda pixels: pixels
) -> Iterator[CanvasImage]:
    """Yield the canvas as an image, valid inside the context; read from top to bottom unless `random`.

    `shown` is applied to rectangles of float pixels before they become integers. `check` raises `DamagedCheckpoint` for
    chunks that could not be read while libvips was working.
    """
    interpretation = "srgb" if bits == 8 else "rgb16"
    if store.shape[0] * store.shape[1] <= BAND:
        pixels = np.ascontiguousarray(to_integers(shown(store.read(store.rect)), bits))
        format_name = "uchar" if bits == 8 else "ushort"
        image = pyvips.Image.new_from_memory(pixels.data, store.shape[1], store.shape[0], _CHANNELS, format_name)
        yield CanvasImage(image.copy(interpretation=interpretation))
        return
    file = _VirtualTiff(store, bits, shown)
    source = pyvips.SourceCustom()
    source.on_read(file.read)
    source.on_seek(file.seek)
    try:
        access = "random" if random else "sequential"
        image = pyvips.Image.tiffload_source(source, access=access, fail_on="error")
        yield CanvasImage(image.copy(interpretation=interpretation), file.check)
    finally:
        file.close()


class _VirtualTiff:
    """A BigTIFF file whose tiles are a store's chunks; read by position like a real file."""

    def __init__(self, store: CanvasStore, bits: int, shown: Show) -> None:
        self._store = store
        self._bits = bits
        self._shown = shown
        height, width = store.shape
        self._across, down = -(-width // CHUNK), -(-height // CHUNK)
        self._tiles = self._across * down
        self._size = CHUNK * CHUNK * _CHANNELS * bits // 8
        self._header = _header(store.shape, bits, self._tiles, self._size)
        self._position = 0
        self._pool = ThreadPoolExecutor(_READERS)
        self._ready: dict[int, Future[bytes]] = {}
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise the error of an earlier read: an exception cannot pass through libvips."""
        if self._error is not None:
            raise self._error

    def read(self, length: int) -> bytes:
        """Return at most `length` bytes from the current position; none at the end, and after an error."""
        tiles_offset = self._position - len(self._header)
        if tiles_offset < 0:
            data = self._header[self._position : self._position + length]
        elif tiles_offset >= self._tiles * self._size or self._error is not None:
            return b""
        else:
            number, offset = divmod(tiles_offset, self._size)
            try:
                interrupts.check()
                tile = self._tile(number)
            except (Exception, KeyboardInterrupt) as error:
                self._error = error
                return b""
            data = tile if offset == 0 and length >= self._size else tile[offset : offset + length]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Move the position like `io.IOBase.seek`."""
        end = len(self._header) + self._tiles * self._size
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: end}[whence] + offset
        return self._position

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _tile(self, number: int) -> bytes:
        numbers = range(number, min(number + _AHEAD, self._tiles))
        self._ready = {tile: future for tile, future in self._ready.items() if tile in numbers}
        for tile in numbers:
            if tile not in self._ready:
                self._ready[tile] = self._pool.submit(self._read_chunk, tile)
        return self._ready[number].result()

    def _read_chunk(self, number: int) -> bytes:
        row, column = divmod(number, self._across)
        top, left = row * CHUNK, column * CHUNK
        chunk = Rect(Interval(top, top + CHUNK), Interval(left, left + CHUNK))
        inside = whole(*self._store.shape).intersect(chunk)
        pixels = to_integers(self._shown(self._store.read(inside)), self._bits)
        if inside != chunk:
            full = np.zeros((CHUNK, CHUNK, _CHANNELS), pixels.dtype)
            full[inside.slices_from(chunk)] = pixels
            pixels = full
        return pixels.tobytes()


def _header(shape: tuple[int, int], bits: int, tiles: int, size: int) -> bytes:
    """Return header and directory of a little-endian BigTIFF of `tiles` uncompressed RGB tiles of `size` bytes.

    Layout as in the BigTIFF design (LibTIFF, 2007); tags as in TIFF 6.0, sections 8 and 15.
    """
    uint16, uint32, uint64 = 3, 4, 16
    four_uint16, one_uint64 = "<4H", "<Q"
    tags = {
        256: (uint32, 1, struct.pack(one_uint64, shape[1])),
        257: (uint32, 1, struct.pack(one_uint64, shape[0])),
        258: (uint16, 3, struct.pack(four_uint16, bits, bits, bits, 0)),
        259: (uint16, 1, struct.pack(four_uint16, 1, 0, 0, 0)),  # not compressed
        262: (uint16, 1, struct.pack(four_uint16, 2, 0, 0, 0)),  # RGB
        277: (uint16, 1, struct.pack(four_uint16, _CHANNELS, 0, 0, 0)),
        284: (uint16, 1, struct.pack(four_uint16, 1, 0, 0, 0)),  # channels side by side
        322: (uint32, 1, struct.pack(one_uint64, CHUNK)),
        323: (uint32, 1, struct.pack(one_uint64, CHUNK)),
        324: (uint64, tiles, b""),  # where each tile begins
        325: (uint64, tiles, b""),  # how many bytes it has
        339: (uint16, 3, struct.pack(four_uint16, 1, 1, 1, 0)),  # whole numbers without sign
    }
    head = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(tags))
    lists = len(head) + 20 * len(tags) + 8
    first = -(-(lists + 16 * tiles) // _ALIGNMENT) * _ALIGNMENT
    offsets = struct.pack(f"<{tiles}Q", *range(first, first + tiles * size, size))
    counts = struct.pack(f"<{tiles}Q", *[size] * tiles)
    # A list of one number is stored in the directory itself.
    is_single = tiles == 1
    tags[324] = (uint64, tiles, offsets if is_single else struct.pack(one_uint64, lists))
    tags[325] = (uint64, tiles, counts if is_single else struct.pack(one_uint64, lists + 8 * tiles))
    directory = b"".join(struct.pack("<HHQ", tag, kind, count) + value for tag, (kind, count, value) in tags.items())
    return (head + directory + struct.pack(one_uint64, 0) + offsets + counts).ljust(first, b"\0")
