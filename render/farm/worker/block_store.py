"""A block's pixels in a checkpoint: reading all of them, and writing the chunks that a worker owns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.errors import UserError
from render.farm.parts import CANVAS, moment_parts
from render.farm.worker.block import BlockArrays
from render.geometry.blocks import Gathering
from render.geometry.geometry import CHUNK, Rect
from render.storage.url import Place


def load_block(arrays: BlockArrays, path: Place, token: str, moments: Sequence[Place]) -> None:
    """Fill a block from a stored canvas, and its optimizer's moments from the arrays stored beside it.

    Raises:
        DamagedCheckpoint: An array differs from the data that were written.
    """
    # A checkpoint at an octave's end has no moments: no step follows there.
    names = (CANVAS, *moment_parts(len(moments)))
    for name, place in zip(names, (path, *moments), strict=True):
        store = CanvasStore(place, token)
        for rect in arrays.block.pixels.bands():
            arrays.part(rect, name)[...] = store.read(rect)


def save_chunks(
    arrays: BlockArrays,
    part: str,
    store_at: tuple[Place, str],
    extent: Rect,
    gathering: Gathering,
    others_pixels: Sequence[list[Pixels]],
) -> None:
    """Write the chunks of `extent` to a store and wait until they are on the disk.

    Args:
        arrays: The block.
        part: `CANVAS`, or the name of a moment.
        store_at: Place and token of the store.
        extent: Rectangle of whole chunks that this worker owns; it may reach beyond the block.
        gathering: Pieces of `extent`: this worker's, and those of others.
        others_pixels: The pixels that `gathering.others` names, in that order.

    Raises:
        UserError: The disk is full, or cannot be written.
    """
    path, token = store_at
    foreign = [
        (piece.target, pixels)
        for (_, pieces), pixel_arrays in zip(gathering.others, others_pixels, strict=True)
        for piece, pixels in zip(pieces, pixel_arrays, strict=True)
    ]
    try:
        store = CanvasStore(path, token, mode="r+")
        for rect in extent.bands(multiple=CHUNK):
            pixels = np.empty((*rect.shape, 3), np.float32)
            for piece in gathering.own:
                common = piece.target.intersect(rect)
                if common.area:
                    pixels[common.slices_from(rect)] = arrays.part(common, part)
            for target, values in foreign:
                common = target.intersect(rect)
                if common.area:
                    pixels[common.slices_from(rect)] = values[common.slices_from(target)]
            store.write(rect, pixels)
            store.flush([rect])
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be written ({error.strerror or error}): free some space") from None
