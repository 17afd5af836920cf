"""Ink coverage of a picture: of its CMYK pixels, or of those that a press' profile makes of its RGB."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

#: Percent of ink of a full channel.
_FULL = 100.0
#: Sum of four channels of 8 bits.
_MAX_SUM = 4 * 255
#: Pixels that are counted at once: 8 MB as the integers that NumPy counts.
_BATCH = 1 << 20
#: Ink beyond a limit that is no excess, percent: four channels rounded to 8 bits miss their sum by up to 0.8.
ROUNDING = 1.0
#: Least share of black ink in a pixel that counts as black, and most of the other three together in one of black alone.
_BLACK, _PURE = 0.9, 0.05
#: Least share of each of cyan, magenta and yellow that together print as black.
_COMPOSITE = 0.75

#: Function from a strip, (rows, columns, channels) of 8 bits, to the same pixels in CMYK.
Separation = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Ink:
    """Ink of a picture.

    Attributes:
        histogram: Number of pixels by the sum of their four inks, 0..1020 for 0..400 %.
        mixed_black: Share of the pixels that are black of several inks, 0..1.
        separated: True if it was measured on RGB as a press' profile converts it.
    """

    histogram: tuple[int, ...]
    mixed_black: float
    separated: bool = False

    @property
    def maximum(self) -> float:
        """Most ink of any pixel, percent."""
        return float(np.flatnonzero(self.histogram)[-1]) * 4 * _FULL / _MAX_SUM

    def share_over(self, limit: float) -> float:
        """Return the share of the pixels, 0..1, with more than `limit` percent of ink, beyond rounding."""
        counts = np.array(self.histogram)
        percent = np.arange(len(counts)) * (4 * _FULL / _MAX_SUM)
        return float(counts[percent > limit + ROUNDING].sum() / counts.sum())


class InkMeter:
    """Counts ink in a picture that comes strip by strip."""

    def __init__(self, separation: Separation | None = None) -> None:
        """Prepare for CMYK pixels, or for others that `separation` turns into CMYK."""
        self._separation = separation
        self._counts = np.zeros(_MAX_SUM + 1, np.int64)
        self._mixed = 0

    def add(self, strip: NDArray[Any]) -> None:
        """Add rows: (rows, columns, channels) of 8 or 16 bits."""
        rows = max(1, _BATCH // strip.shape[1])
        for top in range(0, len(strip), rows):
            self._add_batch(strip[top : top + rows])

    def _add_batch(self, pixels: NDArray[Any]) -> None:
        # 65,535 / 257 is 255: from 16 bits, each channel is rounded as an export with 8 bits rounds it.
        eight = pixels if pixels.dtype == np.uint8 else ((pixels + np.uint32(128)) // 257).astype(np.uint8)
        if self._separation is not None:
            eight = self._separation(eight)
        cyan, magenta, yellow, black = (eight[..., channel] for channel in range(4))
        colour = cyan.astype(np.uint16) + magenta + yellow
        self._counts += np.bincount((colour + black).ravel(), minlength=_MAX_SUM + 1)
        is_mixed = (black >= _BLACK * 255) & (colour > _PURE * 255)
        is_mixed |= np.minimum(np.minimum(cyan, magenta), yellow) >= _COMPOSITE * 255
        self._mixed += int(np.count_nonzero(is_mixed))

    def result(self) -> Ink:
        """Return the ink of the rows so far, of which there must be one."""
        total = int(self._counts.sum())
        return Ink(tuple(map(int, self._counts)), self._mixed / total, self._separation is not None)


def separation(source: bytes, press: bytes) -> Separation:
    """Return the conversion from RGB to the CMYK of a press, as prints are converted.

    The intent is relative colorimetric with black point compensation.

    Args:
        source: ICC profile of the picture, RGB.
        press: ICC profile of the press, CMYK.
    """
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(source)),
        ImageCms.ImageCmsProfile(io.BytesIO(press)),
        "RGB",
        "CMYK",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )

    def separate(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        colours = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
        picture = ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(colours)), transform)
        assert picture is not None
        return np.asarray(picture)

    return separate
