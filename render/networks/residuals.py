"""Compact storage of forward results for the gradient: one byte per ReLU value, its sign, instead of four.

By default XLA takes the signs from the activations when the gradient needs them, to save a pass over memory, so it keeps
every activation until then. With stored signs, a window takes a fraction of the memory at the same speed. Unlike
rematerialisation, nothing is computed twice. The gradient is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def materialized(reduce: Callable[[jax.Array], jax.Array], x: jax.Array, witness: jax.Array | None = None) -> jax.Array:
    """Return `reduce(x)`, computed once and stored, so that `x` can be freed early.

    Otherwise XLA may fuse `reduce` into the operation that reads its result and keep `x` until then. XLA drops
    optimisation barriers on CPUs before it fuses, so there a branch on a condition that is always true separates the two.
    On other devices `reduce` is called directly.

    Args:
        reduce: Function of `x`.
        x: The array.
        witness: Any float array, needed if `x` is not of floats.
    """

    def materialized_on_cpu(x: jax.Array) -> jax.Array:
        """Return `reduce(x)` behind a branch."""
        sample = x if witness is None else witness
        first = sample[(0,) * sample.ndim]
        # True for every float, NaN included, but XLA cannot prove it.
        always = (first <= jnp.inf) | jnp.isnan(first)
        result = jax.eval_shape(reduce, x)
        # Select a number instead of converting a bool: float32 programs must contain no conversions.
        index = lax.select(always, jnp.int32(1), jnp.int32(0))
        return lax.switch(index, [lambda _: jnp.zeros(result.shape, result.dtype), reduce], x)

    return lax.platform_dependent(x, cpu=materialized_on_cpu, default=reduce)
