"""Update of a block on its device: filters, and the step itself, tile by tile, as `block_update` has it on the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from render.dreaming.device_filters import pyramid_rows
from render.dreaming.resample import Pixels
from render.dreaming.resident import apply_update, read_rect, roll, write_rect
from render.dreaming.resident_steps import (
    TileArrays,
    TilePlace,
    UpdateNumbers,
    UpdateSpec,
    filter_tile,
    level_rows,
    step_tile,
)
from render.farm.messages import GradientSums, TileSums
from render.farm.worker.block import BlockArrays
from render.farm.worker.device_arrays import DeviceArrays
from render.geometry.blocks import Block, Gathering
from render.geometry.geometry import Interval, Rect, Tile
from render.planning.residence import slots_ring

#: Tiles handed to the device before it is waited for.
_IN_FLIGHT = 8


def read_gradient(arrays: BlockArrays, device: DeviceArrays, rects: Sequence[Rect]) -> list[Pixels]:
    """Return copies of the gradients of rectangles inside the block: see `exchange.read_gradient`."""
    return [
        jax.device_get(read_rect(slots, _slots_corner(arrays, rect), rect.shape))
        for slots in device.slots
        for rect in rects
    ]


def fill_gradient(
    arrays: BlockArrays, device: DeviceArrays, gathering: Gathering, others_gradients: Sequence[list[Pixels]]
) -> None:
    """Write the gradient around the block: see `exchange.fill_gradient`. The block's own stays on the device."""
    for region in range(len(device.slots)):
        slots = device.slots[region]
        for piece in gathering.own:
            flip = (piece.flip_rows, piece.flip_columns)
            pixels = read_rect(slots, _slots_corner(arrays, piece.source), piece.source.shape, flip)
            slots = write_rect(slots, _slots_corner(arrays, piece.target), pixels)
        for (_, pieces), gradients in zip(gathering.others, others_gradients, strict=True):
            for piece, values in zip(pieces, gradients[region * len(pieces) : (region + 1) * len(pieces)], strict=True):
                flipped = values[:: -1 if piece.flip_rows else 1, :: -1 if piece.flip_columns else 1]
                slots = write_rect(slots, _slots_corner(arrays, piece.target), np.ascontiguousarray(flipped))
        device.slots[region] = slots


def level_sums(arrays: BlockArrays, device: DeviceArrays, first: int, count: int) -> list[TileSums]:
    """Return the energy of every level of the gradient's Laplacian pyramid: see `block_update.level_sums`."""
    spec = update_spec(arrays)
    rows: list[tuple[Tile, int, jax.Array]] = []
    for tile, region in _work(arrays, first, count):
        _throttle(rows)
        rows.append((tile, region, level_rows(*_filter_inputs(arrays, device, tile, region, spec), spec)))
    ends = np.cumsum(pyramid_rows(spec.core, spec.laplacian))[:-1]
    results = []
    for tile, region, values in rows:
        # The device summed each short row in float32; sum the rows in float64.
        energies = [part.sum(dtype=np.float64) for part in np.split(jax.device_get(values), ends)]
        core = arrays.block.grid.core(tile)
        weights = _level_weights(core, spec.laplacian, arrays.mask(region, core))
        results.append(TileSums(tile.number, region, np.column_stack([energies, weights])))
    return results


def filter_tiles(
    arrays: BlockArrays, device: DeviceArrays, first: int, count: int, gains: Sequence[Sequence[float]]
) -> list[GradientSums]:
    """Filter the gradient of some tiles and return the filtered gradient's sums: see `block_update.filter_tiles`."""
    spec = update_spec(arrays)
    region_gains = jax.device_put([np.asarray(levels, np.float32) for levels in gains])
    rows: list[tuple[Tile, int, jax.Array]] = []
    for tile, region in _work(arrays, first, count):
        _throttle(rows)
        inputs = _filter_inputs(arrays, device, tile, region, spec)
        result, sums = filter_tile(*inputs, region_gains[region], spec)
        corner = _corner(arrays.block.grid.core(tile), arrays.block.pixels)
        device.filtered[region] = write_rect(device.filtered[region], corner, result)
        rows.append((tile, region, sums))
    return [gradient_sums(arrays, tile, region, jax.device_get(values)) for tile, region, values in rows]


def _work(arrays: BlockArrays, first: int, count: int) -> Iterator[tuple[Tile, int]]:
    """Yield some tiles, and the regions that have a part in them."""
    for tile in arrays.block.tiles_from(first, count):
        for region in range(len(arrays.assignment.stage.regions)):
            if arrays.works_on(region, tile):
                yield tile, region


def _throttle(rows: Sequence[tuple[Tile, int, jax.Array]]) -> None:
    """Wait for an older result if many are in flight: each waiting call holds memory."""
    if len(rows) >= _IN_FLIGHT:
        rows[-_IN_FLIGHT][2].block_until_ready()


def _filter_inputs(
    arrays: BlockArrays, device: DeviceArrays, tile: Tile, region: int, spec: UpdateSpec
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    """Return the part of a region's gradient that a tile's filter reads, the mask of its core, and its place."""
    core, unit, extent = arrays.block.grid.core(tile), 2**spec.laplacian, spec.filter_extent
    place = TilePlace(core.shape, (core.rows.start % unit, core.columns.start % unit))
    row, column = _slots_corner(arrays, core)
    corner = row - place.phase[0] + extent.rows.start, column - place.phase[1] + extent.columns.start
    # A device would silently cut another part.
    assert min(corner) >= 0, "the filter reads beyond the ring"
    part = read_rect(device.slots[region], corner, extent.shape)
    mask = device.masks[region]
    mask_part = None if mask is None else read_rect(mask, _corner(core, arrays.block.pixels), spec.core)
    return part, mask_part, jax.device_put(np.asarray(place, np.int32))


def gradient_sums(arrays: BlockArrays, tile: Tile, region: int, rows: np.ndarray) -> GradientSums:
    """Return a tile's share of the sums over the canvas' gradient, from those of its rows: see `resident.sum_rows`."""
    # The device summed each short row in float32; sum the rows in float64.
    totals = rows.sum(axis=1, dtype=np.float64)
    core = arrays.block.grid.core(tile)
    mask = arrays.mask(region, core)
    weights = float(3 * core.area) if mask is None else 3 * float(mask.sum(dtype=np.float64))
    return GradientSums(tile.number, region, (*map(float, totals), weights))


def update(arrays: BlockArrays, device: DeviceArrays, canvas: jax.Array, step: int, divisors: Sequence[float]) -> jax.Array:
    """Return the canvas after a step along the gradient: see `block_update.apply_update`. The canvas is donated."""
    stage, block = arrays.assignment.stage, arrays.block
    scale = 1.0
    if stage.plain:
        scale = stage.step_size / divisors[0]
    else:
        # Compute all steps before any pixel moves, because the total variation of the canvas depends on neighbours.
        _compute_changes(arrays, device, canvas, step, divisors)
    shoulder = stage.conditioning.shoulder
    corner = _corner(block.pixels, block.padded)
    return apply_update(
        canvas,
        device.conditioned[0],
        jax.device_put(np.float32(scale)),
        corner,
        block.pixels.shape,
        device.source if shoulder else None,
        corner if shoulder and device.source_has_margin else (0, 0),
        shoulder,
    )


def _compute_changes(
    arrays: BlockArrays, device: DeviceArrays, canvas: jax.Array, step: int, divisors: Sequence[float]
) -> None:
    """Replace the first region's gradient by the change of the block's pixels."""
    stage, spec = arrays.assignment.stage, update_spec(arrays)
    conditioning = stage.conditioning
    for number, tile in enumerate(arrays.block.tiles(), 1):
        if number % _IN_FLIGHT == 0:
            # Each waiting call holds memory.
            device.conditioned[0].block_until_ready()
        inverses = [
            1 / divisor if divisor and arrays.works_on(region, tile) else 0.0 for region, divisor in enumerate(divisors)
        ]
        numbers = UpdateNumbers(
            np.float32(stage.step_size),
            np.float32(conditioning.total_variation),
            np.float32(conditioning.pull),
            np.asarray(inverses, np.float32),
            np.int32(step),
        )
        corner = _corner(arrays.block.grid.core(tile), arrays.block.pixels)
        moments = [read_rect(moment, corner, spec.core) for moment in device.moments]
        inputs = _update_inputs(arrays, device, canvas, tile, spec)
        change, moments = step_tile(moments, inputs, jax.device_put(numbers), spec)
        device.conditioned[0] = write_rect(device.conditioned[0], corner, change)
        device.moments = [
            write_rect(moment, corner, values) for moment, values in zip(device.moments, moments, strict=True)
        ]


def _update_inputs(
    arrays: BlockArrays, device: DeviceArrays, canvas: jax.Array, tile: Tile, spec: UpdateSpec
) -> TileArrays:
    """Return the parts that a tile's update reads."""
    block = arrays.block
    corner = _corner(block.grid.core(tile), block.pixels)
    sides = zip(block.grid.core(tile), spec.core, strict=True)
    core = Rect(*(Interval(side.start, side.start + length) for side, length in sides))
    canvas_part = source = None
    if spec.pull or spec.total_variation:
        canvas_part = _part_with_margin(canvas, core.grown(spec.border), block)
    if spec.pull:
        assert device.source is not None, "pixels are pulled to the source"
        if device.source_has_margin:
            source = _part_with_margin(device.source, core, block)
        else:
            source = read_rect(device.source, corner, spec.core)
    return TileArrays(
        tuple(read_rect(gradient, corner, spec.core) for gradient in device.conditioned),
        tuple(None if mask is None else read_rect(mask, corner, spec.core) for mask in device.masks),
        canvas_part,
        source,
    )


def _part_with_margin(array: jax.Array, rect: Rect, block: Block) -> jax.Array:
    """Return a rectangle of an array that covers the block with its margin.

    A tile at the canvas' end is smaller than others, and the rectangle of a full core may reach beyond the array. Then its
    pixels there are any.
    """
    corner = _corner(rect, block.padded)
    inside = tuple(min(start, side - length) for start, side, length in zip(corner, array.shape, rect.shape, strict=False))
    assert min(inside) >= 0, "the canvas is smaller than a tile"
    part = read_rect(array, (inside[0], inside[1]), rect.shape)
    shift = np.subtract(inside, corner)
    return roll(part, jax.device_put(shift.astype(np.int32))) if shift.any() else part


def update_spec(arrays: BlockArrays) -> UpdateSpec:
    """Return the static settings of a block's update."""
    stage = arrays.assignment.stage
    conditioning = stage.conditioning
    return UpdateSpec(
        core=arrays.block.grid.core_shape,
        normalize=conditioning.normalize,
        laplacian=conditioning.laplacian,
        smoothing=0.0 if conditioning.laplacian else conditioning.smoothing,
        luminance_only=conditioning.luminance_only,
        decorrelate=conditioning.decorrelate,
        total_variation=conditioning.total_variation > 0,
        pull=conditioning.pull > 0,
        optimizer=stage.optimizer,
    )


def _level_weights(core: Rect, levels: int, mask: Pixels | None) -> list[float]:
    """Return the sum of weights of each level, as `filters.laplacian_squares` counts them."""
    weights = []
    for level in range(levels + 1):
        unit = 2**level
        inside = Rect(*(Interval(-(-side.start // unit), -(-side.stop // unit)) for side in core))
        if mask is None:
            weights.append(3.0 * inside.area)
        else:
            rows, columns = (
                slice(part.start * unit - side.start, None, unit) for part, side in zip(inside, core, strict=True)
            )
            weights.append(3 * float(mask[rows, columns].sum(dtype=np.float64)))
    return weights


def _slots_corner(arrays: BlockArrays, rect: Rect) -> tuple[int, int]:
    """Return the first (row, column) of a rectangle in the slots with their ring."""
    return _corner(rect, arrays.block.pixels.grown(slots_ring(arrays.assignment.stage.conditioning)))


def _corner(rect: Rect, extent: Rect) -> tuple[int, int]:
    """Return the first (row, column) of a rectangle in an array that covers `extent`."""
    return rect.rows.start - extent.rows.start, rect.columns.start - extent.columns.start
