"""Filters of the gradient for any rectangle: Laplacian normalisation, Gaussian smoothing, total variation.

Each filter reads the gradient (or canvas) of a larger rectangle, its `extent`. Its pixels beyond the canvas are those of
the boundary mode. Every operation is elementwise on shifted parts, in a fixed order, and the pyramid's lattices lie at
global coordinates: a pixel is the same, bit for bit, whatever rectangle it is computed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels
from render.geometry.geometry import Interval, Rect

_CHANNELS = 3
#: Taps on either side of the middle of the pyramid's kernel (1, 4, 6, 4, 1) / 16.
TAPS = 2
#: Levels weaker than this share of the strongest are float32 rounding errors: amplifying them would draw noise.
_MIN_STRENGTH = 1e-6
#: Sigmas of the cascade's blurs, relative to the cascade's own sigma.
SIGMAS = (0.5, 1.0, 2.0)
#: Distance from the middle, in sigmas, at which a Gaussian is cut off.
_CUT_SIGMAS = 3.0
#: Samples per strip of the cascade: 200 kB of float32, which stays in the processor's cache.
_STRIP_SAMPLES = 50_000


class _Lattice(NamedTuple):
    """One level of the pyramid."""

    #: Values at the points, (3, rows, columns) float32.
    pixels: Pixels
    #: The points, in units of 2**level px.
    rect: Rect


def laplacian_reach(levels: int) -> int:
    """Return how far, in px, the pyramid reads beyond a rectangle: 4 * (2**levels - 1).

    That is two lattice points of every level on the way to the coarsest, and two on the way back. Some rectangles need
    less, depending on how their edges lie on the lattices.
    """
    return 2 * TAPS * (2**levels - 1)


def laplacian_squares(
    gradient: Pixels, extent: Rect, core: Rect, levels: int, weights: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Return the sums that give the energy of each level of the Laplacian pyramid.

    Row n < levels is the n-th high band, fine to coarse; the last row is the low residual. A row holds the sum of
    weight * value**2 over the level's lattice points in `core` and their channels, and the sum of weight over the same.
    The lattice points of level n lie at multiples of 2**n, so each lies in exactly one rectangle of a partition: the
    sums of the rectangles add up to those of the canvas.

    Args:
        gradient: (rows, columns, 3) float32, covers `extent`.
        extent: The rectangle of the gradient; it contains `core` grown by `laplacian_reach`.
        core: The rectangle to sum over.
        levels: The number of high bands.
        weights: (rows, columns) float32, covers `core`; None weighs every pixel 1.

    Returns:
        (levels + 1, 2) float64.

    Raises:
        ValueError: `extent` is too small.
    """
    lattices = _lattices(gradient, extent, core, levels)
    sums = np.zeros((levels + 1, 2))
    for level, lattice in enumerate(lattices):
        step = 2**level
        inside = Rect(*(Interval(-(-side.start // step), -(-side.stop // step)) for side in core))
        if not inside.area:
            continue
        band = _part(lattice, inside)
        if level < levels:
            band = band - _expanded(lattices[level + 1], inside)
        squares = np.square(band, dtype=np.float64)
        if weights is None:
            sums[level] = squares.sum(), squares.size
        else:
            first = inside.rows.start * step - core.rows.start, inside.columns.start * step - core.columns.start
            point_weights = weights[first[0] :: step, first[1] :: step].astype(np.float64)
            squares *= point_weights
            sums[level] = squares.sum(), point_weights.sum() * _CHANNELS
    return sums


def laplacian_gains(sums: NDArray[np.float64]) -> tuple[float, ...]:
    """Return 1 / root mean square of every level of the pyramid.

    The gain is 0 for a level without energy, that is one below a millionth of the strongest. All gains are NaN if a sum
    is not finite.

    Args:
        sums: (levels + 1, 2) float64, `laplacian_squares` summed over the canvas in tile order.
    """
    if not np.isfinite(sums).all():
        return (float("nan"),) * len(sums)
    energies, counts = sums.T
    strengths = np.sqrt(np.divide(energies, counts, out=np.zeros(len(sums)), where=counts > 0))
    weakest = _MIN_STRENGTH * strengths.max()
    return tuple(1.0 / float(strength) if strength > weakest else 0.0 for strength in strengths)


def laplacian_merge(gradient: Pixels, extent: Rect, core: Rect, gains: Sequence[float]) -> Pixels:
    """Return the gradient put together from its Laplacian pyramid with a gain per level.

    With gains of 1 the result is the gradient itself. With `laplacian_gains` all levels are equally strong; that is
    Mordvintsev's `lap_normalize` (TensorFlow's deepdream notebook, 2015): a convolution of stride 2 with the 5 x 5
    kernel outer((1, 4, 6, 4, 1)) / 256 halves the picture, the transposed convolution with four times the kernel
    doubles it again, and a high band is the difference. His lattice begins at the edge of each image; this one is the
    canvas' lattice, continued by its boundary mode.

    Args:
        gradient: As for `laplacian_squares`.
        extent: As for `laplacian_squares`.
        core: The rectangle to return.
        gains: Those of the high bands, fine to coarse, then that of the low residual.

    Returns:
        (*core.shape, 3) float32.

    Raises:
        ValueError: `extent` is too small.
    """
    lattices = _lattices(gradient, extent, core, len(gains) - 1)
    supports = pyramid_supports(core, len(gains) - 1)
    coarse = np.multiply(lattices[-1].pixels, np.float32(gains[-1]))
    for level in reversed(range(len(gains) - 1)):
        # gain * (fine - expanded(low)) + expanded(merged) with one expansion instead of two: it is linear.
        gain = np.float32(gains[level])
        coarser = lattices[level + 1]
        coarse -= np.multiply(_part(coarser, supports[level + 1]), gain)
        merged = _expanded(_Lattice(coarse, supports[level + 1]), supports[level])
        merged += np.multiply(_part(lattices[level], supports[level]), gain)
        coarse = merged
    return np.ascontiguousarray(coarse.transpose(1, 2, 0))


def cascade_reach(sigma: float) -> int:
    """Return how far, in px, the cascade reads beyond a rectangle.

    That is three sigmas of the widest blur, 6 * sigma, rounded up.
    """
    return int(np.ceil(_CUT_SIGMAS * SIGMAS[-1] * sigma))


def cascade(gradient: Pixels, extent: Rect, core: Rect, sigma: float) -> Pixels:
    """Return the mean of three Gaussian blurs, with sigma / 2, sigma and 2 * sigma px.

    Low frequencies gain over high ones, but none is lost. A blur is cut off at three of its sigmas, and its weights sum
    to 1.

    Args:
        gradient: (rows, columns, 3) float32, covers `extent`.
        extent: The rectangle of the gradient; it contains `core` grown by `cascade_reach`.
        core: The rectangle to return.
        sigma: Px, above 0.

    Returns:
        (*core.shape, 3) float32.

    Raises:
        ValueError: `extent` is too small, or `sigma` is not above 0.
    """
    if not sigma > 0:
        raise ValueError(f"cannot smooth with sigma {sigma}")
    reach = cascade_reach(sigma)
    needed = core.grown(reach)
    _require(extent, needed)
    height, width = core.shape
    # A row holds the channels of its pixels side by side, so a shift by one pixel is a shift by three samples.
    flat = gradient.reshape(extent.rows.size, -1)
    result = np.zeros((height, width * _CHANNELS), np.float32)
    kernels = [half_gaussian(sigma * factor) for factor in SIGMAS]
    for rows in _strips(core.rows, flat.shape[1]):
        target = result[rows.slice_from(core.rows.start)]
        for kernel in kernels:
            near = Rect(rows, core.columns).grown(len(kernel) - 1)
            down, across = near.slices_from(extent)
            part = flat[down, _CHANNELS * across.start : _CHANNELS * across.stop]
            target += _blurred(_blurred(part, kernel, 0, 1), kernel, 1, _CHANNELS)
    result *= np.float32(1 / len(kernels))
    return result.reshape(height, width, _CHANNELS)


def total_variation(canvas: Pixels, extent: Rect, core: Rect) -> Pixels:
    """Return the derivative of the smoothed total variation by the pixels of a core.

    The total variation (Rudin, Osher and Fatemi 1992) is the sum over pixels and channels of sqrt(dx**2 + dy**2 + 1),
    where dx and dy are the differences to the next pixel right and below, in levels of 0..255. The 1 makes it smooth
    where both are 0. The pixels around `core` count with their present values.

    Args:
        canvas: (rows, columns, 3) float32, covers `extent`.
        extent: The rectangle of the canvas; it contains `core` grown by 1 px.
        core: The rectangle to return.

    Returns:
        (*core.shape, 3) float32, -4..4.

    Raises:
        ValueError: `extent` is too small.
    """
    needed = core.grown(1)
    _require(extent, needed)
    pixels = canvas[needed.slices_from(extent)]
    # The terms of the pixels of `core`, and of one more row above and one more column to the left.
    base = pixels[:-1, :-1]
    right_difference, down_difference = pixels[:-1, 1:] - base, pixels[1:, :-1] - base
    length = np.square(right_difference)
    length += np.square(down_difference)
    length += np.float32(1)
    np.sqrt(length, out=length)
    right_difference /= length
    down_difference /= length
    result = down_difference[:-1, 1:] + right_difference[1:, :-1]
    result -= right_difference[1:, 1:]
    result -= down_difference[1:, 1:]
    return result


def _require(extent: Rect, needed: Rect) -> None:
    """Raise `ValueError` unless the rectangle `extent` contains `needed`."""
    # A negative start would silently count from the array's end.
    if extent.intersect(needed) != needed:
        raise ValueError(f"{needed} is needed, and only {extent} is there")


def pyramid_supports(core: Rect, levels: int) -> list[Rect]:
    """Return the lattice points of every level from which the pixels of `core` are put together.

    Levels go from fine to coarse.
    """
    supports = [core]
    for _ in range(levels):
        # The expansion of point k covers 2k - 2 to 2k + 2.
        supports.append(
            Rect(*(Interval(-(-(side.start - TAPS) // 2), (side.stop - 1 + TAPS) // 2 + 1) for side in supports[-1]))
        )
    return supports


def pyramid_rects(core: Rect, levels: int) -> list[Rect]:
    """Return the lattice points of every level, fine to coarse, that a core's pixels depend on."""
    rects = [pyramid_supports(core, levels)[-1]]
    for _ in range(levels):
        rects.append(Rect(*(Interval(2 * side.start - TAPS, 2 * side.stop - 1 + TAPS) for side in rects[-1])))
    return rects[::-1]


def _lattices(gradient: Pixels, extent: Rect, core: Rect, levels: int) -> list[_Lattice]:
    """Return the Gaussian pyramid, fine to coarse, at the points that a core's pixels depend on."""
    needed = pyramid_rects(core, levels)
    _require(extent, needed[0])
    pixels = np.ascontiguousarray(gradient[needed[0].slices_from(extent)].transpose(2, 0, 1))
    lattices = [_Lattice(pixels, needed[0])]
    for rect in needed[1:]:
        pixels = _reduced(_reduced(pixels, 1), 2)
        lattices.append(_Lattice(pixels, rect))
    return lattices


def _part(lattice: _Lattice, rect: Rect) -> Pixels:
    """Return the view of a lattice at the points of `rect`."""
    rows, columns = rect.slices_from(lattice.rect)
    return lattice.pixels[:, rows, columns]


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    """Return the index that takes `part` of an axis and all of the axes before it."""
    return (*(slice(None),) * axis, part)


def _reduced(fine: Pixels, axis: int) -> Pixels:
    """Convolve with (1, 4, 6, 4, 1) / 16 along an axis, and return every second point."""
    count = (fine.shape[axis] - 2 * TAPS + 1) // 2

    def tap(number: int) -> Pixels:
        """Return the points that one of the five weights belongs to."""
        return fine[_along(axis, slice(number, number + 2 * count - 1, 2))]

    coarse = tap(0) + tap(4)
    coarse *= np.float32(1 / 16)
    pair = tap(1) + tap(3)
    pair *= np.float32(4 / 16)
    coarse += pair
    np.multiply(tap(2), np.float32(6 / 16), out=pair)
    coarse += pair
    return coarse


def _expanded(coarse: _Lattice, rect: Rect) -> Pixels:
    """Return the points `rect` of the next finer lattice.

    This is the transposed convolution with four times the kernel.
    """
    sides = _expanded_along(coarse.pixels, coarse.rect.columns, rect.columns, 2)
    return _expanded_along(sides, coarse.rect.rows, rect.rows, 1)


def _expanded_along(coarse: Pixels, inputs: Interval, outputs: Interval, axis: int) -> Pixels:
    """Expand along one axis.

    Point 2k is (1, 6, 1) / 8 of k - 1, k and k + 1; point 2k + 1 is half of k and k + 1.

    Args:
        coarse: Values at the points `inputs` of the coarse lattice.
        inputs: Coarse points along the axis.
        outputs: Fine points along the axis to return.
        axis: The axis of the arrays.
    """
    shape = list(coarse.shape)
    shape[axis] = outputs.size
    fine = np.empty(shape, np.float32)

    def part(points: Interval) -> Pixels:
        """Return the values at coarse points."""
        return coarse[_along(axis, points.slice_from(inputs.start))]

    for odd in (0, 1):
        points = Interval(-(-(outputs.start - odd) // 2), -(-(outputs.stop - odd) // 2))
        out = fine[_along(axis, slice(2 * points.start + odd - outputs.start, None, 2))]
        if odd:
            np.add(part(points), part(points.shifted(1)), out=out)
            out *= np.float32(1 / 2)
        else:
            np.add(part(points.shifted(-1)), part(points.shifted(1)), out=out)
            out *= np.float32(1 / 8)
            out += part(points) * np.float32(6 / 8)
    return fine


def half_gaussian(sigma: float) -> NDArray[np.float32]:
    """Return a Gaussian's weights from the middle on, cut off at `_CUT_SIGMAS` sigmas.

    With their mirror image they sum to 1.
    """
    weights = np.exp(-0.5 * np.square(np.arange(int(np.ceil(_CUT_SIGMAS * sigma)) + 1) / sigma))
    weights /= weights[0] + 2 * weights[1:].sum()
    return weights.astype(np.float32)


def _strips(rows: Interval, samples: int) -> Iterator[Interval]:
    """Yield the rows in strips of about `_STRIP_SAMPLES` samples, at least one row each."""
    height = max(1, _STRIP_SAMPLES // samples)
    for start in range(*rows, height):
        yield Interval(start, min(start + height, rows.stop))


def _blurred(pixels: Pixels, kernel: NDArray[np.float32], axis: int, step: int) -> Pixels:
    """Convolve along an axis with a kernel and its mirror image.

    Args:
        pixels: (rows, samples) float32.
        kernel: Weights from the middle on, from `half_gaussian`.
        axis: The axis.
        step: Distance of neighbours, in elements.
    """
    reach = (len(kernel) - 1) * step
    size = pixels.shape[axis] - 2 * reach
    result = pixels[_along(axis, slice(reach, reach + size))] * kernel[0]
    pair = np.empty_like(result)
    for number, weight in enumerate(kernel[1:], 1):
        before, after = reach - number * step, reach + number * step
        np.add(
            pixels[_along(axis, slice(before, before + size))], pixels[_along(axis, slice(after, after + size))], out=pair
        )
        pair *= weight
        result += pair
    return result
