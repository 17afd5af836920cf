"""The core's gradient from the cropped backward pass, against that of the whole window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as some

from render.networks.architecture import Architecture
from render.networks.backward import core_gradient
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.network import Network
from render.networks.nodes import AvgPool, Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node, Preprocess
from tests.benchmarks.trained import missing, trained

Size = tuple[int, int]


def gradients(network: Network, layers: Sequence[str], window: np.ndarray, core: Size, at: Size) -> tuple[np.ndarray, ...]:
    """Return the core's gradient of weighted squares, from the cropped pass and the whole window."""
    graph, state = nnx.split(network)
    sizes = network.architecture.output_sizes(*window.shape[:2])
    draw = np.random.default_rng(1)
    weights = {
        name: draw.normal(size=(*sizes[name], network.architecture.layer(name).channels)).astype(np.float32)
        for name in layers
    }

    def value(activations: dict[str, jax.Array]) -> jax.Array:
        return sum((jnp.sum(weights[name] * activations[name] ** 2) for name in layers), jnp.float32(0))

    @jax.jit
    def followed(state: nnx.State, window: jax.Array, at: jax.Array) -> jax.Array:
        merged = nnx.merge(graph, state)
        activations, tape = merged.taped(window, layers)
        return core_gradient(merged, tape, jax.grad(value)(activations), window.shape[:2], core, at)

    @jax.jit
    def whole(state: nnx.State, window: jax.Array) -> jax.Array:
        return jax.grad(lambda pixels: value(nnx.merge(graph, state)(pixels, layers)))(window)

    ours = np.asarray(followed(state, window, jnp.asarray(at, jnp.int32)))
    row, column = at
    return ours, np.asarray(whole(state, window))[row : row + core[0], column : column + core[1]]


def agree(ours: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    scale = max(float(np.abs(expected).max()), 1e-20)
    np.testing.assert_allclose(ours / scale, expected / scale, rtol=0, atol=tolerance)


def picture(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(128, 40, (rows, columns, 3)).clip(0, 255).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "layers", "side"),
    [
        ("googlenet", ["inception_3a", "conv2/3x3"], 271),
        ("googlenet", ["inception_3b/3x3_reduce"], 222),
        ("googlenet", ["pool3/3x3_s2"], 265),
        ("inception_v3", ["mixed3", "mixed1"], 299),
        ("inception_v3", ["mixed0/branch_pool", "maxpool1", "conv2d_2b_3x3"], 200),
    ],
)
def test_a_core_has_the_gradient_that_its_window_gives_it(model: str, layers: list[str], side: int) -> None:
    if (why := missing(model)) is not None:
        pytest.skip(why)
    loaded = trained(model)
    network = Network(loaded.architecture.truncated(layers), loaded.parameters)
    rows, columns = side, side + 14
    core = (61, 38)
    for at in [(0, 0), (rows - core[0], columns - core[1]), (0, columns - core[1]), (101, 83)]:
        ours, expected = gradients(network, layers, picture(rows, columns), core, at)
        assert np.abs(expected).max() > 0
        agree(ours, expected)


def convolutions(name: str) -> some.SearchStrategy[Node]:
    return some.builds(
        lambda size, stride, pad: Conv(name, 4, (size, size), stride, (min(pad, size // 2),) * 2),
        some.integers(1, 5),
        some.integers(1, 2),
        some.integers(0, 2),
    )


def level(name: str) -> some.SearchStrategy[Node]:
    """A node that keeps the size of what it is given."""
    return some.sampled_from(
        [
            Conv(name, 4, (3, 3), padding=(1, 1)),
            Conv(name, 3, (1, 5), padding=(0, 2)),
            Conv(name, 5, (1, 1)),
            AvgPool(name, 3),
            LocalResponseNorm(name, 5, 1e-2, 0.75, 1.0),
        ]
    )


@some.composite
def blocks(draw: some.DrawFn, name: str) -> Node:
    """Branches that all halve the resolution, or none."""
    ends: list[Node]
    if draw(some.booleans()):
        ends = [Conv(f"{name}/a_end", 3, (3, 3), 2), MaxPool(f"{name}/b_end", 3, 2)]
    else:
        ends = [draw(level(f"{name}/a_end")), draw(level(f"{name}/b_end"))]
    first = draw(some.lists(some.just(0), max_size=2))
    branches = (
        (*(draw(level(f"{name}/a{number}")) for number, _ in enumerate(first)), ends[0]),
        (draw(level(f"{name}/b")), ends[1]),
    )
    return InceptionBlock(name, branches)


def _pool(name: str, size: int, ceil: bool) -> Node:
    return MaxPool(name, size, 2, ceil=ceil)


@some.composite
def networks(draw: some.DrawFn) -> Architecture:
    nodes: list[Node] = [draw(convolutions("first"))]
    for number in range(draw(some.integers(1, 4))):
        name = f"n{number}"
        pools = some.builds(partial(_pool, name), some.integers(2, 3), some.booleans())
        nodes.append(draw(some.one_of(convolutions(name), level(name), pools, blocks(name))))
    return Architecture("random", tuple(nodes), Preprocess((117.0,) * 3, 60.0))


def random_parameters(architecture: Architecture) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(3)
    return {
        name: draw.normal(0, 1 / math.sqrt(max(1, math.prod(shape[1:]))), shape).astype(np.float32)
        for name, shape in architecture.parameters().items()
    }


@settings(max_examples=25, deadline=None)
@given(networks(), some.integers(24, 60), some.integers(24, 60), some.data())
def test_any_core_of_any_network(architecture: Architecture, rows: int, columns: int, data: some.DataObject) -> None:
    if min(map(min, architecture.output_sizes(rows, columns).values())) < 1:
        return
    core = data.draw(some.integers(1, rows)), data.draw(some.integers(1, columns))
    at = data.draw(some.integers(0, rows - core[0])), data.draw(some.integers(0, columns - core[1]))
    layers = data.draw(
        some.lists(some.sampled_from(sorted(architecture.layers)), min_size=1, max_size=2, unique=True), label="layers"
    )
    network = Network(architecture.truncated(layers), random_parameters(architecture))
    ours, expected = gradients(network, layers, picture(rows, columns), core, at)
    agree(ours, expected, 1e-4)


CORNERS: dict[str, tuple[tuple[Node, ...], list[str], int, int]] = {
    "a short last window": ((Conv("a", 4, (1, 1)), MaxPool("b", 2, 2, ceil=True)), ["b"], 31, 11),
    "inputs that no output sees": ((Conv("a", 4, (3, 3)), Conv("b", 4, (1, 1), 2)), ["a", "b"], 30, 4),
    "more padding than reach": ((Conv("a", 4, (3, 3)), Conv("b", 4, (2, 2), 2, (1, 1))), ["b"], 30, 13),
    "blocks of blocks": (
        (
            Conv("a", 4, (7, 7), 2, (3, 3)),
            MaxPool("b", 3, 2, ceil=True),
            LocalResponseNorm("n", 5, 1e-2, 0.75, 1.0),
            InceptionBlock(
                "c",
                (
                    (Conv("c1", 3, (3, 3), 2),),
                    (Conv("c2", 3, (1, 1)), Conv("c3", 3, (3, 3), padding=(1, 1)), Conv("c4", 3, (3, 3), 2)),
                    (MaxPool("c5", 3, 2),),
                ),
            ),
            InceptionBlock(
                "d",
                (
                    (Conv("d1", 3, (1, 1)),),
                    (
                        Conv("d2", 4, (1, 1)),
                        InceptionBlock(
                            "d3", ((Conv("d4", 3, (1, 3), padding=(0, 1)),), (Conv("d5", 3, (3, 1), padding=(1, 0)),))
                        ),
                    ),
                    (AvgPool("d6", 3), Conv("d7", 3, (1, 1))),
                    (MaxPool("d8", 3, 1, 1), Conv("d9", 3, (1, 1))),
                ),
            ),
        ),
        ["d", "d5"],
        97,
        41,
    ),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners(name: str) -> None:
    nodes, layers, side, at = CORNERS[name]
    architecture = Architecture(name, nodes, Preprocess((117.0,) * 3, 60.0))
    network = Network(architecture, random_parameters(architecture))
    for row, column in [(at, at), (0, at), (side - 3, side - 3), (at + 1, 0)]:
        ours, expected = gradients(network, layers, picture(side, side), (3, 3), (row, column))
        agree(ours, expected, 1e-4)


def test_windows_in_batches_each_have_their_own_offset() -> None:
    architecture = Architecture("blocks", CORNERS["blocks of blocks"][0], Preprocess((117.0,) * 3, 60.0))
    network = Network(architecture, random_parameters(architecture))

    def followed(window: jax.Array, at: jax.Array) -> jax.Array:
        activations, tape = network.taped(window, ["d"])
        cotangents = jax.grad(lambda values: jnp.sum(values["d"] ** 2))(activations)
        return core_gradient(network, tape, cotangents, (97, 97), (20, 30), at)

    windows = jnp.stack([picture(97, 97, seed) for seed in range(3)])
    # The last lies beyond the window, and is moved in.
    offsets = jnp.asarray([[0, 5], [40, 41], [90, 97]], jnp.int32)
    together = jax.jit(jax.vmap(followed))(windows, offsets)
    for result, window, at in zip(together, windows, [[0, 5], [40, 41], [77, 67]], strict=True):
        agree(np.asarray(result), np.asarray(jax.jit(followed)(window, jnp.asarray(at, jnp.int32))))


@pytest.mark.parametrize("layer", ["inception_3a", "mixed0"])
def test_what_is_no_number_reaches_the_gradient(layer: str) -> None:
    """Through pools, whose maxima come before the ReLU: a farm looks for it there."""
    model = "googlenet" if layer.startswith("inception") else "inception_v3"
    if (why := missing(model)) is not None:
        pytest.skip(why)
    loaded = trained(model)
    network = Network(loaded.architecture.truncated([layer]), loaded.parameters)
    window = picture(128, 128)
    window[64, 64, 1] = np.nan
    ours, _ = gradients(network, [layer], window, (128, 128), (0, 0))
    assert np.isnan(ours).any()


def test_less_is_followed_the_nearer_to_the_core() -> None:
    architecture = INCEPTION_V3.truncated(["mixed5"])
    window, core = (2048, 2048), (945, 945)
    sizes, followed = architecture.output_sizes(*window), architecture.followed_sizes(window, core)
    # Pools make no difference worth a cut.
    nodes = [node for node in architecture.nodes if not isinstance(node, MaxPool)]
    shares = [math.prod(followed[node.name]) / math.prod(sizes[node.name]) for node in nodes]
    assert shares[4:] == sorted(shares[4:])
    assert shares[0] < 0.25
    # A deepest activation sees 543 px, and the next one begins 16 px on.
    assert followed["mixed5"] == ((945 - 1 + 543 - 1) // 16 + 1,) * 2
    whole = architecture.gradient_flops(window, window)
    assert 0.65 < architecture.gradient_flops(window, core) / whole < 0.75
    assert architecture.followed_sizes(window, window) == sizes


def test_bfloat16_follows_the_same_parts() -> None:
    loaded = trained("inception_v3")
    layers = ["mixed2"]
    network = Network(loaded.architecture.truncated(layers), loaded.parameters, precision="bfloat16")
    ours, expected = gradients(network, layers, picture(241, 233), (40, 50), (90, 70))
    distance = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
    assert distance < 0.02
