"""Seeded fractal noise as a source picture: smooth lattice noise at every scale, any rectangle at any octave size.

The value at a lattice node is a hash of (seed, level, row, column, channel), so rectangles agree wherever they meet and no
picture is held. Every level repeats a whole number of times across the picture, so the noise tiles the plane.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from render.geometry import Rect

#: Nodes across the picture's width at the coarsest level; each further level has twice as many.
_COARSEST = 3
#: Amplitude of a level relative to the level before.
_PERSISTENCE = 0.62
_AMPLITUDE = 52.0


def fractal_noise(seed: int, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
    """The rectangle `rect` of noise that fills a picture of `shape` (rows, columns).

    Returns (rect.rows.size, rect.columns.size, 3) float32 around 127.5, clipped to 0..255. Levels whose cells would be
    under 2 px are left out, so a coarse octave is the fine one without its finest detail.
    """
    height, width = shape
    total = np.zeros((*rect.shape, 3))
    amplitude = _AMPLITUDE
    cells = _COARSEST
    level = 0
    while level == 0 or width / cells >= 2.0:
        down = max(1, round(cells * height / width))
        rows = (np.arange(*rect.rows, dtype=np.float64) + 0.5) * (down / height)
        columns = (np.arange(*rect.columns, dtype=np.float64) + 0.5) * (cells / width)
        total += amplitude * _lattice(seed, level, (down, cells), rows, columns)
        amplitude *= _PERSISTENCE
        cells *= 2
        level += 1
    return np.clip(127.5 + total, 0.0, 255.0).astype(np.float32)


def _lattice(
    seed: int, level: int, cells: tuple[int, int], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Node values in [-1, 1], periodic in `cells`, interpolated with a quintic fade (Perlin 2002) at rows x columns."""
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, across = _fade(rows - top)[:, None, None], _fade(columns - left)[None, :, None]
    # Hash each node once, then look positions up: a cell covers many pixels.
    node_rows = np.arange(top[0], top[-1] + 2) % cells[0]
    node_columns = np.arange(left[0], left[-1] + 2) % cells[1]
    nodes = _node_values(seed, level, node_rows, node_columns)
    i, j = top - top[0], left - left[0]
    upper = nodes[i][:, j] * (1 - across) + nodes[i][:, j + 1] * across
    lower = nodes[i + 1][:, j] * (1 - across) + nodes[i + 1][:, j + 1] * across
    return upper * (1 - down) + lower * down


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return t * t * t * (t * (t * 6 - 15) + 10)


def _node_values(seed: int, level: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """(rows, columns, 3) uniform in [-1, 1] from the SplitMix64 finaliser (Steele 2014) over the node's coordinates."""
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed) ^ _mix(np.uint64(level + 1)))
        by_row = _mix(key ^ _mix(rows.astype(np.uint64) + np.uint64(0x51ED)))[:, None, None]
        by_column = _mix(columns.astype(np.uint64) + np.uint64(0xA0761D))[None, :, None]
        bits = _mix((by_row + by_column * np.uint64(3)) ^ _mix(np.arange(3, dtype=np.uint64))[None, None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * (2.0 / (1 << 53)) - 1.0


def _mix(x: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
