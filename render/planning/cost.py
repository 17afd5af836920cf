"""Cost of a step of an octave on a farm of any size: work, bytes sent, bytes saved, seconds. Pure.

Bytes are exact: they are those that the conductor sends when it deals the same grid. They are counted axis by axis,
because a rectangle of extended pixels is the product of two intervals; so 100 gigapixels on 512 workers take
milliseconds. Seconds are a model on top of them: `step_cost` says which numbers are measured and which are assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from render.config.schema import NodeConfig
from render.geometry.blocks import Block, chunk_extent, deal_blocks
from render.geometry.geometry import CHUNK, Axis, Grid, Interval, Rect, boundary_runs
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

#: The part that takes most of a step's time.
Bound = Literal["kernels", "host", "driver", "network"]

#: Seconds per pixel of one process, measured with NumPy on one core of a two-core cloud machine: to cut out a window, to
#: measure and store a gradient, to update the canvas, and to copy a margin three times (out of the canvas, into the object
#: store, out of it).
CUT, KEEP, UPDATE, LEND = 1.7e-9, 4.8e-9, 2.2e-9, 3 * 1.7e-9
#: Seconds to resample a pixel, measured on the same machine. An octave resamples three times: detail and source at its
#: beginning, the source again at its end.
RESAMPLE = 3 * 21e-9
#: Seconds of the driver for a call that passes on eight margins, and for a plain call, measured with Ray on that machine.
CALL_WITH_MARGINS, CALL = 1.0e-3, 0.3e-3
#: Share of the nominal rate that a network or a store reaches. Assumed.
REACHED = 0.5
_PIXEL = 12


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
        bounds = np.asarray([owned[0].start, *(part.stop for part in owned)], np.int64)
        needs = np.zeros((len(padded), len(owned)), np.int64)
        for row, interval in enumerate(padded):
            for run in boundary_runs(interval, axis.length, axis.mode):
                needs[row] += np.diff(np.clip(bounds, run.source.start, run.source.stop))
        return cls(tuple(owned), needs)


@dataclass(frozen=True)
class Traffic:
    """Deal of a grid to workers, and the bytes that they send each other for every step, float32 RGB.

    `per_node` workers share a machine and are numbered consecutively; traffic between them does not cross the network.
    """

    grid: Grid
    rows: Cover
    columns: Cover
    per_node: int
    largest: tuple[int, int]
    busiest_tiles: int
    #: Bytes of a device's memory for the largest canvas and the largest slots of a block, if they are resident there.
    canvas_bytes: int
    slots_bytes: int

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
            max(map(canvas_bytes, blocks)),
            max(map(slots_bytes, blocks)),
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
        return _PIXEL * (padded - inner).ravel()

    @cached_property
    def sent(self) -> NDArray[np.int64]:
        """Bytes that each worker sends to others in a step: (workers,)."""
        lent = np.outer(self.rows.needs.sum(axis=0), self.columns.needs.sum(axis=0))
        inner = np.outer(self.rows.needs.diagonal(), self.columns.needs.diagonal())
        return _PIXEL * (lent - inner).ravel()

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
            # Bytes between the machine's own workers. The diagonal, each worker's own pixels, is no traffic.
            local_bytes = _PIXEL * int(inside.sum() - inside.diagonal().sum())
            incoming.append(int(self.received[members].sum()) - local_bytes)
            outgoing.append(int(self.sent[members].sum()) - local_bytes)
        return max(*incoming, *outgoing)

    @cached_property
    def saved(self) -> NDArray[np.int64]:
        """Bytes of canvas that each worker writes to a checkpoint: (workers,). A chunk that blocks share has one writer."""
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
    """Cost of a step on the busiest worker: pixels, bytes, seconds.

    `save` is the time of a checkpoint in seconds, `change` that of an octave's beginning and end; neither is part of
    `seconds`.
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
        """Seconds of a step: kernels, the host's work and the driver's run in parallel, update and exchange follow."""
        return max(self.kernels, self.host, self.driver) + self.update + self.exchange

    @property
    def exchange(self) -> float:
        """Seconds in which margins travel. Nothing hides them: a step's first window waits for its whole margin."""
        return self.network + self.copies

    @property
    def bound(self) -> Bound:
        """The part whose speed limits the step most."""
        shares: dict[Bound, float] = {
            "kernels": self.kernels,
            "host": self.host + self.update + self.copies,
            "driver": self.driver,
            "network": self.network,
        }
        return max(shares, key=lambda name: shares[name])

    @property
    def network_bound(self) -> bool:
        """True if margins take longer on the network than the pixels take in kernels or host, and the update."""
        return self.network > max(self.kernels, self.host) + self.update


def step_cost(octave: Octave, workers: int, node: NodeConfig, tflops: float) -> StepCost:
    """Return the cost of a step of an octave on `workers` workers of a kind of node.

    Measured: the seconds of a process per pixel, and of the driver per call. Assumed: `tflops`, the rates of network
    and store, and that `REACHED` of these is reached. Counted exactly: windows, bytes of margins and of checkpoints.
    Not counted: filters of the gradient, PCIe (24 bytes per pixel that travels to a device and back, less than the
    host's own work), an oversubscribed network, stragglers.

    If a block is resident on its device, the host neither cuts windows nor stores gradients nor updates. The device
    does it instead, with tens of bytes per pixel of its own memory: negligible beside the kernels.

    Args:
        octave: The octave.
        workers: The number of workers.
        node: The kind of node.
        tflops: The rate that a worker's kernels reach, 10^12 operations a second.
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
        # Two calls for each step: one begins it, one updates and lends margins.
        driver=traffic.workers * (2 * (CALL_WITH_MARGINS if received else CALL) + more_calls * CALL),
        update=hosted * block * UPDATE,
        network=traffic.node_bytes / _rate(node.network_gbit),
        copies=received / _PIXEL * LEND,
        save=parts * traffic.node_saved / _rate(node.store_gbit),
        save_bytes=parts * _PIXEL * octave.grid.canvas.area,
        change=block * RESAMPLE,
    )


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
    # The source under a block takes about as much as the slots.
    source = traffic.slots_bytes if octave.stage.conditioning.shoulder else 0
    return stepping_bytes(traffic.canvas_bytes + source, traffic.slots_bytes, windows) <= TOTAL_SHARE * memory


def _rate(gbit: float | None) -> float:
    """Return the bytes a second that are reached at a nominal rate in Gbit/s."""
    return float("inf") if gbit is None else REACHED * gbit * 1e9 / 8


def _largest(blocks: Sequence[Block]) -> tuple[int, int]:
    """Return (rows, columns) px of the block with most pixels."""
    return max((block.pixels.shape for block in blocks), key=lambda shape: shape[0] * shape[1])
