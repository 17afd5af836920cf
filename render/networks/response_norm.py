"""Local response normalisation, with a gradient written by hand, because XLA's own is slow on CPUs.

Activations are (1, rows, columns, channels) float32 or bfloat16. The formula is that of `LocalResponseNorm`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.networks.array_ops import pad, wide
from render.networks.nodes import LocalResponseNorm
from render.networks.platforms import platform


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def local_response_norm(node: LocalResponseNorm, x: jax.Array) -> jax.Array:
    """Return the across-channel normalisation of `x`, of its number type; it is computed in float32."""
    values = wide(x)
    return (values * _power(_response(node, values), -node.beta)).astype(x.dtype)


def _response(node: LocalResponseNorm, x: jax.Array) -> jax.Array:
    """Return the base of the normalisation's power: k + alpha/n * sum x^2."""
    return node.k + (node.alpha / node.n) * _sum_channels(node.n, x * x)


def _norm_forward(node: LocalResponseNorm, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return local_response_norm(node, x), x


def _norm_backward(node: LocalResponseNorm, x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    return (local_response_norm_back(node, x, g),)


def local_response_norm_back(node: LocalResponseNorm, x: jax.Array, g: jax.Array) -> jax.Array:
    """Return the gradient of the input `x` of `local_response_norm`, of the number type of `g`."""
    if platform() != "cpu":
        return _back_in_two_passes(node, x, g)
    values, gradient = wide(x), wide(g)
    response = _response(node, values)
    power = _power(response, -node.beta)
    shared = _sum_channels(node.n, gradient * values * power / response)
    return (gradient * power - (2 * node.beta * node.alpha / node.n) * values * shared).astype(g.dtype)


def _back_in_two_passes(node: LocalResponseNorm, x: jax.Array, g: jax.Array) -> jax.Array:
    """Return `local_response_norm_back` in two passes that store only the terms of its sum, in the type of `g`.

    Each computes the response anew from `x`. Without the barriers XLA would store the forward pass's, in float32.
    """
    x = lax.optimization_barrier(x)
    values, gradient = wide(x), wide(g)
    response = _response(node, values)
    terms = gradient * values * _power(response, -node.beta) / response
    terms, x = lax.optimization_barrier((terms.astype(g.dtype), x))
    values = wide(x)
    power = _power(_response(node, values), -node.beta)
    shared = _sum_channels(node.n, wide(terms))
    return (gradient * power - (2 * node.beta * node.alpha / node.n) * values * shared).astype(g.dtype)


local_response_norm.defvjp(_norm_forward, _norm_backward)


def _sum_channels(n: int, x: jax.Array) -> jax.Array:
    """Return the sum over the `n` (odd) channels around each; it is its own transpose."""
    half = n // 2
    if platform() == "cpu":
        # XLA would fuse a sum of slices and compute everything before it `n` times.
        channel = np.arange(x.shape[3])
        band = jnp.asarray(np.abs(channel[:, None] - channel) <= half, x.dtype)
        return lax.dot(x.reshape(-1, x.shape[3]), band, precision=lax.Precision.HIGHEST).reshape(x.shape)
    padded = pad(x, (0, 0), (0, 0), (0, 0), (half, half))
    total = jnp.zeros((), x.dtype)
    for first in range(n):
        total = total + padded[..., first : first + x.shape[3]]
    return total


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """Return positive numbers to a power.

    -0.75 uses square roots, which are much faster than a logarithm.
    """
    if exponent != -0.75:
        return x**exponent
    root = jnp.sqrt(x)
    return 1 / (root * jnp.sqrt(root))
