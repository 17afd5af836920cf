"""Cost of a step of an octave on a farm of any size: work, bytes sent, bytes saved, seconds. Pure.

Bytes are exact: they are those that the conductor sends when it deals the same grid. They are counted axis by axis,
because a rectangle of extended pixels is the product of two intervals; so 100 gigapixels on 512 workers take
milliseconds. Seconds are a model on top of them: `step_cost` says which numbers are measured and which are assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from render.config.schema import NodeConfig
from render.geometry.blocks import Block, chunk_extent, deal_blocks, node_order
from render.geometry.geometry import CHUNK, PIXEL_BYTES, Axis, Grid, Interval, Rect
from render.planning.change_cost import change_seconds, strip_count
from render.planning.deal import FAN_OUT
from render.planning.kernel_speed import KernelSpeed
from render.planning.margin_cost import FRAME, ExchangeCost, exchange_cost, owner_pixels
from render.planning.plan import Octave
from render.planning.residence import (
    ALLOCATED,
    TOTAL_SHARE,
    WINDOWS_SHARE,
    stepping_bytes,
)

#: The part that takes most of a step's time.
Bound = Literal["kernels", "host", "sums", "margins", "network"]

#: Seconds per pixel of one process, measured with NumPy on one core of a two-core cloud machine: to cut out a window, to
#: measure and store a gradient, and to update the canvas.
CUT, KEEP, UPDATE = 1.7e-9, 4.8e-9, 2.2e-9
#: Seconds of a frame on its way. Assumed.
HOP = 100e-6
#: Seconds of the driver for a call that passes on pixels at an octave change, measured with Ray on that machine.
CALL_WITH_PIXELS = 1.0e-3
#: Share of the nominal rate that a network or a store reaches. Assumed.
REACHED = 0.5
#: Stands for a device that holds any canvas, GB.
_LARGEST_DEVICE_GB = 1e9


@dataclass(frozen=True)
class Cover:
    """One axis of a deal: the owned intervals of canvas pixels, and the pixels that each needs of the others.

    `needs[a, b]` is the number of extended pixels in the padded interval a that repeat pixels of interval b.
    """

    owned: tuple[Interval, ...]
    needs: NDArray[np.int64]

    @classmethod
    def of(cls, axis: Axis, owned: Sequence[Interval], padded: Sequence[Interval]) -> Cover:
        """Return the cover of an axis.

        Args:
            axis: The axis.
            owned: Intervals that workers own, in order, without gaps.
            padded: The same intervals with their margins.
        """
        return cls(tuple(owned), np.stack([owner_pixels(axis, tuple(owned), interval) for interval in padded]))


@dataclass(frozen=True)
class Traffic:
    """Deal of a grid to workers, and the bytes that they send each other for every step, float32 RGB.

    `per_node` workers share a machine; traffic between them does not cross the network. `order` has the blocks of each
    machine together: see `node_order`.
    """

    grid: Grid
    rows: Cover
    columns: Cover
    per_node: int
    largest: tuple[int, int]
    busiest_tiles: int
    blocks: tuple[Block, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, grid: Grid, workers: int, per_node: int = 1) -> Traffic:
        """Deal a grid to `workers` workers, `per_node` of them on a machine."""
        blocks = deal_blocks(grid, workers)
        across = sum(block.tile_rows == blocks[0].tile_rows for block in blocks)
        first_row, first_column = blocks[:across], blocks[::across]
        return cls(
            grid,
            Cover.of(
                grid.rows, [block.pixels.rows for block in first_column], [block.padded.rows for block in first_column]
            ),
            Cover.of(
                grid.columns, [block.pixels.columns for block in first_row], [block.padded.columns for block in first_row]
            ),
            per_node,
            _largest(blocks),
            max(block.size for block in blocks),
            blocks,
            tuple(node_order(blocks, per_node)),
        )

    @property
    def workers(self) -> int:
        """Number of workers with a block: not all have one if there are too few tiles."""
        return len(self.rows.owned) * len(self.columns.owned)

    @property
    def nodes(self) -> int:
        """Number of machines that have a worker with a block."""
        return -(-self.workers // self.per_node)

    @cached_property
    def received(self) -> NDArray[np.int64]:
        """Bytes that each worker receives from others in a step: (workers,)."""
        padded = np.outer(self.rows.needs.sum(axis=1), self.columns.needs.sum(axis=1))
        inner = np.outer(self.rows.needs.diagonal(), self.columns.needs.diagonal())
        return PIXEL_BYTES * (padded - inner).ravel()

    def frames(self, worker: int) -> NDArray[np.int64]:
        """Return the bytes that a worker receives from each other in a step: (rows, columns) of blocks."""
        row, column = divmod(worker, len(self.columns.owned))
        frames = PIXEL_BYTES * np.outer(self.rows.needs[row], self.columns.needs[column])
        frames[row, column] = 0
        return frames

    @cached_property
    def sent(self) -> NDArray[np.int64]:
        """Bytes that each worker sends to others in a step: (workers,)."""
        lent = np.outer(self.rows.needs.sum(axis=0), self.columns.needs.sum(axis=0))
        inner = np.outer(self.rows.needs.diagonal(), self.columns.needs.diagonal())
        return PIXEL_BYTES * (lent - inner).ravel()

    @property
    def bytes(self) -> int:
        """Bytes that a step sends from worker to worker, as `conductor.bytes_exchanged` counts them."""
        return int(self.received.sum())

    @cached_property
    def node_bytes(self) -> int:
        """Bytes that the busiest machine's network carries in a step, in or out, whichever is more."""
        incoming, outgoing = [], []
        for node in range(self.nodes):
            members = np.asarray(self.order[node * self.per_node : (node + 1) * self.per_node])
            down, across = np.divmod(members, len(self.columns.owned))
            inside = self.rows.needs[np.ix_(down, down)] * self.columns.needs[np.ix_(across, across)]
            # Bytes between the machine's own workers. The diagonal, each worker's own pixels, is no traffic.
            local_bytes = PIXEL_BYTES * int(inside.sum() - inside.diagonal().sum())
            incoming.append(int(self.received[members].sum()) - local_bytes)
            outgoing.append(int(self.sent[members].sum()) - local_bytes)
        return max(*incoming, *outgoing)

    @cached_property
    def saved(self) -> NDArray[np.int64]:
        """Bytes of canvas that each worker writes to a checkpoint: (workers,). A chunk that blocks share has one writer."""
        canvas = self.grid.canvas
        down = [chunk_extent(Rect(part, canvas.columns), canvas, CHUNK).rows.size for part in self.rows.owned]
        across = [chunk_extent(Rect(canvas.rows, part), canvas, CHUNK).columns.size for part in self.columns.owned]
        return PIXEL_BYTES * np.outer(np.asarray(down, np.int64), np.asarray(across, np.int64)).ravel()

    @cached_property
    def node_saved(self) -> int:
        """Bytes of canvas that the busiest machine writes to a checkpoint."""
        by_node = self.saved[np.asarray(self.order)]
        return int(max(np.add.reduceat(by_node, np.arange(0, self.workers, self.per_node))))


@dataclass(frozen=True)
class StepCost:
    """Cost of a step on the busiest worker: pixels, bytes, seconds.

    `save` is the time of a checkpoint in seconds, `change` that of an octave's beginning and end; neither is part of
    `seconds`.
    """

    traffic: Traffic
    window_pixels: int
    halo_work: float
    kernels: float
    host: float
    sums: float
    update: float
    margins: ExchangeCost
    save: float
    save_bytes: int
    change: float

    @property
    def seconds(self) -> float:
        """Seconds of a step: kernels and the host's work run in parallel, and so does most of the exchange."""
        return self.tiles + self.sums + self.update + self.exchange

    @property
    def tiles(self) -> float:
        """Seconds of the tiles, if all windows are there."""
        return max(self.kernels, self.host)

    @property
    def exchange(self) -> float:
        """Seconds in which tiles wait for margins."""
        return self.margins.exposed(self.tiles)

    @property
    def bound(self) -> Bound:
        """The part whose speed limits the step most."""
        waits_for_network = self.margins.network > self.margins.copies
        shares: dict[Bound, float] = {
            "kernels": self.kernels,
            "host": self.host + self.update,
            "sums": self.sums,
            "margins": 0.0 if waits_for_network else self.exchange,
            "network": self.exchange if waits_for_network else 0.0,
        }
        return max(shares, key=lambda name: shares[name])

    @property
    def network_bound(self) -> bool:
        """True if margins take longer on the network than the pixels take in kernels or host, and the update."""
        return self.margins.network > self.tiles + self.update


def step_cost(octave: Octave, workers: int, node: NodeConfig, speed: KernelSpeed) -> StepCost:
    """Return the cost of a step of an octave on `workers` workers of a kind of node.

    Measured: the seconds of a process per pixel and per frame. Assumed: the rates of network and store, and
    that `REACHED` of these is reached. `speed` says whether that of kernels is measured. Counted exactly: windows, bytes of
    margins and of checkpoints. Not counted: filters of the gradient, windows on their way to a device and back (24 bytes a
    pixel, less than the host's own work), an oversubscribed network, stragglers.

    If a block is resident on its device, the host neither cuts windows nor stores gradients nor updates. The device
    does it instead, with tens of bytes per pixel of its own memory: negligible beside the kernels.

    Args:
        octave: The octave.
        workers: The number of workers.
        node: The kind of node.
        speed: Speed of a worker's kernels.
    """
    traffic = Traffic.of(octave.grid, workers, node.workers)
    windows = traffic.busiest_tiles * len(octave.stage.regions)
    area = octave.grid.window_shape[0] * octave.grid.window_shape[1]
    block = traffic.largest[0] * traffic.largest[1]
    kernels = windows * speed.window_seconds(octave)
    hosted = not resides(octave, traffic, node)
    parts = 1 + octave.stage.optimizer.moments
    return StepCost(
        traffic=traffic,
        window_pixels=windows * area,
        halo_work=octave.step_window_pixels / octave.grid.canvas.area,
        kernels=kernels,
        host=hosted * (windows * area * CUT + len(octave.stage.regions) * block * KEEP),
        sums=sums_seconds(traffic.workers),
        update=hosted * block * UPDATE,
        margins=exchange_cost(traffic, _rate(node.network_gbit), resident=not hosted),
        save=parts * traffic.node_saved / _rate(node.store_gbit),
        save_bytes=parts * PIXEL_BYTES * octave.grid.canvas.area,
        change=change_seconds(octave, block, resident=not hosted, accelerated=node.device_gb is not None)
        + traffic.workers * strip_count(traffic.largest, resident=not hosted) * CALL_WITH_PIXELS,
    )


def ideal_cost(octave: Octave, node: NodeConfig, speed: KernelSpeed) -> StepCost:
    """Return the cost of a step for one worker whose device holds any canvas: no number of workers is more efficient."""
    return step_cost(octave, 1, node if node.device_gb is None else replace(node, device_gb=_LARGEST_DEVICE_GB), speed)


def sums_seconds(workers: int) -> float:
    """Return the seconds from a step's last gradient to its divisors on all workers: sums up the tree, divisors down."""
    seconds, last = 0.0, workers - 1
    while last > 0:
        # On each level a worker receives from all its children, and answers each.
        seconds += 2 * (min(last, FAN_OUT) * FRAME + HOP)
        last = (last - 1) // FAN_OUT
    return seconds


def resides(octave: Octave, traffic: Traffic, node: NodeConfig) -> bool:
    """Return whether an octave's blocks are resident on the devices of a kind of node.

    Workers decide this from the compiled kernel; here it is estimated. If residence is set in the config but there is
    no room, workers refuse; here the block then counts as the host's.
    """
    if octave.residence is None or node.device_gb is None:
        return False
    memory, window_bytes = int(ALLOCATED * 1e9 * node.device_gb), octave.device_window_bytes
    batch = octave.residence.windows_per_call("gpu", octave.grid.window_shape, window_bytes, int(WINDOWS_SHARE * memory))
    windows = min(batch, octave.grid.tiles) * window_bytes
    needed = max(stepping_bytes(block, octave.stage, windows, needs_source=octave.needs_source) for block in traffic.blocks)
    return needed <= TOTAL_SHARE * memory


def _rate(gbit: float | None) -> float:
    """Return the bytes a second that are reached at a nominal rate in Gbit/s."""
    return float("inf") if gbit is None else REACHED * gbit * 1e9 / 8


def _largest(blocks: Sequence[Block]) -> tuple[int, int]:
    """Return (rows, columns) px of the block with most pixels."""
    return max((block.pixels.shape for block in blocks), key=lambda shape: shape[0] * shape[1])
