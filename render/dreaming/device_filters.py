"""The filters of `dreaming.filters` for a device: one rectangle of a fixed shape, to be traced into a larger program.

The arithmetic is that of `dreaming.filters`, with channels last. The pyramid's lattices lie at global coordinates, so its
rectangle must begin and end at points of the coarsest lattice: `pyramid_shape` is large enough for a core wherever it
begins. Passes are kept apart by barriers, because a fusion of all of them would compute each value many times.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from render.dreaming.filters import SIGMAS, TAPS, cascade_reach, half_gaussian, pyramid_rects, pyramid_supports
from render.geometry.geometry import Interval, Rect, round_up, whole


def pyramid_shape(core: tuple[int, int], levels: int) -> tuple[int, int]:
    """Return (rows, columns) px that hold a core wherever it begins, if they begin at the lattice point before it.

    Args:
        core: (rows, columns) of the core, px.
        levels: Number of high bands.
    """
    unit = 2**levels
    rows, columns = (round_up(side + unit - 1, unit) for side in core)
    return rows, columns


def pyramid_extent(shape: tuple[int, int], levels: int) -> Rect:
    """Return the rectangle that the pyramid of a rectangle of `shape` at the origin reads, px."""
    return pyramid_rects(whole(*shape), levels)[0]


def laplacian_rows(gradient: jax.Array, weights: jax.Array, levels: int) -> jax.Array:
    """Return the sums of weight * value**2 of each row of each level of the Laplacian pyramid.

    See `filters.laplacian_squares`, which adds up the rows.

    Args:
        gradient: The gradient in the `pyramid_extent` of the weights' shape, (rows, columns, 3) float32.
        weights: Weights of the pixels, (rows, columns) float32, from `pyramid_shape`.
        levels: Number of high bands.

    Returns:
        (sum of `pyramid_rows`,) float32: the rows of the high bands, fine to coarse, then those of the low residual.
    """
    shape = (weights.shape[0], weights.shape[1])
    lattices, rects = _lattices(gradient, shape, levels), pyramid_rects(whole(*shape), levels)
    rows = []
    for level, lattice in enumerate(lattices):
        inside = whole(*(side >> level for side in shape))
        band = _part(lattice, rects[level], inside)
        if level < levels:
            band = band - _expanded(lattices[level + 1], rects[level + 1], inside)
        rows.append((jnp.square(band).sum(-1) * weights[:: 2**level, :: 2**level]).sum(1))
    return jnp.concatenate(rows)


def pyramid_rows(core: tuple[int, int], levels: int) -> list[int]:
    """Return the number of rows of each level in the result of `laplacian_rows`."""
    return [pyramid_shape(core, levels)[0] >> level for level in range(levels + 1)]


def laplacian_merge(gradient: jax.Array, shape: tuple[int, int], gains: jax.Array) -> jax.Array:
    """Return the gradient put together from its Laplacian pyramid with a gain per level: see `filters.laplacian_merge`.

    Args:
        gradient: The gradient in the `pyramid_extent` of `shape`, (rows, columns, 3) float32.
        shape: (rows, columns) of the result, from `pyramid_shape`.
        gains: (levels + 1,) float32.

    Returns:
        (*shape, 3) float32.
    """
    levels = gains.shape[0] - 1
    lattices, rects = _lattices(gradient, shape, levels), pyramid_rects(whole(*shape), levels)
    points = pyramid_supports(whole(*shape), levels)
    coarse = lattices[-1] * gains[-1]
    for level in reversed(range(levels)):
        # gain * (fine - expanded(low)) + expanded(merged) with one expansion instead of two: it is linear.
        coarse = coarse - _part(lattices[level + 1], rects[level + 1], points[level + 1]) * gains[level]
        merged = _expanded(lax.optimization_barrier(coarse), points[level + 1], points[level])
        coarse = merged + _part(lattices[level], rects[level], points[level]) * gains[level]
    return coarse


def cascade(gradient: jax.Array, sigma: float) -> jax.Array:
    """Return the mean of three Gaussian blurs: see `filters.cascade`.

    Args:
        gradient: (rows, columns, 3) float32, `cascade_reach` px larger than the result on every side.
        sigma: Px, above 0, static.
    """
    reach, blurs = cascade_reach(sigma), []
    for factor in SIGMAS:
        kernel = half_gaussian(sigma * factor)
        trim = reach - (len(kernel) - 1)
        near = gradient[trim : gradient.shape[0] - trim, trim : gradient.shape[1] - trim]
        blurs.append(_blurred(lax.optimization_barrier(_blurred(near, kernel, 0)), kernel, 1))
    return (blurs[0] + blurs[1] + blurs[2]) * np.float32(1 / len(SIGMAS))


def total_variation(pixels: jax.Array) -> jax.Array:
    """Return the derivative of the smoothed total variation: see `filters.total_variation`.

    Args:
        pixels: (rows, columns, 3) float32, 1 px larger than the result on every side.
    """
    base = pixels[:-1, :-1]
    right, down = pixels[:-1, 1:] - base, pixels[1:, :-1] - base
    length = jnp.sqrt(jnp.square(right) + jnp.square(down) + np.float32(1))
    right, down = right / length, down / length
    return down[:-1, 1:] + right[1:, :-1] - right[1:, 1:] - down[1:, 1:]


def _lattices(gradient: jax.Array, shape: tuple[int, int], levels: int) -> list[jax.Array]:
    """Return the Gaussian pyramid, fine to coarse, at `pyramid_rects`."""
    assert gradient.shape[:2] == pyramid_extent(shape, levels).shape, "the pyramid reads another rectangle"
    lattices = [gradient]
    for _ in range(levels):
        narrow = lax.optimization_barrier(_reduced(lattices[-1], 0))
        lattices.append(lax.optimization_barrier(_reduced(narrow, 1)))
    return lattices


def _part(lattice: jax.Array, rect: Rect, inside: Rect) -> jax.Array:
    """Return the points `inside` of a lattice that covers `rect`."""
    return lattice[inside.slices_from(rect)]


def _reduced(fine: jax.Array, axis: int) -> jax.Array:
    """Convolve with (1, 4, 6, 4, 1) / 16 along an axis, and return every second point."""
    count = (fine.shape[axis] - 2 * TAPS + 1) // 2

    def tap(number: int) -> jax.Array:
        """Return the points that one of the five weights belongs to."""
        return lax.slice_in_dim(fine, number, number + 2 * count - 1, 2, axis)

    outer = (tap(0) + tap(4)) * np.float32(1 / 16)
    return outer + (tap(1) + tap(3)) * np.float32(4 / 16) + tap(2) * np.float32(6 / 16)


def _expanded(coarse: jax.Array, rect: Rect, points: Rect) -> jax.Array:
    """Return `points` of the next finer lattice, from a coarse one that covers `rect`."""
    wide = lax.optimization_barrier(_expanded_along(coarse, rect.columns, points.columns, 1))
    return _expanded_along(wide, rect.rows, points.rows, 0)


def _expanded_along(coarse: jax.Array, inputs: Interval, outputs: Interval, axis: int) -> jax.Array:
    """Expand along one axis: see `filters._expanded_along`."""

    def part(points: Interval) -> jax.Array:
        """Return the values at coarse points."""
        return lax.slice_in_dim(coarse, points.start - inputs.start, points.stop - inputs.start, 1, axis)

    def fine_points(odd: int) -> jax.Array:
        """Return the fine points of `outputs` that are odd, or even."""
        points = Interval(-(-(outputs.start - odd) // 2), -(-(outputs.stop - odd) // 2))
        if odd:
            return (part(points) + part(points.shifted(1))) * np.float32(1 / 2)
        sides = part(points.shifted(-1)) + part(points.shifted(1))
        return sides * np.float32(1 / 8) + part(points) * np.float32(6 / 8)

    first, second = (fine_points((outputs.start + number) % 2) for number in (0, 1))
    if second.shape[axis] < first.shape[axis]:
        second = jnp.pad(second, [(0, int(number == axis)) for number in range(second.ndim)])
    pairs = jnp.stack([first, second], axis + 1)
    shape = list(first.shape)
    shape[axis] *= 2
    return lax.slice_in_dim(pairs.reshape(shape), 0, outputs.size, 1, axis)


def _blurred(pixels: jax.Array, kernel: NDArray[np.float32], axis: int) -> jax.Array:
    """Convolve along an axis with a kernel, given from the middle on, and its mirror image."""
    reach = len(kernel) - 1
    size = pixels.shape[axis] - 2 * reach

    def tap(start: int) -> jax.Array:
        """Return the pixels from a start on, as many as the result has."""
        return lax.slice_in_dim(pixels, start, start + size, 1, axis)

    result = tap(reach) * kernel[0]
    for number, weight in enumerate(kernel[1:], 1):
        result = result + (tap(reach - number) + tap(reach + number)) * weight
    return result
