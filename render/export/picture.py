"""Writing of picture files of every format, complete or not at all. libvips encodes, from images that stream."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyvips

from render.errors import UserError
from render.export.metadata import Metadata, with_metadata
from render.storage.local import replacing, write_durably
from render.system.watched import in_thread

#: Side of the tiles in a pyramid, px.
_TILE = 256
_PREDICTED = ("lzw", "deflate", "zstd")


@dataclass(frozen=True)
class Encoding:
    """Settings of encoders: `quality` (1 to 100) of lossy formats, and `compression` of TIFF."""

    quality: int = 92
    compression: str = "lzw"


def image_of(pixels: np.ndarray) -> pyvips.Image:
    """Return (height, width, 3) uint8 RGB pixels as an image."""
    height, width = pixels.shape[:2]
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, 3, "uchar")
    return image.copy(interpretation="srgb")


def write_picture(
    path: Path,
    image: pyvips.Image,
    form: str,
    metadata: Metadata | None = None,
    encoding: Encoding | None = None,
    check: Callable[[], None] = lambda: None,
    *,
    keep: bool = False,
) -> None:
    """Write an image as `form` (png, jpeg, webp, tiff or bigtiff); it gets its final name only when it is complete.

    A tiff is flat and in strips, for every press; a bigtiff is a pyramid of tiles, for viewers of large pictures. The same
    arguments give the same bytes. `check` is called before the file gets its name, and may raise. With `keep` an existing
    file of that name is not replaced. Raises `UserError` when the file cannot be written.
    """
    metadata, encoding = metadata or Metadata(), encoding or Encoding()
    try:
        annotated = with_metadata(image, metadata, form)
        with replacing(path, keep=keep) as file:
            in_thread(lambda: _encode(annotated, os.fsencode(file.name), form, encoding))
            check()
    except FileExistsError:
        raise UserError(f"{path} exists by now and is left alone: choose another name, or overwrite=true") from None
    except (OSError, ValueError, pyvips.Error) as error:
        check()
        raise unwritable(path, error, form) from None


def _encode(image: pyvips.Image, name: bytes, form: str, encoding: Encoding) -> None:
    match form:
        case "png":
            image.pngsave(name, compression=6)
        case "jpeg":
            image.jpegsave(name, Q=encoding.quality, subsample_mode="off", optimize_coding=True)
        case "webp":
            image.webpsave(name, Q=encoding.quality)
        case "tiff" | "bigtiff":
            image.tiffsave(
                name,
                compression=encoding.compression,
                predictor="horizontal" if encoding.compression in _PREDICTED else "none",
                Q=encoding.quality,
                tile=form == "bigtiff",
                tile_width=_TILE,
                tile_height=_TILE,
                pyramid=form == "bigtiff",
                bigtiff=form == "bigtiff",
                resunit="inch",
            )
        case _:
            raise ValueError(f"{form} is no file format")


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file of the program's own, whole or not at all; raise `UserError` if it cannot be written."""
    try:
        write_durably(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): free some space") from None


@cache
def can_compress(compression: str) -> bool:
    """Return whether the installed libvips writes TIFFs of that compression: builds differ."""
    try:
        pyvips.Image.black(8, 8).tiffsave_buffer(compression=compression)
    except pyvips.Error:
        return False
    return True


def unwritable(path: Path, error: Exception, form: str) -> UserError:
    """Return the error, in one line, for a picture that could not be written."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        # libvips passes on the system's text, not its number.
        number = next((code for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO) if os.strerror(code) in text), None)
    if number is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return UserError(f"picture {path} cannot be written as {form} ({lines[-1]}): set output.format=png")
    hint = "free some space" if number in (errno.ENOSPC, errno.EDQUOT) else "choose another output.path or output.dir"
    return UserError(f"picture {path} cannot be written ({os.strerror(number)}): {hint}")
