"""Streams a picture file from top to bottom, shrunk on the way and in sRGB, so that it is never whole in memory.

A level that is `shrink` times smaller is always made from the file itself: first the decoder shrinks as far as it can while
it decodes (JPEG by leaving out frequencies of its 8 x 8 blocks, WebP by averaging areas, a pyramidal TIFF by having smaller
pages), then the mean over squares of what is left is taken. All of them are means over the pixels' own values, so that
colours do not shift from level to level, and what comes out depends on the file and on `shrink` alone.

Some files cannot be streamed: of a progressive JPEG, an interlaced PNG and a WebP at its full size the decoder itself holds
everything while it decodes (3 to 9 bytes a pixel, measured).
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

#: A level's value of a level of 255: 8 bits fit 16 exactly.
SCALE = 257
#: What libjpeg can shrink by in its inverse transform at most.
_MOST_BY_JPEG = 8


@dataclass(frozen=True)
class Shrunk:
    """A picture about to be decoded: `shape` (rows, columns) samples of uint16 sRGB (0..255 times 257).

    Sample (i, j) is the mean over `factors` (rows, columns) px of the file's picture from (i, j) times `factors` on; at the
    far ends over as many as there are. The picture is as it lies in the file, not turned.
    """

    path: Path
    image: pyvips.Image
    factors: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    def rows(self) -> Iterator[NDArray[np.uint16]]:
        """The rows in order, some at a time: (rows, columns, 3). Raises `UserError` where the file is damaged or cut."""
        try:
            yield from decoded_rows(self.image)
        except pyvips.Error as error:
            raise not_whole(self.path, error) from None


def open_shrunk(path: Path, background: Sequence[int], shrink: int) -> Shrunk:
    """The picture in a file, `shrink` (a power of two) times smaller; transparency is laid over `background` (R,G,B).

    Raises `UserError` for what is no picture any more.
    """
    try:
        picture, facts = open_file(path)
        options, done = _decoder_shrink(picture, facts, shrink)
        shrunk = open_stream(path, **options) if options else picture
        factors = float(done), float(done)
        if "scale" in options:
            # The whole is fitted to a whole number of pixels.
            factors = picture.height / shrunk.height, picture.width / shrunk.width
        image = (to_srgb(shrunk, facts, background) * float(SCALE)).rint().cast("ushort")
        rest = shrink // done
        if rest > 1:
            image = image.shrink(rest, rest, ceil=True)
        return Shrunk(path, image, (factors[0] * rest, factors[1] * rest))
    except pyvips.Error as error:
        raise not_whole(path, error) from None


def _decoder_shrink(picture: pyvips.Image, facts: Facts, shrink: int) -> tuple[dict[str, Any], int]:
    """The loader's options with which it shrinks as far as it can, up to `shrink`, and how far that is."""
    if facts.kind == "jpeg":
        done = min(shrink, _MOST_BY_JPEG)
        return ({"shrink": done}, done) if done > 1 else ({}, 1)
    # With transparency the colours of invisible pixels would be averaged in.
    if facts.kind == "webp" and shrink > 1 and not picture.hasalpha():
        return {"scale": 1 / shrink}, shrink
    return facts.level_options((picture.height, picture.width), shrink)
