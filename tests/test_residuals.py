"""What the gradient keeps of the forward pass: the same gradient, from signs instead of values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from render.dream.kernel import Kernel, Programs
from render.dream.objectives import Given, resolve
from render.geometry import KernelShape
from render.models.network import Network
from render.models.residuals import kept, relu
from render.models.weights import Loaded
from tests.untiled import photo


def test_a_relu_that_keeps_signs_is_a_relu() -> None:
    """To the bit, infinities, zeros of either sign and what is no number included, in both precisions."""
    values = np.array([-np.inf, -1.5, -0.0, 0.0, 1e-40, 2.5, np.inf, np.nan], np.float32)
    for precision in (jnp.float32, jnp.bfloat16):
        x, weights = jnp.asarray(values, precision), jnp.arange(1, 9, dtype=precision)
        # Every value comes first once: it is the first that the branch looks at.
        for turn in range(len(values)):
            rolled = jnp.roll(x, turn)
            for apply in (lambda f: f, jax.jit):
                ours, theirs = (apply(partial(_value_and_gradient, f))(rolled, weights) for f in (relu, jax.nn.relu))
                for one, other in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(np.asarray(one, np.float32), np.asarray(other, np.float32))


def _value_and_gradient(function: Callable[[jax.Array], jax.Array], x: jax.Array, weights: jax.Array):
    value, pull = jax.vjp(function, x)
    return value, *pull(weights)


def test_what_is_kept_is_computed_before_it_is_needed() -> None:
    """The float array that a mask is made of does not outlive it: XLA's own analysis of a chain of them says so."""

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

    assert needed(lambda x: kept(lambda y: y > 0, x)) < 0.6 * needed(lambda x: x > 0)


def test_kernels_need_less_memory_for_the_same_gradient(inception: Loaded) -> None:
    """Next to a network whose ReLU is JAX's own, on real weights: fewer bytes, the same bits."""
    shape, objective = KernelShape((192, 224), (192, 224)), resolve(["mixed3"], inception.architecture)
    architecture = inception.architecture.truncated(objective.layers)
    needed, gradients = [], []
    for rectify in (relu, jax.nn.relu):
        network = Network(architecture, inception.parameters, rectify=rectify)
        kernel = Kernel(Programs(network, jax.local_devices()[:1]), [objective], inception)
        needed.append(kernel.memory(shape))
        gradients.append(np.asarray(kernel(shape, photo(192, 224), Given(0, (1.0,)), (0, 0))))
    np.testing.assert_array_equal(gradients[0], gradients[1])
    assert needed[0] < 0.95 * needed[1]
