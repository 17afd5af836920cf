"""How the network's view of a picture moves from step to step, so that only what survives moving is dreamed (Olah 2017)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from render.config.atlas_schema import TransformsConfig

if TYPE_CHECKING:
    import jax

#: Widest surroundings of a view that are kept, as a part of its size; beyond them the picture continues itself.
_WIDEST = 0.25
#: The view that does not move.
STILL = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)


def margin(transforms: TransformsConfig, size: int) -> int:
    """Px by which the picture is larger on every side than what is shown of it: as far as views reach, within reason.

    What lies near the edge of the network's view is always half seen, and looks it.
    """
    angle = math.radians(min(transforms.rotate, 45))
    reach = (math.cos(angle) + math.sin(angle)) / (1 - transforms.scale)
    return min(math.ceil(transforms.jitter + size / 2 * (reach - 1)), transforms.jitter + math.ceil(_WIDEST * size))


def draw_view(transforms: TransformsConfig, seed: int, channel: int, step: int) -> NDArray[np.float32]:
    """The view of one step, (2, 3) float32: rows of a matrix and a shift, in px from the middle.

    Position p of the view shows `matrix @ p + shift` of the picture. Drawn from Philox, keyed by (seed, channel), with the
    step as its counter: evenly among whole shifts, scales and angles up to those of `transforms` either way.
    """
    generator = np.random.Philox(key=[seed, channel], counter=[0, 0, 0, step + 1])
    # 53 bits each, in [0, 1).
    down, across, larger, turn = (float(bits >> np.uint64(11)) / (1 << 53) for bits in generator.random_raw(4))
    width = 2 * transforms.jitter + 1
    shift = [math.floor(part * width) - transforms.jitter for part in (down, across)]
    scale = 1 + transforms.scale * (2 * larger - 1)
    angle = math.radians(transforms.rotate * (2 * turn - 1))
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    return np.asarray([[cosine, sine, shift[0]], [-sine, cosine, shift[1]]], np.float32)


def seen(picture: jax.Array, view: jax.Array, size: int) -> jax.Array:
    """What a view shows of a square picture, interpolated linearly: (size, size, 3) float32.

    `view` as `draw_view` makes it. The picture, (side, side, 3), continues itself beyond its edges.
    """
    import jax.numpy as jnp

    side = picture.shape[0]
    rows, columns = np.mgrid[:size, :size].astype(np.float32) - np.float32((size - 1) / 2)
    # The middle of the view is that of the picture, on a pixel of it.
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
