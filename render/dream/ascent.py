"""One step of gradient ascent: the jitter it is drawn with, how far it goes, and the update itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def jitter(seed: int, octave: int, step: int, stride: int) -> tuple[int, int]:
    """The step's shift (rows, columns) of the network's grid, each in [0, stride).

    Drawn from Philox, a counter-based generator (Salmon 2011), keyed by (seed, octave, step): any worker can compute it,
    in any order, after any restart.
    """
    generator = np.random.Philox(key=[seed, 0], counter=[octave, step, 0, 0])
    rows, columns = generator.random_raw(2)
    return int(rows % stride), int(columns % stride)


def magnitude(gradient: NDArray[np.float32]) -> float:
    """Sum of absolute values in float64. Summing these per tile, in tile order, gives the canvas' own sum."""
    return float(np.abs(gradient).sum(dtype=np.float64))


def update(canvas: NDArray[np.float32], gradient: NDArray[np.float32], scale: float) -> None:
    """Canvas += scale * gradient in place, kept within the pixel range 0..255.

    Both (rows, columns, 3) float32; `scale` is step_size / mean|gradient| of the whole canvas, so that a step moves pixels
    by `step_size` levels on average.
    """
    canvas += np.float32(scale) * gradient
    np.clip(canvas, 0.0, 255.0, out=canvas)
