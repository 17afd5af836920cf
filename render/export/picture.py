"""Writing of picture files by libvips, each completely or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import pyvips

from render.errors import UserError
from render.export.metadata import Metadata, with_metadata
from render.geometry.geometry import round_up
from render.storage.local import replacing, write_durably
from render.system.watched import in_thread

#: Side of the tiles in a pyramid, px.
_TILE = 256
#: Usual size of a strip of a flat TIFF, bytes, and the rows that each must have a multiple of if it is a JPEG.
_STRIP_BYTES, _JPEG_ROWS = 256 << 10, 16
#: Most rows of a strip: libvips' limit.
_MAX_STRIP_ROWS = 32_768
#: Compressions of TIFF that work better on differences of neighbours: tag Predictor (TIFF 6.0, section 14).
_PREDICTED_COMPRESSIONS = ("lzw", "deflate", "zstd")


@dataclass(frozen=True)
class Encoding:
    """Settings of encoders.

    Attributes:
        quality: Quality of JPEG, WebP and JPEG in TIFF, 1 to 100.
        compression: Compression of TIFF: lzw, deflate, zstd, jpeg or none.
    """

    quality: int = 92
    compression: str = "lzw"


def image_of(pixels: np.ndarray) -> pyvips.Image:
    """Return pixels, (height, width, 3) uint8 sRGB, as an image."""
    height, width = pixels.shape[:2]
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, 3, "uchar")
    return image.copy(interpretation="srgb")


def write_tiles(image: pyvips.Image, place: Path, layout: str, quality: int, *, side: int, overlap: int = 0) -> None:
    """Write an image as JPEG tiles in all magnifications.

    Args:
        image: Image of 8 bits.
        place: Path that libvips names what it writes for.
        layout: Layout of libvips: `dz` or `iiif3`.
        quality: Quality of the tiles, 1 to 100.
        side: Side of a tile, px.
        overlap: Pixels that a tile has of each neighbour.

    Raises:
        pyvips.Error: The tiles cannot be written, or the image cannot be computed.
    """
    in_thread(
        lambda: image.dzsave(
            os.fsencode(place),
            layout=layout,
            suffix=f".jpg[Q={quality},subsample-mode=off]",
            tile_size=side,
            overlap=overlap,
            keep="none",
        )
    )


def write_picture(
    path: Path,
    image: pyvips.Image,
    format_name: str,
    metadata: Metadata | None = None,
    encoding: Encoding | None = None,
    check: Callable[[], None] = lambda: None,
    *,
    keep: bool = False,
) -> None:
    """Write an image to a file. The same arguments give the same bytes.

    A tiff is flat and in strips, for every press; a bigtiff is a pyramid of tiles, for viewers of large pictures.

    Args:
        path: The file; it gets this name only when it is complete.
        image: Image of 8 or 16 bits.
        format_name: png, jpeg, webp, tiff or bigtiff.
        metadata: Metadata of the file; None for the defaults.
        encoding: Settings of the encoder; None for the defaults.
        check: Function that is called before the file gets its name, and may raise.
        keep: True to raise `UserError` instead of replacing an existing file.

    Raises:
        UserError: the file cannot be written.
    """
    metadata, encoding = metadata or Metadata(), encoding or Encoding()
    with picture_file(path, format_name, check, keep=keep) as file:
        annotated = with_metadata(image, metadata, format_name)
        in_thread(lambda: _encode(annotated, os.fsencode(file.name), format_name, encoding))


@contextmanager
def picture_file(path: Path, format_name: str, check: Callable[[], None], *, keep: bool = False) -> Iterator[IO[bytes]]:
    """Yield the file of a picture, which gets its name only when it is complete.

    Args:
        path: The file.
        format_name: Format of the picture.
        check: Function that is called before the file gets its name, and after an error, and may raise.
        keep: True to raise `UserError` instead of replacing an existing file.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with replacing(path, keep=keep) as file:
            yield file
            check()
    except FileExistsError:
        raise UserError(f"{path} exists by now and is left alone: choose another name, or overwrite=true") from None
    except (OSError, ValueError, pyvips.Error) as error:
        check()
        raise unwritable(path, error, format_name) from None


def _encode(image: pyvips.Image, path: bytes, format_name: str, encoding: Encoding) -> None:
    """Encode an image to the file `path`."""
    match format_name:
        case "png":
            image.pngsave(path, compression=6)
        case "jpeg":
            image.jpegsave(path, Q=encoding.quality, subsample_mode="off", optimize_coding=True)
        case "webp":
            image.webpsave(path, Q=encoding.quality)
        case "tiff" | "bigtiff":
            image.tiffsave(
                path,
                compression=encoding.compression,
                predictor="horizontal" if encoding.compression in _PREDICTED_COMPRESSIONS else "none",
                Q=encoding.quality,
                tile=format_name == "bigtiff",
                tile_width=_TILE,
                tile_height=_TILE if format_name == "bigtiff" else _strip_rows(image, encoding.compression),
                pyramid=format_name == "bigtiff",
                bigtiff=format_name == "bigtiff",
                resunit="inch",
            )
        case _:
            raise ValueError(f"{format_name} is no file format")


def _strip_rows(image: pyvips.Image, compression: str) -> int:
    """Return the rows of a strip of a flat TIFF, which readers decode as a whole."""
    row_bytes = image.width * image.bands * (1 if image.format == "uchar" else 2)
    rows = min(max(1, _STRIP_BYTES // row_bytes), _MAX_STRIP_ROWS)
    return round_up(rows, _JPEG_ROWS) if compression == "jpeg" else rows


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file, completely or not at all; raise `UserError` if it cannot be written."""
    try:
        write_durably(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): free some space") from None


@cache
def can_compress(compression: str) -> bool:
    """Return whether the installed libvips writes TIFFs of this compression: builds differ."""
    try:
        pyvips.Image.black(8, 8).tiffsave_buffer(compression=compression)
    except pyvips.Error:
        return False
    return True


def unwritable(path: Path, error: Exception, format_name: str) -> UserError:
    """Return the error, in one line, for a picture that could not be written."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        # libvips passes on the system's message, not its number.
        number = next((code for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO) if os.strerror(code) in text), None)
    if number is None:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return UserError(f"picture {path} cannot be written as {format_name} ({lines[-1]}): set output.format=png")
    hint = "free some space" if number in (errno.ENOSPC, errno.EDQUOT) else "choose another output.path or output.dir"
    return UserError(f"picture {path} cannot be written ({os.strerror(number)}): {hint}")
