"""Gradient ascent, one step: its jitter, the statistic that normalises the gradient, and the update."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from render.dreaming.shoulder import limit_change, row_strips

#: Rec. 709 weights of R, G and B in luminance.
LUMINANCE = np.asarray((0.2126, 0.7152, 0.0722), np.float32)

#: Gradient of some tiles, (rows, columns, 3) float32.
Gradient = NDArray[np.float32]


def jitter(seed: int, octave: int, step: int, stride: int, limit: int | None = None) -> tuple[int, int]:
    """Return a step's shift of the network's grid, (rows, columns) px.

    Drawn from Philox, a counter-based generator (Salmon 2011), keyed by (seed, octave, step): any worker can compute
    it, in any order, after any restart.

    Args:
        seed: The job's seed.
        octave: Index of the octave.
        step: Index of the step in the octave.
        stride: The network's total stride, px; shifts are below it.
        limit: Largest shift, px; None for no other limit than the stride.
    """
    generator = np.random.Philox(key=[seed, 0], counter=[octave, step, 0, 0])
    rows, columns = generator.random_raw(2)
    choices = stride if limit is None else min(stride, limit + 1)
    return int(rows % choices), int(columns % choices)


def luminance(gradient: Gradient) -> Gradient:
    """Return the gradient with its luminance in every channel, so that all channels move alike.

    Luminance weighs red, green and blue as Rec. 709 does. Shape and type stay the same.
    """
    grey = gradient[..., 0] * LUMINANCE[0] + gradient[..., 1] * LUMINANCE[1] + gradient[..., 2] * LUMINANCE[2]
    return np.repeat(grey[..., None], 3, axis=-1)


def measure(gradient: Gradient, mask: NDArray[np.float32] | None, normalize: str) -> tuple[float, ...]:
    """Return one tile's share of the sums that `statistic` takes, in float64.

    The shares added in tile order are the sums of the whole canvas.

    Args:
        gradient: (rows, columns, 3) float32.
        mask: (rows, columns) float32, 0..1: the weights of the pixels; None weighs every pixel 1.
        normalize: `mean_abs` or `std`.

    Returns:
        For `mean_abs` the sum of weight * |g| and the sum of weights; for `std` the sum of weight * g, the sum of
            weight * g^2 and the sum of weights. Sums are over pixels and channels.
    """
    if mask is None:
        weights = float(gradient.size)
        if normalize == "mean_abs":
            return float(np.abs(gradient).sum(dtype=np.float64)), weights
        return float(gradient.sum(dtype=np.float64)), float(np.square(gradient, dtype=np.float64).sum()), weights
    weighted = mask[..., None] * (np.abs(gradient) if normalize == "mean_abs" else gradient)
    total, weights = float(weighted.sum(dtype=np.float64)), 3 * float(mask.sum(dtype=np.float64))
    if normalize == "mean_abs":
        return total, weights
    return total, float((weighted.astype(np.float64) * gradient).sum()), weights


def statistic(sums: Sequence[float], normalize: str, support: float = 1.0) -> float:
    """Return the divisor of a gradient: its mean absolute value, or its standard deviation.

    Pixels count as the mask weighs them. The result is 0 if no pixel counts.

    Args:
        sums: The results of `measure`, summed over the whole canvas.
        normalize: `mean_abs` or `std`.
        support: The share of the pixels where the gradient can differ from 0; the other pixels do not count.
    """
    *totals, weights = sums
    counted = weights * support
    if counted == 0:
        return 0.0
    if normalize == "mean_abs":
        return totals[0] / counted
    return math.sqrt(max(0.0, totals[1] / counted - (totals[0] / counted) ** 2))


def update(
    canvas: NDArray[np.float32],
    gradient: NDArray[np.float32],
    scale: float,
    source: NDArray[np.float32] | None = None,
    shoulder: float = 0.0,
) -> None:
    """Add scale * gradient to the canvas in place, and clip it to the pixel range 0..255.

    Args:
        canvas: (rows, columns, 3) float32.
        gradient: (rows, columns, 3) float32.
        scale: step_size / mean|gradient| of the whole canvas, so that a step moves pixels by `step_size` levels on
            average.
        source: (rows, columns, 3) float32; needed with a shoulder.
        shoulder: Room, in levels, from which on detail is limited near black and white; 0 only clips.
    """
    change = np.float32(scale) * gradient
    if shoulder:
        assert source is not None, "a limit is measured from the source"
        for rows in row_strips(canvas):
            change[rows] = limit_change(canvas[rows], source[rows], change[rows], shoulder)
    canvas += change
    np.clip(canvas, 0.0, 255.0, out=canvas)


def blend(
    gradients: Sequence[Gradient | None], masks: Sequence[NDArray[np.float32] | None], statistics: Sequence[float]
) -> tuple[Gradient, NDArray[np.float32] | None]:
    """Combine the gradients of several regions into one direction.

    Every gradient is divided by its statistic. Where the masks add up to less than 1, the direction is the mean of the
    gradients weighted by their masks; elsewhere it is their weighted sum. A gradient that is None, or whose statistic
    is 0, counts as 0.

    Args:
        gradients: Gradient of each region, (rows, columns, 3) float32.
        masks: Mask of each region, (rows, columns) float32, 0..1; None for 1 everywhere.
        statistics: Divisor of each region's gradient, from `statistic`.

    Returns:
        The direction, (rows, columns, 3), and how far pixels follow it: the sum of the masks, at most 1, (rows, columns),
            or None if all follow it fully. The caller applies the second after the optimizer, so that a soft mask
            weakens the step and not only the optimizer's input.
    """
    follow: NDArray[np.float32] | None = None
    if any(mask is None for mask in masks):
        total: NDArray[np.float32] | None = None
    else:
        total = np.sum([mask for mask in masks if mask is not None], axis=0, dtype=np.float32)
        follow = np.minimum(total, np.float32(1))
    direction: Gradient | None = None
    for gradient, mask, divisor in zip(gradients, masks, statistics, strict=True):
        if gradient is None or divisor == 0:
            continue
        share = np.float32(1 / divisor) * gradient
        if mask is not None:
            weight = mask if follow is None else np.divide(mask, follow, out=np.zeros_like(mask), where=follow > 0)
            share *= weight[..., None]
        direction = share if direction is None else direction + share
    if direction is None:
        shape = next(part.shape for part in (*masks, *gradients) if part is not None)
        direction = np.zeros((*shape[:2], 3), np.float32)
    return direction, follow
