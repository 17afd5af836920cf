"""Directories of TIFF, BigTIFF and EXIF: the numbers that a file states before its pixels. No pixel is decoded.

TIFF 6.0 (Adobe, 1992), its technical notes (1995, 2002), and the BigTIFF design (LibTIFF, 2007). Sizes and offsets are
trusted only within the length of the file.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

#: Tags, by their names in TIFF 6.0, EXIF 2.32 and DNG 1.7.
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS = 273, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, UNIT, TRANSFER, WHITE_POINT, PRIMARIES = 282, 283, 284, 296, 301, 318, 319
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SUB_IFDS = 322, 323, 324, 325, 330
INK_SET, INK_NUMBER, EXTRA_SAMPLES = 332, 334, 338
EXIF_IFD, INTEROP_IFD, DNG_VERSION = 34665, 40965, 50706
COLOUR_SPACE, GAMMA, INTEROP_INDEX = 0xA001, 0xA500, 1

#: Names of the values of tag 259.
COMPRESSIONS = {
    1: "uncompressed", 5: "LZW", 6: "old-style JPEG", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate",
    33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "zstd", 50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip

_MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
#: Bytes and `struct` letter of each type of number; 5 and 10 are fractions, 2 and 7 text and bytes.
_TYPES = {
    **{1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 6: (1, "b"), 8: (2, "h"), 9: (4, "i"), 13: (4, "I"), 16: (8, "Q")},
    **{2: (1, "s"), 5: (8, "I"), 7: (1, "s"), 10: (8, "i"), 11: (4, "f"), 12: (8, "d"), 17: (8, "q"), 18: (8, "Q")},
}
_FRACTIONS = (5, 10)
#: Most bytes of a value that is read with its directory; longer values are read on demand.
_SHORT = 512
#: Most entries of a directory and directories of a file: more are a sign of damage.
MAX_ENTRIES, MAX_DIRECTORIES = 4096, 1000
#: Greatest depth of nested directories.
_MAX_DEPTH = 3


class Damaged(ValueError):
    """Error for a directory that is not complete in its file, or that contradicts itself."""


@dataclass(frozen=True)
class Directory:
    """One picture of a file: `values` by tag, numbers or bytes; `children` are its SubIFDs.

    `long` has, by tag, (type, number, offset) of values that are not read yet.
    """

    values: Mapping[int, tuple[float, ...] | bytes]
    long: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    children: tuple[Directory, ...] = ()
    exif: Directory | None = None

    def __contains__(self, tag: int) -> bool:
        return tag in self.values or tag in self.long

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return the short numeric values of a tag; an empty tuple where there is no such tag."""
        values = self.values.get(tag, ())
        return () if isinstance(values, bytes) else values

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of a tag, or `default`, the format's own default."""
        values = self.numbers(tag)
        return int(values[0]) if values and math.isfinite(values[0]) else default

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) px."""
        return self.integer(HEIGHT, 0), self.integer(WIDTH, 0)

    @property
    def is_reduced(self) -> bool:
        """True if the directory is marked as a smaller copy of another picture in the file; masks do not count."""
        return self.integer(SUBFILE, 0) & 0b101 == 1

    @property
    def tile(self) -> tuple[int, int] | None:
        """(rows, columns) px of a tile; None for strips."""
        size = self.integer(TILE_HEIGHT, 0), self.integer(TILE_WIDTH, 0)
        return size if TILE_WIDTH in self and TILE_HEIGHT in self and min(size) > 0 else None


@dataclass(frozen=True)
class Tiff:
    """The directories of a file in the order of their chain; `is_cut` if the chain continues beyond the file's end."""

    order: str
    is_big: bool
    size: int
    directories: tuple[Directory, ...]
    is_cut: bool = False

    @property
    def first(self) -> Directory:
        return self.directories[0]

    def everything(self) -> Iterator[Directory]:
        """Yield all directories, nested ones included."""
        queue = list(self.directories)
        while queue:
            directory = queue.pop(0)
            yield directory
            queue[:0] = directory.children


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins with these bytes is a TIFF or BigTIFF."""
    return start[:4] in _MAGIC


def read_tiff(file: IO[bytes]) -> Tiff:
    """Read the directories of a TIFF or BigTIFF.

    Raises:
        Damaged: the first directory is not complete, or the file is no TIFF.
    """
    return _Reader(file).read()


def read_integers(file: IO[bytes], tiff: Tiff, directory: Directory, tag: int) -> NDArray[np.int64]:
    """Return all values of a tag of whole numbers, however many.

    Raises:
        Damaged: the values are not within the file, or are no offsets.
    """
    if tag not in directory.long:
        return np.array(directory.numbers(tag), np.int64)
    kind, number, offset = directory.long[tag]
    size, letter = _TYPES[kind]
    if kind in _FRACTIONS or letter not in "BHIQ" or offset + size * number > tiff.size:
        raise Damaged(f"the values of tag {tag} lie beyond its end")
    file.seek(offset)
    values = np.frombuffer(file.read(size * number), np.dtype(f"{tiff.order}u{size}"))
    if len(values) != number or (size == 8 and values.size and int(values.max()) >= 1 << 62):
        raise Damaged(f"the values of tag {tag} are no offsets")
    return values.astype(np.int64)


class _Reader:
    """Reader of the chain of directories; it reads no directory twice, so a circular chain ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self._seen: set[int] = set()
        file.seek(0)
        start = file.read(16)
        if not is_tiff(start):
            raise Damaged("it is no TIFF")
        self._order, self._big = _MAGIC[start[:4]]
        self._count, self._offset, self._entry = ("Q", "Q", 20) if self._big else ("H", "I", 12)
        field_start = 8 if self._big else 4
        if len(start) < field_start + self._width:
            raise Damaged("it ends within its header")
        self._first = self._unpack(self._offset, start[field_start : field_start + self._width])

    @property
    def _width(self) -> int:
        """Bytes of an offset, and of a value that is stored in its entry."""
        return struct.calcsize(self._offset)

    def read(self) -> Tiff:
        directories: list[Directory] = []
        offset, is_cut = self._first, False
        while offset and offset not in self._seen and len(self._seen) < MAX_DIRECTORIES:
            try:
                directory, offset = self._directory(offset, 0)
            except Damaged:
                if not directories:
                    raise
                is_cut = True
                break
            directories.append(directory)
        if not directories:
            raise Damaged("it has no directory")
        return Tiff(self._order, self._big, self._size, tuple(directories), is_cut)

    def _unpack(self, letter: str, content: bytes) -> int:
        return int(struct.unpack(self._order + letter, content)[0])

    def _bytes(self, at: int, count: int) -> bytes:
        if at < 0 or at + count > self._size:
            raise Damaged("a directory lies beyond its end")
        self._file.seek(at)
        return self._file.read(count)

    def _directory(self, at: int, depth: int) -> tuple[Directory, int]:
        """Return the directory at an offset and the offset of the next one, 0 at the end of the chain."""
        self._seen.add(at)
        head = struct.calcsize(self._count)
        count = self._unpack(self._count, self._bytes(at, head))
        if not 0 < count <= MAX_ENTRIES:
            raise Damaged(f"a directory has {count} entries")
        entries = self._bytes(at + head, count * self._entry)
        values: dict[int, tuple[float, ...] | bytes] = {}
        long: dict[int, tuple[int, int, int]] = {}
        for start in range(0, len(entries), self._entry):
            self._value(entries[start : start + self._entry], values, long)
        link_position = at + head + len(entries)
        # Writers of EXIF omit the next offset in the last directory.
        is_last = link_position + self._width > self._size
        next_offset = 0 if is_last else self._unpack(self._offset, self._bytes(link_position, self._width))
        exif = self._hanging(values, EXIF_IFD, depth) or self._hanging(values, INTEROP_IFD, depth)
        directory = Directory(values, long, self._hanging(values, SUB_IFDS, depth), exif[0] if exif else None)
        return directory, next_offset

    def _value(
        self, entry: bytes, values: dict[int, tuple[float, ...] | bytes], long: dict[int, tuple[int, int, int]]
    ) -> None:
        """Add the values of one entry to `values`, or, if they are long, to `long`."""
        tag, kind, number = struct.unpack_from(f"{self._order}HH{self._offset}", entry)
        if kind not in _TYPES or not number:
            return
        size, letter = _TYPES[kind]
        content = entry[-self._width :]
        if size * number > self._width:
            offset = self._unpack(self._offset, content)
            if size * number > _SHORT:
                long[tag] = kind, number, offset
                return
            if offset + size * number > self._size:
                return
            content = self._bytes(offset, size * number)
        if letter == "s":
            values[tag] = content[:number]
            return
        parts: tuple[Any, ...] = struct.unpack_from(f"{self._order}{number * (1 + (kind in _FRACTIONS))}{letter}", content)
        if kind in _FRACTIONS:
            parts = tuple(
                numerator / denominator if denominator else 0.0
                for numerator, denominator in zip(parts[::2], parts[1::2], strict=True)
            )
        values[tag] = parts

    def _hanging(self, values: Mapping[int, tuple[float, ...] | bytes], tag: int, depth: int) -> tuple[Directory, ...]:
        """Return the directories whose offsets a tag holds; one that cannot be read has no values."""
        offsets = values.get(tag, ())
        if isinstance(offsets, bytes) or depth >= _MAX_DEPTH:
            return ()
        directories = []
        for offset in offsets:
            if not isinstance(offset, int) or offset in self._seen or len(self._seen) >= MAX_DIRECTORIES:
                directories.append(Directory({SUBFILE: (0,)}))
                continue
            try:
                directories.append(self._directory(offset, depth + 1)[0])
            except Damaged:
                directories.append(Directory({}))
        return tuple(directories)
