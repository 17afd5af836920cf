"""Colours of one picture brought to the mean and covariance of another's.

The map is x -> T (x - mean) + mean of the reference, in the canvas' sRGB values. T is the symmetric matrix that turns one
covariance into the other and moves colours least in the mean square (Monge-Kantorovich; Pitié and Kokaram 2007). Unlike a
match of each channel alone (Reinhard et al. 2001), it sees how channels vary together. sRGB values are nearly even to the
eye, and the canvas is in them: no pixel is rounded on the way, and saturation and contrast are linear in them, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from render.canvas.store import CanvasStore
from render.dreaming.decorrelation import apply_matrix
from render.dreaming.resample import Pixels
from render.geometry.geometry import CHUNK
from render.system import interrupts

#: Longest side of a canvas whose pixels count one by one, px; larger canvases are averaged over squares first.
MAX_SIDE = 2048
#: Largest factor by which colours are spread along any direction: a canvas without colour has only rounding to spread.
_MAX_GAIN = 4.0
#: Middle of the range, subtracted before squares are summed.
_MIDDLE = 127.5
#: Covariance, levels squared, below which a direction counts as empty.
_EMPTY = 1e-6
_PAIRS = tuple(combinations_with_replacement(range(3), 2))


@dataclass(frozen=True)
class ColourStatistics:
    """Statistics of a picture's pixels in sRGB levels, 0..255.

    Attributes:
        mean: Mean of R, G and B.
        covariance: Covariance of R, G and B, three rows of three.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ColourMap:
    """Map of a picture's colours: matrix @ pixel + offset.

    Attributes:
        matrix: Three rows of three.
        offset: Levels of R, G and B.
    """

    matrix: tuple[tuple[float, ...], ...]
    offset: tuple[float, ...]

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return mapped pixels, (rows, columns, 3) float32, not clipped."""
        mapped = apply_matrix(pixels, np.asarray(self.matrix, np.float32))
        mapped += np.asarray(self.offset, np.float32)
        return mapped


class _Sums:
    """Sums over pixels, in float64 and in a fixed order, from which the statistics follow."""

    def __init__(self) -> None:
        self._count = 0
        self._totals = np.zeros(3)
        self._products = np.zeros((3, 3))

    def add(self, pixels: Pixels) -> None:
        """Add the pixels of a rectangle, (rows, columns, 3) float32."""
        channels = [pixels[..., channel].astype(np.float64) - _MIDDLE for channel in range(3)]
        self._count += channels[0].size
        self._totals += [channel.sum() for channel in channels]
        for row, column in _PAIRS:
            self._products[row, column] += (channels[row] * channels[column]).sum()

    def statistics(self) -> ColourStatistics:
        """Return the statistics of all pixels so far."""
        mean = self._totals / self._count
        upper = np.triu(self._products) / self._count - np.triu(np.outer(mean, mean))
        covariance = upper + np.triu(upper, 1).T
        return ColourStatistics(
            tuple(map(float, mean + _MIDDLE)), tuple(tuple(map(float, row)) for row in covariance)
        )  # fmt: skip


def measure_pixels(pixels: Pixels) -> ColourStatistics:
    """Return the statistics of a picture in memory, (rows, columns, 3) float32."""
    sums = _Sums()
    sums.add(pixels)
    return sums.statistics()


def shrink_factor(shape: tuple[int, int]) -> int:
    """Return the side of the squares over which a canvas of (rows, columns) px is averaged: a power of two, at most 512."""
    factor = 1
    while factor < CHUNK and max(shape) > factor * MAX_SIDE:
        factor *= 2
    return factor


def measured_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, columns) at which a canvas of (rows, columns) px is measured."""
    factor = shrink_factor(shape)
    return max(1, shape[0] // factor), max(1, shape[1] // factor)


def measure_canvas(canvas: CanvasStore) -> ColourStatistics:
    """Return the statistics of a canvas at `measured_shape`; it is read once, strip by strip.

    Raises:
        DamagedCheckpoint: the canvas cannot be read.
    """
    factor, sums = shrink_factor(canvas.shape), _Sums()
    # Squares begin at multiples of their side, and so do strips: no square is cut but at the canvas' end.
    for rect in canvas.rect.bands(multiple=CHUNK):
        interrupts.check()
        pixels = canvas.read(rect)
        sums.add(pixels if factor == 1 else _averaged(pixels, factor))
    return sums.statistics()


def _averaged(pixels: Pixels, factor: int) -> Pixels:
    """Return the means of squares of `factor` px. What is left over beside them is dropped, unless there are none."""
    rows, columns = (max(1, side // factor) for side in pixels.shape[:2])
    part = pixels[: rows * factor, : columns * factor]
    down, across = -(-part.shape[0] // rows), -(-part.shape[1] // columns)
    return part.reshape(rows, down, columns, across, 3).mean((1, 3), dtype=np.float64).astype(np.float32)


def colour_map(canvas: ColourStatistics, reference: ColourStatistics) -> ColourMap:
    """Return the map that gives a canvas the reference's mean and covariance.

    The covariance falls short where colours would have to be spread more than fourfold.

    Args:
        canvas: Statistics of the canvas.
        reference: Statistics that it gets.
    """
    root, inverse = _roots(np.asarray(canvas.covariance))
    matrix = inverse @ _roots(root @ np.asarray(reference.covariance) @ root)[0] @ inverse
    strengths, directions = np.linalg.eigh((matrix + matrix.T) / 2)
    matrix = directions @ np.diag(np.clip(strengths, 0.0, _MAX_GAIN)) @ directions.T
    offset = np.asarray(reference.mean) - matrix @ np.asarray(canvas.mean)
    return ColourMap(tuple(tuple(map(float, row)) for row in matrix), tuple(map(float, offset)))


def _roots(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the square root of a symmetric matrix without negative eigenvalues, and the root's pseudo-inverse."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    lengths = np.sqrt(np.maximum(values, 0.0))
    inverses = np.divide(1.0, lengths, out=np.zeros(3), where=values > _EMPTY)
    return vectors @ np.diag(lengths) @ vectors.T, vectors @ np.diag(inverses) @ vectors.T
