"""Writes finished pictures: PNG, JPEG or WebP, sRGB, with the settings that made them inside."""

from __future__ import annotations

import errno
import json
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyvips
from PIL import Image, ImageCms

from render import __version__
from render.errors import UserError
from render.paths import APPLICATION

_EXIF_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131
#: Bytes of a PNG's signature and its IHDR chunk.
_PNG_HEAD = 33


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Float pixels 0..255 rounded to uint8; values outside are clipped."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def write_picture(
    path: Path,
    pixels: np.ndarray,
    form: str,
    settings: Mapping[str, Any] | None = None,
    *,
    dpi: float | None = None,
    quality: int = 92,
) -> None:
    """Writes (height, width, 3) uint8 RGB as `form` (png, jpeg or webp) under its final name only when it is complete.

    `settings` go into the file as JSON: PNG text `Description`, EXIF ImageDescription elsewhere. The same arguments
    give the same bytes. Raises `UserError` when the file cannot be written.
    """
    try:
        with replacing(path) as file:
            if form == "png":
                _write_png(file, pixels, _texts(settings), dpi)
            else:
                _write_with_exif(file, pixels, form, _texts(settings), dpi, quality)
    except (OSError, ValueError) as error:
        # Pillow's encoders say ValueError, or OSError without a number, for what their format cannot hold.
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else str(error)
        if number is None:
            raise UserError(f"picture {path} cannot be written as {form} ({reason}): set output.format=png") from None
        hint = "free some space" if number == errno.ENOSPC else "choose another output.path or output.dir"
        raise UserError(f"picture {path} cannot be written ({reason}): {hint}") from None


def _texts(settings: Mapping[str, Any] | None) -> dict[str, str]:
    """What a picture says of itself: by whom it was made and, where they are given, with which settings."""
    made_by = {"Software": f"{APPLICATION} {__version__}"}
    return made_by if settings is None else made_by | {"Description": json.dumps(settings, sort_keys=True)}


def _write_png(file: IO[bytes], pixels: np.ndarray, texts: Mapping[str, str], dpi: float | None) -> None:
    """Streams a PNG, so that pixels mapped from a file are never all in memory."""
    height, width = pixels.shape[:2]
    picture = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, 3, "uchar").copy(
        interpretation="srgb"
    )
    stream = _PngStream(file, _png_header(texts, dpi))
    target = pyvips.TargetCustom()
    target.on_write(stream.write)
    try:
        picture.pngsave_target(target, compression=6, keep="none")
    except pyvips.Error as error:
        if stream.error is None:
            raise ValueError(str(error).strip().splitlines()[-1]) from None
    if stream.error is not None:
        # An exception cannot pass through libvips: it was kept.
        raise stream.error


def _png_header(texts: Mapping[str, str], dpi: float | None) -> bytes:
    """The chunks that say what the pixels mean, to stand before them (PNG specification, third edition, section 11.3)."""
    chunks = [(b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile(), 9))]
    if dpi is not None:
        per_metre = round(dpi / 0.0254)
        chunks.append((b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    for key, text in texts.items():
        chunks.append((b"tEXt", key.encode("latin-1") + b"\0" + text.encode("ascii")))
    return b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class _PngStream:
    """Passes a PNG on, with other chunks between its header and its pixels than the encoder put there."""

    def __init__(self, file: IO[bytes], header: bytes) -> None:
        self._file = file
        self._header = header
        self._begun = bytearray()
        self._in_pixels = False
        self.error: Exception | None = None

    def write(self, data: bytes) -> int:
        """Takes what the encoder has; 0 after an error, which stops it."""
        if self.error is not None:
            return 0
        try:
            if self._in_pixels:
                self._file.write(data)
            else:
                self._begun += data
                self._pass_header()
        except OSError as error:
            self.error = error
            return 0
        return len(data)

    def _pass_header(self) -> None:
        pixels = self._begun.find(b"IDAT")
        if pixels < 0:
            return
        # Signature and IHDR have a fixed length; a chunk's length stands before its name.
        self._file.write(self._begun[:_PNG_HEAD] + self._header + self._begun[pixels - 4 :])
        self._begun.clear()
        self._in_pixels = True


def _write_with_exif(
    file: IO[bytes], pixels: np.ndarray, form: str, texts: Mapping[str, str], dpi: float | None, quality: int
) -> None:
    """JPEG or WebP, by Pillow, which holds the whole picture."""
    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = texts["Software"]
    if "Description" in texts:
        exif[_EXIF_DESCRIPTION] = texts["Description"]
    options: dict[str, Any] = {"icc_profile": srgb_profile(), "exif": exif, "quality": quality}
    if form == "jpeg":
        options["subsampling"] = "4:4:4"
        if dpi is not None:
            options["dpi"] = (dpi, dpi)
    Image.fromarray(pixels).save(file, format=form.upper(), **options)


@contextmanager
def replacing(path: Path, *, keep: bool = False) -> Iterator[IO[bytes]]:
    """A file that takes the name `path` when it is complete, and leaves nothing when it is not.

    With `keep`, a file that has that name by then stays, and FileExistsError is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".render-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep:
            # A link, unlike a rename, fails where the name is taken.
            os.link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        # Gone already where it was renamed, unreachable where its directory is.
        with suppress(OSError):
            temporary.unlink()


def read_settings(path: Path) -> dict[str, Any]:
    """The settings inside a picture that `write_picture` wrote; empty where there are none."""
    with _of_any_size(), Image.open(path) as picture:
        text = picture.info.get("Description") or picture.getexif().get(_EXIF_DESCRIPTION)
    try:
        settings = json.loads(text or "{}")
    except ValueError:
        # Somebody else's description.
        return {}
    return settings if isinstance(settings, dict) else {}


@contextmanager
def _of_any_size() -> Iterator[None]:
    """Lets Pillow open a print: it takes large pictures for attacks, but here no pixel is decoded."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@cache
def srgb_profile() -> bytes:
    """An sRGB ICC profile whose bytes do not depend on the day it is made."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2022, table 17: date and time of creation are bytes 24 to 35 of the header.
    profile[24:36] = bytes.fromhex("07e000010001000000000000")
    return bytes(profile)
