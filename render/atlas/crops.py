"""Random square crops of a picture, resampled to the network's view: what a step of MACO sees (Fel 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from render.config.atlas_schema import MacoConfig

if TYPE_CHECKING:
    import jax

#: Standard deviation of the crops' middles from the picture's, as a share of its side (that of the authors' program).
_SPREAD = 0.15


def draw_crops(settings: MacoConfig, seed: int, channel: int, step: int) -> NDArray[np.float32]:
    """Return the crops of one step: (crops, 3) float32, first row, first column and side, as shares of the picture's side.

    Sides are uniform between the values of `settings.box`; middles are normal around the picture's, so that an object grows
    there. Both come from Philox, keyed by (seed, channel), with the step as its counter.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, channel], counter=[0, 0, 0, step + 1]))
    sides = generator.uniform(settings.box[0], settings.box[1], settings.crops)
    middles = 0.5 + _SPREAD * generator.standard_normal((settings.crops, 2))
    return np.concatenate([middles - sides[:, None] / 2, sides[:, None]], axis=1).astype(np.float32)


def cropped(picture: jax.Array, crop: jax.Array, size: int) -> jax.Array:
    """Return a crop of a square picture, resampled to (size, size, 3).

    The triangle filter is as wide as the larger of the two pixels, so that a reduced crop has no aliases. Filters along
    rows and columns are matrix products, whose gradient is fast everywhere.

    Args:
        picture: (side, side, 3); it repeats beyond its edges.
        crop: a row of `draw_crops`.
        size: side of the result, px.
    """
    import jax.numpy as jnp

    side = picture.shape[0]
    down, across = (_filter(crop[axis] * side, crop[2] * side, side, size) for axis in range(2))
    return jnp.einsum("pr,rsc,qs->pqc", down, picture, across)


def _filter(start: jax.Array, length: jax.Array, side: int, size: int) -> jax.Array:
    """Return the weights, (size, side), that resample `length` px from `start` on to `size` values."""
    import jax.numpy as jnp

    scale = length / size
    middles = start + (jnp.arange(size) + 0.5) * scale - 0.5
    distances = middles[:, None] - jnp.arange(side)
    distances = distances - side * jnp.round(distances / side)
    weights = jnp.maximum(0, 1 - jnp.abs(distances) / jnp.maximum(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)
