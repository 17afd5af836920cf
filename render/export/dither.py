"""Dithering of pictures of 8 bits, which keeps smooth colours free of bands.

Each sample is rounded up or down by comparing the part of it between two levels with a threshold. Thresholds are a hash of
row, column and channel, so a pixel depends on neither strips, tiles, threads nor formats. They are spread evenly over one
level: the mean of many samples of one value is that value, and whole levels stay as they are.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyvips
from numpy.typing import NDArray

from render.canvas.image import UINT16_PER_LEVEL

#: Side of the square of thresholds, px; it is repeated over larger pictures.
PERIOD = 1024
#: Types of images by the type of their 16-bit form, where the two have different names.
_EIGHT_BIT_TYPES = {"rgb16": "srgb", "grey16": "b-w"}


@cache
def thresholds(channels: int) -> NDArray[np.uint16]:
    """Return the thresholds of a square of pixels: (PERIOD, PERIOD, channels) uint16, 0..256, in 1/257 level."""
    positions = np.arange(PERIOD, dtype=np.uint64)
    keys = (positions[:, None, None] << np.uint64(32)) | (positions[None, :, None] << np.uint64(4))
    hashes = _mixed(keys | np.arange(channels, dtype=np.uint64))
    return ((hashes >> np.uint64(32)) * np.uint64(UINT16_PER_LEVEL) >> np.uint64(32)).astype(np.uint16)


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return hashes of 64-bit keys: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = (keys + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def dithered(image: pyvips.Image) -> pyvips.Image:
    """Return an image of 16 bits rounded to 8 bits by the thresholds; nothing is computed yet.

    Args:
        image: Image of type `ushort`, 257 for each level of 8 bits. Its pixel (0, 0) has the first threshold.
    """
    square = pyvips.Image.new_from_memory(thresholds(image.bands).data, PERIOD, PERIOD, image.bands, "ushort")
    across, down = -(-image.width // PERIOD), -(-image.height // PERIOD)
    pattern = square.replicate(across, down).crop(0, 0, image.width, image.height)
    # Divided, not multiplied by 1 / 257, which would round some whole levels down. The cast cuts off what is left.
    levels = ((image.copy(interpretation="multiband") + pattern) / UINT16_PER_LEVEL).cast("uchar")
    return levels.copy(interpretation=_EIGHT_BIT_TYPES.get(image.interpretation, image.interpretation))
