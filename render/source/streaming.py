"""Streaming of a picture file from top to bottom, shrunk and converted to sRGB, never whole in memory.

A level that is `shrink` times smaller is always made from the file itself. First the decoder shrinks as far as it can while
it decodes: JPEG by leaving out frequencies of its 8 x 8 blocks, WebP by averaging areas, a pyramidal TIFF by its smaller
pages. Then the mean over squares of the result is taken. All of them are means over the pixels' own values, so that
colours do not shift from level to level, and the result depends on the file and on `shrink` alone.

Some files cannot be streamed: for a progressive JPEG, an interlaced PNG and a WebP at its full size the decoder itself
holds everything while it decodes (3 to 9 bytes a pixel, measured).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from render.source.decoding import decoded_rows
from render.source.facts import Facts, open_file
from render.source.loaders import open_stream
from render.source.photo import not_whole
from render.source.srgb import to_srgb

#: Value in a level per value of 0..255: 8 bits fit exactly into 16.
SCALE = 257
#: Largest factor by which libjpeg can shrink in its inverse transform.
_MOST_BY_JPEG = 8


@dataclass(frozen=True)
class Shrunk:
    """A picture to be decoded: `shape` (rows, columns) samples of uint16 sRGB (0..255 times 257).

    Sample (i, j) is the mean over `factors` (rows, columns) px of the file's picture, starting at (i, j) times `factors`;
    at the far ends it covers the pixels that are left. The picture is as stored in the file, not turned.
    """

    path: Path
    image: pyvips.Image
    factors: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    def rows(self) -> Iterator[NDArray[np.uint16]]:
        """Yield the rows in order, several at a time: (rows, columns, 3).

        Raises:
            UserError: the file is damaged or cut.
        """
        try:
            yield from decoded_rows(self.image)
        except pyvips.Error as error:
            raise not_whole(self.path, error) from None


def open_shrunk(path: Path, background: Sequence[int], shrink: int) -> Shrunk:
    """Open a picture `shrink` (a power of two) times smaller; transparency is laid over `background` (R,G,B).

    Raises:
        UserError: the file is no longer a valid picture.
    """
    try:
        picture, facts = open_file(path)
        options, decoder_factor = _decoder_shrink(picture, facts, shrink)
        shrunk = open_stream(path, **options) if options else picture
        factors = float(decoder_factor), float(decoder_factor)
        if "scale" in options:
            # The decoder rounds the picture's size to whole pixels.
            factors = picture.height / shrunk.height, picture.width / shrunk.width
        image = (to_srgb(shrunk, facts, background) * float(SCALE)).rint().cast("ushort")
        mean_factor = shrink // decoder_factor
        if mean_factor > 1:
            image = image.shrink(mean_factor, mean_factor, ceil=True)
        return Shrunk(path, image, (factors[0] * mean_factor, factors[1] * mean_factor))
    except pyvips.Error as error:
        raise not_whole(path, error) from None


def _decoder_shrink(picture: pyvips.Image, facts: Facts, shrink: int) -> tuple[dict[str, Any], int]:
    """Return the loader's options to shrink as far as it can, up to `shrink`, and the factor it reaches."""
    if facts.kind == "jpeg":
        factor = min(shrink, _MOST_BY_JPEG)
        return ({"shrink": factor}, factor) if factor > 1 else ({}, 1)
    # With transparency, the colours of invisible pixels would enter the mean.
    if facts.kind == "webp" and shrink > 1 and not picture.hasalpha():
        return {"scale": 1 / shrink}, shrink
    return facts.level_options((picture.height, picture.width), shrink)
