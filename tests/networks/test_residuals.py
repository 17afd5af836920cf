"""Stored signs of the forward pass: the gradient is the same as from stored values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.programs import Programs
from render.geometry.geometry import KernelShape
from render.networks.network import Network
from render.networks.residuals import materialized
from render.networks.weights import Loaded
from tests.support.untiled import photo


def test_what_is_kept_is_what_is_asked_for() -> None:
    """To the bit, with infinities, zeros of either sign and NaN, in both precisions."""
    values = np.array([-np.inf, -1.5, -0.0, 0.0, 1e-40, 2.5, np.inf, np.nan], np.float32)
    for precision in (jnp.float32, jnp.bfloat16):
        # Every value comes first once: it is the first that the branch looks at.
        for turn in range(len(values)):
            rolled = jnp.roll(jnp.asarray(values, precision), turn)
            for apply in (lambda f: f, jax.jit):
                signs = apply(lambda x: materialized(lambda y: y > 0, x))(rolled)
                np.testing.assert_array_equal(signs, rolled > 0)
                last = apply(lambda x: materialized(lambda y: y[2:], jnp.arange(8), x))(rolled)
                np.testing.assert_array_equal(last, np.arange(2, 8))


def test_what_is_kept_is_computed_before_it_is_needed() -> None:
    """The float array that a mask is computed from does not outlive it.

    XLA's own analysis of a chain of them says so.
    """

    def needed(mask_of) -> int:
        def chain(x: jax.Array) -> jax.Array:
            masks = []
            for _ in range(8):
                x = x @ x
                masks.append(mask_of(x))
            for mask in reversed(masks):
                x = jnp.where(mask, x, 0) @ x
            return x

        analysis = jax.jit(chain).lower(jax.ShapeDtypeStruct((256, 256), jnp.float32)).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert needed(lambda x: materialized(lambda y: y > 0, x)) < 0.6 * needed(lambda x: x > 0)


def test_kernels_need_less_memory_for_the_same_gradient(inception: Loaded) -> None:
    """Next to JAX's own gradient of the network, on real weights: fewer bytes, the same bits."""
    shape, objective = KernelShape((192, 224), (192, 224)), resolve(["mixed3"], inception.architecture)
    network = Network(inception.architecture.truncated(objective.layers), inception.parameters)
    graph, state = nnx.split(network)

    def value(pixels: jax.Array, state: nnx.State) -> jax.Array:
        return objective.total(nnx.merge(graph, state)(pixels, objective.layers), jnp.ones(1))

    window = photo(192, 224)
    plain = jax.jit(jax.grad(value)).lower(window, state).compile()
    analysis = plain.memory_analysis()
    assert analysis is not None
    kernel = Kernel(Programs(network, jax.local_devices()[:1]), [objective], inception)
    np.testing.assert_array_equal(kernel(shape, window, KernelInputs(0, (1.0,)), (0, 0)), plain(window, state))
    assert kernel.memory(shape) < 0.95 * (analysis.temp_size_in_bytes + analysis.output_size_in_bytes + window.nbytes)
