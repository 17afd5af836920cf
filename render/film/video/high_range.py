"""Tone mapping of HDR frames (PQ, HLG) to BT.709, by a curve that leaves mid tones alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Diffuse white of HDR, cd/m2 (BT.2408), which becomes white here, and the brightest light that is still told apart.
WHITE_NITS = 203.0
PEAK_NITS = 1000.0
#: BT.2020 to BT.709 for linear light (BT.2087).
_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_STRIP_ROWS = 64


def tone_mapped(picture: np.ndarray, transfer: str) -> np.ndarray:
    """Return a picture in BT.709.

    Light is divided by diffuse white; the largest of R, G, B follows Reinhard's extended curve
    x (1 + x / p^2) / (1 + x), p the peak, and the others keep their ratio to it.

    Args:
        picture: (rows, columns, 3), BT.2020, 0..65535.
        transfer: `pq` (SMPTE ST 2084) or `hlg` (ARIB STD-B67).

    Returns:
        (rows, columns, 3), BT.709, 0..65535.
    """
    mapped = np.empty_like(picture)
    for top in range(0, len(picture), _STRIP_ROWS):
        mapped[top : top + _STRIP_ROWS] = _mapped_strip(picture[top : top + _STRIP_ROWS], transfer)
    return mapped


def _mapped_strip(strip: np.ndarray, transfer: str) -> np.ndarray:
    light = _light_table(transfer)[strip]
    if transfer == "hlg":
        # The system gamma of a 1000 cd/m2 screen (BT.2100) is applied to luminance.
        luminance = (light * _BT2020_LUMA).sum(-1, keepdims=True)
        light = light * np.maximum(luminance, np.float32(1e-6)) ** np.float32(0.2) * np.float32(PEAK_NITS / WHITE_NITS)
    red, green, blue = light[..., 0], light[..., 1], light[..., 2]
    linear = np.stack([row[0] * red + row[1] * green + row[2] * blue for row in _TO_BT709], axis=-1)
    linear = np.maximum(linear, np.float32(0))
    largest = linear.max(-1, keepdims=True)
    peak = np.float32(PEAK_NITS / WHITE_NITS)
    linear *= (1 + largest / peak**2) / (1 + largest)
    linear = np.minimum(linear, np.float32(1))
    coded = np.where(linear < 0.018, 4.5 * linear, 1.099 * linear ** np.float32(0.45) - 0.099)
    return np.rint(coded * 65535).astype(np.uint16)


@lru_cache(maxsize=2)
def _light_table(transfer: str) -> np.ndarray:
    """Return light by coded value: PQ in units of diffuse white, HLG's scene light 0..1."""
    coded = np.arange(65536) / 65535
    if transfer == "hlg":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)
        return light.astype(np.float32)
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = coded ** (1 / m2)
    nits = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return (nits / WHITE_NITS).astype(np.float32)
