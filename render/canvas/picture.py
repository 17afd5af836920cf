"""Writes finished pictures: PNG, JPEG or WebP, sRGB, with the settings that made them inside."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from render import __version__
from render.errors import UserError
from render.paths import APPLICATION

_EXIF_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131


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
    software = f"{APPLICATION} {__version__}"
    description = json.dumps(settings, sort_keys=True) if settings is not None else ""
    options: dict[str, Any] = {"icc_profile": srgb_profile()}
    if dpi is not None and form != "webp":
        options["dpi"] = (dpi, dpi)
    if form == "png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Software", software)
        if description:
            text.add_text("Description", description)
        options["pnginfo"] = text
    else:
        exif = Image.Exif()
        exif[_EXIF_SOFTWARE] = software
        if description:
            exif[_EXIF_DESCRIPTION] = description
        options |= {"exif": exif, "quality": quality}
        if form == "jpeg":
            options["subsampling"] = "4:4:4"
    picture = Image.fromarray(pixels)
    try:
        with replacing(path) as file:
            picture.save(file, format=form.upper(), **options)
    except (OSError, ValueError) as error:
        # Pillow's encoders say ValueError, or OSError without a number, for what their format cannot hold.
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else str(error)
        if number is None:
            raise UserError(f"picture {path} cannot be written as {form} ({reason}): set output.format=png") from None
        hint = "free some space" if number == errno.ENOSPC else "choose another output.path or output.dir"
        raise UserError(f"picture {path} cannot be written ({reason}): {hint}") from None


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
    with Image.open(path) as picture:
        text = picture.info.get("Description") or picture.getexif().get(_EXIF_DESCRIPTION)
    try:
        settings = json.loads(text or "{}")
    except ValueError:
        # Somebody else's description.
        return {}
    return settings if isinstance(settings, dict) else {}


@cache
def srgb_profile() -> bytes:
    """An sRGB ICC profile whose bytes do not depend on the day it is made."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2022, table 17: date and time of creation are bytes 24 to 35 of the header.
    profile[24:36] = bytes.fromhex("07e000010001000000000000")
    return bytes(profile)
