"""A small picture of a block."""

from __future__ import annotations

import numpy as np

from render.farm.worker.block import BlockArrays
from render.geometry.geometry import Interval, Rect


def shrink(arrays: BlockArrays, every: int) -> tuple[Rect, np.ndarray]:
    """Average a block over squares of `every` px.

    A square belongs to the block that holds its first pixel, and averages the part that lies in that block.

    Returns:
        The block's rectangle in the small picture, and its pixels there: (rows, columns, 3) uint8 RGB.
    """
    pixels = arrays.block.pixels
    inside = Rect(
        *(Interval(min(-(-part.start // every) * every, part.stop), part.stop) for part in (pixels.rows, pixels.columns))
    )
    small = Rect(*(Interval(-(-part.start // every), -(-part.stop // every)) for part in inside))
    means = np.zeros((*small.shape, 3), np.float32)
    for rect in inside.bands(multiple=every):
        starts = [range(0, part.size, every) for part in rect]
        sums = np.add.reduceat(np.add.reduceat(arrays.part(rect), starts[0], axis=0), starts[1], axis=1)
        areas = [np.minimum(every, part.size - np.asarray(start)) for part, start in zip(rect, starts, strict=True)]
        top, left = (part.start // every - corner.start for part, corner in zip(rect, small, strict=True))
        means[top : top + len(starts[0]), left : left + len(starts[1])] = (
            sums / (areas[0][:, None] * areas[1][None, :])[..., None]
        )
    return small, np.clip(np.rint(means), 0, 255).astype(np.uint8)
