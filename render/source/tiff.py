"""Reader of the directories (IFDs) of TIFF, BigTIFF and EXIF. No pixel is decoded.

Specifications: TIFF 6.0 (Adobe, 1992), its technical notes (1995, 2002), and the BigTIFF design (LibTIFF, 2007). Sizes
and offsets are trusted only within the length of the file.
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

from render.canvas import tiff_tags as tags

#: Byte order (a letter of `struct`) and whether the file is a BigTIFF, by its first four bytes.
_MAGIC = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
#: Bytes and `struct` letter of each field type (TIFF 6.0, section 2; BigTIFF: 16 to 18). 2 is text, 7 is bytes.
_TYPES = {
    **{1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 6: (1, "b"), 8: (2, "h"), 9: (4, "i"), 13: (4, "I"), 16: (8, "Q")},
    **{2: (1, "s"), 5: (8, "I"), 7: (1, "s"), 10: (8, "i"), 11: (4, "f"), 12: (8, "d"), 17: (8, "q"), 18: (8, "Q")},
}
#: Field types RATIONAL and SRATIONAL: two integers, numerator and denominator.
_RATIONALS = (5, 10)
#: Largest value that is read together with its directory, bytes; longer values are read on demand.
_MAX_EAGER_BYTES = 512
#: Most entries of a directory and most directories of a file: more are a sign of damage.
MAX_ENTRIES, MAX_DIRECTORIES = 4096, 1000
#: Greatest depth of nested directories.
_MAX_DEPTH = 3

#: Values of short tags, by tag: numbers, or the bytes of types ASCII and UNDEFINED.
TagValues = Mapping[int, tuple[float, ...] | bytes]


class DamagedTiff(ValueError):
    """Error for a directory that is not complete in its file, or that contradicts itself."""


@dataclass(frozen=True)
class Directory:
    """One directory (IFD) of a file: the fields of one picture, or of its EXIF.

    Attributes:
        values: Values of short fields, by tag.
        deferred: (type, count, offset in bytes) of long fields, by tag; `read_integers` reads them.
        children: Directories in SubIFDs.
        exif: The EXIF directory; of an EXIF directory, its interoperability directory. None if there is none.
    """

    values: TagValues
    deferred: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    children: tuple[Directory, ...] = ()
    exif: Directory | None = None

    def __contains__(self, tag: int) -> bool:
        """Return whether the directory has the tag, short or long."""
        return tag in self.values or tag in self.deferred

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return the short numeric values of a tag; an empty tuple if there is no such tag."""
        values = self.values.get(tag, ())
        return () if isinstance(values, bytes) else values

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of a tag as an integer, or `default` if there is none."""
        values = self.numbers(tag)
        return int(values[0]) if values and math.isfinite(values[0]) else default

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) px; 0 where a side is not stated."""
        return self.integer(tags.IMAGE_LENGTH, 0), self.integer(tags.IMAGE_WIDTH, 0)

    @property
    def is_reduced(self) -> bool:
        """True if NewSubfileType marks a smaller copy of another picture and no mask (bit 2)."""
        return self.integer(tags.NEW_SUBFILE_TYPE, 0) & 0b101 == 1

    @property
    def tile(self) -> tuple[int, int] | None:
        """(rows, columns) px of a tile; None for strips."""
        size = self.integer(tags.TILE_LENGTH, 0), self.integer(tags.TILE_WIDTH, 0)
        return size if tags.TILE_WIDTH in self and tags.TILE_LENGTH in self and min(size) > 0 else None


@dataclass(frozen=True)
class Tiff:
    """The directories of a TIFF file.

    Attributes:
        byte_order: `<` for little-endian (II), `>` for big-endian (MM), as in `struct`.
        is_big: True for a BigTIFF, with offsets of 64 bits.
        size: Length of the file, bytes.
        directories: Directories in the order of their chain; at least one.
        is_cut: True if the chain continues beyond the end of the file.
    """

    byte_order: str
    is_big: bool
    size: int
    directories: tuple[Directory, ...]
    is_cut: bool = False

    @property
    def first(self) -> Directory:
        """First directory: the main picture."""
        return self.directories[0]

    def walk(self) -> Iterator[Directory]:
        """Yield all directories, each followed by its nested ones."""
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
        DamagedTiff: the first directory is not complete, or the file is no TIFF.
    """
    return _Reader(file).read()


def read_integers(file: IO[bytes], tiff: Tiff, directory: Directory, tag: int) -> NDArray[np.int64]:
    """Return all values of a tag of unsigned integers, such as TileOffsets, however many.

    Args:
        file: The file that `tiff` was read from.
        tiff: Directories of the file.
        directory: Directory that has the tag.
        tag: Number of the tag.

    Returns:
        (count,) int64.

    Raises:
        DamagedTiff: the values lie beyond the end of the file, or are no offsets.
    """
    if tag not in directory.deferred:
        return np.array(directory.numbers(tag), np.int64)
    field_type, count, offset = directory.deferred[tag]
    size, letter = _TYPES[field_type]
    if field_type in _RATIONALS or letter not in "BHIQ" or offset + size * count > tiff.size:
        raise DamagedTiff(f"the values of tag {tag} lie beyond its end")
    file.seek(offset)
    values = np.frombuffer(file.read(size * count), np.dtype(f"{tiff.byte_order}u{size}"))
    if len(values) != count or (size == 8 and values.size and int(values.max()) >= 1 << 62):
        raise DamagedTiff(f"the values of tag {tag} are no offsets")
    return values.astype(np.int64)


class _Reader:
    """Reader of a chain of directories; it reads none twice, so a circular chain ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self._visited_offsets: set[int] = set()
        file.seek(0)
        start = file.read(16)
        if not is_tiff(start):
            raise DamagedTiff("it is no TIFF")
        self._byte_order, self._is_big = _MAGIC[start[:4]]
        # Letters of `struct` for the number of entries and for an offset, and the bytes of an entry.
        self._count_letter, self._offset_letter, self._entry_bytes = ("Q", "Q", 20) if self._is_big else ("H", "I", 12)
        link_position = 8 if self._is_big else 4
        if len(start) < link_position + self._offset_bytes:
            raise DamagedTiff("it ends within its header")
        self._first_offset = self._unpack(self._offset_letter, start[link_position : link_position + self._offset_bytes])

    @property
    def _offset_bytes(self) -> int:
        """Bytes of an offset, and of a value that is stored in its entry."""
        return struct.calcsize(self._offset_letter)

    def read(self) -> Tiff:
        """Return the directories of the chain; see `read_tiff`."""
        directories: list[Directory] = []
        offset, is_cut = self._first_offset, False
        while offset and offset not in self._visited_offsets and len(self._visited_offsets) < MAX_DIRECTORIES:
            try:
                directory, offset = self._read_directory(offset, 0)
            except DamagedTiff:
                if not directories:
                    raise
                is_cut = True
                break
            directories.append(directory)
        if not directories:
            raise DamagedTiff("it has no directory")
        return Tiff(self._byte_order, self._is_big, self._size, tuple(directories), is_cut)

    def _unpack(self, letter: str, content: bytes) -> int:
        """Return the one number of this `struct` letter in `content`."""
        return int(struct.unpack(self._byte_order + letter, content)[0])

    def _read_bytes(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset`; raise `DamagedTiff` if the file is shorter."""
        if offset < 0 or offset + count > self._size:
            raise DamagedTiff("a directory lies beyond its end")
        self._file.seek(offset)
        return self._file.read(count)

    def _read_directory(self, offset: int, depth: int) -> tuple[Directory, int]:
        """Return the directory at an offset, and the offset of the next one or 0."""
        self._visited_offsets.add(offset)
        head_bytes = struct.calcsize(self._count_letter)
        count = self._unpack(self._count_letter, self._read_bytes(offset, head_bytes))
        if not 0 < count <= MAX_ENTRIES:
            raise DamagedTiff(f"a directory has {count} entries")
        entries = self._read_bytes(offset + head_bytes, count * self._entry_bytes)
        values: dict[int, tuple[float, ...] | bytes] = {}
        deferred: dict[int, tuple[int, int, int]] = {}
        for start in range(0, len(entries), self._entry_bytes):
            self._read_entry(entries[start : start + self._entry_bytes], values, deferred)
        link_position = offset + head_bytes + len(entries)
        # Writers of EXIF omit the next offset in the last directory.
        is_last = link_position + self._offset_bytes > self._size
        next_offset = (
            0 if is_last else self._unpack(self._offset_letter, self._read_bytes(link_position, self._offset_bytes))
        )
        exif = self._read_linked(values, tags.EXIF_IFD, depth) or self._read_linked(
            values, tags.INTEROPERABILITY_IFD, depth
        )
        children = self._read_linked(values, tags.SUB_IFDS, depth)
        return Directory(values, deferred, children, exif[0] if exif else None), next_offset

    def _read_entry(
        self, entry: bytes, values: dict[int, tuple[float, ...] | bytes], deferred: dict[int, tuple[int, int, int]]
    ) -> None:
        """Add the values of an entry to `values`, or, if they are long, their place to `deferred`."""
        tag, field_type, count = struct.unpack_from(f"{self._byte_order}HH{self._offset_letter}", entry)
        if field_type not in _TYPES or not count:
            return
        size, letter = _TYPES[field_type]
        content = entry[-self._offset_bytes :]
        if size * count > self._offset_bytes:
            offset = self._unpack(self._offset_letter, content)
            if size * count > _MAX_EAGER_BYTES:
                deferred[tag] = field_type, count, offset
                return
            if offset + size * count > self._size:
                return
            content = self._read_bytes(offset, size * count)
        if letter == "s":
            values[tag] = content[:count]
            return
        is_rational = field_type in _RATIONALS
        numbers: tuple[Any, ...] = struct.unpack_from(f"{self._byte_order}{count * (1 + is_rational)}{letter}", content)
        if is_rational:
            numbers = tuple(
                numerator / denominator if denominator else 0.0
                for numerator, denominator in zip(numbers[::2], numbers[1::2], strict=True)
            )
        values[tag] = numbers

    def _read_linked(self, values: TagValues, tag: int, depth: int) -> tuple[Directory, ...]:
        """Return the directories whose offsets a tag holds; one that cannot be read has no values."""
        offsets = values.get(tag, ())
        if isinstance(offsets, bytes) or depth >= _MAX_DEPTH:
            return ()
        directories = []
        for offset in offsets:
            if (
                not isinstance(offset, int)
                or offset in self._visited_offsets
                or len(self._visited_offsets) >= MAX_DIRECTORIES
            ):
                directories.append(Directory({tags.NEW_SUBFILE_TYPE: (0,)}))
                continue
            try:
                directories.append(self._read_directory(offset, depth + 1)[0])
            except DamagedTiff:
                directories.append(Directory({}))
        return tuple(directories)
