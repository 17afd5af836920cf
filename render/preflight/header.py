"""What a picture file says of itself before its pixels: format, compression, resolution, tiles and levels of a pyramid."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
#: Opened by their classes: `Image.open` takes a large print for an attack, but no pixel is decoded here.
_READERS: dict[str, Callable[[Path], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
}
_TIFF = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_EXIF_X, _EXIF_Y, _EXIF_UNIT = 0x011A, 0x011B, 0x0128
#: TIFF 6.0 and its supplements: tag 259.
_COMPRESSIONS = {
    1: "uncompressed", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate", 34712: "JPEG 2000",
    34925: "LZMA", 50000: "zstd", 50001: "WebP",
}  # fmt: skip
#: TIFF 6.0, section 2, and BigTIFF: bytes and `struct` letter of each type that a number comes in; 5 is a fraction.
_TYPES = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 5: (8, ""), 13: (4, "I"), 16: (8, "Q"), 18: (8, "Q")}
_SUBFILE, _COMPRESSION, _X, _Y, _UNIT, _TILE_WIDTH, _TILE_HEIGHT, _SUB_IFDS = 254, 259, 282, 283, 296, 322, 323, 330
#: Files say 1 dpi where they only mean an aspect, and libvips writes 1 pixel per mm where it knows of no resolution.
_ASPECT_ONLY, _NONE_BY_LIBVIPS = 1.0, 25.4
#: Bytes of the longest file that systems can have: a place beyond it cannot even be asked for.
_LONGEST_FILE = 1 << 43
#: More directories than a picture has, and more values than these tags have: the file is damaged.
_MOST_DIRECTORIES, _MOST_VALUES = 1000, 64


@dataclass(frozen=True)
class Header:
    """`dpi` is (horizontal, vertical), None where the file states none; `tile` is (rows, columns) px.

    `levels` counts the picture and its smaller copies in the same file, `pages` pictures that are no copies.
    """

    format: str
    compression: str
    dpi: tuple[float, float] | None
    tile: tuple[int, int] | None = None
    levels: int = 1
    pages: int = 1


def read_header(path: Path) -> Header | None:
    """The header of a PNG, JPEG, WebP, TIFF or BigTIFF file; None for any other, and for one that is damaged.

    Raises OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
        if start[:4] in _TIFF:
            try:
                return _tiff(file, *_TIFF[start[:4]])
            except (struct.error, ValueError, OverflowError):
                return None
        if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return _webp(file)
    for magic, form in _MAGIC.items():
        if start.startswith(magic):
            return Header(form, "deflate" if form == "PNG" else "JPEG", _dpi(path, form))
    return None


def _dpi(path: Path, form: str) -> tuple[float, float] | None:
    """The resolution that a PNG or JPEG states, by pHYs, JFIF or EXIF."""
    try:
        with _READERS[form](path) as picture:
            stated = picture.info.get("dpi")
            return _sensible(stated) if stated is not None else _exif_dpi(picture.getexif())
    except (OSError, SyntaxError, ValueError, struct.error):
        return None


def _exif_dpi(exif: Image.Exif) -> tuple[float, float] | None:
    if _EXIF_X not in exif:
        return None
    per_inch = 2.54 if exif.get(_EXIF_UNIT) == 3 else 1.0
    return _sensible((_number(exif[_EXIF_X]) * per_inch, _number(exif.get(_EXIF_Y, exif[_EXIF_X])) * per_inch))


def _sensible(stated: Any) -> tuple[float, float] | None:
    across, down = (_number(value) for value in stated)
    if not (math.isfinite(across + down) and min(across, down) > _ASPECT_ONLY):
        return None
    return None if abs(across - _NONE_BY_LIBVIPS) < 1e-3 else (across, down)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0


def _webp(file: IO[bytes]) -> Header:
    """Compression and EXIF resolution, from the chunks of the container (RFC 9649, section 2.3 on)."""
    compression, exif = "unknown compression", Image.Exif()
    file.seek(12)
    for _ in range(_MOST_DIRECTORIES):
        head = file.read(8)
        if len(head) < 8:
            break
        kind, size = head[:4], struct.unpack("<I", head[4:])[0]
        after = file.tell() + size + size % 2
        if kind in (b"VP8 ", b"VP8L"):
            compression = "lossless" if kind == b"VP8L" else "lossy"
        elif kind == b"EXIF":
            try:
                exif.load(file.read(size))
            except (OSError, SyntaxError, ValueError, struct.error):
                exif = Image.Exif()
        file.seek(after)
    return Header("WebP", compression, _exif_dpi(exif))


def _tiff(file: IO[bytes], order: str, big: bool) -> Header:
    """Walks a TIFF's chain of directories; struct.error where it is cut short."""
    file.seek(8 if big else 4)
    at = struct.unpack(order + ("Q" if big else "I"), file.read(8 if big else 4))[0]
    directories: list[dict[int, list[Any]]] = []
    seen = set()
    while at and at not in seen and len(directories) < _MOST_DIRECTORIES:
        seen.add(at)
        tags, at = _directory(file, at, order, big)
        directories.append(tags)
    if not directories:
        raise ValueError("no directory")
    first = directories[0]
    copies = sum(bool(tags.get(_SUBFILE, [0])[0] & 1) for tags in directories[1:])
    unit = first.get(_UNIT, [2])[0]
    per_inch = {2: 1.0, 3: 2.54}.get(int(unit), 0.0)
    dpi = (first.get(_X, [0])[0] * per_inch, first.get(_Y, [0])[0] * per_inch)
    tiled = _TILE_WIDTH in first and _TILE_HEIGHT in first
    number = int(first.get(_COMPRESSION, [1])[0])
    return Header(
        "BigTIFF" if big else "TIFF",
        _COMPRESSIONS.get(number, f"compression {number}"),
        _sensible(dpi),
        (int(first[_TILE_HEIGHT][0]), int(first[_TILE_WIDTH][0])) if tiled else None,
        1 + copies + len(first.get(_SUB_IFDS, [])),
        len(directories) - copies,
    )


def _directory(file: IO[bytes], at: int, order: str, big: bool) -> tuple[dict[int, list[Any]], int]:
    """The numbers in one directory by their tags, and where the next one begins, 0 where none does."""
    count_letter, offset_letter, entry_size = ("Q", "Q", 20) if big else ("H", "I", 12)
    _seek(file, at)
    count = struct.unpack(order + count_letter, file.read(struct.calcsize(count_letter)))[0]
    entries = file.read(min(count, 4096) * entry_size)
    following = struct.unpack(order + offset_letter, file.read(struct.calcsize(offset_letter)))[0]
    tags = {}
    for start in range(0, len(entries), entry_size):
        tag, kind, values = struct.unpack_from(order + "HH" + offset_letter, entries, start)
        if kind not in _TYPES or not 0 < values <= _MOST_VALUES:
            continue
        size, letter = _TYPES[kind]
        field = entries[start + entry_size - struct.calcsize(offset_letter) : start + entry_size]
        if size * values > len(field):
            _seek(file, struct.unpack(order + offset_letter, field)[0])
            field = file.read(size * values)
        if letter:
            tags[tag] = list(struct.unpack_from(f"{order}{values}{letter}", field))
        else:
            parts = struct.unpack_from(f"{order}{2 * values}I", field)
            tags[tag] = [over / under if under else 0.0 for over, under in zip(parts[::2], parts[1::2], strict=True)]
    return tags, following


def _seek(file: IO[bytes], at: int) -> None:
    """Goes to a place that the file names; ValueError where it names one that no file has."""
    if at >= _LONGEST_FILE:
        raise ValueError("offset beyond any file")
    file.seek(at)
