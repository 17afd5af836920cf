"""Time in which margins travel, and how much of it passes while tiles are computed. Pure.

A worker computes the tiles whose windows lie in its own block first, and the others as their owners' pixels come: see
`farm.worker.margins`. So of the exchange only that part adds to a step in which the worker has no tile to compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from render.geometry.geometry import PIXEL_BYTES, Axis, Interval, boundary_runs
from render.planning.change_cost import SENT_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from render.planning.cost import Traffic

#: Seconds of a thread per pixel that it sends or receives through TCP, and of a worker for a frame. Measured with
#: `python -m tests.benchmarks margins`: four workers of a two-core cloud machine, by their CPU time.
SEND, RECEIVE, FRAME = 4.5e-9, 4.5e-9, 25e-6
#: Threads that send, and as many that receive, of each accelerator's worker. Clouds have 8 processors or more for each.
LANES = 4
#: Neighbours of a block inside of the canvas.
_NEIGHBOURS = 8


@dataclass(frozen=True)
class ExchangeCost:
    """Seconds of an exchange of margins on the busiest worker.

    Attributes:
        copies: Seconds of its threads, and of the bus to its device.
        network: Seconds of the busiest machine's network.
        ready: For each of the worker's tiles, the share of the exchange after which its window is whole.
    """

    copies: float
    network: float
    ready: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Seconds from the first byte to the last: stages work at once, each on another neighbour's frame."""
        stages = self.copies, self.network
        return max(stages) + min(stages) / _NEIGHBOURS

    def exposed(self, work: float) -> float:
        """Return the seconds that the exchange adds to a step whose tiles take `work` seconds together."""
        now, waited, tile = 0.0, 0.0, work / len(self.ready)
        for share in sorted(self.ready):
            wait = max(0.0, share * self.seconds - now)
            waited += wait
            now += wait + tile
        return waited + max(0.0, self.seconds - now)


def exchange_cost(traffic: Traffic, rate: float, *, resident: bool) -> ExchangeCost:
    """Return the cost of an exchange of margins.

    Args:
        traffic: The deal.
        rate: Bytes a second of a machine's network in either direction.
        resident: True if blocks lie on devices: then margins pass the bus as well.
    """
    worker = int(traffic.received.argmax())
    frames = traffic.frames(worker)
    received, sent = int(traffic.received[worker]), int(traffic.sent.max())
    if not received:
        return ExchangeCost(0.0, 0.0, (0.0,))
    # A frame is read by one thread.
    slowest = max(received / LANES, int(frames.max())) / PIXEL_BYTES
    threads = max(SEND, RECEIVE) * slowest + 2 * _NEIGHBOURS / LANES * FRAME
    bus = max(received, sent) / SENT_RATE if resident else 0.0
    copies = max(threads, bus) + min(threads, bus) / _NEIGHBOURS
    return ExchangeCost(copies, traffic.node_bytes / rate, ready_shares(traffic, worker, frames))


def ready_shares(traffic: Traffic, worker: int, frames: NDArray[np.int64]) -> tuple[float, ...]:
    """Return for each tile of a worker the share of its margin's bytes that are there once the tile's window is whole.

    The frames of owners that lie before the worker in tile order come first, all at once, then the others. Each comes in
    the order in which tiles need its pixels: see `cut_by_tiles`.

    Args:
        traffic: The deal.
        worker: Index of the worker's block.
        frames: Bytes that come from each owner, (rows, columns) of blocks.
    """
    flat, block = frames.ravel(), traffic.blocks[worker]
    axes = traffic.grid.rows, traffic.grid.columns
    along_rows = [_come(axes[0], traffic.rows.owned, block.padded.rows, index) for index in range(*block.tile_rows)]
    along_columns = [
        _come(axes[1], traffic.columns.owned, block.padded.columns, index) for index in range(*block.tile_columns)
    ]
    shares = []
    for down in along_rows:
        for across in along_columns:
            latest = 0.0
            for owner in np.flatnonzero(flat):
                row, column = divmod(int(owner), frames.shape[1])
                if down[row] and across[column]:
                    of_frame = down[row] if row == worker // frames.shape[1] else across[column]
                    first, others = (0, flat[:worker]) if owner < worker else (flat[:worker].sum(), flat[worker:])
                    # Each connection has the same rate until its frame is there.
                    latest = max(latest, first + np.minimum(others, of_frame * flat[owner]).sum())
            shares.append(float(latest / flat.sum()))
    return tuple(shares)


def _come(axis: Axis, owned: tuple[Interval, ...], padded: Interval, index: int) -> NDArray[np.float64]:
    """Return which share of each owned interval's pixels of a margin comes up to what a tile needs; 0 if it needs none.

    Args:
        axis: The axis.
        owned: The owned intervals.
        padded: Interval of the block with its margin.
        index: Index of the tile along the axis.
    """
    extent = axis.windows_extent(index, index)
    come, whole = (owner_pixels(axis, owned, part) for part in (Interval(padded.start, extent.stop), padded))
    return np.where(owner_pixels(axis, owned, extent), come / np.maximum(1, whole), 0.0)


def owner_pixels(axis: Axis, owned: tuple[Interval, ...], extent: Interval) -> NDArray[np.int64]:
    """Return how many extended coordinates of an interval repeat pixels of each owned one."""
    bounds = np.asarray([owned[0].start, *(part.stop for part in owned)], np.int64)
    counts = np.zeros(len(owned), np.int64)
    for run in boundary_runs(extent, axis.length, axis.mode):
        counts += np.diff(np.clip(bounds, run.source.start, run.source.stop)).astype(np.int64)
    return counts
