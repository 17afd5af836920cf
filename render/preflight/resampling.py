"""Traces of enlargement in the spectrum of a picture's lines.

A picture that was enlarged by a factor s with any kernel is a narrow spectrum, repeated every 1/s cycles a pixel and
weighted by the kernel. So two things are true of it, and of no other picture:

- It is band-limited: below 0.5/s its spectrum falls as that of any picture does, and from there on it drops.
- What the kernel leaves above 0.5/s mirrors what lies below: the products of X(0.5/s + d) and X(0.5/s - d) have one phase
  for all d and all lines. Their coherence, 0..1, is near 1, and at any other s it is no greater than chance has it.

A photograph out of focus is band-limited without a mirror. A dream, whose octaves are enlarged by 1.4, has mirrors, but is
dreamed on at full size, so it is not band-limited. Neither cutting nor moving a picture changes a coherence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.ndimage import median_filter

#: Longest and shortest piece of a line that is transformed at once, px.
_MAX_PIECE, MIN_PIECE = 4096, 128
#: Factors that are looked for. Below the first, a print loses nothing that is seen.
MIN_FACTOR, MAX_FACTOR = 1.7, 40.0
#: Fewest pixels that a picture had along an axis before it was enlarged: fewer are a chessboard.
_MIN_SOURCE_PX = 24
#: Mean step between pixels, levels of 255, below which a line is flat and counts the less.
_LEAST_ROUGHNESS = 0.5
#: Most pairs of frequencies on either side of a mirror, and the part of its frequency up to which they lie.
_MAX_PAIRS, _PAIR_PART = 24, 1 / 6
#: Frequencies of the bands below and above a mirror, in units of the mirror's.
_LOW, _BELOW, _ABOVE = (0.15, 0.4), (0.5, 0.85), (1.25, 1.95)


@dataclass(frozen=True)
class Mirror:
    """A mirror in the spectrum of an axis.

    Attributes:
        factor: Factor of enlargement that has it.
        error: Error of the factor, as a part.
        coherence: Coherence of its two sides above that of neighbouring frequencies, 0..1.
        drop_db: Fall of the spectrum at it, beyond that of any picture, dB.
        slope_db: Fall from low frequencies to it, likewise.
    """

    factor: float
    error: float
    coherence: float
    drop_db: float
    slope_db: float


class ResamplingMeter:
    """Collects the spectrum of an axis, and the coherence of its mirrors, from lines."""

    def __init__(self, length: int) -> None:
        """Prepare for lines of `length` px."""
        self._piece = min(length, _MAX_PIECE)
        self._starts = list(range(0, length - self._piece + 1, self._piece))
        bins = self._piece // 2 + 1
        self._window = np.hanning(self._piece).astype(np.float32)
        self._power = np.zeros(bins)
        # A mirror lies at half of each of these bins, which is the sum of any two bins on either side of it.
        lowest = max(_MIN_SOURCE_PX, int(self._piece / MAX_FACTOR))
        self._mirrors = np.arange(lowest, max(lowest, int(self._piece / MIN_FACTOR)))
        self._products = np.zeros((len(self._starts), len(self._mirrors)), np.complex128)
        self.lines = 0

    def add(self, lines: NDArray[np.float32]) -> None:
        """Add lines, (lines, length) in levels of 255."""
        if self._piece < MIN_PIECE:
            return
        self.lines += len(lines)
        for index, start in enumerate(self._starts):
            piece = lines[:, start : start + self._piece]
            # Lines of equal weight: a few letters that were added to an enlargement hide it on their own lines alone.
            roughness = np.abs(np.diff(piece, axis=1)).mean(axis=1, keepdims=True) + _LEAST_ROUGHNESS
            spectrum = rfft((piece - piece.mean(axis=1, keepdims=True)) / roughness * self._window, axis=1)
            self._power += (np.abs(spectrum) ** 2).sum(axis=0, dtype=np.float64)
            for below, above, used in self._pairs():
                self._products[index, used] += (spectrum[:, below] * spectrum[:, above]).sum(axis=0)

    def _pairs(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
        """Return, for each distance from the mirrors, the bins below, those above, and the mirrors that have the pair."""
        lower = self._mirrors // 2
        most = np.clip(lower * _PAIR_PART, 3, _MAX_PAIRS)
        pairs = []
        for distance in range(1, _MAX_PAIRS + 1):
            below, above = lower - distance, self._mirrors - lower + distance
            used = (distance <= most) & (below > 1) & (above < len(self._power))
            pairs.append((below[used], above[used], used))
        return pairs

    def mirrors(self, min_coherence: float) -> list[Mirror]:
        """Return the mirrors of at least a coherence above their neighbourhood, the largest factor first."""
        if self._piece < MIN_PIECE or not self.lines or not len(self._mirrors):
            return []
        coherence = self._coherence()
        excess = coherence - median_filter(coherence, max(9, len(coherence) // 12) | 1)
        peaks = [
            at for at in np.flatnonzero(excess >= min_coherence) if excess[at] == excess[max(0, at - 3) : at + 4].max()
        ]
        return [self._mirror(int(self._mirrors[at]), float(excess[at])) for at in peaks]

    def _coherence(self) -> NDArray[np.float64]:
        products = np.abs(self._products).sum(axis=0)
        greatest = np.zeros(len(self._mirrors))
        for below, above, used in self._pairs():
            greatest[used] += np.sqrt(self._power[below] * self._power[above])
        return products / np.maximum(greatest, 1e-9)

    def _mirror(self, bin_sum: int, coherence: float) -> Mirror:
        centre = bin_sum / 2
        low, below, above = (self._level(centre, band) for band in (_LOW, _BELOW, _ABOVE))
        return Mirror(self._piece / bin_sum, 0.5 / bin_sum, coherence, below - above, low - below)

    def _level(self, centre: float, band: tuple[float, float]) -> float:
        """Return the level of a band, dB, of the spectrum made flat: that of most pictures falls as 1 / frequency^2."""
        first = max(2, round(centre * band[0]))
        bins = np.arange(first, min(max(first + 1, round(centre * band[1]) + 1), len(self._power)))
        return float(10 * np.log10(np.mean(self._power[bins] * bins.astype(float) ** 2) + 1e-9)) if len(bins) else 0.0
