"""One step of gradient ascent: the jitter it is drawn with, what its gradient is measured by, and the update itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Rec. 709 weights of R, G and B in luminance.
LUMINANCE = np.asarray((0.2126, 0.7152, 0.0722), np.float32)

Gradient = NDArray[np.float32]


def jitter(seed: int, octave: int, step: int, stride: int, most: int | None = None) -> tuple[int, int]:
    """The step's shift (rows, columns) of the network's grid, each in [0, stride), and at most `most` px.

    Drawn from Philox, a counter-based generator (Salmon 2011), keyed by (seed, octave, step): any worker can compute it,
    in any order, after any restart.
    """
    generator = np.random.Philox(key=[seed, 0], counter=[octave, step, 0, 0])
    rows, columns = generator.random_raw(2)
    choices = stride if most is None else min(stride, most + 1)
    return int(rows % choices), int(columns % choices)


def luminance(gradient: Gradient) -> Gradient:
    """The gradient (rows, columns, 3) of a canvas whose channels can only move alike: all get its luminance."""
    grey = gradient[..., 0] * LUMINANCE[0] + gradient[..., 1] * LUMINANCE[1] + gradient[..., 2] * LUMINANCE[2]
    return np.repeat(grey[..., None], 3, axis=-1)


def measure(gradient: Gradient, mask: NDArray[np.float32] | None, normalize: str) -> tuple[float, ...]:
    """A tile's share of the sums that `statistic` takes, in float64.

    `gradient` (rows, columns, 3) float32; `mask` (rows, columns) float32 0..1 weighs its pixels, None counts all fully.
    Summing these per tile, in tile order, gives the canvas' own sums.
    """
    if mask is None:
        weights = float(gradient.size)
        if normalize == "mean_abs":
            return float(np.abs(gradient).sum(dtype=np.float64)), weights
        return float(gradient.sum(dtype=np.float64)), float(np.square(gradient, dtype=np.float64).sum()), weights
    weighted = mask[..., None] * (np.abs(gradient) if normalize == "mean_abs" else gradient)
    first, weights = float(weighted.sum(dtype=np.float64)), 3 * float(mask.sum(dtype=np.float64))
    if normalize == "mean_abs":
        return first, weights
    return first, float((weighted.astype(np.float64) * gradient).sum()), weights


def statistic(sums: Sequence[float], normalize: str, support: float = 1.0) -> float:
    """What a gradient is divided by: its mean absolute value (`mean_abs`) or its standard deviation (`std`), where the
    mask counts.

    `sums` are those of `measure` over the whole canvas. `support` is the share of the pixels at which the gradient can
    differ from 0: the others do not count. 0 where nothing counts.
    """
    *totals, weights = sums
    counted = weights * support
    if counted == 0:
        return 0.0
    if normalize == "mean_abs":
        return totals[0] / counted
    return math.sqrt(max(0.0, totals[1] / counted - (totals[0] / counted) ** 2))


def update(canvas: NDArray[np.float32], gradient: NDArray[np.float32], scale: float) -> None:
    """Canvas += scale * gradient in place, kept within the pixel range 0..255.

    Both (rows, columns, 3) float32; `scale` is step_size / mean|gradient| of the whole canvas, so that a step moves pixels
    by `step_size` levels on average.
    """
    canvas += np.float32(scale) * gradient
    np.clip(canvas, 0.0, 255.0, out=canvas)


def blend(
    gradients: Sequence[Gradient | None], masks: Sequence[NDArray[np.float32] | None], statistics: Sequence[float]
) -> tuple[Gradient, NDArray[np.float32] | None]:
    """One direction out of the gradients of several regions, each divided by its statistic, and how far pixels follow it.

    The direction is the mean of the gradients weighed by their masks where these add up to less than 1, and their weighted
    sum elsewhere; pixels follow it by the sum of the masks, at most 1, (rows, columns), or None where they follow it fully.
    What a soft mask leaves of a step is thus decided after whatever an optimizer makes of the direction. A gradient that
    is None is 0, and so is one whose statistic is 0.
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
