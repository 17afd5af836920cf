"""Optimisers: by tiles and from saved moments they equal optax over the whole canvas."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.config.octave_settings import OPTIMIZERS as NAMES
from render.config.octave_settings import settings_by_octave
from render.config.schema import Config, OptimizerConfig
from render.dreaming.optimizer import MOMENTS, Optimizer
from render.errors import UserError
from tests.conftest import ROOT

SHAPE = (23, 31)
STEPS = 6
OPTIMIZERS = [Optimizer("momentum"), Optimizer("momentum", 0.5), Optimizer("adam"), Optimizer("adam", 0.0, 0.9)]


def gradients(shape: tuple[int, int] = SHAPE, steps: int = STEPS) -> list[np.ndarray]:
    """Return gradients as the ascent gives them, mean|g| = 1.

    A part stays from step to step, and one pixel has none.
    """
    rng = np.random.default_rng(0)
    steady = rng.standard_normal((*shape, 3))
    gradient_steps = []
    for _ in range(steps):
        gradient = steady + rng.standard_normal((*shape, 3))
        gradient[0, 0] = 0
        gradient_steps.append((gradient / np.abs(gradient).mean()).astype(np.float32))
    return gradient_steps


def optax_itself(optimizer: Optimizer, gradient_steps: list[np.ndarray]) -> list[np.ndarray]:
    """The directions of a run over the whole canvas that nothing interrupts."""
    if optimizer.name == "momentum":
        transformation = optax.ema(optimizer.momentum, debias=True)
    else:
        transformation = optax.scale_by_adam(optimizer.momentum, optimizer.decay, 1e-3)
    state, directions = transformation.init(np.zeros_like(gradient_steps[0])), []
    for gradient in gradient_steps:
        direction, state = transformation.update(gradient, state)
        directions.append(np.asarray(direction))
    return directions


def tiles(shape: tuple[int, int], size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], size[0]):
        for left in range(0, shape[1], size[1]):
            yield slice(top, min(top + size[0], shape[0])), slice(left, min(left + size[1], shape[1]))


def by_tiles(
    optimizer: Optimizer,
    gradient_steps: list[np.ndarray],
    size: tuple[int, int],
    moments: list[np.ndarray],
    steps_done: int = 0,
) -> list[np.ndarray]:
    directions = []
    for count, gradient in enumerate(gradient_steps, steps_done):
        direction = np.full_like(gradient, np.nan)
        for tile in tiles(gradient.shape[:2], size):
            direction[tile] = optimizer.update(gradient[tile], [moment[tile] for moment in moments], count)
        directions.append(direction)
    return directions


def nothing(optimizer: Optimizer, shape: tuple[int, int] = SHAPE) -> list[np.ndarray]:
    return [np.zeros((*shape, 3), np.float32) for _ in range(optimizer.moments)]


@pytest.mark.parametrize("size", [SHAPE, (8, 31), (10, 7)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_tiles_are_optax_over_the_whole_canvas(optimizer: Optimizer, size: tuple[int, int]) -> None:
    directions = by_tiles(optimizer, gradients(), size, nothing(optimizer))
    for mine, expected in zip(directions, optax_itself(optimizer, gradients()), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)
    # Each step differs from the gradient by what was before it.
    assert np.abs(directions[-1] - gradients()[-1]).mean() > 0.1


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("stop", range(1, STEPS))
def test_from_saved_moments_it_goes_on_to_the_same_bits(stop: int, optimizer: Optimizer) -> None:
    size = (10, 7)
    straight = nothing(optimizer)
    expected = by_tiles(optimizer, gradients(), size, straight)
    first = nothing(optimizer)
    directions = by_tiles(optimizer, gradients()[:stop], size, first)
    taken_up = [np.frombuffer(moment.tobytes(), np.float32).reshape(moment.shape).copy() for moment in first]
    directions += by_tiles(optimizer, gradients()[stop:], size, taken_up, stop)
    for mine, reference in zip(directions, expected, strict=True):
        assert mine.tobytes() == reference.tobytes()
    for mine, reference in zip(taken_up, straight, strict=True):
        assert mine.tobytes() == reference.tobytes()


@settings(max_examples=30)
@given(st.sampled_from(OPTIMIZERS), st.tuples(st.integers(0, 12), st.integers(0, 20)), st.integers(0, 3))
def test_a_tile_does_not_depend_on_where_it_lies(optimizer: Optimizer, at: tuple[int, int], count: int) -> None:
    """In the midst of a canvas or as a copy, at any alignment in memory: the same bits.

    Nothing beside the tile changes.
    """
    rng = np.random.default_rng(1)
    gradient = rng.standard_normal((*SHAPE, 3)).astype(np.float32)
    canvases = [np.abs(rng.standard_normal((*SHAPE, 3))).astype(np.float32) for _ in range(optimizer.moments)]
    before = [canvas.copy() for canvas in canvases]
    tile = slice(at[0], at[0] + 10), slice(at[1], at[1] + 11)
    copies = [canvas[tile].copy() for canvas in canvases]
    in_place = optimizer.update(gradient[tile], [canvas[tile] for canvas in canvases], count)
    alone = optimizer.update(gradient[tile].copy(), copies, count)
    assert in_place.tobytes() == alone.tobytes()
    for canvas, copy, old in zip(canvases, copies, before, strict=True):
        assert canvas[tile].tobytes() == copy.tobytes()
        assert (canvas[tile] != old[tile]).all()
        canvas[tile] = old[tile]
        assert canvas.tobytes() == old.tobytes()


@pytest.mark.parametrize("optimizer", [Optimizer("momentum"), Optimizer("adam")], ids=str)
def test_step_size_keeps_its_meaning(optimizer: Optimizer) -> None:
    """A constant gradient is the direction from the first step on; of size 1 it is Adam's too."""
    steady = np.where(gradients()[0] < 0, -1, 1).astype(np.float32)
    moments = nothing(optimizer)
    for count in range(5):
        direction = optimizer.update(steady, moments, count)
        np.testing.assert_allclose(direction, steady, rtol=2e-3)


def test_adam_evens_out_what_is_weak_but_not_what_is_nothing() -> None:
    """A tenth of the mean becomes a whole step; far below a thousandth stays small.

    Zero stays zero.
    """
    adam = Optimizer("adam")
    gradient = np.array([0, 1e-6, 0.1, 10], np.float32)[:, None, None].repeat(3, -1)
    direction = adam.update(gradient, nothing(adam, (4, 1)), 0)[:, 0, 0]
    assert direction[0] == 0
    assert direction[1] < 2e-3
    np.testing.assert_allclose(direction[2:], 1, rtol=0.02)


def test_none_is_the_gradient_itself() -> None:
    gradient = gradients()[0]
    assert Optimizer().update(gradient, [], 3) is gradient


@pytest.mark.parametrize(("name", "moments"), [("none", 0), ("momentum", 1), ("adam", 2)])
def test_it_says_how_many_moments_it_keeps(name: str, moments: int) -> None:
    assert Optimizer(name).moments == moments
    with pytest.raises(ValueError, match=f"keeps {moments} moments"):
        Optimizer(name).update(gradients()[0], [np.zeros((*SHAPE, 3), np.float32)] * (moments + 1), 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "adan"}, "did you mean 'adam'"),
        ({"name": "zzz"}, "none, momentum, adam"),
        *(({"name": "adam", "momentum": value}, r"optimizer\.momentum") for value in (1.0, -0.1, float("nan"))),
        *(({"name": "adam", "decay": value}, r"optimizer\.decay") for value in (1.0, -0.1, float("inf"))),
    ],
)
def test_what_is_no_optimiser_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        settings_by_octave(Config(optimizer=OptimizerConfig(**arguments)))
    assert "\n" not in str(raised.value)


def test_every_name_of_the_config_is_an_optimiser() -> None:
    assert set(NAMES) == set(MOMENTS)


def test_whoever_reads_the_module_does_not_load_jax() -> None:
    words = "import sys, render.dreaming.optimizer as o; o.Optimizer('adam'); print({'jax', 'optax'} & sys.modules.keys())"
    process = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (process.stdout, process.stderr) == ("set()\n", "")
