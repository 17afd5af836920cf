"""Colours of the pictures: the canvas stays what was dreamed, and what is written of it may be stronger or paler.

Both settings are linear in the canvas' sRGB values and the same everywhere, so a picture's parts fit together. They
commute: saturation leaves the luma alone from which contrast is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from render.canvas.store import CanvasStore
from render.dream.resample import Pixels
from render.geometry.geometry import CHUNK
from render.system import interrupts

#: Keys of `output` that say how pictures differ from the canvas.
COLOUR_KEYS = ("saturation", "contrast")
#: Red, green and blue in luma (ITU-R BT.709), for sRGB values as they are.
_LUMA = (0.2126, 0.7152, 0.0722)
_WHITE = 255.0
#: Lumas that are told apart: as many as 16 bits hold.
_LUMAS = 2**16


@dataclass(frozen=True)
class Colour:
    """What pictures show of a canvas: as it is, or with other `saturation` and `black` and `white` at 0 and 255.

    `saturation` is a factor on what tells a pixel from a grey one of its luma: 0 is grey, 1 as dreamed. `black` and
    `white` are levels of 0..255.
    """

    saturation: float = 1.0
    black: float = 0.0
    white: float = _WHITE

    def __call__(self, pixels: Pixels) -> Pixels:
        """(rows, columns, 3) float32 as pictures show it; not clipped. A pixel's depends on no other one."""
        if self == Colour():
            return pixels
        gain = _WHITE / (self.white - self.black)
        shown = pixels * np.float32(gain * self.saturation)
        if self.saturation != 1:
            grey = luma(pixels)
            grey *= np.float32(gain * (1 - self.saturation))
            shown += grey[..., np.newaxis]
        shown -= np.float32(gain * self.black)
        return shown


def luma(pixels: Pixels) -> NDArray[np.float32]:
    """0.2126 R + 0.7152 G + 0.0722 B (ITU-R BT.709): (rows, columns) float32 in the value range of the pixels."""
    weighted = pixels[..., 0] * np.float32(_LUMA[0])
    for channel in (1, 2):
        weighted += pixels[..., channel] * np.float32(_LUMA[channel])
    return weighted


def measured(canvas: CanvasStore, saturation: float, contrast: Sequence[float] | None) -> Colour:
    """The colours that `output.saturation` and `output.contrast` ask for.

    With `contrast`, two percentiles of 0..100, the canvas is read once, strip by strip, for the levels of luma that they
    lie at: the least luma that such a part of the pixels does not exceed, to 1/257 of a level. Where both lie at one
    level, as on a flat canvas, there is nothing to stretch. Raises `DamagedCheckpoint` when the canvas cannot be read.
    """
    if contrast is None:
        return Colour(saturation)
    counts = np.zeros(_LUMAS, np.int64)
    for rect in canvas.rect.bands(multiple=CHUNK):
        interrupts.check()
        lumas = luma(canvas.read(rect))
        lumas *= np.float32((_LUMAS - 1) / _WHITE)
        np.rint(lumas, out=lumas)
        np.clip(lumas, 0, _LUMAS - 1, out=lumas)
        counts += np.bincount(lumas.astype(np.uint16).ravel(), minlength=_LUMAS)
    reached = np.cumsum(counts)
    black, white = (
        int(np.searchsorted(reached, max(1.0, percentile / 100 * float(reached[-1])))) * _WHITE / (_LUMAS - 1)
        for percentile in contrast
    )
    return Colour(saturation, black, white) if black < white else Colour(saturation)
