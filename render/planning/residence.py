"""Residence of blocks while they are stepped: the host's memory or the device's. Pure, and light for a driver."""

from __future__ import annotations

from dataclasses import dataclass

from render.dreaming.stage import Conditioning, Stage
from render.geometry.blocks import Block
from render.geometry.geometry import PIXEL_BYTES

#: Channels of a pixel.
_CHANNELS = 3
#: Arrays as large as a tile with its surroundings that filters and optimizers need at once, at most, by XLA's analysis for
#: an H200.
_TILE_COPIES = 14
#: Pixels of windows, about, that occupy an accelerator fully in one kernel call, and the most windows of a call.
_FULL, _MOST_WINDOWS = 4_000_000, 16
#: Share of a device's memory for windows, and for everything.
WINDOWS_SHARE, TOTAL_SHARE = 0.5, 0.9
#: Share of an accelerator's memory that JAX allocates; JAX reports this share as the whole memory.
ALLOCATED = 0.9


@dataclass(frozen=True)
class ResidencySettings:
    """Settings `farm.worker.resident`: true, false or auto, and `farm.worker.batch`: a number or auto."""

    resident: bool | str = "auto"
    batch: int | str = "auto"

    def is_requested(self, platform: str) -> bool:
        """Return whether blocks should be resident on a device of this platform, if they can; `auto` excludes CPUs."""
        return platform != "cpu" if self.resident == "auto" else bool(self.resident)

    def windows_per_call(self, platform: str, window: tuple[int, int], window_bytes: int, limit: int) -> int:
        """Return the number of windows of (rows, columns) px in a kernel call.

        `auto` takes as many as occupy an accelerator, and one on a CPU. The number of workers does not matter.

        Args:
            platform: The device's platform.
            window: (rows, columns) px.
            window_bytes: Bytes of each window.
            limit: The most bytes of all windows, for `auto`.
        """
        if self.batch != "auto":
            return int(self.batch)
        if platform == "cpu":
            return 1
        return max(1, min(_FULL // (window[0] * window[1]), limit // max(1, window_bytes), _MOST_WINDOWS))


def slots_shape(block: Block) -> tuple[int, int]:
    """Return (rows, columns) px of the slots of a block's tiles."""
    rows, columns = block.grid.core_shape
    return block.tile_rows.size * rows, block.tile_columns.size * columns


def slots_ring(conditioning: Conditioning) -> int:
    """Return the px around the slots of a gradient that its filter reads, on every side.

    A pyramid's rectangle begins and ends at points of its coarsest lattice, so it may reach farther than the filter.
    """
    return conditioning.reach + (2 * 2**conditioning.laplacian if conditioning.laplacian else 0)


def slots_bytes(block: Block, ring: int = 0) -> int:
    """Return the bytes of the gradient's slots of a block's tiles on a device with their ring, float32 RGB."""
    rows, columns = slots_shape(block)
    return PIXEL_BYTES * (rows + 2 * ring) * (columns + 2 * ring)


def canvas_bytes(block: Block) -> int:
    """Return the bytes of a block's canvas with its margin on a device, float32 RGB."""
    return PIXEL_BYTES * block.padded.area


def array_bytes(block: Block, stage: Stage, *, needs_source: bool) -> int:
    """Return the bytes of all arrays of a block on a device while it is stepped.

    These are the canvas, every region's gradient, once more if it is filtered, masks, the optimizer's moments, and the
    source.

    Args:
        block: The block.
        stage: The octave's settings.
        needs_source: True if an objective compares windows with the source's: then the source covers the margin, too.
    """
    conditioning, slots = stage.conditioning, slots_bytes(block)
    gradients = slots_bytes(block, slots_ring(conditioning)) + (slots if conditioning.filters else 0)
    source = 0
    if needs_source:
        source = canvas_bytes(block)
    elif conditioning.compares:
        source = slots
    masks = sum(not region.everywhere for region in stage.regions)
    total = canvas_bytes(block) + len(stage.regions) * gradients + source + stage.optimizer.moments * slots
    return total + masks * slots // _CHANNELS


def update_bytes(block: Block, stage: Stage) -> int:
    """Return the bytes that an update may need beside the arrays: a copy of the block's pixels, or the parts of a tile."""
    around = slots_ring(stage.conditioning)
    rows, columns = (side + 2 * around for side in block.grid.core_shape)
    tile = 0 if stage.plain and not around else _TILE_COPIES * PIXEL_BYTES * rows * columns
    return max(slots_bytes(block), tile)


def stepping_bytes(block: Block, stage: Stage, windows: int, *, needs_source: bool) -> int:
    """Return the bytes of a block on a device while it is stepped, without weights.

    The update comes after the kernel, so the larger of the two counts. Beside the kernel lie the pixels that neighbours
    borrow, about as many as the margin has.

    Args:
        block: The block.
        stage: The octave's settings.
        windows: Bytes of a kernel call.
        needs_source: As for `array_bytes`.
    """
    alone = block.pixels.shape == block.grid.canvas.shape
    loans = 0 if alone else PIXEL_BYTES * (block.padded.area - block.pixels.area)
    return array_bytes(block, stage, needs_source=needs_source) + max(windows + loans, update_bytes(block, stage))
