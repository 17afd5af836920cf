"""The promise itself: the gradient of a tiled canvas is that of the whole canvas, for any objective."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from render.dreaming.objectives import resolve
from render.geometry.geometry import BOUNDARY_MODES
from render.networks.weights import Loaded
from tests.support.untiled import assert_equal, kernel_of, make_grid, photo, tiled_gradient, untiled_gradient

SLOW = settings(deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))

LAYERS = [("inception_v3", f"mixed{index}") for index in range(8)] + [
    ("googlenet", f"inception_{block}") for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "layer"), LAYERS)
def test_tiled_gradient_equals_untiled_at_every_layer(model: str, layer: str, loaded_by_name) -> None:
    """Long, thin canvases of odd sizes, so that windows are true parts of the whole.

    Jitter is on. Layers take turns in which axis is the long one and whether it wraps.
    """
    loaded: Loaded = loaded_by_name(model)
    objective = resolve([layer], loaded.architecture)
    kernel = kernel_of(loaded, objective)
    halo = make_grid(loaded, objective, (1, 1), 16, "reflect").rows.halo
    tile = max(96, halo // 2)
    turn = LAYERS.index((model, layer)) % 3
    # A wrapping axis is extended by its halos already.
    long = (tile if turn == 2 else 2 * halo + tile) + tile + 37
    shape, jitter = ((long, 67), (6, 1)) if turn == 0 else ((67, long), (3, 5))
    grid = make_grid(loaded, objective, shape, tile, "wrap_x" if turn == 2 else "reflect")
    assert grid.tiles > 2
    assert min(window / full for window, full in zip(grid.window_shape, grid.extended_shape, strict=True)) < 1
    canvas = photo(*shape)
    untiled = untiled_gradient(loaded, objective, grid, canvas, jitter)
    assert_equal(tiled_gradient(kernel, loaded, grid, canvas, jitter), untiled, layer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "terms"),
    [
        ("inception_v3", ["mixed0", "0.5*mixed3"]),
        ("inception_v3", ["mixed2:3+250", "-0.2*mixed1/branch5x5_1"]),
        ("googlenet", ["inception_3b", "inception_4a/3x3:7"]),
    ],
)
def test_tiled_gradient_equals_untiled_at_any_tile_size(model: str, terms: list[str], loaded_by_name) -> None:
    """Property: any tile size, boundary, jitter, number of blocks and odd canvas.

    Canvases may be smaller than a tile.
    """
    loaded: Loaded = loaded_by_name(model)
    objective = resolve(terms, loaded.architecture)
    kernel = kernel_of(loaded, objective)

    @settings(SLOW, max_examples=5)
    @given(
        boundary=st.sampled_from(sorted(BOUNDARY_MODES)),
        tile=st.integers(16, 300),
        height=st.integers(60, 130),
        width=st.integers(60, 420),
        jitter=st.tuples(st.integers(0, 15), st.integers(0, 15)),
        workers=st.integers(1, 5),
    )
    def holds(boundary: str, tile: int, height: int, width: int, jitter: tuple[int, int], workers: int) -> None:
        grid = make_grid(loaded, objective, (height, width), tile, boundary)
        jitter = (jitter[0] % grid.rows.stride, jitter[1] % grid.rows.stride)
        canvas = photo(height, width)
        untiled = untiled_gradient(loaded, objective, grid, canvas, jitter)
        tiled = tiled_gradient(kernel, loaded, grid, canvas, jitter, workers)
        assert_equal(tiled, untiled, (grid, jitter, workers))

    holds()


def test_without_a_halo_tiles_are_wrong(inception: Loaded) -> None:
    """The comparison can fail: zero halo misses by far more than the bound."""
    objective = resolve(["mixed3"], inception.architecture)
    kernel = kernel_of(inception, objective)
    canvas = photo(200, 501)
    exact = make_grid(inception, objective, canvas.shape[:2], 96, "reflect")
    none = make_grid(inception, objective, canvas.shape[:2], 96, "reflect", halo=0)
    untiled = untiled_gradient(inception, objective, exact, canvas, (0, 0))
    error = tiled_gradient(kernel, inception, none, canvas, (0, 0)) - untiled
    assert np.linalg.norm(error) > 0.3 * np.linalg.norm(untiled)


def test_a_torus_has_no_border(inception: Loaded) -> None:
    """Wrapped and rolled by whole strides, a canvas of whole strides has the same gradient."""
    objective = resolve(["mixed0"], inception.architecture)
    kernel = kernel_of(inception, objective)
    canvas = photo(96, 160)
    grid = make_grid(inception, objective, (96, 160), 64, "wrap")
    still = tiled_gradient(kernel, inception, grid, canvas, (0, 0))
    rolled = tiled_gradient(kernel, inception, grid, np.ascontiguousarray(np.roll(canvas, (40, -56), (0, 1))), (0, 0))
    assert_equal(np.roll(rolled, (-40, 56), (0, 1)), still, "rolled")
