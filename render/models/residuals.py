"""What a gradient pass keeps of the forward pass: of a ReLU one byte a value, its sign, instead of the value's four.

Left to itself, XLA takes signs from the activations when the gradient needs them, to save a pass over memory, and so keeps
every activation until then. Kept as signs, a window takes a fraction of the memory, at the same speed: nothing is computed
twice, which is what rematerialisation does for less. The gradient is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def materialized(reduce: Callable[[jax.Array], jax.Array], x: jax.Array, witness: jax.Array | None = None) -> jax.Array:
    """`reduce(x)`, computed once and held, so that the array `x` can go; for what a gradient needs of the way there.

    For an `x` that is not of floats, `witness` is any array at hand that is.

    Without, it may be fused into whatever reads it, and computed there from an `x` that lives on. On a CPU, where XLA drops
    optimisation barriers before it fuses, it is a branch on what is always true that keeps the two apart. Devices with
    memory of their own are left to themselves.
    """

    def branch(x: jax.Array) -> jax.Array:
        sample = x if witness is None else witness
        first = sample[(0,) * sample.ndim]
        # Infinity, or no number at all: true, and more than XLA works out.
        always = (first <= jnp.inf) | jnp.isnan(first)
        result = jax.eval_shape(reduce, x)
        # A number chosen, not a truth converted: programs in float32 are known by converting nothing.
        index = lax.select(always, jnp.int32(1), jnp.int32(0))
        return lax.switch(index, [lambda _: jnp.zeros(result.shape, result.dtype), reduce], x)

    return lax.platform_dependent(x, cpu=branch, default=reduce)
