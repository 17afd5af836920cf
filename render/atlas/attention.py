"""Mask of a picture: how far the network looked at each pixel while it was drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Sigma of the mask's blur, as a share of the side, and the shares of pixels below transparent and above opaque.
_BLUR, _TRANSPARENT, _OPAQUE = 1 / 64, 0.05, 0.9


def opacity(attention: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the mask, (side, side) uint8, of the sum of |gradient| at each pixel, (side, side).

    The sum is blurred, and scaled between two of its quantiles. It shows where the class or the channel is, as the sum of
    gradients does in MACO (Fel 2023).
    """
    side = attention.shape[0]
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    kernel = np.exp(-2 * (np.pi * _BLUR * side) ** 2 * (rows**2 + columns**2))
    blurred = np.fft.irfft2(np.fft.rfft2(attention.astype(np.float64)) * kernel, s=(side, side))
    low, high = np.quantile(blurred, (_TRANSPARENT, _OPAQUE))
    if high <= low:
        return np.full((side, side), 255, np.uint8)
    return np.rint(255 * np.clip((blurred - low) / (high - low), 0, 1)).astype(np.uint8)
