"""The promise itself: the gradient of a tiled canvas is the gradient of the whole canvas.

"Whole" is one window over the extended canvas, computed here by plain `jax.grad` on a canvas that NumPy padded: it shares
neither windows, margins nor the compiled kernel with what it checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from render.dream.kernel import Kernel
from render.dream.objectives import Objective, resolve
from render.dream.resample import Pixels, resample_array
from render.farm.messages import Assignment
from render.farm.worker import Worker
from render.geometry import BOUNDARY_MODES, Axis, Gathering, Grid, Rect, deal_blocks, margin_pieces, round_up
from render.models.network import Network
from render.models.weights import Loaded

SLOW = settings(deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Still:
    """A source that is one array at its own size."""

    pixels: Pixels
    sha256: str = ""
    nbytes: int = 0

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        assert shape == self.size
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


@cache
def photo(height: int, width: int) -> Pixels:
    from render.config import SourceConfig
    from render.source.photo import read_photo
    from render.source.source import sample_path

    return np.clip(resample_array(read_photo(sample_path("chelsea"), SourceConfig()), (height, width)), 0, 255)


def make_grid(loaded: Loaded, objective: Objective, shape, tile: int, boundary: str, halo: int | None = None) -> Grid:
    layers = [loaded.architecture.layer(name) for name in objective.layers]
    stride = max(layer.stride for layer in layers)
    exact = round_up(max(layer.receptive_field for layer in layers) - 1, stride)
    rows, columns = (
        Axis(length, tile, exact if halo is None else halo, exact if mode == "wrap" else 32, stride, mode)
        for length, mode in zip(shape, BOUNDARY_MODES[boundary], strict=True)
    )
    return Grid(rows, columns)


def untiled_gradient(loaded: Loaded, objective: Objective, grid: Grid, canvas: Pixels, jitter) -> Pixels:
    """Gradient of the objective over the whole extended canvas, cut to the canvas."""
    network = Network(loaded.architecture.truncated(objective.layers), loaded.parameters)
    before = [axis.fill + shift for axis, shift in zip((grid.rows, grid.columns), jitter, strict=True)]
    after = [
        extended - length - first
        for extended, length, first in zip(grid.extended_shape, canvas.shape, before, strict=False)
    ]
    extended = np.pad(canvas, ((before[0], after[0]), (0, 0), (0, 0)), mode=grid.rows.mode)
    extended = np.pad(extended, ((0, 0), (before[1], after[1]), (0, 0)), mode=grid.columns.mode)

    @jax.jit
    def gradient(pixels: jax.Array) -> jax.Array:
        def value(p: jax.Array) -> jax.Array:
            activations = network(p, objective.layers)
            total = 0.0
            for term in objective.terms:
                a = activations[term.layer]
                total += term.weight * (a[..., list(term.channels)].mean() if term.channels else (a**2).mean())
            return total

        return jax.grad(value)(pixels)

    whole = np.asarray(gradient(jnp.asarray(extended)))
    return whole[before[0] : before[0] + canvas.shape[0], before[1] : before[1] + canvas.shape[1]]


def tiled_gradient(kernel: Kernel, loaded: Loaded, grid: Grid, canvas: Pixels, jitter, workers: int = 1) -> Pixels:
    """The same by the program's own workers, blocks, margins and windows."""
    blocks = deal_blocks(grid, workers)
    farm = [Worker(kernel, Still(canvas)) for _ in blocks]
    divisors = kernel.objective.divisors(loaded.architecture, grid.extended_shape)
    margins = [Gathering.of(margin_pieces(block, blocks), number) for number, block in enumerate(blocks)]
    for number, (worker, block) in enumerate(zip(farm, blocks, strict=True)):
        worker.begin_octave(Assignment(number, 0, block, margins[number], (), divisors))
    result = np.full_like(canvas, np.nan)
    for worker, margin in zip(farm, margins, strict=True):
        worker.fill_margin(*(farm[owner].read([piece.source for piece in pieces]) for owner, pieces in margin.others))
    for worker, block in zip(farm, blocks, strict=True):
        # In parts, as the conductor asks for them.
        sums = [part for first in range(0, block.size, 3) for part in worker.ascend(0, jitter, first, 3).sums]
        assert [part.tile for part in sums] == [tile.number for tile in block.tiles()]
        result[slice(*block.pixels.rows), slice(*block.pixels.columns)] = worker.gradient
        assert sum(part.total for part in sums) == pytest.approx(np.abs(worker.gradient).sum(dtype=float))
    return result


def assert_equal(tiled: Pixels, untiled: Pixels, what: object) -> None:
    scale = np.abs(untiled).mean()
    assert scale > 0
    assert np.abs(tiled - untiled).max() <= 1e-4 * scale, what


LAYERS = [("inception_v3", f"mixed{index}") for index in range(8)] + [
    ("googlenet", f"inception_{block}") for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "layer"), LAYERS)
def test_tiled_gradient_equals_untiled_at_every_layer(model: str, layer: str, loaded_by_name) -> None:
    """Long, thin canvases of odd sizes, long enough that windows are true parts of the whole; jitter on.

    Layers take turns in which axis is the long one and whether it wraps.
    """
    loaded: Loaded = loaded_by_name(model)
    objective = resolve([layer], loaded.architecture)
    kernel = Kernel(Network(loaded.architecture.truncated([layer]), loaded.parameters), objective)
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
    """Property: any tile size and boundary, odd canvases, canvases smaller than a tile, any jitter and number of blocks."""
    loaded: Loaded = loaded_by_name(model)
    objective = resolve(terms, loaded.architecture)
    kernel = Kernel(Network(loaded.architecture.truncated(objective.layers), loaded.parameters), objective)

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
    """The comparison can fail: zero halo, as published dreamers have it, misses by far more than the bound."""
    objective = resolve(["mixed3"], inception.architecture)
    kernel = Kernel(Network(inception.architecture.truncated(["mixed3"]), inception.parameters), objective)
    canvas = photo(200, 501)
    exact = make_grid(inception, objective, canvas.shape[:2], 96, "reflect")
    none = make_grid(inception, objective, canvas.shape[:2], 96, "reflect", halo=0)
    untiled = untiled_gradient(inception, objective, exact, canvas, (0, 0))
    error = tiled_gradient(kernel, inception, none, canvas, (0, 0)) - untiled
    assert np.linalg.norm(error) > 0.3 * np.linalg.norm(untiled)


def test_a_torus_has_no_border(inception: Loaded) -> None:
    """Wrapped, a canvas whose sides are whole strides gives the same gradient when it is rolled by whole strides."""
    objective = resolve(["mixed0"], inception.architecture)
    kernel = Kernel(Network(inception.architecture.truncated(["mixed0"]), inception.parameters), objective)
    canvas = photo(96, 160)
    grid = make_grid(inception, objective, (96, 160), 64, "wrap")
    still = tiled_gradient(kernel, inception, grid, canvas, (0, 0))
    rolled = tiled_gradient(kernel, inception, grid, np.ascontiguousarray(np.roll(canvas, (40, -56), (0, 1))), (0, 0))
    assert_equal(np.roll(rolled, (-40, 56), (0, 1)), still, "rolled")


def test_ascent_raises_the_objective(inception: Loaded) -> None:
    for terms in (["mixed1"], ["mixed0:5"], ["mixed0", "2*mixed2:7+8"]):
        objective = resolve(terms, inception.architecture)
        network = Network(inception.architecture.truncated(objective.layers), inception.parameters)
        canvas = photo(120, 150)
        grid = make_grid(inception, objective, (120, 150), 200, "reflect")

        def value(pixels: Pixels, network: Network = network, objective: Objective = objective) -> float:
            activations = network(jnp.asarray(pixels), objective.layers)
            shares = objective.divisors(inception.architecture, (120, 150))
            return float(objective.total(activations, jnp.asarray(shares)))

        gradient = tiled_gradient(Kernel(network, objective), inception, grid, canvas, (0, 0))
        assert value(canvas + gradient / np.abs(gradient).mean()) > 1.02 * value(canvas)
