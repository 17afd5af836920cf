"""The four loaders for foreign pictures, chosen by a file's content.

libvips reads many formats, some of them closer to programs than to pictures. Each process that imports this module blocks
every loader but these four, and everything that libvips itself marks as unfit for untrusted files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pyvips

from render.errors import UserError
from render.source.tiff import is_tiff

# libvips would cache its last operations and the memory of their decoders, but no operation is repeated.
pyvips.cache_set_max(0)
pyvips.operation_block_set("VipsForeignLoad", True)
for _class in ("Png", "Jpeg", "Webp", "Tiff"):
    pyvips.operation_block_set(f"VipsForeignLoad{_class}", False)
pyvips.block_untrusted_set(True)


def _text_of(characters: Any) -> str:
    """Return a text of libvips as pyvips does, but whatever bytes of a damaged file it quotes."""
    return "NULL" if characters == pyvips.ffi.NULL else bytes(pyvips.ffi.string(characters)).decode("utf-8", "replace")


# Otherwise a warning of libvips that quotes such bytes prints a traceback. pyvips has no option for that.
for _module in (pyvips, pyvips.error):
    if hasattr(_module, "_to_string"):
        _module._to_string = _text_of

#: Names of libvips for the metadata of a file, as bytes: ICC profile, EXIF block, XMP packet.
ICC_FIELD, EXIF_FIELD, XMP_FIELD = "icc-profile-data", "exif-data", "xmp-data"

#: The formats that are read, for messages.
PICTURES = "PNG, JPEG, WebP or TIFF"
_RAW = "a camera's raw file"
_DEVELOP = "develop it first, in darktable, RawTherapee or the camera maker's program, and save a TIFF of 16 bits"
#: Bytes at the start of a file from which its format is recognised.
_HEAD_BYTES = 512
#: Signatures of files that are not read: (offset, bytes, name). Raw files that begin like a TIFF are recognised by their
#: directories.
_REFUSED_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW", _RAW), (0, b"IIRO", _RAW), (0, b"IIRS", _RAW), (0, b"MMOR", _RAW), (0, b"IIU\0", _RAW),
    (8, b"CR\x02", _RAW), (8, b"IIII", _RAW), (8, b"MMMM", _RAW), (4, b"ftypcrx", _RAW), (0, b"\0MRM", _RAW),
    (0, b"FOVb", _RAW), (6, b"HEAPCCDR", _RAW),
    (0, b"GIF8", "a GIF"), (0, b"BM", "a BMP"), (0, b"%PDF", "a PDF"), (0, b"8BPS", "a PSD"),
    (0, b"\xff\x0a", "a JPEG XL"), (4, b"JXL ", "a JPEG XL"), (4, b"jP  ", "a JPEG 2000"), (0, b"\xff\x4f", "a JPEG 2000"),
    (4, b"ftyphei", "a HEIF"), (4, b"ftyphev", "a HEIF"), (4, b"ftypmif1", "a HEIF"), (4, b"ftypmsf1", "a HEIF"),
    (4, b"ftypavi", "an AVIF"), (0, b"v/1\x01", "an OpenEXR"), (0, b"#?", "a Radiance"), (0, b"SIMPLE  =", "a FITS"),
    (0, b"\x08\xf2\xa6\xb6", "a libvips file"), (0, b"\xb6\xa6\xf2\x08", "a libvips file"), (0, b"II\xbc", "a JPEG XR"),
    (0, b"\0\0\1\0", "an icon"), (0, b"DDS ", "a DDS"), (0, b"gimp xcf", "an XCF"), (0, b"\x1f\x8b", "a gzip file"),
)  # fmt: skip


def identify(path: Path) -> str:
    """Return the format of a file by its first bytes: `png`, `jpeg`, `webp` or `tiff`.

    Raises:
        UserError: the file is of another kind, which the message names.
        OSError: the file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"image {str(path)!r} is not a file but a device, pipe or directory: name a picture")
    with path.open("rb") as file:
        start = file.read(_HEAD_BYTES)
    for offset, magic, name in _REFUSED_SIGNATURES:
        if start.startswith(magic, offset):
            raise _refusal(path, name)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if start.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "webp"
    if is_tiff(start):
        return "tiff"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        raise _refusal(path, "an SVG drawing" if b"<svg" in text else "an XML file")
    raise UserError(f"image {str(path)!r} is no whole {PICTURES} picture: it begins like none of them")


def open_stream(path: Path, **options: Any) -> pyvips.Image:
    """Open a picture by its header, to be decoded once from top to bottom.

    It is opened as a stream, because libvips takes brackets at the end of a file name for options.

    Args:
        path: A PNG, JPEG, WebP or TIFF file.
        options: Options of libvips' loader for that format, such as `page` or `shrink`.

    Raises:
        UserError: the file is of none of the four formats.
        OSError: the file cannot be read.
        pyvips.Error: the file's loader refuses it.
    """
    loader = f"{identify(path)}load_source"
    file = pyvips.Source.new_from_file(os.fsencode(path))
    return getattr(pyvips.Image, loader)(file, access="sequential", fail_on="error", **options)


def raw_refusal(path: Path) -> UserError:
    """Return the error for a camera's raw file."""
    return _refusal(path, _RAW)


def _refusal(path: Path, name: str) -> UserError:
    remedy = _DEVELOP if name == _RAW else f"save it as {PICTURES}"
    return UserError(f"image {str(path)!r} is {name}: {remedy}")
