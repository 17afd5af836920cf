"""Arrays of a block on its device besides the canvas: gradients, masks, source and the optimizer's moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from numpy.typing import NDArray

from render.dreaming.resident import write_rect, zeros
from render.farm.worker.block import BlockArrays
from render.geometry.geometry import Rect
from render.planning.residence import slots_ring, slots_shape


@dataclass
class DeviceArrays:
    """Arrays of a block on its device. But for the source, they cover the slots of the block's tiles.

    Attributes:
        slots: Each region's gradient with the ring that its filter reads, (rows, columns, 3) float32; 0 in tiles that the
            region has no part in.
        filtered: Each region's filtered gradient, if there is a filter.
        masks: Each region's mask, (rows, columns) float32; None if it has none.
        moments: The optimizer's moments.
        source: The source; None if nothing on the device needs it.
        source_has_margin: True if the source covers what the canvas covers.
    """

    slots: list[jax.Array]
    filtered: list[jax.Array]
    masks: list[jax.Array | None]
    moments: list[jax.Array]
    source: jax.Array | None
    source_has_margin: bool

    @property
    def conditioned(self) -> list[jax.Array]:
        """Each region's gradient for the update: filtered, if there is a filter."""
        return self.filtered or self.slots


def uploaded(arrays: BlockArrays, *, needs_source: bool) -> DeviceArrays:
    """Return the arrays of a block on the device, without gradients yet.

    Args:
        arrays: The block on the host.
        needs_source: True if an objective compares windows with the source's: then the source covers the margin, too.
    """
    stage, block = arrays.assignment.stage, arrays.block
    shape, ring, regions = slots_shape(block), slots_ring(stage.conditioning), len(stage.regions)
    source = None
    if needs_source:
        source = _upload(arrays.padded_source, block.padded, block.padded.shape)
    elif stage.conditioning.compares:
        source = _upload(arrays.own_source, block.pixels, shape)
    masks: list[jax.Array | None] = []
    for mask in arrays.masks:
        read = None if mask is None else _reader(mask, block.pixels)
        masks.append(None if read is None else _upload(read, block.pixels, shape, channels=()))
    slots = tuple(side + 2 * ring for side in shape)
    return DeviceArrays(
        slots=[zeros((*slots, 3)) for _ in range(regions)],
        filtered=[zeros((*shape, 3)) for _ in range(regions if stage.conditioning.filters else 0)],
        masks=masks,
        moments=[_upload(_reader(moment, block.pixels), block.pixels, shape) for moment in arrays.moments],
        source=source,
        source_has_margin=needs_source,
    )


def _upload(
    read: Callable[[Rect], NDArray], rect: Rect, shape: tuple[int, int], channels: tuple[int, ...] = (3,)
) -> jax.Array:
    """Return a rectangle of pixels on the device, in strips, with zeros behind it up to (rows, columns) `shape`."""
    array = zeros((*shape, *channels))
    for band in rect.bands():
        corner = band.rows.start - rect.rows.start, band.columns.start - rect.columns.start
        # A copy: on a CPU, the device may use the memory itself.
        array = write_rect(array, corner, np.array(read(band)))
    return array


def _reader(array: NDArray, extent: Rect) -> Callable[[Rect], NDArray]:
    """Return the function that reads rectangles of an array that covers `extent`."""
    return lambda rect: array[rect.slices_from(extent)]
