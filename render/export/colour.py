"""Colours of the exported pictures: saturation and contrast are changed in the pictures, never in the canvas.

Both settings are linear in the canvas' sRGB values and the same everywhere, so the parts of a picture fit together. They
commute: saturation does not change the luma from which contrast is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.geometry.geometry import CHUNK
from render.system import interrupts

#: Keys of `output` by which pictures differ from the canvas.
COLOUR_KEYS = ("saturation", "contrast")
#: Weights of red, green and blue in luma (ITU-R BT.709), applied to sRGB values directly.
_LUMA = (0.2126, 0.7152, 0.0722)
_WHITE = 255.0
#: Number of distinct lumas: as many as 16 bits hold.
_LUMAS = 2**16


@dataclass(frozen=True)
class Colour:
    """Colours of pictures of a canvas: unchanged by default.

    `saturation` is a factor on the difference between a pixel and the grey of its luma: 0 is grey, 1 is unchanged. `black`
    and `white`, levels of 0..255 in the canvas, become 0 and 255.
    """

    saturation: float = 1.0
    black: float = 0.0
    white: float = _WHITE

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return (rows, columns, 3) float32 pixels with these colours, not clipped; each pixel is computed alone."""
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
    """Return 0.2126 R + 0.7152 G + 0.0722 B (ITU-R BT.709): (rows, columns) float32 in the value range of the pixels."""
    weighted = pixels[..., 0] * np.float32(_LUMA[0])
    for channel in (1, 2):
        weighted += pixels[..., channel] * np.float32(_LUMA[channel])
    return weighted


def measured(canvas: CanvasStore, saturation: float, contrast: Sequence[float] | None) -> Colour:
    """Return the colours for `output.saturation` and `output.contrast`.

    With `contrast`, two percentiles of 0..100, the canvas is read once, strip by strip, to find their levels of luma: the
    smallest luma that this share of the pixels does not exceed, to 1/257 of a level. If both are at one level, as on a flat
    canvas, the contrast is not stretched. Raises `DamagedCheckpoint` when the canvas cannot be read.
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
    cumulative_counts = np.cumsum(counts)
    black, white = (
        int(np.searchsorted(cumulative_counts, max(1.0, percentile / 100 * float(cumulative_counts[-1]))))
        * _WHITE
        / (_LUMAS - 1)
        for percentile in contrast
    )
    return Colour(saturation, black, white) if black < white else Colour(saturation)
