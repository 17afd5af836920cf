"""Pixels that a block gets from other workers' blocks besides its margin: for an octave's start, and for filters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from render.dreaming.resample import Pixels, resample
from render.dreaming.shoulder import limit_detail, restore_detail, row_strips
from render.farm.pixel_sources import SourceOfPixels
from render.farm.worker.block import BlockArrays, put
from render.farm.worker.threads import for_each_piece
from render.geometry.blocks import Gathering
from render.geometry.geometry import Rect


def fill_with_source(arrays: BlockArrays, source: SourceOfPixels) -> None:
    """Fill a new block with the source, in threads."""

    def fill(rect: Rect) -> None:
        arrays.part(rect)[...] = source.at(arrays.shape, rect)

    for band in arrays.block.pixels.bands():
        for_each_piece(fill, band)


def subtract_source(arrays: BlockArrays, source: SourceOfPixels) -> None:
    """Replace the canvas of a block by its detail, float32, any sign, in threads.

    Detail is canvas minus source; with `conditioning.shoulder`, it is the detail that was limited to that.
    """
    shoulder = arrays.assignment.stage.conditioning.shoulder

    def subtract(rect: Rect) -> None:
        source_pixels, pixels = source.at(arrays.shape, rect), arrays.part(rect)
        pixels -= source_pixels
        if shoulder:
            for rows in row_strips(pixels):
                pixels[rows] = restore_detail(source_pixels[rows], pixels[rows], shoulder)

    for band in arrays.block.pixels.bands():
        for_each_piece(subtract, band)


def add_detail(arrays: BlockArrays, rect: Rect, detail: Pixels, detail_rect: Rect, detail_shape: tuple[int, int]) -> None:
    """Add the detail of the octave before, resampled, to a rectangle of the block, and limit or clip it to 0..255.

    Threads work on pieces of the rectangle.

    Args:
        arrays: The block of the new octave.
        rect: Rectangle of the new canvas, inside the block.
        detail: (rows, columns, 3) float32, any sign: the detail in `detail_rect`.
        detail_rect: Rectangle of the old canvas on which `rect` depends.
        detail_shape: (rows, columns) px of the whole old canvas.
    """
    grid, shoulder = arrays.block.grid, arrays.assignment.stage.conditioning.shoulder

    def add(piece: Rect) -> None:
        target = arrays.part(piece)
        change = resample(
            lambda part: detail[part.slices_from(detail_rect)],
            detail_shape,
            arrays.shape,
            piece,
            (grid.rows.mode, grid.columns.mode),
        )
        if shoulder:
            for rows in row_strips(target):
                target[rows] += limit_detail(target[rows], change[rows], shoulder)
        else:
            target += change
        np.clip(target, 0.0, 255.0, out=target)

    for_each_piece(add, rect)


def read_gradient(arrays: BlockArrays, rects: Sequence[Rect]) -> list[Pixels]:
    """Return copies of the gradients of rectangles inside the block, region by region."""
    return [np.array(gradient[rect.slices_from(arrays.gradient_rect)]) for gradient in arrays.gradients for rect in rects]


def fill_gradient(arrays: BlockArrays, gathering: Gathering, others_gradients: Sequence[list[Pixels]]) -> None:
    """Write the gradient around the block, within the filter's reach.

    Args:
        arrays: The block.
        gathering: Pieces of the gradient around the block: other blocks', and this block's own where it is mirrored or
            wrapped.
        others_gradients: Results of `read_gradient` for `gathering.others`, in that order.
    """
    own_rects = [piece.source for piece in gathering.own]
    for region, gradient in enumerate(arrays.gradients):
        pixels = [gradient[rect.slices_from(arrays.gradient_rect)] for rect in own_rects]
        put(gradient, arrays.gradient_rect, gathering.own, pixels)
        for (_, pieces), gradients in zip(gathering.others, others_gradients, strict=True):
            put(gradient, arrays.gradient_rect, pieces, gradients[region * len(pieces) : (region + 1) * len(pieces)])


def gather_pixels(
    rect: Rect, gathering: Gathering, own_pixels: Sequence[Pixels], others_pixels: Sequence[list[Pixels]]
) -> Pixels:
    """Return a rectangle put together from the pieces of a gathering: (rows, columns, 3) float32."""
    gathered = np.empty((*rect.shape, 3), np.float32)
    put(gathered, rect, gathering.own, own_pixels)
    for (_, pieces), pixels in zip(gathering.others, others_pixels, strict=True):
        put(gathered, rect, pieces, pixels)
    return gathered
