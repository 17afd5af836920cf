"""A canvas on disk as a libvips image, of which only a few chunks are in memory.

libvips reads bytes from a custom source: a virtual BigTIFF file. Its header is generated here, and each of its tiles is
one of the store's chunks, converted on demand. The tiles are not compressed, so libvips knows where each one lies, no
chunk is read twice and no temporary file is written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyvips

from render.canvas import tiff_tags as tags
from render.dreaming.resample import Pixels
from render.geometry.geometry import BAND, CHUNK, Interval, Rect, whole
from render.system import interrupts

#: Steps of 16 bits in one level of 8 bits: 65535 / 255.
UINT16_PER_LEVEL = 257

#: Most chunks that are read ahead, and number of threads that read them.
_MAX_CHUNKS_AHEAD, _READER_THREADS = 6, 2
#: Most samples that are converted at once: 100 kB of float32, which fit into a processor's cache.
_MAX_CACHED_SAMPLES = 25_000
#: Multiple at which the first tile begins in the file, bytes: a page of memory.
_ALIGNMENT = 4096
_CHANNELS = 3


class CanvasPixels(Protocol):
    """A canvas, or what is read like one."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px."""

    @property
    def rect(self) -> Rect:
        """Rectangle of the whole canvas."""

    def read(self, rect: Rect) -> Pixels:
        """Return the pixels of a rectangle: (rows, columns, 3) float32; see `CanvasStore.read`."""


#: Function from float pixels (rows, columns, 3) of the canvas to those of the picture; it computes each pixel on its own.
PixelTransform = Callable[[Pixels], Pixels]


def to_integers(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Round float pixels to 8 or 16 bits, without dithering; values beyond 0..255 are clipped.

    Args:
        pixels: (rows, columns, ...) float32, 0..255.
        bits: 8 or 16.

    Returns:
        uint8, or uint16 in steps of 1/257 level, so that white is 255 or 65535.
    """
    whole_numbers = np.empty(pixels.shape, np.uint8 if bits == 8 else np.uint16)
    # A few rows at a time: with intermediate values in the processor's cache this is eight times as fast.
    rows = max(1, _MAX_CACHED_SAMPLES * len(pixels) // max(1, pixels.size))
    buffer = np.empty((min(rows, len(pixels)), *pixels.shape[1:]), np.float32)
    for start in range(0, len(pixels), rows):
        part = pixels[start : start + rows]
        scaled = buffer[: len(part)]
        np.rint(part if bits == 8 else np.multiply(part, np.float32(UINT16_PER_LEVEL), out=scaled), out=scaled)
        whole_numbers[start : start + rows] = np.clip(scaled, 0, 2**bits - 1, out=scaled)
    return whole_numbers


@dataclass(frozen=True)
class CanvasImage:
    """An sRGB image of a canvas, whose results are valid only after `check` has returned.

    Attributes:
        image: Three bands of 8 or 16 bits, not computed yet.
        check: Function that raises `DamagedCheckpoint` if a chunk could not be read while libvips was working.
    """

    image: pyvips.Image
    check: Callable[[], None] = lambda: None


@contextmanager
def canvas_image(
    store: CanvasPixels, bits: int = 8, *, random_access: bool = False, transform: PixelTransform = lambda pixels: pixels
) -> Iterator[CanvasImage]:
    """Yield the canvas as an image, valid inside the context.

    Args:
        store: The canvas.
        bits: 8 or 16 for each channel.
        random_access: True if the image will not be read once from top to bottom.
        transform: Function that is applied to rectangles of float pixels before they become integers.
    """
    interpretation = "srgb" if bits == 8 else "rgb16"
    if store.shape[0] * store.shape[1] <= BAND:
        pixels = np.ascontiguousarray(to_integers(transform(store.read(store.rect)), bits))
        format_name = "uchar" if bits == 8 else "ushort"
        image = pyvips.Image.new_from_memory(pixels.data, store.shape[1], store.shape[0], _CHANNELS, format_name)
        yield CanvasImage(image.copy(interpretation=interpretation))
        return
    file = _VirtualTiff(store, bits, transform)
    source = pyvips.SourceCustom()
    source.on_read(file.read)
    source.on_seek(file.seek)
    try:
        access = "random" if random_access else "sequential"
        image = pyvips.Image.tiffload_source(source, access=access, fail_on="error")
        yield CanvasImage(image.copy(interpretation=interpretation), file.check)
    finally:
        file.close()


class _VirtualTiff:
    """A BigTIFF file whose tiles are a store's chunks; read by position like a real file."""

    def __init__(self, store: CanvasPixels, bits: int, transform: PixelTransform) -> None:
        self._store = store
        self._bits = bits
        self._transform = transform
        height, width = store.shape
        self._tiles_across, tiles_down = -(-width // CHUNK), -(-height // CHUNK)
        self._tile_count = self._tiles_across * tiles_down
        self._tile_bytes = CHUNK * CHUNK * _CHANNELS * bits // 8
        self._header = _header(store.shape, bits, self._tile_count, self._tile_bytes)
        self._position = 0
        self._pool = ThreadPoolExecutor(_READER_THREADS)
        #: Tiles that are read, or being read, by number.
        self._tiles_ahead: dict[int, Future[bytes]] = {}
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise the error of an earlier read: an exception cannot pass through libvips."""
        if self._error is not None:
            raise self._error

    def read(self, length: int) -> bytes:
        """Return at most `length` bytes from the current position; none at the end or once failed."""
        tiles_offset = self._position - len(self._header)
        if tiles_offset < 0:
            data = self._header[self._position : self._position + length]
        elif tiles_offset >= self._tile_count * self._tile_bytes or self._error is not None:
            return b""
        else:
            number, offset = divmod(tiles_offset, self._tile_bytes)
            try:
                interrupts.check()
                tile = self._tile(number)
            except (Exception, KeyboardInterrupt) as error:
                self._error = error
                return b""
            data = tile if offset == 0 and length >= self._tile_bytes else tile[offset : offset + length]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Move the position like `io.IOBase.seek` and return it."""
        end = len(self._header) + self._tile_count * self._tile_bytes
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: end}[whence] + offset
        return self._position

    def close(self) -> None:
        """Stop reading ahead and wait for the reader threads."""
        self._pool.shutdown(cancel_futures=True)

    def _tile(self, number: int) -> bytes:
        """Return the content of a tile, and have the next ones read by the threads."""
        wanted_tiles = range(number, min(number + _MAX_CHUNKS_AHEAD, self._tile_count))
        self._tiles_ahead = {tile: future for tile, future in self._tiles_ahead.items() if tile in wanted_tiles}
        for tile in wanted_tiles:
            if tile not in self._tiles_ahead:
                self._tiles_ahead[tile] = self._pool.submit(self._read_chunk, tile)
        return self._tiles_ahead[number].result()

    def _read_chunk(self, number: int) -> bytes:
        """Return the content of a tile; beyond the canvas' end it is black."""
        row, column = divmod(number, self._tiles_across)
        top, left = row * CHUNK, column * CHUNK
        chunk = Rect(Interval(top, top + CHUNK), Interval(left, left + CHUNK))
        inside = whole(*self._store.shape).intersect(chunk)
        pixels = to_integers(self._transform(self._store.read(inside)), self._bits)
        if inside != chunk:
            full = np.zeros((CHUNK, CHUNK, _CHANNELS), pixels.dtype)
            full[inside.slices_from(chunk)] = pixels
            pixels = full
        return pixels.tobytes()


def _header(shape: tuple[int, int], bits: int, tile_count: int, tile_bytes: int) -> bytes:
    """Return the bytes of a BigTIFF before its first tile: header, directory and tile lists.

    The file is little-endian, with uncompressed RGB tiles. Layout as in the BigTIFF design (LibTIFF, 2007); tags as in
    TIFF 6.0, sections 8 and 15.

    Args:
        shape: (rows, columns) px.
        bits: Bits of a sample.
        tile_count: Number of tiles.
        tile_bytes: Length of each tile, bytes.
    """
    uint16, uint32, uint64 = 3, 4, 16
    four_uint16, one_uint64 = "<4H", "<Q"
    uncompressed, rgb, channels_together, unsigned_integer = 1, 2, 1, 1
    entries = {
        tags.IMAGE_WIDTH: (uint32, 1, struct.pack(one_uint64, shape[1])),
        tags.IMAGE_LENGTH: (uint32, 1, struct.pack(one_uint64, shape[0])),
        tags.BITS_PER_SAMPLE: (uint16, 3, struct.pack(four_uint16, bits, bits, bits, 0)),
        tags.COMPRESSION: (uint16, 1, struct.pack(four_uint16, uncompressed, 0, 0, 0)),
        tags.PHOTOMETRIC_INTERPRETATION: (uint16, 1, struct.pack(four_uint16, rgb, 0, 0, 0)),
        tags.SAMPLES_PER_PIXEL: (uint16, 1, struct.pack(four_uint16, _CHANNELS, 0, 0, 0)),
        tags.PLANAR_CONFIGURATION: (uint16, 1, struct.pack(four_uint16, channels_together, 0, 0, 0)),
        tags.TILE_WIDTH: (uint32, 1, struct.pack(one_uint64, CHUNK)),
        tags.TILE_LENGTH: (uint32, 1, struct.pack(one_uint64, CHUNK)),
        # Filled in below; the entries stand in ascending order.
        tags.TILE_OFFSETS: (uint64, tile_count, b""),
        tags.TILE_BYTE_COUNTS: (uint64, tile_count, b""),
        tags.SAMPLE_FORMAT: (uint16, 3, struct.pack(four_uint16, unsigned_integer, unsigned_integer, unsigned_integer, 0)),
    }
    head = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(entries))
    lists_offset = len(head) + 20 * len(entries) + 8
    first_tile = -(-(lists_offset + 16 * tile_count) // _ALIGNMENT) * _ALIGNMENT
    offsets = struct.pack(f"<{tile_count}Q", *range(first_tile, first_tile + tile_count * tile_bytes, tile_bytes))
    counts = struct.pack(f"<{tile_count}Q", *[tile_bytes] * tile_count)
    # A list of one number is stored in the directory itself.
    is_single = tile_count == 1
    counts_offset = lists_offset + 8 * tile_count
    entries[tags.TILE_OFFSETS] = (uint64, tile_count, offsets if is_single else struct.pack(one_uint64, lists_offset))
    entries[tags.TILE_BYTE_COUNTS] = (uint64, tile_count, counts if is_single else struct.pack(one_uint64, counts_offset))
    directory = b"".join(struct.pack("<HHQ", tag, kind, count) + value for tag, (kind, count, value) in entries.items())
    return (head + directory + struct.pack(one_uint64, 0) + offsets + counts).ljust(first_tile, b"\0")
