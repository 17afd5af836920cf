"""Tones of a picture: how many levels it uses, bands in its gradients, and whether its ends are cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Levels of 255 by which neighbouring bands of a posterised gradient differ. Up to 2 is what 8 bits and a change of
#: contrast make of any gradient; more than 40 is an edge.
_MIN_BAND_STEP, _MAX_BAND_STEP = 3.0, 40.0
#: Fewest pixels of a band, and fewest steps of one direction in a row that make bands a gradient.
_MIN_BAND_PX, _MIN_STEPS = 4, 3
#: Least number of levels of a picture that is no flat graphic, and most that 8 bits have.
MIN_LEVELS, _LEVELS_OF_8_BITS = 48, 256
#: Level of 255 of the brightest channel, below which a pixel is dark: nobody misses the colour of black.
_DARK = 64
#: Fewest samples of a channel that tell how many levels it has.
_MIN_SAMPLES = 20_000


@dataclass(frozen=True)
class Tones:
    """Tones of a picture, from sampled lines.

    Attributes:
        levels: Number of levels that the channel with the most levels uses.
        samples: Number of sampled pixels.
        banded: Share of the samples that lie in the bands of posterised gradients, 0..1.
        band_step: Median difference between these bands, levels of 255; 0 without bands.
        lost: By channel, shares of the samples whose tones were cut off at its lowest and at its highest value, 0..1. These
            are pixels in which another channel still varies: white paper, black ink and flat colours lose nothing.
    """

    levels: int
    samples: int
    banded: float
    band_step: float
    lost: tuple[tuple[float, float], ...]

    @property
    def is_8_bit(self) -> bool:
        """Whether samples of 16 bits hold a picture of 8."""
        return MIN_LEVELS <= self.levels <= _LEVELS_OF_8_BITS and self.samples >= _MIN_SAMPLES


class ToneMeter:
    """Counts levels and bands in the sampled lines of a picture."""

    def __init__(self, channels: int, white: int) -> None:
        """Prepare for lines of `channels` channels whose highest value is `white`."""
        self._white = white
        self._counts = np.zeros((channels, white + 1), np.int64)
        self._banded = np.zeros((2, channels), np.int64)
        self._samples = np.zeros(2, np.int64)
        self._lost = np.zeros((channels, 2), np.int64)
        self._steps: list[float] = []

    def add(self, lines: NDArray[Any], axis: int) -> None:
        """Add lines along an axis, 1 for rows and 0 for columns: (lines, length, channels)."""
        self._samples[axis] += lines.shape[0] * lines.shape[1]
        if axis == 1:
            self._lost += lost_tones(lines, self._white)
        for channel in range(lines.shape[2]):
            values = np.ascontiguousarray(lines[..., channel])
            if axis == 1:
                self._counts[channel] += np.bincount(values.ravel(), minlength=self._white + 1)
            for line in values:
                banded, steps = bands(line, 255 / self._white)
                self._banded[axis, channel] += banded
                self._steps.extend(steps)

    def result(self) -> Tones:
        """Return the tones of the lines so far."""
        samples = max(1, int(self._samples[1]))
        share = self._banded / np.maximum(self._samples, 1)[:, np.newaxis]
        return Tones(
            int(np.count_nonzero(self._counts, axis=1).max()),
            int(self._samples[1]),
            float(share.max()),
            float(np.median(self._steps)) if self._steps else 0.0,
            tuple((int(low) / samples, int(high) / samples) for low, high in self._lost),
        )


def lost_tones(lines: NDArray[Any], white: int) -> NDArray[np.int64]:
    """Return how many pixels lost tones at the ends of each channel: (channels, 2), at its lowest and highest value.

    Args:
        lines: (lines, length, channels); a pixel is compared with the one before it on its line.
        white: Highest value.
    """
    varies = lines[:, 1:] != lines[:, :-1]
    pixels = lines[:, 1:]
    varying_count = varies.sum(axis=2, dtype=np.uint8)
    is_bright = pixels.max(axis=2, initial=0) >= _DARK / 255 * white
    is_coloured = pixels.min(axis=2, initial=white) < white
    counts = np.zeros((lines.shape[2], 2), np.int64)
    for channel in range(lines.shape[2]):
        is_textured = varying_count > varies[..., channel]
        counts[channel, 0] = np.count_nonzero((pixels[..., channel] == 0) & is_textured & is_bright)
        counts[channel, 1] = np.count_nonzero((pixels[..., channel] == white) & is_textured & is_coloured)
    return counts


def bands(line: NDArray[Any], scale: float) -> tuple[int, Sequence[float]]:
    """Return how many pixels of a line lie in the bands of posterised gradients, and the steps between these bands.

    Bands are at least three steps in one direction, each between flat pieces and each small.

    Args:
        line: (length,) samples of one channel.
        scale: Levels of 255 in one of its units.
    """
    borders = np.flatnonzero(line[1:] != line[:-1]) + 1
    if len(borders) < _MIN_STEPS:
        return 0, ()
    starts = np.concatenate([[0], borders])
    lengths = np.diff(np.concatenate([starts, [len(line)]]))
    steps = np.diff(line[starts].astype(np.float64)) * scale
    is_flat = lengths >= _MIN_BAND_PX
    height = np.abs(steps)
    is_band = (height >= _MIN_BAND_STEP) & (height <= _MAX_BAND_STEP) & is_flat[:-1] & is_flat[1:]
    if np.count_nonzero(is_band) < _MIN_STEPS:
        return 0, ()
    # Runs of steps of one direction: a run ends where the next is no step between bands, or goes the other way.
    direction = np.where(is_band, np.sign(steps), 0)
    run_starts = np.concatenate([[0], np.flatnonzero(np.diff(direction)) + 1])
    run_lengths = np.diff(np.concatenate([run_starts, [len(direction)]]))
    banded, band_steps = 0, []
    for start, count in zip(run_starts, run_lengths, strict=True):
        if direction[start] and count >= _MIN_STEPS:
            banded += int(lengths[start : start + count + 1].sum())
            band_steps.extend(height[start : start + count].tolist())
    return banded, band_steps
