"""What a picture file says of itself before its pixels: format, compression, resolution, tiles and levels of a pyramid."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

from render.source import tiff as tags
from render.source.tiff import Damaged, Tiff, is_tiff, read_tiff

_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
#: Opened by their classes: `Image.open` takes a large print for an attack, but no pixel is decoded here.
_READERS: dict[str, Callable[[Path], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
}
_EXIF_X, _EXIF_Y, _EXIF_UNIT = 0x011A, 0x011B, 0x0128
#: Files say 1 dpi where they only mean an aspect, and libvips writes 1 pixel per mm where it knows of no resolution.
_ASPECT_ONLY, _NONE_BY_LIBVIPS = 1.0, 25.4
#: Chunks of a WebP that are looked at, at most.
_MAX_CHUNKS = 1000


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
        if is_tiff(start):
            try:
                return _tiff(read_tiff(file))
            except Damaged:
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
    for _ in range(_MAX_CHUNKS):
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


def _tiff(tiff: Tiff) -> Header:
    first = tiff.first
    copies = sum(directory.is_reduced for directory in tiff.directories[1:])
    per_inch = {2: 1.0, 3: 2.54}.get(first.integer(tags.UNIT, 2), 0.0)
    across, down = ((*first.numbers(tag), 0.0)[0] * per_inch for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION))
    number = first.integer(tags.COMPRESSION, 1)
    return Header(
        "BigTIFF" if tiff.is_big else "TIFF",
        tags.COMPRESSIONS.get(number, f"compression {number}"),
        _sensible((across, down)),
        first.tile,
        1 + copies + sum(directory.is_reduced for directory in first.children),
        len(tiff.directories) - copies,
    )
