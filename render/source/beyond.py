"""Colours of a picture file beyond sRGB.

A canvas holds sRGB, to which Adobe RGB, ProPhoto RGB, Display P3, Lab and presses' colours are clipped. What was cut off is
kept apart: a picture's colours in extended sRGB, whose curve goes on below 0 and above 1 with the sign of the light, minus
the same clipped. It is 0 wherever sRGB has the colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pyvips

from render.config.schema import SourceConfig
from render.dreaming.resample import Pixels
from render.source.colour_space import PCS_WHITE, SRGB, matrix_to_xyz
from render.source.matrix_profile import read_matrix_profile
from render.source.photo import decode_upright
from render.source.picture_info import PictureInfo
from render.source.srgb import encode_light, is_lab, lay_over, space_light, to_lab, with_profile

#: Distance from 0..255, in levels, up to which a space counts as within sRGB: profiles of sRGB itself are rounded.
_MAX_ROUNDING = 1.5
#: Level of 8 bits that stands for 0 in `encoded`, and levels of difference for one of it: -512 to 508 levels fit.
ZERO, _STEP = 128.0, 4.0
#: Value of Y of white in libvips.
_WHITE_Y = 100.0


def beyond_srgb(picture: pyvips.Image, info: PictureInfo, background: Sequence[int]) -> pyvips.Image:
    """Return what sRGB cuts off from a picture's colours, in levels of 0..255.

    Args:
        picture: The picture in the file, or a smaller copy of it.
        info: Properties of the file.
        background: R,G,B, 0..255, laid under transparent pixels.

    Returns:
        An image of three bands of float32, 0 within sRGB, below 0 and above 0 beyond its ends; not computed yet.
    """
    extended = lay_over(picture, info, background, _extended_srgb)
    above = (extended > 255).ifthenelse(extended - 255.0, 0.0)
    return (extended < 0).ifthenelse(extended, above).cast("float")


def encoded(picture: pyvips.Image, info: PictureInfo, background: Sequence[int]) -> pyvips.Image:
    """Return `beyond_srgb` as levels of 0..255 that `decoded` reads."""
    return beyond_srgb(picture, info, background) / _STEP + ZERO


def decoded(levels: Pixels) -> Pixels:
    """Return the differences, (rows, columns, 3) float32, that levels of `encoded` stand for; 0 is exact."""
    return (levels - np.float32(ZERO)) * np.float32(_STEP)


def is_wide(picture: pyvips.Image, info: PictureInfo) -> bool:
    """Return whether a file's colour space reaches beyond sRGB, whatever its pixels are."""
    colours = info.channels.colours
    if is_lab(picture, info):
        return True
    if colours != 3:
        return colours == 4 and info.profile is not None
    corners = np.array(list(product((0, 255), repeat=3)), np.uint8)
    cube = pyvips.Image.new_from_memory(corners.tobytes(), len(corners), 1, 3, "uchar").copy(interpretation="srgb")
    extended = _extended_srgb(cube, info)
    return bool(extended.min() < -_MAX_ROUNDING or extended.max() > 255 + _MAX_ROUNDING)


def read_beyond(path: Path, source_config: SourceConfig) -> Pixels:
    """Decode what sRGB cuts off from a file's colours, upright, as `read_photo` decodes the rest.

    Returns:
        (height, width, 3) float32: see `beyond_srgb`.

    Raises:
        UserError: the file is not such a picture, or not complete.
    """
    return decode_upright(path, source_config, beyond_srgb)


def _extended_srgb(colours: pyvips.Image, info: PictureInfo) -> pyvips.Image:
    """Convert colour bands to float values of extended sRGB, 0..255 within sRGB."""
    light = _linear_light(colours, info)
    if light is None:
        # Grey, sRGB, or CMYK without a profile: nothing is beyond.
        return colours.extract_band(0) * 0.0
    negative = encode_light(light * -1.0) * -1.0
    return (light < 0).ifthenelse(negative, encode_light(light))


def _linear_light(colours: pyvips.Image, info: PictureInfo) -> pyvips.Image | None:
    """Convert colour bands to linear light of sRGB's primaries, 0..1 within sRGB; None if nothing is beyond it."""
    if info.space is not None and colours.bands == 3:
        return space_light(colours, info.space)
    if is_lab(colours, info):
        lab = to_lab(colours)
    elif info.profile is None or colours.bands == 1:
        return None
    else:
        space = read_matrix_profile(info.profile) if colours.bands == 3 else None
        if space is not None:
            return space_light(colours, space)
        lab = with_profile(colours, info.profile).icc_import(embedded=True, pcs="lab", intent="relative")
    xyz = lab.Lab2XYZ(temp=[_WHITE_Y * part for part in PCS_WHITE])
    matrix = np.linalg.inv(matrix_to_xyz(SRGB, PCS_WHITE)) / _WHITE_Y
    return xyz.copy(interpretation="multiband").recomb(pyvips.Image.new_from_array(matrix.tolist()))
