"""Properties of a picture file besides its pixels: format, channels, colour space, copies."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyvips

from render.canvas import tiff_tags as tags
from render.errors import UserError
from render.source.colour_space import ColourSpace, UnknownColourSpace
from render.source.decoding import tiles_checked
from render.source.loaders import EXIF_FIELD, ICC_FIELD, PICTURES, identify, open_stream
from render.source.png import png_space
from render.source.tiff import DamagedTiff, Tiff, read_tiff
from render.source.tiff_picture import (
    CIE_LAB,
    ICC_LAB,
    PLAIN,
    Channels,
    channels,
    levels,
    refuse_unreadable,
    stated_space,
)  # fmt: skip

#: Values of Compression that every build of libtiff decodes: none, LZW, JPEG, deflate and PackBits.
_COMMON_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)
#: Part of libtiff's message for a compression that it was built without.
_NO_DECODER = re.compile("not configured|not implemented|not supported")


@dataclass(frozen=True)
class PictureInfo:
    """Properties of a picture file besides its pixels.

    Attributes:
        kind: Format of the file: `png`, `jpeg`, `webp` or `tiff`.
        channels: Meaning of the bands.
        space: Colour space that the file states by numbers; None for sRGB, for the colours of an ICC profile, and if no
            space is stated.
        profile: ICC profile of the first picture in the file; it also applies to its smaller copies. None if there is none.
        tiff: Directories of a TIFF; None for other formats.
    """

    kind: str
    channels: Channels
    space: ColourSpace | None = None
    profile: bytes | None = None
    tiff: Tiff | None = None

    @property
    def photometric(self) -> int | None:
        """PhotometricInterpretation of a TIFF (tag 262); None for other formats."""
        return None if self.tiff is None else self.tiff.first.integer(tags.PHOTOMETRIC_INTERPRETATION, 1)

    def level_options(self, shape: tuple[int, int], shrink: int) -> tuple[dict[str, Any], int]:
        """Find the smallest copy in a TIFF that is at most `shrink` times smaller.

        Args:
            shape: (height, width) px of the picture.
            shrink: Largest factor, a power of two.

        Returns:
            (options, factor by which the copy is smaller); ({}, 1) if there is no such copy.
        """
        options: dict[str, Any] = {}
        best_factor = 1
        for option, directory in levels(self.tiff) if self.tiff else ():
            factor = 2 * best_factor
            while factor <= shrink:
                if all(
                    length // factor <= side <= -(-length // factor)
                    for length, side in zip(shape, directory.shape, strict=True)
                ):
                    options, best_factor = option, factor
                factor *= 2
        return options, best_factor


def open_file(path: Path, **options: Any) -> tuple[pyvips.Image, PictureInfo]:
    """Open a picture by its header and return it with its properties.

    The picture is to be decoded once from top to bottom.

    Args:
        path: A PNG, JPEG, WebP or TIFF file.
        options: Options of libvips' loader for that format.

    Raises:
        UserError: the file cannot be read correctly.
        pyvips.Error: the file's loader refuses it.
    """
    kind, tiff = _kind_and_tiff(path)
    picture = open_stream(path, **options)
    if tiff is not None:
        _refuse_compression(path, tiff)
    channel_roles = channels(tiff.first, picture.bands) if tiff else _plain_channels(picture)
    if channel_roles is None:
        raise UserError(f"image {str(path)!r} has {picture.bands} channels: save it as RGB, RGBA or grey")
    profile = picture.get(ICC_FIELD) if picture.get_typeof(ICC_FIELD) else None
    info = PictureInfo(kind, channel_roles, None, profile, tiff)
    try:
        return picture, replace(info, space=_stated_space(path, picture, info))
    except UnknownColourSpace as error:
        raise UserError(f"image {str(path)!r} cannot be turned into sRGB, {error}: convert it to sRGB") from None


def _kind_and_tiff(path: Path) -> tuple[str, Tiff | None]:
    """Return the format of a file, and the directories of a TIFF whose picture can be read."""
    kind = identify(path)
    if kind != "tiff":
        return kind, None
    with path.open("rb") as file:
        try:
            tiff = read_tiff(file)
        except DamagedTiff as damage:
            raise UserError(f"image {str(path)!r} is no whole {PICTURES} picture: {damage}") from None
        refuse_unreadable(path, file, tiff)
    return kind, tiff


def _refuse_compression(path: Path, tiff: Tiff) -> None:
    """Raise `UserError` if libvips has no decoder for a TIFF's compression.

    libvips reports this only when it decodes a pixel.
    """
    compression = tiff.first.integer(tags.COMPRESSION, 1)
    if compression in _COMMON_COMPRESSIONS:
        return
    try:
        corner = open_stream(path).crop(0, 0, 1, 1)
        with tiles_checked(corner):
            corner.avg()
    except pyvips.Error as error:
        if _NO_DECODER.search(str(error)):
            name = tags.COMPRESSION_NAMES.get(compression, f"compression {compression}")
            raise UserError(
                f"image {str(path)!r} is compressed with {name}, which the libvips here does not read: {PLAIN}"
            ) from None


def _plain_channels(picture: pyvips.Image) -> Channels:
    """Return the channels of a picture that is no TIFF: an extra channel is transparency."""
    return Channels(picture.bands - 1, picture.bands - 1) if picture.hasalpha() else Channels(picture.bands, None)


def _stated_space(path: Path, picture: pyvips.Image, info: PictureInfo) -> ColourSpace | None:
    """Return the colour space that a file states by numbers.

    The first of these decides: cICP, ICC profile, sRGB, gAMA with cHRM, EXIF, TIFF's colorimetry. None for sRGB, for an ICC
    profile, and if no space is stated.
    """
    if info.kind == "png":
        space, exif = png_space(path)
        return space if exif is None or info.channels.colours not in (1, 3) else _exif_space(exif)
    colours = info.channels.colours
    if info.profile is not None or colours not in (1, 3) or info.photometric in (CIE_LAB, ICC_LAB):
        return None
    if info.tiff is not None:
        with path.open("rb") as file:
            return stated_space(file, info.tiff, info.tiff.first)
    return _exif_space(picture.get(EXIF_FIELD)) if picture.get_typeof(EXIF_FIELD) else None


def _exif_space(content: bytes) -> ColourSpace | None:
    """Return the colour space that an EXIF block states; None if it states none or is damaged."""
    block = io.BytesIO(content.removeprefix(b"Exif\0\0"))
    try:
        exif = read_tiff(block)
    except DamagedTiff:
        return None
    return stated_space(block, exif, exif.first)
