"""Headers of picture files: format, compression, resolution, tiles and pyramid levels."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

from render.canvas import tiff_tags as tags
from render.geometry.units import CM_PER_INCH, MM_PER_INCH
from render.preflight.jpeg_quality import estimate_quality
from render.source.tiff import DamagedTiff, Tiff, is_tiff, read_integers, read_tiff

_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
#: Pillow's classes, because `Image.open` refuses large prints as decompression bombs. No pixel is decoded here.
_READERS: dict[str, Callable[[Path], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
}
_EXIF_X, _EXIF_Y, _EXIF_UNIT = 0x011A, 0x011B, 0x0128
#: Values that mean "no resolution": 1 dpi states only an aspect ratio, and libvips writes 1 pixel per mm (25.4 dpi).
_ASPECT_ONLY, _NONE_BY_LIBVIPS = 1.0, MM_PER_INCH
#: Most chunks of a WebP that are read.
_MAX_CHUNKS = 1000
#: Compression of a TIFF whose strips and tiles are JPEGs, and the most bytes of its tables, or of a strip's beginning.
_JPEG_IN_TIFF, _MAX_TABLES_BYTES = 7, 64 << 10


@dataclass(frozen=True)
class Header:
    """Facts from a picture file's header.

    `dpi` is (horizontal, vertical), None if the file states none; `tile` is (rows, columns) px. `levels` counts the
    picture and its smaller copies in the same file; `pages` counts the pictures that are not copies. `interlaced` is true
    of an interlaced PNG and of a progressive JPEG. `jpeg_quality` is estimated, 1..100, for a JPEG or a TIFF of JPEGs.
    """

    format: str
    compression: str
    dpi: tuple[float, float] | None
    tile: tuple[int, int] | None = None
    levels: int = 1
    pages: int = 1
    interlaced: bool = False
    jpeg_quality: int | None = None


def read_header(path: Path) -> Header | None:
    """Return the header of a PNG, JPEG, WebP or (Big)TIFF file; None for other files.

    Raise OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
        if is_tiff(start):
            try:
                tiff = read_tiff(file)
                return replace(_tiff(tiff), jpeg_quality=_quality_in_tiff(file, tiff))
            except DamagedTiff:
                return None
        if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return _webp(file)
        for magic, form in _MAGIC.items():
            if start.startswith(magic):
                file.seek(0)
                quality = estimate_quality(file) if form == "JPEG" else None
                return replace(_plain(path, form), jpeg_quality=quality)
    return None


def _plain(path: Path, form: str) -> Header:
    """Return the header of a PNG or JPEG, with the resolution that it states in pHYs, JFIF or EXIF."""
    header = Header(form, "deflate" if form == "PNG" else "JPEG", None)
    try:
        with _READERS[form](path) as picture:
            header = replace(header, interlaced=bool(picture.info.get("interlace") or picture.info.get("progressive")))
            stated = picture.info.get("dpi")
            return replace(header, dpi=_valid_dpi(stated) if stated is not None else _exif_dpi(picture.getexif()))
    except (OSError, SyntaxError, ValueError, struct.error):
        return header


def _exif_dpi(exif: Image.Exif) -> tuple[float, float] | None:
    if _EXIF_X not in exif:
        return None
    per_inch = CM_PER_INCH if exif.get(_EXIF_UNIT) == 3 else 1.0
    return _valid_dpi((_number(exif[_EXIF_X]) * per_inch, _number(exif.get(_EXIF_Y, exif[_EXIF_X])) * per_inch))


def _valid_dpi(pair: Any) -> tuple[float, float] | None:
    """Return the resolution (horizontal, vertical) in dpi; None if the numbers state none."""
    across, down = (_number(value) for value in pair)
    if not (math.isfinite(across + down) and min(across, down) > _ASPECT_ONLY):
        return None
    return None if abs(across - _NONE_BY_LIBVIPS) < 1e-3 else (across, down)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0


def _webp(file: IO[bytes]) -> Header:
    """Return the header of a WebP, from its chunks (RFC 9649, section 2.3 onwards)."""
    compression, exif = "unknown compression", Image.Exif()
    file.seek(12)
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        kind, size = head[:4], struct.unpack("<I", head[4:])[0]
        next_chunk = file.tell() + size + size % 2
        if kind in (b"VP8 ", b"VP8L"):
            compression = "lossless" if kind == b"VP8L" else "lossy"
        elif kind == b"EXIF":
            try:
                exif.load(file.read(size))
            except (OSError, SyntaxError, ValueError, struct.error):
                exif = Image.Exif()
        file.seek(next_chunk)
    return Header("WebP", compression, _exif_dpi(exif))


def _tiff(tiff: Tiff) -> Header:
    first = tiff.first
    copies = sum(directory.is_reduced for directory in tiff.directories[1:])
    per_inch = {2: 1.0, 3: CM_PER_INCH}.get(first.integer(tags.RESOLUTION_UNIT, 2), 0.0)
    across, down = ((*first.numbers(tag), 0.0)[0] * per_inch for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION))
    number = first.integer(tags.COMPRESSION, 1)
    return Header(
        "BigTIFF" if tiff.is_big else "TIFF",
        tags.COMPRESSION_NAMES.get(number, f"compression {number}"),
        _valid_dpi((across, down)),
        first.tile,
        1 + copies + sum(directory.is_reduced for directory in first.children),
        len(tiff.directories) - copies,
    )


def _quality_in_tiff(file: IO[bytes], tiff: Tiff) -> int | None:
    """Return the quality of the JPEGs in a TIFF: from the tables that they share, or from the first of them."""
    first = tiff.first
    if first.integer(tags.COMPRESSION, 1) != _JPEG_IN_TIFF:
        return None
    tables = first.values.get(tags.JPEG_TABLES)
    if isinstance(tables, bytes) and (quality := estimate_quality(io.BytesIO(tables))) is not None:
        return quality
    try:
        offset = _first_offset(file, tiff)
    except DamagedTiff:
        return None
    file.seek(offset)
    return estimate_quality(io.BytesIO(file.read(_MAX_TABLES_BYTES)))


def _first_offset(file: IO[bytes], tiff: Tiff) -> int:
    """Return where the tables that strips or tiles share begin, or else the first of these, bytes."""
    first = tiff.first
    if tags.JPEG_TABLES in first.deferred:
        return min(first.deferred[tags.JPEG_TABLES][2], tiff.size)
    offsets = read_integers(file, tiff, first, tags.TILE_OFFSETS if first.tile else tags.STRIP_OFFSETS)
    return min(int(offsets[0]), tiff.size) if len(offsets) else tiff.size
