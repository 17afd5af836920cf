"""Update of a canvas that stays in a device's memory, tile by tile: filters of the gradient, and the change of pixels.

The programs here take parts of a block's arrays, cut for one tile in a fixed shape (`resident.read_rect`). So they are
compiled once for all blocks, and all octaves with cores of one shape, and a tile's result does not depend on its block.
The arithmetic is that of `dreaming.ascent` and `dreaming.filters`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.dreaming.ascent import LUMINANCE
from render.dreaming.decorrelation import axes_matrix, mixing_matrix
from render.dreaming.device_filters import (
    cascade,
    laplacian_merge,
    laplacian_rows,
    pyramid_extent,
    pyramid_shape,
    total_variation,
)
from render.dreaming.filters import cascade_reach
from render.dreaming.optimizer import Optimizer
from render.dreaming.resident import sum_rows
from render.geometry.geometry import Rect, whole


class TilePlace(NamedTuple):
    """Place of a tile's core in the parts that are cut for it. Each is (rows, columns), px."""

    #: Size of the core; the last tile of an axis may be smaller than the others.
    size: tuple[int, int]
    #: Distance of the core's start from the last point of the pyramid's coarsest lattice before it.
    phase: tuple[int, int]


@dataclass(frozen=True)
class UpdateSpec:
    """Static settings of the programs that filter a gradient and turn it into changes of pixels.

    Attributes:
        core: (rows, columns) of a full core, px.
        normalize: Statistic of the gradient: see `ascent.measure`.
        laplacian: Number of levels of the pyramid; 0 for none.
        smoothing: Sigma of the cascade, px; 0 for none.
        luminance_only: If true, the total variation's channels become its luminance, too.
        decorrelate: Strength of the decorrelation of colours, 0 to 1.
        total_variation: True if the canvas' total variation is lowered.
        pull: True if pixels are pulled to the source.
        optimizer: Rule that turns gradients into directions.
    """

    core: tuple[int, int]
    normalize: str = "mean_abs"
    laplacian: int = 0
    smoothing: float = 0.0
    luminance_only: bool = False
    decorrelate: float = 0.0
    total_variation: bool = False
    pull: bool = False
    optimizer: Optimizer = field(default_factory=Optimizer)

    @property
    def border(self) -> int:
        """Px of the canvas around a core that its change depends on."""
        return int(self.total_variation)

    @property
    def filter_extent(self) -> Rect:
        """Rectangle of the unfiltered gradient that the filter reads, from the core's start less its phase, px."""
        if self.laplacian:
            return pyramid_extent(pyramid_shape(self.core, self.laplacian), self.laplacian)
        return whole(*self.core).grown(cascade_reach(self.smoothing))


class UpdateNumbers(NamedTuple):
    """Numbers of a tile's update that may differ from step to step."""

    step_size: np.float32 | jax.Array
    #: Weight of the total variation.
    total_variation: np.float32 | jax.Array
    pull: np.float32 | jax.Array
    #: 1 / divisor of each region's gradient, (regions,) float32; 0 for a region without a part in the tile or the step.
    inverses: np.ndarray | jax.Array
    #: Number of steps so far at this octave, int32.
    steps_done: np.int32 | jax.Array


class TileArrays(NamedTuple):
    """Parts of a block's arrays that a tile's update reads: (rows, columns, 3) float32 of a full core."""

    #: Each region's gradient, filtered if there is a filter.
    gradients: tuple[jax.Array, ...]
    #: Each region's mask, (rows, columns) float32; None if it is 1.
    masks: tuple[jax.Array | None, ...]
    #: The canvas, 0..255, with the border of the total variation; None if nothing depends on it.
    canvas: jax.Array | None
    #: The source; None if pixels are not pulled to it.
    source: jax.Array | None


@partial(jax.jit, static_argnames="spec")
def level_rows(part: jax.Array, mask: jax.Array | None, place: jax.Array, spec: UpdateSpec) -> jax.Array:
    """Return the sums of the rows of each level of a tile's Laplacian pyramid: see `laplacian_rows`.

    Args:
        part: The unfiltered gradient in `spec.filter_extent`, (rows, columns, 3) float32.
        mask: The region's mask in the full core, (rows, columns) float32; None if it is 1.
        place: (2, 2) int32, a `TilePlace`.
        spec: Static settings.
    """
    size, phase = place
    weights = _inside(spec.core, size).astype(jnp.float32)
    if mask is not None:
        weights = weights * mask
    around = jnp.zeros(pyramid_shape(spec.core, spec.laplacian), jnp.float32)
    around = lax.dynamic_update_slice(around, weights, (phase[0], phase[1]))
    return laplacian_rows(part, around, spec.laplacian)


@partial(jax.jit, static_argnames="spec")
def filter_tile(
    part: jax.Array, mask: jax.Array | None, place: jax.Array, gains: jax.Array, spec: UpdateSpec
) -> tuple[jax.Array, jax.Array]:
    """Return a tile's filtered gradient, (*spec.core, 3) float32 with zeros behind its core, and the sums of its rows.

    Args:
        part: As for `level_rows`.
        mask: As for `level_rows`.
        place: As for `level_rows`.
        gains: (levels + 1,) float32 of the pyramid's levels; of any content if there is no pyramid.
        spec: Static settings.
    """
    size, phase = place
    if spec.laplacian:
        merged = laplacian_merge(part, pyramid_shape(spec.core, spec.laplacian), gains)
        result = lax.dynamic_slice(merged, (phase[0], phase[1], 0), (*spec.core, 3))
    else:
        result = cascade(part, spec.smoothing)
    result = jnp.where(_inside(spec.core, size)[..., None], result, 0)
    return result, sum_rows(result, mask, spec.normalize)


@partial(jax.jit, static_argnames="spec", donate_argnames="moments")
def step_tile(
    moments: list[jax.Array], arrays: TileArrays, numbers: UpdateNumbers, spec: UpdateSpec
) -> tuple[jax.Array, list[jax.Array]]:
    """Return the change of a tile's pixels, which nothing limits yet, and the optimizer's new moments.

    Args:
        moments: The optimizer's moments, (*spec.core, 3) float32 each; donated.
        arrays: What else is read.
        numbers: Numbers of the step.
        spec: Static settings.
    """
    direction, follow = _blended(arrays.gradients, arrays.masks, numbers.inverses)
    if spec.total_variation:
        assert arrays.canvas is not None, "the total variation is that of the canvas"
        direction = direction - numbers.total_variation * _mixed(total_variation(arrays.canvas), spec)
    if moments:
        if spec.decorrelate:
            # The optimizer's moments are those of the independent axes.
            direction = _apply_matrix(direction, axes_matrix(spec.decorrelate, inverse=True))
        direction, moments = spec.optimizer.traced_update(direction, moments, jnp.asarray(numbers.steps_done))
        if spec.decorrelate:
            direction = _apply_matrix(direction, axes_matrix(spec.decorrelate))
    change = numbers.step_size * direction
    if spec.pull:
        assert arrays.canvas is not None and arrays.source is not None, "pixels are pulled to the source"
        border = spec.border
        pixels = arrays.canvas[border : border + spec.core[0], border : border + spec.core[1]]
        change = change - numbers.pull * (pixels - arrays.source)
    return change if follow is None else follow[..., None] * change, moments


def _blended(
    gradients: Sequence[jax.Array], masks: Sequence[jax.Array | None], inverses: np.ndarray | jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Combine the gradients of several regions into one direction: see `ascent.blend`."""
    follow: jax.Array | None = None
    soft = [mask for mask in masks if mask is not None]
    if len(soft) == len(masks):
        follow = jnp.minimum(sum(soft[1:], soft[0]), 1)
    direction: jax.Array | None = None
    for number, (gradient, mask) in enumerate(zip(gradients, masks, strict=True)):
        share = inverses[number] * gradient
        if mask is not None:
            weight = mask if follow is None else jnp.where(follow > 0, mask / jnp.where(follow > 0, follow, 1), 0)
            share = share * weight[..., None]
        direction = share if direction is None else direction + share
    assert direction is not None, "a stage has a region"
    return direction, follow


def _mixed(gradient: jax.Array, spec: UpdateSpec) -> jax.Array:
    """Return a gradient with its channels mixed as the settings say: see `Conditioning.mix_channels`."""
    if spec.luminance_only:
        return jnp.broadcast_to((gradient * LUMINANCE).sum(-1, keepdims=True), gradient.shape)
    return _apply_matrix(gradient, mixing_matrix(spec.decorrelate)) if spec.decorrelate else gradient


def _apply_matrix(pixels: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Return matrix @ pixel for every pixel. It is no matrix product, whose precision accelerators may lower."""
    return jnp.stack([(pixels * weights).sum(-1) for weights in matrix], axis=-1)


def _inside(core: tuple[int, int], size: jax.Array) -> jax.Array:
    """Return (rows, columns) bools: which pixels of a full core lie in a tile's core of `size`."""
    return (jnp.arange(core[0]) < size[0])[:, None] & (jnp.arange(core[1]) < size[1])
