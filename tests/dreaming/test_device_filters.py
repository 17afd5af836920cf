"""Filters of the gradient as devices compute them: the host's, by one program for a core wherever it lies."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from render.dreaming import filters
from render.dreaming.ascent import measure
from render.dreaming.device_filters import pyramid_rows, total_variation
from render.dreaming.resident_steps import TilePlace, UpdateSpec, filter_tile, level_rows
from render.geometry.geometry import Interval, Rect

#: Full core of every tile here, px.
CORE = (37, 44)
#: Beginnings of cores, and their sizes: on the lattice and beside it, full and at the canvas' end.
CORES = [((0, 0), CORE), ((37, 89), CORE), ((-5, 22), (37, 9)), ((16, 8), (1, 44))]
#: Px around every core here that have a gradient.
AROUND = 120


def part_of(spec: UpdateSpec, core: Rect, gradient: np.ndarray, extent: Rect) -> tuple[np.ndarray, np.ndarray]:
    """The part of a gradient that the filter reads, and the core's place."""
    unit = 2**spec.laplacian
    place = TilePlace(core.shape, (core.rows.start % unit, core.columns.start % unit))
    starts = [side.start - phase for side, phase in zip(core, place.phase, strict=True)]
    rect = Rect(*(side.shifted(start) for side, start in zip(spec.filter_extent, starts, strict=True)))
    assert rect.intersect(extent) == rect
    return gradient[rect.slices_from(extent)], np.asarray(place, np.int32)


@pytest.mark.parametrize(("start", "size"), CORES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("settings", [{"laplacian": 3}, {"laplacian": 1, "normalize": "std"}, {"smoothing": 1.3}])
def test_a_tile_is_filtered_and_measured_as_on_the_host(start, size, masked: bool, settings: dict) -> None:
    spec = UpdateSpec(CORE, **settings)
    core = Rect(*(Interval(first, first + length) for first, length in zip(start, size, strict=True)))
    extent = core.grown(AROUND)
    random = np.random.default_rng(3)
    gradient = random.standard_normal((*extent.shape, 3)).astype(np.float32)
    mask = np.zeros(CORE, np.float32)
    mask[: size[0], : size[1]] = random.random(size)
    inside = mask[: size[0], : size[1]] if masked else None
    part, place = part_of(spec, core, gradient, extent)
    gains = [0.5, 2.0, 1.5, 3.0][: spec.laplacian + 1]
    if spec.laplacian:
        expected = filters.laplacian_merge(gradient, extent, core, gains)
        rows = np.asarray(level_rows(part, mask if masked else None, place, spec), np.float64)
        ends = np.cumsum(pyramid_rows(CORE, spec.laplacian))
        assert ends[-1] == len(rows)
        energies = [level.sum() for level in np.split(rows, ends[:-1])]
        on_host = filters.laplacian_squares(gradient, extent, core, spec.laplacian, inside)
        np.testing.assert_allclose(energies, on_host[:, 0], rtol=1e-5)
    else:
        expected = filters.cascade(gradient, extent, core, spec.smoothing)
    result, sums = filter_tile(part, mask if masked else None, place, np.asarray(gains, np.float32), spec)
    result = np.asarray(result)
    np.testing.assert_allclose(result[: size[0], : size[1]], expected, atol=1e-5)
    assert not result[size[0] :].any() and not result[:, size[1] :].any()
    totals = np.asarray(sums, np.float64).sum(axis=1)
    np.testing.assert_allclose(totals, measure(expected, inside, spec.normalize)[:-1], rtol=1e-4, atol=1e-3)


def test_the_total_variation_is_the_hosts() -> None:
    extent = Rect(Interval(3, 40), Interval(-2, 30))
    pixels = 255 * np.random.default_rng(5).random((*extent.shape, 3), np.float32)
    expected = filters.total_variation(pixels, extent, extent.grown(-1))
    np.testing.assert_allclose(np.asarray(jax.jit(total_variation)(pixels)), expected, atol=1e-5)
