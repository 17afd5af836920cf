"""Small operations on activations that several nodes need."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def pad(x: jax.Array, *edges: tuple[int, int], value: float = 0) -> jax.Array:
    """Return the array with (before, after) copies of `value` added along each axis.

    Negative numbers crop it.
    """
    return lax.pad(x, np.asarray(value, x.dtype), [(before, after, 0) for before, after in edges])


def wide(x: jax.Array) -> jax.Array:
    """Return the array in float32 if its type is narrower."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
