"""Facts of a picture file besides its pixels: its kind, its channels and its colour space."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyvips

from render.errors import UserError
from render.source import tiff as tags
from render.source.colour_space import ColourSpace, Unknown
from render.source.decoding import tiles_checked
from render.source.loaders import PICTURES, identify, open_stream
from render.source.png import png_space
from render.source.tiff import Damaged, Tiff, read_tiff
from render.source.tiff_picture import (
    ICC_LAB,
    LAB,
    PLAIN,
    Channels,
    channels,
    levels,
    refuse_unreadable,
    stated_space,
)  # fmt: skip

_ICC = "icc-profile-data"
#: Compressions that every build of libtiff decodes: none, LZW, JPEG, deflate and PackBits.
_COMMON = (1, 5, 7, 8, 32773, 32946)
_NO_DECODER = re.compile("not configured|not implemented|not supported")


@dataclass(frozen=True)
class Facts:
    """Facts of a picture file.

    `space` is None where the picture is in sRGB, in its ICC profile's colours, or states no space. `tiff` is None for other
    kinds of files; `photometric` is its PhotometricInterpretation. `profile` is the ICC profile of the first picture in the
    file; it also applies to its smaller copies.
    """

    kind: str
    channels: Channels
    space: ColourSpace | None = None
    profile: bytes | None = None
    tiff: Tiff | None = None

    @property
    def photometric(self) -> int | None:
        return None if self.tiff is None else self.tiff.first.integer(tags.PHOTOMETRIC, 1)

    def level_options(self, shape: tuple[int, int], shrink: int) -> tuple[dict[str, Any], int]:
        """Return the loader's options for the smallest copy that is at most `shrink` times smaller, and its factor.

        Args:
            shape: (height, width) px of the picture.
            shrink: a power of two.

        Returns:
            (options, factor); ({}, 1) where there is no such copy.
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


def open_file(path: Path, **options: Any) -> tuple[pyvips.Image, Facts]:
    """Open a picture by its header, to be decoded once from top to bottom, and return it with its facts.

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
    facts = Facts(kind, channel_roles, None, picture.get(_ICC) if picture.get_typeof(_ICC) else None, tiff)
    try:
        return picture, replace(facts, space=_space(path, picture, facts))
    except Unknown as unknown:
        raise UserError(f"image {str(path)!r} cannot be turned into sRGB, {unknown}: convert it to sRGB") from None


def _kind_and_tiff(path: Path) -> tuple[str, Tiff | None]:
    kind = identify(path)
    if kind != "tiff":
        return kind, None
    with path.open("rb") as file:
        try:
            tiff = read_tiff(file)
        except Damaged as damage:
            raise UserError(f"image {str(path)!r} is no whole {PICTURES} picture: {damage}") from None
        refuse_unreadable(path, file, tiff)
    return kind, tiff


def _refuse_compression(path: Path, tiff: Tiff) -> None:
    """Raise `UserError` if libvips has no decoder for a TIFF's compression; libvips reports this at the first pixel."""
    number = tiff.first.integer(tags.COMPRESSION, 1)
    if number in _COMMON:
        return
    try:
        corner = open_stream(path).crop(0, 0, 1, 1)
        with tiles_checked(corner):
            corner.avg()
    except pyvips.Error as error:
        if _NO_DECODER.search(str(error)):
            name = tags.COMPRESSIONS.get(number, f"compression {number}")
            raise UserError(
                f"image {str(path)!r} is compressed with {name}, which the libvips here does not read: {PLAIN}"
            ) from None


def _plain_channels(picture: pyvips.Image) -> Channels:
    """Return the channels of a picture that is no TIFF: an extra channel is transparency."""
    return Channels(picture.bands - 1, picture.bands - 1) if picture.hasalpha() else Channels(picture.bands, None)


def _space(path: Path, picture: pyvips.Image, facts: Facts) -> ColourSpace | None:
    """Return the colour space by the first of: cICP, ICC profile, sRGB, gAMA with cHRM, EXIF, colorimetry."""
    if facts.kind == "png":
        space, exif = png_space(path)
        return space if exif is None or facts.channels.colours not in (1, 3) else _exif_space(exif)
    colours = facts.channels.colours
    if facts.profile is not None or colours not in (1, 3) or facts.photometric in (LAB, ICC_LAB):
        return None
    if facts.tiff is not None:
        with path.open("rb") as file:
            return stated_space(file, facts.tiff, facts.tiff.first)
    return _exif_space(picture.get("exif-data")) if picture.get_typeof("exif-data") else None


def _exif_space(content: bytes) -> ColourSpace | None:
    block = io.BytesIO(content.removeprefix(b"Exif\0\0"))
    try:
        exif = read_tiff(block)
    except Damaged:
        return None
    return stated_space(block, exif, exif.first)
