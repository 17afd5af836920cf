"""Update of a block from its gradients: filters, and the step itself, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from render.dreaming.ascent import blend, measure, update
from render.dreaming.decorrelation import from_axes, to_axes
from render.dreaming.filters import cascade, laplacian_merge, laplacian_squares, total_variation
from render.dreaming.resample import Pixels
from render.farm.messages import GradientSums, TileSums
from render.farm.worker.block import BlockArrays
from render.geometry.geometry import Rect, Tile


def level_sums(arrays: BlockArrays, first: int, count: int) -> list[TileSums]:
    """Return the energy of every level of the gradient's Laplacian pyramid, by tile (of `count`) and region."""
    levels, rect = arrays.assignment.stage.conditioning.laplacian, arrays.gradient_rect
    results = []
    for tile in arrays.block.tiles_from(first, count):
        core = arrays.block.grid.core(tile)
        for region, gradient in enumerate(arrays.gradients):
            if arrays.works_on(region, tile):
                sums = laplacian_squares(gradient, rect, core, levels, arrays.mask(region, core))
                results.append(TileSums(tile.number, region, sums))
    return results


def filter_tiles(arrays: BlockArrays, first: int, count: int, gains: Sequence[Sequence[float]]) -> list[GradientSums]:
    """Filter the gradient of `count` of the block's tiles and return the sums of the filtered gradient.

    `gains` are those of the pyramid's levels, by region.
    """
    conditioning, rect = arrays.assignment.stage.conditioning, arrays.gradient_rect
    sums = []
    for tile in arrays.block.tiles_from(first, count):
        core = arrays.block.grid.core(tile)
        for region, (gradient, target) in enumerate(zip(arrays.gradients, arrays.conditioned, strict=True)):
            if not arrays.works_on(region, tile):
                continue
            if conditioning.laplacian:
                filtered = laplacian_merge(gradient, rect, core, gains[region])
            else:
                filtered = cascade(gradient, rect, core, conditioning.smoothing)
            target[core.slices_from(arrays.block.pixels)] = filtered
            sums.append(
                GradientSums(tile.number, region, measure(filtered, arrays.mask(region, core), conditioning.normalize))
            )
    return sums


def apply_update(arrays: BlockArrays, step: int, divisors: Sequence[float]) -> None:
    """Move the block's pixels along the gradient.

    Args:
        arrays: The block, with its gradients.
        step: Index of the step, from 0.
        divisors: Divisor of each region's gradient, such as mean|g|; 0 for a region without a part in this step.
    """
    stage = arrays.assignment.stage
    if stage.plain:
        _move(arrays, stage.step_size / divisors[0])
        return
    # Compute all steps before any pixel moves, because the total variation of the canvas depends on neighbours.
    for tile in arrays.block.tiles():
        core = arrays.block.grid.core(tile)
        _conditioned(arrays, 0, core)[...] = _step(arrays, step, tile, core, divisors)
    _move(arrays, 1.0)


def _move(arrays: BlockArrays, scale: float) -> None:
    """Add scale times the first region's conditioned gradient to the block's pixels."""
    shoulder = arrays.assignment.stage.conditioning.shoulder
    for rect in arrays.block.pixels.bands():
        source = arrays.own_source(rect) if shoulder else None
        update(arrays.part(rect), _conditioned(arrays, 0, rect), scale, source, shoulder)


def _step(arrays: BlockArrays, step: int, tile: Tile, core: Rect, divisors: Sequence[float]) -> Pixels:
    """Return the change of a tile's pixels."""
    stage, conditioning = arrays.assignment.stage, arrays.assignment.stage.conditioning
    regions = range(len(stage.regions))
    direction, follow = blend(
        [_conditioned(arrays, region, core) if arrays.works_on(region, tile) else None for region in regions],
        [arrays.mask(region, core) for region in regions],
        divisors,
    )
    if conditioning.total_variation:
        variation = conditioning.mix_channels(total_variation(arrays.canvas, arrays.block.padded, core))
        direction = direction - np.float32(conditioning.total_variation) * variation
    if arrays.moments:
        moments = [moment[core.slices_from(arrays.block.pixels)] for moment in arrays.moments]
        if conditioning.decorrelate:
            # The optimizer's moments are those of the independent axes.
            strength = conditioning.decorrelate
            direction = from_axes(stage.optimizer.update(to_axes(direction, strength), moments, step), strength)
        else:
            direction = stage.optimizer.update(direction, moments, step)
    change = np.float32(stage.step_size) * direction
    if conditioning.pull:
        change = change - np.float32(conditioning.pull) * (arrays.part(core) - arrays.own_source(core))
    return change if follow is None else follow[..., None] * change


def _conditioned(arrays: BlockArrays, region: int, rect: Rect) -> Pixels:
    return arrays.conditioned[region][rect.slices_from(arrays.block.pixels)]
