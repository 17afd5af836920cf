"""Colour spaces that files state by numbers instead of an ICC profile. Pure.

A space is a transfer curve from stored values to linear light, and the chromaticities of its primaries and white. Light is
converted to sRGB's primaries by the matrices of both spaces (SMPTE RP 177), and between whites by Bradford's adaptation,
as in ICC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Transfer function, from stored values 0..1 to linear light 0..1, element by element.
Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

#: CIE 1931 x, y of white, red, green and blue: eight numbers.
Chromaticities = tuple[float, ...]

#: Weights of red, green and blue in luma (ITU-R BT.709, 3.2).
LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)

_D65 = (0.3127, 0.3290)
#: X, Y, Z of the white of ICC's profile connection space, D50 (ICC.1:2022, 6.3.4.3).
PCS_WHITE = (0.9642, 1.0, 0.8249)
SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE: Chromaticities = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
#: Adobe RGB (1998), 4.3.1.2.
ADOBE_GAMMA = 563 / 256
#: Largest difference of chromaticities that count as equal: files round them.
_MAX_ROUNDING = 1e-3
#: Least area of the triangle of primaries in the chromaticity diagram; the matrix of a smaller one has no usable inverse.
_MIN_PRIMARIES_AREA = 1e-4
#: Largest and smallest plausible x and y: primaries of some spaces lie outside the spectrum's locus, 0..1.
_MIN_COORDINATE, _MAX_COORDINATE = -1, 2
#: Least y of a white: its X and Z are multiples of 1 / y.
_MIN_WHITE_Y = 0.01
#: Cone responses from X, Y, Z (ICC.1:2022, annex E).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

#: Chromaticities by ColourPrimaries (ITU-T H.273, table 2).
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
#: Reserved or unspecified code points of H.273: they state no colour space.
_UNSPECIFIED = (0, 2, 3)


class UnknownColourSpace(ValueError):
    """Error for a colour space whose values cannot be converted to sRGB without a guess."""


@dataclass(frozen=True)
class ColourSpace:
    """Colour space of a picture's samples.

    Attributes:
        name: Field of the file that states the space, for messages.
        curves: One transfer curve for all channels, or one for each.
        chromaticities: x, y of white, red, green and blue.
        value_range: Stored values, 0..1, of black and white; narrower than 0..1 for video levels.
    """

    name: str
    curves: tuple[Curve, ...]
    chromaticities: Chromaticities = SRGB
    value_range: tuple[float, float] = (0.0, 1.0)

    def light(self, values: NDArray[np.float64], channel: int) -> NDArray[np.float64]:
        """Return linear light, 0..1, for stored values, 0..1, of one channel."""
        black, white = self.value_range
        return self.curves[channel % len(self.curves)](np.clip((values - black) / (white - black), 0.0, 1.0))

    @property
    def matrix(self) -> NDArray[np.float64] | None:
        """Matrix (3, 3) from this space's linear R,G,B to sRGB's; None if the primaries are sRGB's."""
        if same_chromaticities(self.chromaticities, SRGB):
            return None
        return np.linalg.inv(matrix_to_xyz(SRGB)) @ matrix_to_xyz(self.chromaticities)


def same_chromaticities(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether two spaces have the same primaries and white, except for rounding."""
    return bool(np.allclose(first, second, rtol=0.0, atol=_MAX_ROUNDING))


def is_sensible(chromaticities: Sequence[float]) -> bool:
    """Return whether the primaries span a triangle and white lies inside it."""
    numbers = np.asarray(chromaticities, np.float64)
    if numbers.shape != (8,) or not np.isfinite(numbers).all():
        return False
    if numbers.min() < _MIN_COORDINATE or numbers.max() > _MAX_COORDINATE:
        return False
    white, red, green, blue = numbers.reshape(4, 2)
    area = abs(float(np.linalg.det(np.stack([green - red, blue - red])))) / 2
    return area > _MIN_PRIMARIES_AREA and white[1] > _MIN_WHITE_Y and bool((_primary_amounts(numbers) > 0).all())


def gamma_curve(exponent: float) -> Curve:
    """Return the curve light = value ** exponent."""
    return lambda values: values**exponent


def table_curve(table: Sequence[float] | NDArray[np.float64]) -> Curve:
    """Return the curve that interpolates in a table of light, 0..1, for evenly spaced values."""
    entries = np.asarray(table, np.float64)
    return lambda values: np.interp(values * (len(entries) - 1), np.arange(len(entries)), entries)


def extended_light(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the linear light of extended sRGB values, 0..1 and beyond: the curve, continued with the sign of values."""
    sizes = np.abs(values)
    light = np.where(sizes <= 0.04045, sizes / np.float32(12.92), ((sizes + np.float32(0.055)) / np.float32(1.055)) ** 2.4)
    return np.copysign(light, values).astype(np.float32, copy=False)


def srgb_curve(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the linear light, 0..1, of sRGB values, 0..1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _bt709_curve(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the linear light of ITU-R BT.709 and BT.2020 values."""
    alpha, beta = 1.09929682680944, 0.018053968510807
    return np.where(values < 4.5 * beta, values / 4.5, ((values + alpha - 1) / alpha) ** (1 / 0.45))


def _smpte240_curve(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the linear light of SMPTE ST 240 values."""
    alpha, beta = 1.111572195921731, 0.022821585529445
    return np.where(values < 4 * beta, values / 4, ((values + alpha - 1) / alpha) ** (1 / 0.45))


#: Curves by TransferCharacteristics (ITU-T H.273, table 3).
_CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 14, 15), _bt709_curve),
    **{4: gamma_curve(2.2), 5: gamma_curve(2.8), 7: _smpte240_curve, 8: gamma_curve(1.0), 13: srgb_curve},
}
#: TransferCharacteristics of high dynamic range.
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


def coded_space(primaries: int, transfer: int, full_range: bool, bits: int) -> ColourSpace | None:
    """Return the colour space of H.273's code points; None if they do not specify one.

    Args:
        primaries: ColourPrimaries.
        transfer: TransferCharacteristics.
        full_range: False for video levels: 8-bit values 16 to 235, and in proportion for more bits.
        bits: Bits of a sample.

    Raises:
        UnknownColourSpace: for high dynamic range and rare code points, which only a guess would convert to sRGB.
    """
    if primaries in _UNSPECIFIED or transfer in _UNSPECIFIED:
        return None
    if transfer in _HDR_TRANSFERS:
        raise UnknownColourSpace(f"its colours are of high dynamic range ({_HDR_TRANSFERS[transfer]})")
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise UnknownColourSpace(f"its colours are coded in an unusual way (primaries {primaries}, transfer {transfer})")
    step = 2 ** (bits - 8) / (2**bits - 1)
    value_range = (0.0, 1.0) if full_range else (16 * step, 235 * step)
    return ColourSpace("cICP", (_CURVES[transfer],), _PRIMARIES[primaries], value_range)


def _primary_amounts(chromaticities: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the amounts (3,) of red, green and blue whose sum is white."""
    numbers = np.asarray(chromaticities, np.float64)
    return np.asarray(np.linalg.solve(_xyz(numbers[2:]), _xyz(numbers[:2])[:, 0]), np.float64)


def _xyz(chromaticities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (3, n) columns of X, Y, Z for n pairs of x, y.

    Each has X + Y + Z = 1; a single pair (white) has Y = 1.
    """
    pairs = chromaticities.reshape(-1, 2)
    columns = np.stack([pairs[:, 0], pairs[:, 1], 1 - pairs.sum(1)])
    return np.asarray(columns / pairs[0, 1] if len(pairs) == 1 else columns, np.float64)


def matrix_to_xyz(chromaticities: Chromaticities, adapted_white: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Return the matrix (3, 3) from linear R,G,B to X, Y, Z, adapted to another white.

    Args:
        chromaticities: x, y of white, red, green and blue.
        adapted_white: X, Y, Z of that white; None for D65.
    """
    numbers = np.asarray(chromaticities, np.float64)
    to_xyz = _xyz(numbers[2:]) * _primary_amounts(numbers)
    target = _xyz(np.array(_D65))[:, 0] if adapted_white is None else np.asarray(adapted_white, np.float64)
    white, adapted = _BRADFORD @ _xyz(numbers[:2])[:, 0], _BRADFORD @ target
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(adapted / white) @ _BRADFORD @ to_xyz, np.float64)
