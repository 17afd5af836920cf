"""Bytes that a render takes: blocks and working memory of a worker, and disk. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from render.config.formats import FORMATS
from render.dreaming.stage import Stage
from render.geometry.blocks import Block, deal_blocks
from render.geometry.geometry import BAND, PIXEL_BYTES
from render.planning.plan import Octave
from render.planning.schedule import Schedule

#: Bytes of a pixel of a picture: three channels of uint8.
_PICTURE_PIXEL = 3
#: Strips of `BAND` px in memory at once while octaves change, including those of the source.
_STRIPS_IN_TRANSIT = 8
#: Most pixels of an octave's preview.
_PREVIEW_AREA = 1024 * 1024
#: Bytes of log and record.
_LOG_BYTES = 2_000_000


@dataclass(frozen=True)
class PictureFiles:
    """Files of the finished picture: `copies` of each format beside its picture, `bits` and `channels` of a pixel."""

    copies: Mapping[str, int]
    bits: int = 8
    channels: int = 3

    def nbytes(self, area: int) -> float:
        """Return the most bytes of all files for a picture of `area` px, uncompressed."""
        total = 0.0
        for name, copies in self.copies.items():
            form = FORMATS[name]
            bits = next(bits for bits in (self.bits, *form.bits) if bits in form.bits)
            # One more picture while the new one is written beside an older one.
            total += (2 + copies) * area * self.channels * bits / 8 * form.pyramid
        return total


def block_bytes(octaves: Sequence[Octave], workers: int, schedule: Schedule) -> list[int]:
    """Return the bytes of each worker's arrays at their largest.

    These are the padded block, the stage's other arrays, and the gradient or, while octaves change, the block of the
    octave before.
    """
    largest: dict[int, int] = {}
    before: tuple[Block, ...] = ()
    for octave in octaves:
        blocks = deal_blocks(octave.grid, workers)
        for number, block in enumerate(blocks):
            gradients, other_bytes = _arrays(octave.stage, schedule, block)
            gradient_or_old_block = max(gradients, PIXEL_BYTES * before[number].padded.area if number < len(before) else 0)
            largest[number] = max(
                largest.get(number, 0), PIXEL_BYTES * block.padded.area + gradient_or_old_block + other_bytes
            )
        before = blocks
    return list(largest.values())


def margin_bytes(octaves: Sequence[Octave], workers: int) -> int:
    """Return the bytes of what a worker sends and receives in a step, at most: each about as many pixels as its margin.

    Blocks on a device need them on its host. Blocks of the host send and receive rows in place, but copy what a filter of
    the gradient reads around them, which is less.
    """
    dealt = (deal_blocks(octave.grid, workers) for octave in octaves)
    margins = (block.padded.area - block.pixels.area for blocks in dealt if len(blocks) > 1 for block in blocks)
    return 2 * PIXEL_BYTES * max(margins, default=0)


def _arrays(stage: Stage, schedule: Schedule, block: Block) -> tuple[int, int]:
    """Return the bytes of a block's gradients, and those of its masks, moments and source."""
    area, conditioning = block.pixels.area, stage.conditioning
    rows, columns = (side + 2 * conditioning.reach for side in block.pixels.shape)
    gradients = len(stage.regions) * (rows * columns + (area if conditioning.filters else 0))
    masks = sum(not region.everywhere for region in stage.regions)
    source = 0
    if any(schedule.objectives[number].looks_at_source for number in stage.objectives):
        source = block.padded.area
    elif conditioning.compares:
        source = area
    return PIXEL_BYTES * gradients, PIXEL_BYTES * (
        source + stage.optimizer.moments * area
    ) + PIXEL_BYTES // 3 * masks * area


def working_bytes(final: Octave, devices: int) -> int:
    """Return the bytes of host memory for strips of the canvas in transit, and for windows in flight."""
    rows, columns = final.grid.window_shape
    # Two windows are in flight for each device; several devices need them once more, stacked in one array.
    windows = 2 if devices == 1 else 4 * devices
    return PIXEL_BYTES * (_STRIPS_IN_TRANSIT * min(BAND, final.grid.canvas.area) + windows * rows * columns)


def disk_bytes(shapes: Sequence[tuple[int, int]], files: PictureFiles, moments: int) -> int:
    """Return the most bytes on disk: two checkpoints, pictures, copies and previews uncompressed, log and record.

    Args:
        shapes: (height, width) px of the octaves, coarse to fine.
        files: The finished picture's files.
        moments: Arrays of the optimiser in a checkpoint, beside the canvas.
    """
    area = shapes[-1][0] * shapes[-1][1]
    previews = sum(min(height * width, _PREVIEW_AREA) for height, width in shapes)
    checkpoints = 2 * (1 + moments) * PIXEL_BYTES * area
    return round(checkpoints + files.nbytes(area) + _PICTURE_PIXEL * previews + _LOG_BYTES)
