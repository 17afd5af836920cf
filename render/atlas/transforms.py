"""Random shift, scale and rotation of the view at each step, for robust shapes (Olah 2017)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from render.config.atlas_schema import TransformsConfig

if TYPE_CHECKING:
    import jax

#: Largest margin for scale and rotation, as a fraction of the view's size; beyond it the picture repeats.
_MAX_MARGIN = 0.25
#: The view without shift, scale or rotation.
STILL = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)


def margin(transforms: TransformsConfig, size: int) -> int:
    """Return the px by which the picture is larger on every side than the part that is shown.

    It is as far as views reach, up to `_MAX_MARGIN`. Pixels near the edge of the network's view are only partly seen, so
    they are drawn badly and are cut off.
    """
    angle = math.radians(min(transforms.rotate, 45))
    reach = (math.cos(angle) + math.sin(angle)) / (1 - transforms.scale)
    return min(math.ceil(transforms.jitter + size / 2 * (reach - 1)), transforms.jitter + math.ceil(_MAX_MARGIN * size))


def draw_view(transforms: TransformsConfig, seed: int, channel: int, step: int) -> NDArray[np.float32]:
    """Return the view of one step: (2, 3) float32, a 2 x 2 matrix and a shift as last column.

    Position p of the view shows position `matrix @ p + shift` of the picture, in px from the middle. Shifts (whole px),
    scales and angles are uniform, up to those of `transforms` in either direction. They come from Philox, keyed by
    (seed, channel), with the step as its counter.
    """
    generator = np.random.Philox(key=[seed, channel], counter=[0, 0, 0, step + 1])
    # 53 random bits each, as a number in [0, 1).
    down, across, zoom, turn = (float(bits >> np.uint64(11)) / (1 << 53) for bits in generator.random_raw(4))
    width = 2 * transforms.jitter + 1
    shift = [math.floor(fraction * width) - transforms.jitter for fraction in (down, across)]
    scale = 1 + transforms.scale * (2 * zoom - 1)
    angle = math.radians(transforms.rotate * (2 * turn - 1))
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    return np.asarray([[cosine, sine, shift[0]], [-sine, cosine, shift[1]]], np.float32)


def seen(picture: jax.Array, view: jax.Array, size: int) -> jax.Array:
    """Return the part of a square picture that a view shows: (size, size, 3) float32, bilinear.

    `view` comes from `draw_view`. The picture, (side, side, 3), repeats beyond its edges.
    """
    import jax.numpy as jnp

    side = picture.shape[0]
    rows, columns = np.mgrid[:size, :size].astype(np.float32) - np.float32((size - 1) / 2)
    # The middle of the view is the middle of the picture, aligned to whole pixels.
    middle = (side - size) // 2 + (size - 1) / 2
    down = view[0, 0] * rows + view[0, 1] * columns + view[0, 2] + middle
    across = view[1, 0] * rows + view[1, 1] * columns + view[1, 2] + middle
    top, left = jnp.floor(down), jnp.floor(across)
    lower, right = (down - top)[..., None], (across - left)[..., None]
    above, before = top.astype(jnp.int32) % side, left.astype(jnp.int32) % side
    below, after = (above + 1) % side, (before + 1) % side
    upper_part = picture[above, before] * (1 - right) + picture[above, after] * right
    lower_part = picture[below, before] * (1 - right) + picture[below, after] * right
    return upper_part * (1 - lower) + lower_part * lower
