"""Seeded fractal noise as a source picture: smooth noise at every scale, any rectangle at any octave size.

The value at a lattice node is a hash of (seed, lattice, level, row, column, channel). So overlapping rectangles agree,
and no picture is kept. Every level repeats a whole number of times across the picture, so the noise tiles the plane.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from render.geometry.geometry import Interval, Rect

#: Cells along the picture's short side at the coarsest level; each finer level has twice as many.
_COARSEST_CELLS = 2
#: Amplitude of a level relative to the next coarser one.
_PERSISTENCE = 0.62
#: Amplitude of the coarsest level, in levels of 0..255.
_AMPLITUDE = 52.0
#: Rows that are computed at once, so that their values stay in the processor's cache from level to level.
_STRIP_ROWS = 64


def fractal_noise(seed: int, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
    """Return a rectangle of the noise that fills a picture.

    Levels with cells under 2 px are left out, so a coarse octave is the fine one without its finest detail.

    Args:
        seed: Seed of the noise.
        shape: (rows, columns) of the picture, px.
        rect: Rectangle to return.

    Returns:
        (*rect.shape, 3) float32 around 127.5, clipped to 0..255.
    """
    noise = np.empty((*rect.shape, 3), np.float32)
    for start in range(rect.rows.start, rect.rows.stop, _STRIP_ROWS):
        rows = Interval(start, min(start + _STRIP_ROWS, rect.rows.stop))
        noise[rows.start - rect.rows.start : rows.stop - rect.rows.start] = _strip(seed, shape, Rect(rows, rect.columns))
    return noise


def _strip(seed: int, shape: tuple[int, int], rect: Rect) -> NDArray[np.float64]:
    """Return a rectangle of `fractal_noise` in float64."""
    total = np.zeros((*rect.shape, 3))
    for cells, weight in _coarsest_lattices(shape):
        amplitude = _AMPLITUDE * weight
        level = 0
        while level == 0 or min(shape) / (_COARSEST_CELLS << level) >= 2.0:
            down, across = cells[0] << level, cells[1] << level
            rows = (np.arange(*rect.rows, dtype=np.float64) + 0.5) * (down / shape[0])
            columns = (np.arange(*rect.columns, dtype=np.float64) + 0.5) * (across / shape[1])
            # Every lattice and level has a hash key of its own.
            values = _lattice(seed, max(cells) << 6 | level, (down, across), rows, columns)
            values *= amplitude
            total += values
            amplitude *= _PERSISTENCE
            level += 1
    return np.clip(127.5 + total, 0.0, 255.0)


def _coarsest_lattices(shape: tuple[int, int]) -> list[tuple[tuple[int, int], float]]:
    """Return the coarsest lattices, (rows, columns) of cells, and their weights.

    The squares of the weights sum to 1.

    To tile, the long side needs a whole number of cells. The two nearest numbers are mixed: with the rounded number
    alone, octaves whose aspects differ by rounding could look different.
    """
    long_cells = _COARSEST_CELLS * max(shape) / min(shape)
    fewer = math.floor(long_cells)
    turn = (long_cells - fewer) * math.pi / 2
    lattices = []
    for long_side, weight in ((fewer, math.cos(turn)), (fewer + 1, math.sin(turn))):
        if weight > 0:
            lattices.append(((long_side, _COARSEST_CELLS) if shape[0] > shape[1] else (_COARSEST_CELLS, long_side), weight))
    return lattices


def _lattice(
    seed: int, level: int, cells: tuple[int, int], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return one level of noise at rows x columns: node values in [-1, 1], interpolated.

    The interpolation is the quintic fade of Perlin (2002).

    Args:
        seed: Seed of the noise.
        level: Key of the lattice and level, for the hash.
        cells: (rows, columns) of cells after which the noise repeats.
        rows: Positions along rows, in cells.
        columns: Positions along columns, in cells.

    Returns:
        (rows, columns, 3) float64, -1..1.
    """
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, across = _fade(rows - top)[:, None, None], _fade(columns - left)[None, :, None]
    # A cell covers many pixels: hash each node once, and interpolate along node rows first.
    node_rows = np.arange(top[0], top[-1] + 2) % cells[0]
    node_columns = np.arange(left[0], left[-1] + 2) % cells[1]
    nodes = _node_values(seed, level, node_rows, node_columns)
    i, j = top - top[0], left - left[0]
    along = _between(nodes.take(j, axis=1), nodes.take(j + 1, axis=1), across)
    return _between(along.take(i, axis=0), along.take(i + 1, axis=0), down)


def _between(start: NDArray[np.float64], end: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `start * (1 - weight) + end * weight`, computed in the memory of the two, which nobody else may need."""
    start *= 1 - weight
    end *= weight
    start += end
    return start


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 6 t^5 - 15 t^4 + 10 t^3 for t in 0..1."""
    return t * t * t * (t * (t * 6 - 15) + 10)


def _node_values(seed: int, level: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (rows, columns, 3) values, uniform in [-1, 1], hashed from the nodes' coordinates.

    The hash is the SplitMix64 finaliser (Steele 2014).
    """
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed) ^ _mix(np.uint64(level + 1)))
        by_row = _mix(key ^ _mix(rows.astype(np.uint64) + np.uint64(0x51ED)))[:, None, None]
        by_column = _mix(columns.astype(np.uint64) + np.uint64(0xA0761D))[None, :, None]
        bits = _mix((by_row + by_column * np.uint64(3)) ^ _mix(np.arange(3, dtype=np.uint64))[None, None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * (2.0 / (1 << 53)) - 1.0


def _mix(x: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the SplitMix64 hash of each number."""
    z = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
