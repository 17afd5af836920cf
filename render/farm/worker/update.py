"""Update of a block from its gradients: filters, and the step itself, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from render.dreaming.ascent import blend, luminance, measure, update
from render.dreaming.filters import cascade, laplacian_merge, laplacian_squares, total_variation
from render.dreaming.resample import Pixels
from render.farm.messages import TileSum, TileSums
from render.farm.worker.block import BlockArrays
from render.geometry.geometry import Rect, Tile


def level_sums(state: BlockArrays, first: int, count: int) -> list[TileSums]:
    """Return the energy of every level of the gradient's Laplacian pyramid, by tile (of `count`) and region."""
    levels, rect = state.given.stage.conditioning.laplacian, state.gradient_rect
    results = []
    for tile in state.block.tiles_from(first, count):
        core = state.block.grid.core(tile)
        for region, gradient in enumerate(state.gradients):
            if state.works_on(region, tile):
                sums = laplacian_squares(gradient, rect, core, levels, state.mask(region, core))
                results.append(TileSums(tile.number, region, sums))
    return results


def filter_tiles(state: BlockArrays, gains: Sequence[Sequence[float]], first: int, count: int) -> list[TileSum]:
    """Filter the gradient of `count` of the block's tiles and return the sums of the filtered gradient.

    `gains` are those of the pyramid's levels, by region.
    """
    conditioning, rect = state.given.stage.conditioning, state.gradient_rect
    sums = []
    for tile in state.block.tiles_from(first, count):
        core = state.block.grid.core(tile)
        for region, (gradient, target) in enumerate(zip(state.gradients, state.conditioned, strict=True)):
            if not state.works_on(region, tile):
                continue
            if conditioning.laplacian:
                filtered = laplacian_merge(gradient, rect, core, gains[region])
            else:
                filtered = cascade(gradient, rect, core, conditioning.smoothing)
            target[core.slices_from(state.block.pixels)] = filtered
            sums.append(TileSum(tile.number, region, measure(filtered, state.mask(region, core), conditioning.normalize)))
    return sums


def move(state: BlockArrays, step: int, statistics: Sequence[float]) -> None:
    """Move the block's own pixels along the gradient; `statistics` are the divisors of each region's gradient."""
    stage = state.given.stage
    if stage.plain:
        for rect in state.block.pixels.bands():
            update(state.part(rect), _conditioned(state, 0, rect), stage.step_size / statistics[0])
        return
    # Compute all steps before any pixel moves, because the total variation of the canvas depends on neighbours.
    for tile in state.block.tiles():
        core = state.block.grid.core(tile)
        _conditioned(state, 0, core)[...] = _step(state, step, tile, core, statistics)
    for rect in state.block.pixels.bands():
        update(state.part(rect), _conditioned(state, 0, rect), 1.0)


def _step(state: BlockArrays, step: int, tile: Tile, core: Rect, statistics: Sequence[float]) -> Pixels:
    """Return the change of a tile's pixels."""
    stage, conditioning = state.given.stage, state.given.stage.conditioning
    regions = range(len(stage.regions))
    direction, follow = blend(
        [_conditioned(state, region, core) if state.works_on(region, tile) else None for region in regions],
        [state.mask(region, core) for region in regions],
        statistics,
    )
    if conditioning.total_variation:
        variation = total_variation(state.canvas, state.block.padded, core)
        variation = luminance(variation) if conditioning.luminance_only else variation
        direction = direction - np.float32(conditioning.total_variation) * variation
    if state.moments:
        moments = [moment[core.slices_from(state.block.pixels)] for moment in state.moments]
        direction = stage.optimizer.update(direction, moments, step)
    change = np.float32(stage.step_size) * direction
    if conditioning.pull:
        change = change - np.float32(conditioning.pull) * (state.part(core) - state.own_source(core))
    return change if follow is None else follow[..., None] * change


def _conditioned(state: BlockArrays, region: int, rect: Rect) -> Pixels:
    return state.conditioned[region][rect.slices_from(state.block.pixels)]
