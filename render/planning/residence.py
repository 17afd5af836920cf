"""Where blocks live while they are stepped: in the host's memory, or in the device's. Pure, and light for a driver."""

from __future__ import annotations

from dataclasses import dataclass

from render.dream.objectives import Objective
from render.dream.stage import Stage
from render.geometry.geometry import Block
from render.models.architecture import Architecture

#: Pixels of windows, about, with which a kernel call has an accelerator fully at work, and the most windows of a call.
_FULL, _MOST_WINDOWS = 4_000_000, 16
#: Share of a device's memory that windows may take, and that everything may take.
WINDOWS_SHARE, TOTAL_SHARE = 0.5, 0.9
#: Share of an accelerator that JAX takes for itself, which is all the memory that it knows of.
ALLOCATED = 0.9
#: What a window needs over the size of its activations, about.
_ESTIMATE = 2


@dataclass(frozen=True)
class Residence:
    """What is asked for: `farm.worker.resident`, true, false or auto, and `farm.worker.batch`, a number or auto."""

    resident: bool | str = "auto"
    batch: int | str = "auto"

    def asked(self, platform: str) -> bool:
        """Whether blocks are to live on a device of such a platform, where they can; on a CPU not by themselves."""
        return platform != "cpu" if self.resident == "auto" else bool(self.resident)

    def together(self, platform: str, window: tuple[int, int], window_bytes: int, limit: int) -> int:
        """How many windows of (rows, columns) px a kernel call has; each needs `window_bytes`, all at most `limit`.

        By itself as many as keep an accelerator busy, and one on a CPU. The number of workers has no part in it.
        """
        if self.batch != "auto":
            return int(self.batch)
        if platform == "cpu":
            return 1
        return max(1, min(_FULL // (window[0] * window[1]), limit // max(1, window_bytes), _MOST_WINDOWS))


def suits(stage: Stage, objective: Objective) -> bool:
    """Whether a stage can be stepped on a device: one region without a mask, the update the scaled gradient, no filter, and
    an objective that does not compare with the source.
    """
    return stage.plain and not stage.conditioning.filters and not objective.needs_source


def estimated_bytes(architecture: Architecture, window: tuple[int, int]) -> int:
    """What the kernel takes on a device for a window of (rows, columns) px, about, before it has been compiled."""
    return _ESTIMATE * architecture.activation_bytes(*window)


def slots_shape(block: Block) -> tuple[int, int]:
    """(rows, columns) px of the slots of a block's tiles."""
    rows, columns = block.grid.core_shape
    return block.tile_rows.size * rows, block.tile_columns.size * columns


def canvas_bytes(block: Block) -> int:
    """What a block's canvas with its margin takes of a device's memory, float32 RGB."""
    return 12 * block.padded.area


def slots_bytes(block: Block) -> int:
    """What the gradient's slots of a block's tiles take there."""
    rows, columns = slots_shape(block)
    return 12 * rows * columns


def stepping_bytes(canvas: int, slots: int, windows: int) -> int:
    """What a block takes of a device's memory while it is stepped, weights not counted, where a kernel's call takes so
    much: an update, which comes when the kernel has done, may have to make the block's pixels once more.
    """
    return canvas + slots + max(windows, slots)
