"""Colours of exported pictures: match with another picture, contrast and saturation.

They are changed in the pictures, never in the canvas. All are linear in the canvas' sRGB values and the same everywhere, so
the parts of a picture fit together. The match comes first. Contrast and saturation commute: saturation does not change the
luma from which contrast is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.export.colour_match import ColourMap
from render.geometry.geometry import CHUNK
from render.source.colour_space import LUMA_WEIGHTS
from render.system import interrupts

#: Keys of `output` by which the colours of pictures differ from the canvas.
COLOUR_KEYS = ("saturation", "contrast", "match")
_WHITE = 255.0
#: Bins of the histogram of luma: one for each value of 16 bits.
_LUMA_BINS = 2**16


@dataclass(frozen=True)
class ColourAdjustment:
    """Change of colours from a canvas to its pictures; none by default.

    Attributes:
        saturation: Factor on the difference between a pixel and the grey of its luma: 0 gives grey, 1 changes nothing.
        black: Level of the canvas, 0..255, that becomes 0.
        white: Level of the canvas, 0..255, that becomes 255.
        match: Map that comes before all others; None for none.
    """

    saturation: float = 1.0
    black: float = 0.0
    white: float = _WHITE
    match: ColourMap | None = None

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return adjusted pixels, (rows, columns, 3) float32, not clipped."""
        if self.match is not None:
            pixels = self.match(pixels)
        if self == ColourAdjustment(match=self.match):
            return pixels
        gain = _WHITE / (self.white - self.black)
        adjusted = pixels * np.float32(gain * self.saturation)
        if self.saturation != 1:
            grey = luma(pixels)
            grey *= np.float32(gain * (1 - self.saturation))
            adjusted += grey[..., np.newaxis]
        adjusted -= np.float32(gain * self.black)
        return adjusted


def luma(pixels: Pixels) -> NDArray[np.float32]:
    """Return the luma of sRGB pixels (ITU-R BT.709): (rows, columns) float32 in their range."""
    weighted = pixels[..., 0] * np.float32(LUMA_WEIGHTS[0])
    for channel in (1, 2):
        weighted += pixels[..., channel] * np.float32(LUMA_WEIGHTS[channel])
    return weighted


def measure_adjustment(
    canvas: CanvasStore, saturation: float, contrast: Sequence[float] | None, match: ColourMap | None = None
) -> ColourAdjustment:
    """Return the adjustment for `output.saturation` and `output.contrast`.

    The level of a percentile is the smallest luma that this share of the pixels does not exceed, to 1/257 level. If both
    percentiles have one level, as on a flat canvas, the contrast is not stretched.

    Args:
        canvas: The canvas; with `contrast` it is read once, strip by strip.
        saturation: Factor; 1 changes nothing.
        contrast: Percentiles of luma, 0..100, that become black and white; None changes nothing.
        match: Map of colours before saturation and contrast; None for none.

    Raises:
        DamagedCheckpoint: the canvas cannot be read.
    """
    if contrast is None:
        return ColourAdjustment(saturation, match=match)
    counts = np.zeros(_LUMA_BINS, np.int64)
    for rect in canvas.rect.bands(multiple=CHUNK):
        interrupts.check()
        pixels = canvas.read(rect)
        lumas = luma(pixels if match is None else match(pixels))
        lumas *= np.float32((_LUMA_BINS - 1) / _WHITE)
        np.rint(lumas, out=lumas)
        np.clip(lumas, 0, _LUMA_BINS - 1, out=lumas)
        counts += np.bincount(lumas.astype(np.uint16).ravel(), minlength=_LUMA_BINS)
    cumulative_counts = np.cumsum(counts)
    black, white = (
        int(np.searchsorted(cumulative_counts, max(1.0, percentile / 100 * float(cumulative_counts[-1]))))
        * _WHITE
        / (_LUMA_BINS - 1)
        for percentile in contrast
    )
    return ColourAdjustment(saturation, black, white, match) if black < white else ColourAdjustment(saturation, match=match)
