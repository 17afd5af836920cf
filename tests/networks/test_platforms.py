"""Forms of operations for accelerators, run on this machine: the same functions as their plain forms in float64."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.programs import Programs
from render.farm.worker.threads import map_ordered
from render.geometry.geometry import KernelShape
from render.networks.convolutions import convolve, convolve_back, stored_kernel
from render.networks.network import Network
from render.networks.nodes import Conv, LocalResponseNorm, MaxPool, window_output
from render.networks.platforms import platform, tracing_for, with_this_platform
from render.networks.pools import max_pool, max_pool_back, no_winner, winners
from render.networks.response_norm import local_response_norm, local_response_norm_back
from tests.support.untiled import photo

#: Largest difference, relative to the largest value, of float32 from float64.
TOLERANCE = 1e-5
PLATFORMS = ("cpu", "gpu", "tpu")
CONVOLUTIONS = {
    "three channels, strided": (Conv("a", 8, (7, 7), 2, (3, 3)), 3),
    "three channels, unpadded": (Conv("a", 8, (3, 3), 2), 3),
    "unpadded": (Conv("a", 12, (3, 3)), 16),
    "padded": (Conv("a", 12, (5, 5), 1, (2, 2)), 16),
    "one row": (Conv("a", 12, (1, 7), 1, (0, 3)), 16),
    "strided": (Conv("a", 12, (3, 3), 2), 16),
    "1x1": (Conv("a", 12, (1, 1)), 16),
}
POOLS = {
    "strided": MaxPool("a", 3, 2),
    "ceil": MaxPool("a", 3, 2, ceil=True),
    "dense": MaxPool("a", 3, 1, padding=1, ceil=True),
    "large": MaxPool("a", 5, 3, padding=2),
    "without overlap": MaxPool("a", 2, 2),
}


def assert_near(found: jax.Array, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert np.abs(np.asarray(found) - expected).max() <= TOLERANCE * np.abs(expected).max()


def in_float64(function: Callable[[jax.Array], jax.Array], x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a function's value, and its gradient by JAX's own rules, both in float64."""
    with jax.enable_x64(True):
        value, back = jax.vjp(function, jnp.asarray(x, jnp.float64))
        assert value.dtype == jnp.float64
        return np.asarray(value), np.asarray(back(jnp.asarray(g, jnp.float64))[0])


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("target", PLATFORMS)
def test_convolutions_are_the_plain_one_in_float64(target: str, name: str) -> None:
    node, channels = CONVOLUTIONS[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 23, 30, channels)).astype(np.float32)
    weight = rng.normal(size=(node.features, channels, *node.kernel)).astype(np.float32)

    def plain(x: jax.Array) -> jax.Array:
        padding = [(pad, pad) for pad in node.padding]
        return lax.conv_general_dilated(
            x, jnp.asarray(weight, x.dtype), (node.stride,) * 2, padding, dimension_numbers=("NHWC", "OIHW", "NHWC")
        )

    g = rng.normal(size=jax.eval_shape(plain, x).shape).astype(np.float32)
    value, gradient = in_float64(plain, x, g)
    with tracing_for(target):
        kernel = jnp.asarray(stored_kernel(weight))
        assert_near(jax.jit(partial(convolve, node=node))(x, kernel), value)
        assert_near(jax.jit(partial(convolve_back, node, x.shape[1:3]))(kernel, g), gradient)


@pytest.mark.parametrize("target", PLATFORMS)
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_response_norms_are_the_plain_one_in_float64(target: str, beta: float) -> None:
    # Large enough that the norm changes much.
    node = LocalResponseNorm("a", n=5, alpha=1e-2, beta=beta, k=1.0)
    rng = np.random.default_rng(0)
    x, g = (rng.normal(scale=20, size=(1, 9, 11, 24)).astype(np.float32) for _ in range(2))

    def plain(x: jax.Array) -> jax.Array:
        squares = jnp.pad(jnp.square(x), ((0, 0), (0, 0), (0, 0), (2, 2)))
        total = sum(squares[..., first : first + x.shape[3]] for first in range(5))
        return x * (node.k + node.alpha / node.n * total) ** -node.beta

    value, gradient = in_float64(plain, x, g)
    assert np.abs(value).max() < 0.9 * np.abs(x).max()
    with tracing_for(target):
        assert_near(jax.jit(partial(local_response_norm, node))(x), value)
        assert_near(jax.jit(partial(local_response_norm_back, node))(x, g), gradient)


@pytest.mark.parametrize("target", PLATFORMS)
@pytest.mark.parametrize("name", POOLS)
def test_max_pools_have_the_gradient_of_the_plain_one(target: str, name: str) -> None:
    node, shape = POOLS[name], (1, 13, 18, 5)
    rng = np.random.default_rng(0)
    # No two are equal, so each window has one maximum.
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32)
    sizes = [window_output(length, node, axis) for axis, length in enumerate(shape[1:3])]
    extents = [(size - 1) * node.stride + node.size for size in sizes]

    def plain(x: jax.Array) -> jax.Array:
        # A ceil-mode pool reads beyond the edge; others may leave out the last inputs.
        edges = [
            (node.padding, extent - node.padding - length, 0) for extent, length in zip(extents, shape[1:3], strict=True)
        ]
        padded = lax.pad(x, jnp.asarray(-np.inf, x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
        return jnp.stack(
            [
                padded[:, row :: node.stride, column :: node.stride][:, : sizes[0], : sizes[1]]
                for row, column in np.ndindex(node.size, node.size)
            ]
        ).max(0)

    g = rng.normal(size=(1, *sizes, shape[3])).astype(np.float32)
    value, gradient = in_float64(plain, x, g)
    with tracing_for(target):
        assert_near(jax.jit(partial(max_pool, node))(x), value)
        winner = jax.jit(partial(winners, node))(x)
        back = jax.jit(partial(max_pool_back, node, shape[1:3]))
        assert_near(back(winner, g), gradient)
        # As where a ReLU follows.
        masked = jnp.where(g > 0, winner, no_winner(node))
        np.testing.assert_array_equal(back(masked, g), back(winner, jnp.where(g > 0, g, 0)))


@pytest.mark.parametrize("target", ["gpu", "tpu"])
def test_a_response_norm_in_bfloat16_rounds_its_result_and_the_terms_of_its_sum_only(target: str) -> None:
    node = LocalResponseNorm("a", n=5, alpha=1e-2, beta=0.75, k=1.0)
    rng = np.random.default_rng(0)
    x, g = (jnp.asarray(rng.normal(scale=20, size=(1, 9, 11, 24)), jnp.bfloat16) for _ in range(2))
    with tracing_for(target):
        value, gradient = (
            jax.jit(partial(local_response_norm, node))(x),
            jax.jit(partial(local_response_norm_back, node))(x, g),
        )
        exact = local_response_norm(node, x.astype(jnp.float32))
        exact_gradient = local_response_norm_back(node, x.astype(jnp.float32), g.astype(jnp.float32))
    assert value.dtype == gradient.dtype == jnp.bfloat16
    # Half of bfloat16's last place, relative.
    assert np.all(np.abs(np.asarray(value, np.float32) - exact) <= 2.0**-8 * np.abs(exact))
    error = np.abs(np.asarray(gradient, np.float32) - exact_gradient)
    assert error.max() <= 2.0**-7 * np.abs(exact_gradient).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "model", "layer"),
    [("gpu", "googlenet", "inception_3a"), ("gpu", "inception_v3", "mixed0"), ("tpu", "inception_v3", "conv2d_4a_3x3")],
)
def test_a_kernel_for_an_accelerator_has_the_gradient_of_one_for_cpus(
    target: str, model: str, layer: str, loaded_by_name
) -> None:
    loaded = loaded_by_name(model)
    shape = KernelShape((72, 64), (32, 24))

    def gradient_on(name: str) -> np.ndarray:
        with tracing_for(name):
            programs = Programs(Network(loaded.architecture.truncated([layer]), loaded.parameters))
            kernel = Kernel(programs, [resolve([layer], loaded.architecture)], loaded)
            return np.asarray(kernel(shape, photo(*shape.window), KernelInputs(0, (1.0,)), (16, 20)))

    expected = gradient_on("cpu")
    # The project's bound for tiles.
    assert np.abs(gradient_on(target) - expected).max() <= 1e-4 * np.abs(expected).mean()


def test_the_platform_is_that_of_the_devices_unless_another_is_traced_for() -> None:
    traced: list[str] = []

    @jax.jit
    def function(x: jax.Array) -> jax.Array:
        traced.append(platform())
        return x

    function(1.0)
    with tracing_for("gpu"):
        function(1.0)
        function(1.0)
    function(1.0)
    assert traced == ["cpu", "gpu"]


def test_a_thread_traces_for_the_platform_of_its_caller() -> None:
    with tracing_for("tpu"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(platform).result() == "cpu"
        assert pool.submit(with_this_platform(platform)).result() == "tpu"
        assert [name for _, name in map_ordered(lambda _: platform(), range(3))] == ["tpu"] * 3
