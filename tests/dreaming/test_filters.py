"""Filters of the gradient: the same from any tiles, against slow whole-canvas oracles; sums add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from scipy.signal import correlate2d

from render.dreaming.filters import (
    cascade,
    cascade_reach,
    laplacian_gains,
    laplacian_merge,
    laplacian_reach,
    laplacian_squares,
    total_variation,
)
from render.geometry.geometry import Interval, Rect, boundary_runs, whole

MODES = st.sampled_from([("reflect", "reflect"), ("wrap", "wrap"), ("reflect", "wrap")])
LEVELS = st.integers(1, 5)
SIDES = st.integers(1, 75)
KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Colour noise with energy at every scale."""
    random = np.random.default_rng(seed)
    y, x = np.indices((*shape, 1))[:2]
    waves = sum(np.sin((y * random.normal(size=3) + x * random.normal(size=3)) / 2**n) for n in range(6))
    return (waves + random.normal(size=(*shape, 3))).astype(np.float32)


def extended(canvas: np.ndarray, rect: Rect, modes: tuple[str, str]) -> np.ndarray:
    """The canvas as its boundary modes continue it, inside `rect`."""
    for axis, side in enumerate(rect):
        parts = []
        for run in boundary_runs(side, canvas.shape[axis], modes[axis]):
            part = np.take(canvas, range(*run.source), axis)
            parts.append(np.flip(part, axis) if run.reversed else part)
        canvas = np.concatenate(parts, axis)
    return canvas


def bordered_by_nan(pixels: np.ndarray, extent: Rect, by: int = 3) -> tuple[np.ndarray, Rect]:
    """The same pixels with others around them that must not matter."""
    around = ((by, by), (by, by), (0, 0))
    return np.pad(pixels, around, constant_values=np.nan), extent.grown(by)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[tuple[int, int], list[Rect]]:
    """A canvas and tiles that partition it, of any sizes, in rows of their own columns."""

    def cuts(length: int) -> list[Interval]:
        inner = draw(st.sets(st.integers(1, length), max_size=4)) - {length}
        edges = [0, *sorted(inner), length]
        return [Interval(start, stop) for start, stop in zip(edges, edges[1:], strict=False)]

    height, width = draw(SIDES), draw(SIDES)
    return (height, width), [Rect(rows, columns) for rows in cuts(height) for columns in cuts(width)]


def assert_tiles_are_the_whole(
    shape: tuple[int, int],
    tiles: list[Rect],
    modes: tuple[str, str],
    reach: int,
    apply: Callable[[np.ndarray, Rect, Rect], np.ndarray],
) -> None:
    """Bit for bit, each tile with no more around it than the reach that it was promised to need."""
    canvas = noise(shape)
    everything = whole(*shape).grown(reach)
    expected = apply(extended(canvas, everything, modes), everything, whole(*shape))
    assert expected.shape == canvas.shape
    assert expected.dtype == np.float32
    for core in tiles:
        extent = core.grown(reach)
        result = apply(*bordered_by_nan(extended(canvas, extent, modes), extent), core)
        np.testing.assert_array_equal(result, expected[core.slices_from(whole(*shape))])


@given(tilings(), MODES, LEVELS)
def test_normalised_tiles_are_those_of_the_whole(tiling, modes, levels: int) -> None:
    gains = np.geomspace(3, 0.2, levels + 1).tolist()
    apply = lambda pixels, extent, core: laplacian_merge(pixels, extent, core, gains)  # noqa: E731
    assert_tiles_are_the_whole(*tiling, modes, laplacian_reach(levels), apply)


@settings(max_examples=30)
@given(tilings(), MODES, st.floats(0.2, 3))
def test_smoothed_tiles_are_those_of_the_whole(tiling, modes, sigma: float) -> None:
    apply = lambda pixels, extent, core: cascade(pixels, extent, core, sigma)  # noqa: E731
    assert_tiles_are_the_whole(*tiling, modes, cascade_reach(sigma), apply)


def test_wide_rows_and_narrow_ones_are_smoothed_alike() -> None:
    """Rows of a wide rectangle are computed one at a time, those of a narrow one many."""
    shape = (7, 20_000)
    tiles = [Rect(Interval(0, 7), Interval(start, start + 2500)) for start in range(0, 20_000, 2500)]
    apply = lambda pixels, extent, core: cascade(pixels, extent, core, 0.7)  # noqa: E731
    assert_tiles_are_the_whole(shape, tiles, ("wrap", "wrap"), cascade_reach(0.7), apply)


@given(tilings(), MODES)
def test_total_variation_of_tiles_is_that_of_the_whole(tiling, modes) -> None:
    assert_tiles_are_the_whole(*tiling, modes, 1, total_variation)


@given(tilings(), MODES, LEVELS, st.booleans())
def test_sums_over_tiles_are_those_of_the_whole(tiling, modes, levels: int, weighted: bool) -> None:
    shape, tiles = tiling
    canvas, reach = noise(shape), laplacian_reach(levels)
    mask = np.random.default_rng(1).random(shape).astype(np.float32) if weighted else np.ones(shape, np.float32)

    def sums(core: Rect) -> np.ndarray:
        extent = core.grown(reach)
        weights = mask[core.slices_from(whole(*shape))] if weighted else None
        return laplacian_squares(*bordered_by_nan(extended(canvas, extent, modes), extent), core, levels, weights)

    expected = sums(whole(*shape))
    np.testing.assert_allclose(sum(sums(core) for core in tiles), expected, rtol=1e-9)
    counts = [3 * mask[:: 2**level, :: 2**level].sum(dtype=np.float64) for level in range(levels + 1)]
    np.testing.assert_allclose(expected[:, 1], counts, rtol=1e-9)


def pyramid(pixels: np.ndarray, levels: int) -> Iterator[np.ndarray]:
    """Return the high bands, fine to coarse, and the low residual of one channel.

    The first point of every level is a lattice point. Computed by two-dimensional convolution and zero-stuffing in
    float64; wrong near the edges, where zeros count.
    """
    for _ in range(levels):
        low = correlate2d(pixels, KERNEL, "same")[::2, ::2]
        stuffed = np.zeros(pixels.shape)
        stuffed[::2, ::2] = low
        yield pixels - correlate2d(stuffed, 4 * KERNEL, "same")
        pixels = low
    yield pixels


def merged(bands: list[np.ndarray], gains: list[float]) -> np.ndarray:
    total = gains[-1] * bands[-1]
    for band, gain in zip(bands[-2::-1], gains[-2::-1], strict=True):
        stuffed = np.zeros(band.shape)
        stuffed[::2, ::2] = total
        total = gain * band + correlate2d(stuffed, 4 * KERNEL, "same")
    return total


@settings(max_examples=25)
@given(SIDES, SIDES, st.integers(-40, 40), st.integers(-40, 40), MODES, LEVELS)
def test_the_pyramid_is_convolution_and_zero_stuffing(height, width, top, left, modes, levels: int) -> None:
    """For cores anywhere, also at negative coordinates, whose lattice is the canvas' own."""
    canvas = noise((height, width))
    core = Rect(Interval(top, top + 19), Interval(left, left + 22))
    extent = core.grown(laplacian_reach(levels))
    pixels = extended(canvas, extent, modes)
    gains = [0.5, 3.0, 0.0, 1.5, 2.0, 0.7][: levels + 1]
    # The oracle begins at a point of the coarsest lattice, so far away that its own edges do not matter.
    step = 2**levels
    around = Rect(*(Interval((side.start // step - 5) * step, (side.stop // step + 6) * step) for side in core))
    far = extended(canvas, around, modes).astype(np.float64)
    expected = np.zeros((levels + 1, 2))
    inside = core.slices_from(around)
    for channel in range(3):
        bands = list(pyramid(far[..., channel], levels))
        reference = merged(bands, gains)[inside]
        np.testing.assert_allclose(laplacian_merge(pixels, extent, core, gains)[..., channel], reference, atol=3e-5)
        for level, band in enumerate(bands):
            rows, columns = (
                np.flatnonzero([at in range(*side) for at in range(around_side.start, around_side.stop, 2**level)])
                for side, around_side in zip(core, around, strict=True)
            )
            points = band[np.ix_(rows, columns)]
            expected[level] += np.square(points).sum(), points.size
    np.testing.assert_allclose(laplacian_squares(pixels, extent, core, levels), expected, rtol=1e-4, atol=1e-9)


@given(tilings(), MODES, LEVELS)
def test_a_pyramid_with_gains_of_one_is_the_gradient(tiling, modes, levels: int) -> None:
    shape, tiles = tiling
    canvas = noise(shape)
    extent = tiles[-1].grown(laplacian_reach(levels))
    result = laplacian_merge(extended(canvas, extent, modes), extent, tiles[-1], [1.0] * (levels + 1))
    np.testing.assert_allclose(result, canvas[tiles[-1].slices_from(whole(*shape))], atol=1e-5)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e6])
def test_gains_make_every_level_equally_strong(unit: float) -> None:
    shape, levels = (150, 130), 4
    canvas = noise(shape) * np.float32(unit)
    core, extent = whole(*shape), whole(*shape).grown(laplacian_reach(levels))
    pixels = extended(canvas, extent, ("wrap", "reflect"))
    sums = laplacian_squares(pixels, extent, core, levels)
    gains = laplacian_gains(sums)
    energies, counts = sums.T
    np.testing.assert_allclose(energies * np.square(gains) / counts, 1, rtol=1e-12)
    # The finest band, of what has been merged, is the band itself times its gain: nothing else reaches it.
    alone = laplacian_merge(pixels, extent, core, [gains[0], 0, 0, 0, 0])
    assert np.sqrt(np.square(alone, dtype=np.float64).mean()) == pytest.approx(1, rel=1e-5)


def test_a_mask_weighs_the_strength_of_levels() -> None:
    """Where the mask is 0, nothing of the gradient counts."""
    shape, levels = (96, 96), 3
    canvas = noise(shape)
    mask = np.zeros(shape, np.float32)
    mask[:, 48:] = 1
    core, extent = whole(*shape), whole(*shape).grown(laplacian_reach(levels))
    right = Rect(core.rows, Interval(48, 96))
    pixels = extended(canvas, extent, ("wrap", "wrap"))
    np.testing.assert_allclose(
        laplacian_squares(pixels, extent, core, levels, mask), laplacian_squares(pixels, extent, right, levels), rtol=1e-9
    )


def test_levels_without_energy_are_left_out() -> None:
    """Not amplified: what stands there is rounding."""
    extent = Rect(Interval(-60, 100), Interval(-60, 100))
    core = Rect(Interval(0, 40), Interval(0, 40))
    flat = np.full((*extent.shape, 3), 0.1, np.float32)
    gains = laplacian_gains(laplacian_squares(flat, extent, core, 4))
    assert gains[:4] == (0, 0, 0, 0)
    assert gains[4] == pytest.approx(10)
    assert laplacian_gains(np.zeros((3, 2))) == (0, 0, 0)


def test_sums_that_are_no_numbers_leave_no_gain_that_is_one() -> None:
    for bad in (np.nan, np.inf):
        assert np.isnan(laplacian_gains(np.array([[1.0, 3.0], [bad, 3.0]]))).all()


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_the_cascade_is_the_mean_of_three_gaussians(sigma: float) -> None:
    canvas = noise((40, 33))
    core, extent = whole(40, 33), whole(40, 33).grown(cascade_reach(sigma))
    pixels = extended(canvas, extent, ("wrap", "wrap"))
    expected = np.zeros(canvas.shape)
    for part in (sigma / 2, sigma, 2 * sigma):
        radius = int(np.ceil(3 * part))
        kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * part**2))
        kernel /= kernel.sum()
        blurred = correlate1d(canvas.astype(np.float64), kernel, 0, mode="wrap")
        expected += correlate1d(blurred, kernel, 1, mode="wrap") / 3
    np.testing.assert_allclose(cascade(pixels, extent, core, sigma), expected, atol=1e-5)


@given(st.floats(0.2, 3))
def test_smoothing_keeps_what_is_flat(sigma: float) -> None:
    core = Rect(Interval(3, 9), Interval(-2, 4))
    extent = core.grown(cascade_reach(sigma))
    flat = np.full((*extent.shape, 3), 7, np.float32)
    np.testing.assert_allclose(cascade(flat, extent, core, sigma), 7, rtol=1e-5)


def test_total_variation_is_the_derivative_of_its_sum() -> None:
    canvas = np.random.default_rng(0).uniform(0, 255, (12, 9, 3)).astype(np.float32)

    def variation(pixels: jax.Array) -> jax.Array:
        right, below = pixels[:-1, 1:] - pixels[:-1, :-1], pixels[1:, :-1] - pixels[:-1, :-1]
        return jnp.sqrt(right**2 + below**2 + 1).sum()

    core, extent = Rect(Interval(5, 15), Interval(-3, 4)), Rect(Interval(4, 16), Interval(-4, 5))
    expected = jax.grad(variation)(jnp.asarray(canvas))[1:-1, 1:-1]
    np.testing.assert_allclose(total_variation(canvas, extent, core), expected, atol=1e-5)


def test_what_is_missing_around_a_core_is_refused() -> None:
    # Two points of the first lattice further left begins one of the second: the pyramid needs all of its reach.
    core = Rect(Interval(2, 20), Interval(2, 20))
    for apply, reach in (
        (lambda *a: laplacian_merge(*a, [1.0, 1.0, 1.0]), laplacian_reach(2)),
        (lambda *a: laplacian_squares(*a, 2), laplacian_reach(2)),
        (lambda *a: cascade(*a, 1.5), cascade_reach(1.5)),
        (total_variation, 1),
    ):
        extent = core.grown(reach - 1)
        with pytest.raises(ValueError, match="is needed"):
            apply(np.zeros((*extent.shape, 3), np.float32), extent, core)
