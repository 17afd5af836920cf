"""Conversion of any picture's samples to float32 sRGB. It streams: pixels are computed only on demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyvips

from render.source.colour_space import ColourSpace
from render.source.facts import Facts
from render.source.tiff_picture import ICC_LAB

#: Value of white in each supported type of sample.
WHITE = {"uchar": 255.0, "ushort": 65535.0}
_ICC = "icc-profile-data"


def to_srgb(picture: pyvips.Image, facts: Facts, background: Sequence[int]) -> pyvips.Image:
    """Return a picture of 8 or 16 bits as three bands of float32 sRGB, 0..255 except for rounding, not computed yet.

    `picture` is the one in the file, or a smaller copy. Transparency is laid over `background` (R,G,B).
    """
    channel_roles = facts.channels
    alpha = None if channel_roles.alpha is None else picture[channel_roles.alpha].cast("float") / WHITE[picture.format]
    stored = picture.extract_band(0, n=channel_roles.colours) if channel_roles.colours < picture.bands else picture
    colours = _in_srgb(stored, facts)
    if colours.bands == 1:
        colours = colours.bandjoin([colours, colours])
    if alpha is not None:
        colours = colours * alpha + (alpha * -1.0 + 1.0) * list(background)
    return colours.cast("float")


def _in_srgb(colours: pyvips.Image, facts: Facts) -> pyvips.Image:
    """Return colours without other channels as float sRGB values 0..255."""
    if facts.space is not None and colours.bands in (1, 3):
        return _measured(colours, facts.space)
    if colours.interpretation == "labs" or facts.photometric == ICC_LAB:
        colours = _lab(colours).icc_export(output_profile="srgb", depth=16, intent="relative")
    elif facts.profile is not None:
        if colours.get_typeof(_ICC) == 0:
            # A smaller copy has the profile of the full picture.
            colours = colours.copy()
            colours.set_type(pyvips.GValue.blob_type, _ICC, facts.profile)
        if colours.format == "uchar":
            colours = colours.icc_transform("srgb", embedded=True, depth=8)
        else:
            # A single conversion of 16 bits uses a coarse table: up to 15 levels of 255 wrong where a channel clips.
            colours = colours.icc_import(embedded=True, pcs="lab", intent="relative")
            colours = colours.icc_export(output_profile="srgb", depth=16, intent="relative")
    elif colours.interpretation == "cmyk":
        colours = colours.colourspace("srgb")
    return colours.cast("float") * (255.0 / WHITE[colours.format])


def _lab(colours: pyvips.Image) -> pyvips.Image:
    """Return CIE L*a*b* of D50 as float, L 0..100.

    ICC stores L as 0..255, or 0..65280, and a and b with an offset (Adobe Photoshop TIFF technical notes, 2002).
    """
    if colours.interpretation == "labs":
        return colours.colourspace("lab")
    step = 1.0 if colours.format == "uchar" else 1 / 256
    top = 255.0 if colours.format == "uchar" else 65280.0
    lab = colours.cast("float").linear([100 / top, step, step], [0.0, -128.0, -128.0])
    return lab.copy(interpretation="lab")


def _measured(colours: pyvips.Image, space: ColourSpace) -> pyvips.Image:
    """Convert a space of curves and primaries to sRGB: exactly, as a table holds every one of at most 65536 values."""
    values = np.linspace(0.0, 1.0, int(WHITE[colours.format]) + 1)
    curves = np.stack([space.light(values, channel) for channel in range(colours.bands)], -1).astype(np.float32)
    table = pyvips.Image.new_from_memory(np.ascontiguousarray(curves).data, len(values), 1, colours.bands, "float")
    light = colours.maplut(table)
    matrix = space.matrix
    if matrix is not None and colours.bands == 3:
        light = light.recomb(pyvips.Image.new_from_array(matrix.tolist()))
    light = (light > 0).ifthenelse(light, 0.0)
    light = (light < 1).ifthenelse(light, 1.0)
    # IEC 61966-2-1.
    curve = light ** (1 / 2.4) * (1.055 * 255) - 0.055 * 255
    return (light <= 0.0031308).ifthenelse(light * (12.92 * 255), curve)
