"""Streaming of a picture file, shrunk and converted to sRGB, never whole in memory.

A level that is `shrink` times smaller is always made from the file itself. First the decoder shrinks as far as it can while
it decodes: JPEG by leaving out frequencies of its 8 x 8 blocks, WebP by averaging areas, a pyramidal TIFF by its smaller
pages. Then the mean over squares of the result is taken. All of these are means of stored values, so colours do not shift
from level to level, and the result depends on the file and on `shrink` only.

Some files cannot be streamed: for a progressive JPEG, an interlaced PNG and a WebP at its full size the decoder itself
holds everything while it decodes (3 to 9 bytes a pixel, measured).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from render.canvas.image import UINT16_PER_LEVEL
from render.source.decoding import decode_rows
from render.source.loaders import open_stream
from render.source.photo import damaged_picture
from render.source.picture_info import PictureInfo, open_file
from render.source.srgb import to_srgb

#: Largest factor by which libjpeg can shrink in its inverse transform.
_MAX_JPEG_SHRINK = 8


@dataclass(frozen=True)
class ShrunkPicture:
    """A picture to be decoded, shrunk, as stored in its file and not turned upright.

    Sample (i, j) is the mean over `factors` px of the file's picture, starting at (i, j) times `factors`; at the far ends
    it covers the pixels that are left.

    Attributes:
        path: File of the picture.
        image: Image of uint16 sRGB, 257 per level of 8 bits, not computed yet.
        factors: (rows, columns) px of the file's picture per sample.
    """

    path: Path
    image: pyvips.Image
    factors: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) samples."""
        return self.image.height, self.image.width

    def rows(self) -> Iterator[NDArray[np.uint16]]:
        """Yield the samples from top to bottom, several rows at a time: (rows, columns, 3) uint16.

        Raises:
            UserError: the file is damaged or cut.
        """
        try:
            yield from decode_rows(self.image)
        except pyvips.Error as error:
            raise damaged_picture(self.path, error) from None


#: Converts a picture with these properties, over a background, to levels of 0..255: `to_srgb` is one.
Conversion = Callable[[pyvips.Image, PictureInfo, Sequence[int]], pyvips.Image]


def open_shrunk(path: Path, background: Sequence[int], shrink: int, conversion: Conversion = to_srgb) -> ShrunkPicture:
    """Open a picture to be decoded `shrink` times smaller.

    Args:
        path: File of the picture.
        background: R,G,B, 0..255, laid under transparent pixels.
        shrink: A power of two.
        conversion: Converts the decoded picture.

    Raises:
        UserError: the file is no longer a valid picture.
    """
    try:
        picture, info = open_file(path)
        options, decoder_factor = _decoder_shrink(picture, info, shrink)
        shrunk = open_stream(path, **options) if options else picture
        factors = float(decoder_factor), float(decoder_factor)
        if "scale" in options:
            # The decoder rounds the picture's size to whole pixels.
            factors = picture.height / shrunk.height, picture.width / shrunk.width
        image = (conversion(shrunk, info, background) * float(UINT16_PER_LEVEL)).rint().cast("ushort")
        mean_factor = shrink // decoder_factor
        if mean_factor > 1:
            image = image.shrink(mean_factor, mean_factor, ceil=True)
        return ShrunkPicture(path, image, (factors[0] * mean_factor, factors[1] * mean_factor))
    except pyvips.Error as error:
        raise damaged_picture(path, error) from None


def _decoder_shrink(picture: pyvips.Image, info: PictureInfo, shrink: int) -> tuple[dict[str, Any], int]:
    """Return the loader's options to shrink by at most `shrink`, and the factor it reaches."""
    if info.kind == "jpeg":
        factor = min(shrink, _MAX_JPEG_SHRINK)
        return ({"shrink": factor}, factor) if factor > 1 else ({}, 1)
    # Not with transparency: the colours of invisible pixels would enter the mean.
    if info.kind == "webp" and shrink > 1 and not picture.hasalpha():
        return {"scale": 1 / shrink}, shrink
    return info.level_options((picture.height, picture.width), shrink)
