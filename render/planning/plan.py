"""Plan of a render: octaves, tiles, memory, disk, arithmetic, and the machine that it is for. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from render.dreaming.stage import Stage
from render.geometry.geometry import Grid
from render.geometry.source_window import SourceWindow
from render.planning.residence import ResidencySettings

#: Share of a device's memory for a kernel call, and of all memory for everything.
_KERNEL_SHARE, TOTAL_SHARE = 0.5, 0.9


@dataclass(frozen=True)
class Machine:
    """Resources of a machine for a render: memory of host and device (the same on CPU) and free disk, bytes.

    `workers` run on it. Each holds `held_bytes` before it has a block; `shared_bytes` are held once beside them.
    `worker_bytes` is the memory that the config allows a worker. `scratch_free` is the free disk for blocks larger than
    memory, if that is another disk than the run's. Each worker has `devices` devices, with `device_bytes` and a window
    each.
    """

    host_bytes: int
    device_bytes: int
    disk_free: int
    disk: str = "the disk"
    shares_memory: bool = True
    workers: int = 1
    held_bytes: int = 0
    shared_bytes: int = 0
    worker_bytes: int | None = None
    scratch_free: int | None = None
    devices: int = 1

    @property
    def limit(self) -> int:
        """Host memory that each worker may use in all."""
        share = int((self.host_bytes * TOTAL_SHARE - self.shared_bytes) / self.workers)
        return share if self.worker_bytes is None else min(share, self.worker_bytes)

    @property
    def kernel_limit(self) -> int:
        """Device memory that a kernel call may need at most.

        It does not depend on the number of workers, because the tile grid must not.
        """
        memory = self.device_bytes if self.worker_bytes is None or not self.shares_memory else self.worker_bytes
        return int(memory * _KERNEL_SHARE)


@dataclass(frozen=True)
class Octave:
    """One resolution of the canvas and the work done on it.

    `window_flops` are the floating-point operations of a kernel call for one window, those of convolutions alone,
    and of the pass before it that measures the canvas, if an objective needs one.
    Wherever time is estimated from work, windows count by them: of two windows of one size, that with the smaller core
    takes less. `residence` says how blocks are resident on devices that have the memory, with about
    `device_window_bytes` for each window in addition; None if the config forbids it. With `needs_source` an objective
    compares windows with the source's. `device_traffic_bytes` are what a window's kernels move in an accelerator's memory.
    `source_window` is the part of the source that the canvas shows; None for noise.
    """

    index: int
    grid: Grid
    stage: Stage
    window_flops: int
    device_window_bytes: int
    residence: ResidencySettings | None
    needs_source: bool = False
    device_traffic_bytes: int = 0
    source_window: SourceWindow | None = None

    @property
    def steps(self) -> int:
        """Updates of the whole canvas."""
        return self.stage.steps

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) px."""
        return self.grid.rows.length, self.grid.columns.length

    @property
    def tile_pixels(self) -> int:
        """Pixels that the kernel processes for a tile, halos included: one window for each region."""
        return len(self.stage.regions) * math.prod(self.grid.window_shape)

    @property
    def tile_flops(self) -> int:
        """Floating-point operations for a tile, as `window_flops` counts them."""
        return len(self.stage.regions) * self.window_flops

    @property
    def step_window_pixels(self) -> int:
        """Pixels that the kernel processes in one step, if no mask saves any."""
        return self.grid.tiles * self.tile_pixels

    @property
    def step_flops(self) -> int:
        """Floating-point operations of one step, as `window_flops` counts them."""
        return self.grid.tiles * self.tile_flops

    @property
    def flops(self) -> int:
        """Floating-point operations of all its steps, as `window_flops` counts them."""
        return self.steps * self.step_flops


@dataclass(frozen=True)
class Plan:
    """Plan of a render: the work and the resources it takes.

    `worker_bytes` is the host memory of the worker that needs most. `scratch_bytes` is the disk space of all blocks if
    they do not fit in memory, else 0. `disk_bytes` is the most that lies in the run directory.
    """

    octaves: tuple[Octave, ...]
    skipped_octaves: int
    useful_side: int
    stride: int
    halo: int
    exact_halo: int
    workers: int
    kernel_bytes: int
    worker_bytes: int
    memory_bytes: int
    scratch_bytes: int
    disk_bytes: int

    @property
    def final(self) -> Octave:
        """The octave of the finished size."""
        return self.octaves[-1]

    @property
    def window_pixels(self) -> int:
        """Pixels that the kernel processes in the whole render."""
        return sum(octave.steps * octave.step_window_pixels for octave in self.octaves)

    @property
    def flops(self) -> int:
        """Floating-point operations of the whole render, as `Octave.window_flops` counts them."""
        return sum(octave.flops for octave in self.octaves)


def size_text(count: float) -> str:
    """Return a number of bytes as text for people: 1.5 GB."""
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
