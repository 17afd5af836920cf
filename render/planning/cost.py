"""What a step of an octave costs a farm of any size: work, bytes that travel, bytes that are saved, seconds. Pure.

Bytes are exact: those that the conductor would send when it deals the same grid. They are counted axis by axis, because a
rectangle of extended pixels is the product of two intervals, so that 100 gigapixels on 512 workers take milliseconds.
Seconds are a model on top of them: see `step_cost` for what is measured in it and what assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from render.config.schema import NodeConfig
from render.geometry.geometry import CHUNK, Axis, Block, Grid, Interval, Rect, boundary_runs, chunk_extent, deal_blocks
from render.planning.deal import tiles_a_call
from render.planning.plan import Octave
from render.planning.residence import (
    ALLOCATED,
    TOTAL_SHARE,
    WINDOWS_SHARE,
    canvas_bytes,
    slots_bytes,
    stepping_bytes,
)

#: What takes most of a step's time.
Bound = Literal["kernels", "host", "driver", "network"]

#: Seconds that one process takes for a pixel, measured with NumPy on one core of a two-core cloud machine: to cut a window
#: out, to measure and keep a gradient, to update the canvas, and to copy a pixel of a margin, which happens three times
#: (out of the canvas, into the object store, out of it).
CUT, KEEP, UPDATE, LEND = 1.7e-9, 4.8e-9, 2.2e-9, 3 * 1.7e-9
#: To resample a pixel, measured there; an octave's beginning resamples detail and source, its end the source once more.
RESAMPLE = 3 * 21e-9
#: Seconds of the driver for a call that passes eight margins on, and for a plain one, measured on that machine's Ray.
CALL_WITH_MARGINS, CALL = 1.0e-3, 0.3e-3
#: Share of a network's or a store's nominal rate that is reached. Assumed.
REACHED = 0.5
_PIXEL = 12


@dataclass(frozen=True)
class Cover:
    """One axis of a deal: the intervals of canvas pixels that are owned, and who needs how much of whose.

    `needs[a, b]` counts the extended pixels in the padded interval a that repeat pixels of interval b.
    """

    owned: tuple[Interval, ...]
    needs: NDArray[np.int64]

    @classmethod
    def of(cls, axis: Axis, owned: Sequence[Interval], padded: Sequence[Interval]) -> Cover:
        bounds = np.asarray([owned[0].start, *(part.stop for part in owned)], np.int64)
        needs = np.zeros((len(padded), len(owned)), np.int64)
        for row, interval in enumerate(padded):
            for run in boundary_runs(interval, axis.length, axis.mode):
                needs[row] += np.diff(np.clip(bounds, run.source.start, run.source.stop))
        return cls(tuple(owned), needs)


@dataclass(frozen=True)
class Traffic:
    """How a grid is dealt to workers, and what they send each other for every step. Bytes are of float32 RGB pixels.

    `per_node` workers share a machine, numbered one after another; between them nothing crosses the network.
    """

    grid: Grid
    rows: Cover
    columns: Cover
    per_node: int
    largest: tuple[int, int]
    busiest_tiles: int
    #: What the largest canvas and the largest slots of a block take of a device's memory where they live there.
    canvas_bytes: int
    slots_bytes: int

    @classmethod
    def of(cls, grid: Grid, workers: int, per_node: int = 1) -> Traffic:
        blocks = deal_blocks(grid, workers)
        across = sum(block.tile_rows == blocks[0].tile_rows for block in blocks)
        first_row, first_column = blocks[:across], blocks[::across]
        return cls(
            grid,
            Cover.of(grid.rows, [one.pixels.rows for one in first_column], [one.padded.rows for one in first_column]),
            Cover.of(grid.columns, [one.pixels.columns for one in first_row], [one.padded.columns for one in first_row]),
            per_node,
            _largest(blocks),
            max(block.size for block in blocks),
            max(map(canvas_bytes, blocks)),
            max(map(slots_bytes, blocks)),
        )

    @property
    def workers(self) -> int:
        """How many have a block: fewer than there are where tiles are too few."""
        return len(self.rows.owned) * len(self.columns.owned)

    @property
    def nodes(self) -> int:
        """How many machines have a worker with a block."""
        return -(-self.workers // self.per_node)

    @cached_property
    def received(self) -> NDArray[np.int64]:
        """Bytes that each worker gets from others in a step: (workers,)."""
        padded = np.outer(self.rows.needs.sum(axis=1), self.columns.needs.sum(axis=1))
        own = np.outer(self.rows.needs.diagonal(), self.columns.needs.diagonal())
        return _PIXEL * (padded - own).ravel()

    @cached_property
    def sent(self) -> NDArray[np.int64]:
        """Bytes that each worker gives to others in a step: (workers,)."""
        lent = np.outer(self.rows.needs.sum(axis=0), self.columns.needs.sum(axis=0))
        own = np.outer(self.rows.needs.diagonal(), self.columns.needs.diagonal())
        return _PIXEL * (lent - own).ravel()

    @property
    def bytes(self) -> int:
        """Bytes that a step sends from worker to worker, as `conductor.bytes_exchanged` counts them."""
        return int(self.received.sum())

    @cached_property
    def node_bytes(self) -> int:
        """Bytes that the busiest machine's network carries in a step, in or out, whichever is more."""
        incoming, outgoing = [], []
        for node in range(self.nodes):
            members = np.arange(node * self.per_node, min((node + 1) * self.per_node, self.workers))
            down, across = np.divmod(members, len(self.columns.owned))
            inside = self.rows.needs[np.ix_(down, down)] * self.columns.needs[np.ix_(across, across)]
            # What stays: between its workers. What each has of its own is no traffic at all.
            stays = _PIXEL * int(inside.sum() - inside.diagonal().sum())
            incoming.append(int(self.received[members].sum()) - stays)
            outgoing.append(int(self.sent[members].sum()) - stays)
        return max(*incoming, *outgoing)

    @cached_property
    def saved(self) -> NDArray[np.int64]:
        """Bytes of canvas that each worker writes to a checkpoint: (workers,). Chunks that blocks share have one writer."""
        canvas = self.grid.canvas
        down = [chunk_extent(Rect(part, canvas.columns), canvas, CHUNK).rows.size for part in self.rows.owned]
        across = [chunk_extent(Rect(canvas.rows, part), canvas, CHUNK).columns.size for part in self.columns.owned]
        return _PIXEL * np.outer(np.asarray(down, np.int64), np.asarray(across, np.int64)).ravel()

    @cached_property
    def node_saved(self) -> int:
        """Bytes of canvas that the busiest machine writes to a checkpoint."""
        return int(max(np.add.reduceat(self.saved, np.arange(0, self.workers, self.per_node))))


@dataclass(frozen=True)
class StepCost:
    """A step on the busiest worker: pixels, bytes, seconds.

    `save` are the seconds of a checkpoint, `change` those of an octave's beginning and end; neither is in `seconds`.
    """

    traffic: Traffic
    window_pixels: int
    halo_work: float
    kernels: float
    host: float
    driver: float
    update: float
    network: float
    copies: float
    save: float
    save_bytes: int
    change: float

    @property
    def seconds(self) -> float:
        """Kernels, the host's work on windows and gradients, and the driver's run beside each other; the rest waits."""
        return max(self.kernels, self.host, self.driver) + self.update + self.exchange

    @property
    def exchange(self) -> float:
        """Seconds in which margins travel. Nothing hides them: a step's first window waits for all of its margin."""
        return self.network + self.copies

    @property
    def bound(self) -> Bound:
        """What a faster one of would shorten the step most."""
        shares: dict[Bound, float] = {
            "kernels": self.kernels,
            "host": self.host + self.update + self.copies,
            "driver": self.driver,
            "network": self.network,
        }
        return max(shares, key=lambda name: shares[name])

    @property
    def network_bound(self) -> bool:
        """Whether margins take longer on the network than the pixels take to be dreamed."""
        return self.network > max(self.kernels, self.host) + self.update


def step_cost(octave: Octave, workers: int, node: NodeConfig, tflops: float) -> StepCost:
    """What a step of an octave takes on `workers` workers of a kind of node.

    `tflops` is what a worker's kernels reach, 10^12 operations a second. Measured: what a process takes for a pixel, and
    the driver for a call. Assumed: `tflops`, the rates of network and store, and that `REACHED` of these is had. Counted
    exactly: windows, bytes of margins and of checkpoints. Not counted: filters of the gradient, PCIe (24 bytes a pixel of
    what travels to a device and back, below the host's own work), a network's oversubscription, stragglers.

    Where a block lives on its device, the host neither cuts windows nor keeps gradients nor updates, and what the device
    takes for that, tens of bytes a pixel of its own memory, is nothing beside kernels.
    """
    traffic = Traffic.of(octave.grid, workers, node.workers)
    windows = traffic.busiest_tiles * len(octave.stage.regions)
    area = octave.grid.window_shape[0] * octave.grid.window_shape[1]
    block = traffic.largest[0] * traffic.largest[1]
    kernels = windows * octave.window_flops / (tflops * 1e12)
    more_calls = -(-max(0, traffic.busiest_tiles - 1) // tiles_a_call(kernels / traffic.busiest_tiles))
    received = int(traffic.received.max())
    hosted = not resides(octave, traffic, node)
    parts = 1 + octave.stage.optimizer.moments
    return StepCost(
        traffic=traffic,
        window_pixels=windows * area,
        halo_work=octave.step_window_pixels / octave.grid.canvas.area,
        kernels=kernels,
        host=hosted * (windows * area * CUT + len(octave.stage.regions) * block * KEEP),
        # One call begins a step, one updates and lends.
        driver=traffic.workers * (2 * (CALL_WITH_MARGINS if received else CALL) + more_calls * CALL),
        update=hosted * block * UPDATE,
        network=traffic.node_bytes / _rate(node.network_gbit),
        copies=received / _PIXEL * LEND,
        save=parts * traffic.node_saved / _rate(node.store_gbit),
        save_bytes=parts * _PIXEL * octave.grid.canvas.area,
        change=block * RESAMPLE,
    )


def resides(octave: Octave, traffic: Traffic, node: NodeConfig) -> bool:
    """Whether an octave's blocks live on the devices of a kind of node: what workers decide there from a compiled kernel,
    from an estimate of what it takes. Where it is asked for and there is no room they refuse, and here it is the host's.
    """
    if octave.residence is None or node.device_gb is None:
        return False
    memory, each = int(ALLOCATED * 1e9 * node.device_gb), octave.device_window_bytes
    together = octave.residence.together("gpu", octave.grid.window_shape, each, int(WINDOWS_SHARE * memory))
    windows = min(together, octave.grid.tiles) * each
    return stepping_bytes(traffic.canvas_bytes, traffic.slots_bytes, windows) <= TOTAL_SHARE * memory


def _rate(gbit: float | None) -> float:
    """Bytes a second that a nominal rate in Gbit/s comes to."""
    return float("inf") if gbit is None else REACHED * gbit * 1e9 / 8


def _largest(blocks: Sequence[Block]) -> tuple[int, int]:
    """(rows, columns) px of the block with most pixels."""
    return max((block.pixels.shape for block in blocks), key=lambda shape: shape[0] * shape[1])
