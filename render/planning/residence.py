"""Residence of blocks while they are stepped: the host's memory or the device's. Pure, and light for a driver."""

from __future__ import annotations

from dataclasses import dataclass

from render.dreaming.objectives import Objective
from render.dreaming.stage import Stage
from render.geometry.blocks import Block
from render.networks.architecture import Architecture

#: Pixels of windows, about, that occupy an accelerator fully in one kernel call, and the most windows of a call.
_FULL, _MOST_WINDOWS = 4_000_000, 16
#: Share of a device's memory for windows, and for everything.
WINDOWS_SHARE, TOTAL_SHARE = 0.5, 0.9
#: Share of an accelerator's memory that JAX allocates; JAX reports this share as the whole memory.
ALLOCATED = 0.9
#: Memory of a window relative to the size of its activations, about.
_ESTIMATE = 2


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


def suits(stage: Stage, objective: Objective) -> bool:
    """Return whether a stage can be stepped on a device.

    It can if it has one region without a mask, the update is the scaled gradient, there is no filter, and the objective
    does not compare with the source.
    """
    return stage.plain and not stage.conditioning.filters and not objective.needs_source


def estimated_bytes(architecture: Architecture, window: tuple[int, int]) -> int:
    """Estimate the bytes of the kernel on a device for a window of (rows, columns) px, before it is compiled."""
    return _ESTIMATE * architecture.activation_bytes(*window)


def slots_shape(block: Block) -> tuple[int, int]:
    """Return (rows, columns) px of the slots of a block's tiles."""
    rows, columns = block.grid.core_shape
    return block.tile_rows.size * rows, block.tile_columns.size * columns


def canvas_bytes(block: Block) -> int:
    """Return the bytes of a block's canvas with its margin on a device, float32 RGB."""
    return 12 * block.padded.area


def source_bytes(block: Block) -> int:
    """Return the bytes of the source under a block on a device, float32 RGB."""
    return 12 * block.pixels.area


def slots_bytes(block: Block) -> int:
    """Return the bytes of the gradient's slots of a block's tiles on a device, float32 RGB."""
    rows, columns = slots_shape(block)
    return 12 * rows * columns


def stepping_bytes(canvas: int, slots: int, windows: int) -> int:
    """Return the bytes of a block on a device while it is stepped, without weights.

    `windows` is the bytes of a kernel call. The update comes after the kernel and may need a copy of the block's
    pixels, so the larger of the two counts.
    """
    return canvas + slots + max(windows, slots)
