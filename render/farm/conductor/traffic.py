"""Bytes that workers send each other. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from render.dreaming.stage import Stage
from render.geometry.blocks import Block, Gathering, chunk_extent, margin_pieces, pieces_of
from render.geometry.geometry import CHUNK, PIXEL_BYTES


def bytes_exchanged(blocks: Sequence[Block]) -> int:
    """Return the bytes of pixels that workers send each other in a step when the tiles are dealt to `blocks`."""
    dealt = tuple(blocks)
    pixels = sum(Gathering.of(margin_pieces(block, dealt), number).foreign_pixels for number, block in enumerate(dealt))
    return PIXEL_BYTES * pixels


def filter_bytes_exchanged(blocks: Sequence[Block], stage: Stage) -> int:
    """Return the bytes of gradients that workers send each other for a step's filter; 0 without a filter."""
    dealt, reach = tuple(blocks), stage.conditioning.reach
    if not reach:
        return 0
    filter_rings = (Gathering.of(pieces_of(block.pixels.grown(reach), dealt), number) for number, block in enumerate(dealt))
    return PIXEL_BYTES * len(stage.regions) * sum(gathering.foreign_pixels for gathering in filter_rings)


def chunk_bytes_exchanged(blocks: Sequence[Block]) -> int:
    """Return the bytes of pixels that workers send each other to write the canvas, or a moment: parts of shared chunks."""
    pixels = 0
    for block in blocks:
        extent = chunk_extent(block.pixels, block.grid.canvas, CHUNK)
        pixels += extent.area - extent.intersect(block.pixels).area
    return PIXEL_BYTES * pixels
