"""Operations written for speed against XLA's plain ones, in float64 so that rounding hides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from jax import lax

from render.networks import convolutions
from render.networks.convolutions import convolve
from render.networks.network import Network
from render.networks.nodes import AvgPool, Conv, LocalResponseNorm, MaxPool, window_output
from render.networks.pools import average_pool, max_pool
from render.networks.response_norm import local_response_norm

Operation = Callable[[jax.Array], jax.Array]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def plain_convolve(x: jax.Array, kernel: jax.Array, node: Conv) -> jax.Array:
    rows, columns = node.padding
    return lax.conv_general_dilated(
        x,
        kernel,
        (node.stride, node.stride),
        ((rows, rows), (columns, columns)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )


def plain_max_pool(x: jax.Array, node: MaxPool) -> jax.Array:
    sizes = [window_output(length, node, axis) for axis, length in enumerate(x.shape[1:3])]
    edges = [
        (node.padding, max(0, (size - 1) * node.stride + node.size - length - node.padding))
        for size, length in zip(sizes, x.shape[1:3], strict=True)
    ]
    maxima = lax.reduce_window(
        x, -jnp.inf, lax.max, (1, node.size, node.size, 1), (1, node.stride, node.stride, 1), ((0, 0), *edges, (0, 0))
    )
    return maxima[:, : sizes[0], : sizes[1]]


def plain_average_pool(x: jax.Array, node: AvgPool) -> jax.Array:
    half, window = node.size // 2, (1, node.size, node.size, 1)
    edges = ((0, 0), (half, half), (half, half), (0, 0))
    total, count = (
        lax.reduce_window(values, 0.0, lax.add, window, (1, 1, 1, 1), edges) for values in (x, jnp.ones_like(x))
    )
    return total / count


def plain_response_norm(x: jax.Array, node: LocalResponseNorm) -> jax.Array:
    half = node.n // 2
    squares = lax.reduce_window(
        x * x, 0.0, lax.add, (1, 1, 1, node.n), (1, 1, 1, 1), ((0, 0), (0, 0), (0, 0), (half, half))
    )
    return x * (node.k + (node.alpha / node.n) * squares) ** -node.beta


def agree(ours: Operation, plain: Operation, x: np.ndarray, seed: int = 0) -> None:
    """Check that values and gradients of a random weighting agree to float64's rounding."""
    values, pull = jax.vjp(ours, jnp.asarray(x))
    expected, expected_pull = jax.vjp(plain, jnp.asarray(x))
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12)
    g = jnp.asarray(np.random.default_rng(seed).normal(size=values.shape))
    np.testing.assert_allclose(pull(g)[0], expected_pull(g)[0], rtol=1e-11, atol=1e-11)


def activations(seed: int, rows: int, columns: int, channels: int) -> np.ndarray:
    """As a ReLU leaves them: many are 0, so that maxima are often tied. float64."""
    return np.maximum(np.random.default_rng(seed).normal(size=(1, rows, columns, channels)), 0.0)


sides = some.integers(7, 20)


@settings(max_examples=20)
@given(
    rows=sides,
    columns=sides,
    channels=some.integers(1, 6),
    features=some.integers(1, 5),
    kernel=some.tuples(some.integers(1, 7), some.integers(1, 7)),
    stride=some.integers(1, 3),
    padding=some.tuples(some.integers(0, 3), some.integers(0, 3)),
    seed=some.integers(0, 99),
)
def test_convolutions_are_the_plain_one_whatever_form_is_chosen(
    rows: int,
    columns: int,
    channels: int,
    features: int,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    seed: int,
) -> None:
    node = Conv("c", features, kernel, stride, padding)
    x = np.random.default_rng(seed).normal(size=(1, rows, columns, channels))
    weights = jnp.asarray(np.random.default_rng(seed + 1).normal(size=(*kernel, channels, features)))
    agree(lambda x: convolve(x, weights, node), lambda x: plain_convolve(x, weights, node), x)
    # Weights have a gradient as well, though a dream asks for none.
    agree(
        lambda w: convolve(jnp.asarray(x), w, node), lambda w: plain_convolve(jnp.asarray(x), w, node), np.asarray(weights)
    )


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "form"),
    [
        (3, (3, 3), 2, (0, 0), "_convolve_folded"),
        (3, (7, 7), 2, (3, 3), "_convolve_folded"),
        (32, (3, 3), 1, (0, 0), "_convolve_unpadded"),
        (288, (3, 3), 2, (0, 0), "_convolve_unpadded"),
        (64, (1, 1), 1, (0, 0), "mix"),
        (64, (3, 3), 1, (1, 1), "_convolve"),
    ],
)
def test_each_form_is_chosen_for_what_it_is_fast_at(
    channels: int,
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = []
    for name in ("_convolve_folded", "_convolve_unpadded", "_convolve", "mix"):
        monkeypatch.setattr(convolutions, name, lambda *_, name=name, **__: used.append(name))
    convolve(jnp.zeros((1, 15, 15, channels)), jnp.zeros((*kernel, channels, 8)), Conv("c", 8, kernel, stride, padding))
    assert used == [form]


@settings(max_examples=20)
@given(
    rows=sides,
    columns=sides,
    channels=some.integers(1, 4),
    size=some.integers(1, 4),
    stride=some.integers(1, 3),
    padding=some.integers(0, 1),
    ceil=some.booleans(),
    seed=some.integers(0, 99),
)
def test_max_pools_and_who_wins_a_tie_are_the_plain_ones(
    rows: int, columns: int, channels: int, size: int, stride: int, padding: int, ceil: bool, seed: int
) -> None:
    node = MaxPool("p", size, stride, min(padding, size // 2), ceil)
    agree(lambda x: max_pool(node, x), lambda x: plain_max_pool(x, node), activations(seed, rows, columns, channels))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_max_pools_gradient_reaches_every_winner_once(dtype: jnp.dtype) -> None:
    node = MaxPool("p", 3, 2)
    x = jnp.asarray(activations(0, 31, 29, 8), dtype)
    values, pull = jax.vjp(lambda x: max_pool(node, x), x)
    assert values.dtype == dtype
    gradient = pull(jnp.ones_like(values))[0]
    assert gradient.dtype == dtype
    # Whole numbers, of windows won: their sum is exact even in bfloat16.
    assert float(gradient.astype(jnp.float32).sum()) == values.size
    assert gradient.max() <= 4


def test_what_is_not_a_number_stays_so_in_a_max_pool() -> None:
    x = np.ones((1, 9, 9, 1))
    x[0, 4, 4] = np.nan
    assert np.isnan(np.asarray(max_pool(MaxPool("p", 3, 2), jnp.asarray(x)))).any()


@settings(max_examples=20)
@given(rows=sides, columns=sides, size=some.sampled_from([3, 5, 7]), seed=some.integers(0, 99))
def test_average_pools_are_the_plain_ones(rows: int, columns: int, size: int, seed: int) -> None:
    node = AvgPool("p", size)
    agree(lambda x: average_pool(x, node), lambda x: plain_average_pool(x, node), activations(seed, rows, columns, 3))


@settings(max_examples=20)
@given(
    channels=some.integers(1, 12),
    n=some.sampled_from([1, 3, 5]),
    alpha=some.floats(1e-4, 1.0),
    beta=some.sampled_from([0.5, 0.75, 1.0]),
    seed=some.integers(0, 99),
)
def test_response_norms_are_the_plain_ones(channels: int, n: int, alpha: float, beta: float, seed: int) -> None:
    node = LocalResponseNorm("n", n, alpha, beta)
    x = 20 * activations(seed, 6, 5, channels)
    agree(lambda x: local_response_norm(node, x), lambda x: plain_response_norm(x, node), x)


@pytest.mark.parametrize("layer", ["mixed0/pool", "mixed1/branch1x1", "mixed1/branch5x5_1", "mixed2"])
def test_layers_inside_a_block_are_what_they_are_without_the_others(layer: str, inception) -> None:
    """A block's first convolutions run as one, and agree with each alone.

    So does one whose pool's activations are needed.
    """
    network = Network(inception.architecture, inception.parameters)
    pixels = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (139, 139, 3)), jnp.float32)
    names = ["mixed0/pool", "mixed1/branch1x1", "mixed1/branch5x5_1", "mixed1/branch_pool", "mixed2"]
    alone, together = (jax.jit(lambda p, n=names: network(p, n))(pixels) for names in ([layer], names))
    scale = float(jnp.abs(alone[layer]).max())
    np.testing.assert_allclose(together[layer], alone[layer], rtol=0, atol=2e-6 * scale)
