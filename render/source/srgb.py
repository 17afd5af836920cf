"""Conversion of a picture's samples to float32 sRGB, computed on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyvips

from render.source.colour_space import ColourSpace
from render.source.loaders import ICC_FIELD
from render.source.picture_info import PictureInfo
from render.source.tiff_picture import ICC_LAB

#: Value of white, by libvips' type of sample.
WHITE = {"uchar": 255.0, "ushort": 65535.0}


def to_srgb(picture: pyvips.Image, info: PictureInfo, background: Sequence[int]) -> pyvips.Image:
    """Convert a picture of 8 or 16 bits to sRGB.

    Args:
        picture: The picture in the file, or a smaller copy of it.
        info: Properties of the file.
        background: R,G,B, 0..255, laid under transparent pixels.

    Returns:
        An image of three bands of float32, 0..255 except for rounding, not computed yet.
    """
    return lay_over(picture, info, background, _colours_to_srgb)


def lay_over(
    picture: pyvips.Image,
    info: PictureInfo,
    background: Sequence[int],
    conversion: Callable[[pyvips.Image, PictureInfo], pyvips.Image],
) -> pyvips.Image:
    """Convert a picture's colours, and lay what is transparent over a background; see `to_srgb`.

    Args:
        picture: The picture in the file, or a smaller copy of it.
        info: Properties of the file.
        background: R,G,B, 0..255.
        conversion: Converts colour bands to float sRGB values.
    """
    channel_roles = info.channels
    alpha = None if channel_roles.alpha is None else picture[channel_roles.alpha].cast("float") / WHITE[picture.format]
    stored = picture.extract_band(0, n=channel_roles.colours) if channel_roles.colours < picture.bands else picture
    colours = conversion(stored, info)
    if colours.bands == 1:
        colours = colours.bandjoin([colours, colours])
    if alpha is not None:
        colours = colours * alpha + (alpha * -1.0 + 1.0) * list(background)
    return colours.cast("float")


def _colours_to_srgb(colours: pyvips.Image, info: PictureInfo) -> pyvips.Image:
    """Convert colour bands to float sRGB values, 0..255.

    The first of these decides: a space stated by numbers, Lab, an ICC profile, CMYK without a profile.
    """
    if info.space is not None and colours.bands in (1, 3):
        return _space_to_srgb(colours, info.space)
    if is_lab(colours, info):
        colours = to_lab(colours).icc_export(output_profile="srgb", depth=16, intent="relative")
    elif info.profile is not None:
        colours = with_profile(colours, info.profile)
        if colours.format == "uchar":
            colours = colours.icc_transform("srgb", embedded=True, depth=8)
        else:
            # A single conversion of 16 bits uses a coarse table: up to 15 levels of 255 wrong where a channel clips.
            colours = colours.icc_import(embedded=True, pcs="lab", intent="relative")
            colours = colours.icc_export(output_profile="srgb", depth=16, intent="relative")
    elif colours.interpretation == "cmyk":
        colours = colours.colourspace("srgb")
    return colours.cast("float") * (255.0 / WHITE[colours.format])


def with_profile(colours: pyvips.Image, profile: bytes) -> pyvips.Image:
    """Return colours with a profile, if they have none: a smaller copy has that of the full picture."""
    if colours.get_typeof(ICC_FIELD) != 0:
        return colours
    colours = colours.copy()
    colours.set_type(pyvips.GValue.blob_type, ICC_FIELD, profile)
    return colours


def is_lab(colours: pyvips.Image, info: PictureInfo) -> bool:
    """Return whether samples are CIE L*a*b*."""
    return bool(colours.interpretation == "labs") or info.photometric == ICC_LAB


def to_lab(colours: pyvips.Image) -> pyvips.Image:
    """Convert stored Lab samples to CIE L*a*b* of D50 as float: L 0..100, a and b -128..128.

    ICC Lab stores L as 0..255, or 0..65280 in 16 bits, and a and b with an offset of 128, or 128 * 256 (Adobe Photoshop
    TIFF technical notes, 2002).
    """
    if colours.interpretation == "labs":
        return colours.colourspace("lab")
    step = 1.0 if colours.format == "uchar" else 1 / 256
    max_lightness = 255.0 if colours.format == "uchar" else 65280.0
    lab = colours.cast("float").linear([100 / max_lightness, step, step], [0.0, -128.0, -128.0])
    return lab.copy(interpretation="lab")


def _space_to_srgb(colours: pyvips.Image, space: ColourSpace) -> pyvips.Image:
    """Convert samples of a stated colour space to sRGB, exactly: by a table of all values."""
    light = space_light(colours, space)
    light = (light > 0).ifthenelse(light, 0.0)
    light = (light < 1).ifthenelse(light, 1.0)
    return encode_light(light)


def space_light(colours: pyvips.Image, space: ColourSpace) -> pyvips.Image:
    """Convert samples of a stated colour space to linear light of sRGB's primaries: float, 0..1 within sRGB."""
    values = np.linspace(0.0, 1.0, int(WHITE[colours.format]) + 1)
    curves = np.stack([space.light(values, channel) for channel in range(colours.bands)], -1).astype(np.float32)
    table = pyvips.Image.new_from_memory(np.ascontiguousarray(curves).data, len(values), 1, colours.bands, "float")
    light = colours.maplut(table)
    matrix = space.matrix
    if matrix is not None and colours.bands == 3:
        light = light.recomb(pyvips.Image.new_from_array(matrix.tolist()))
    return light


def encode_light(light: pyvips.Image) -> pyvips.Image:
    """Return sRGB values, 0..255, of linear light, 0..1 or above: the inverse of sRGB's curve (IEC 61966-2-1)."""
    curve = light ** (1 / 2.4) * (1.055 * 255) - 0.055 * 255
    return (light <= 0.0031308).ifthenelse(light * (12.92 * 255), curve)
