"""A block's margin, filled anew in every step: exchanged with the neighbours while other tiles are computed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import numpy as np

from render.dreaming.resample import Pixels
from render.farm.peers.frames import Buffers, FrameTarget
from render.farm.peers.group import Group
from render.farm.peers.transfer import Transfer
from render.farm.worker.block import BlockArrays
from render.farm.worker.threads import thread_count
from render.geometry.blocks import Block, Piece
from render.geometry.geometry import PIXEL_BYTES, Rect, Tile
from render.planning.margin_cost import LANES

#: Bytes of a step's exchange from which on it goes in threads: fewer are there before these have started.
_THREADED_BYTES = 2_000_000


class MarginExchange:
    """Exchange of margins with the neighbours, for all steps of a run."""

    def __init__(self, arrays: BlockArrays, group: Group) -> None:
        """Prepare the buffers.

        Args:
            arrays: The block.
            group: The worker's connections.
        """
        self._arrays = arrays
        self._group = group
        margin, loans = arrays.assignment.margin, arrays.assignment.loans
        self._pieces = dict(margin.others)
        self._needs = needed_bytes(arrays.block, self._pieces)
        #: Arrays of the pieces that are written into the block once they are there, by owner, and where these end.
        self._staged: dict[int, list[Pixels]] = {}
        self._targets = {owner: self._target(owner) for owner in self._pieces}
        self._ends = {owner: _ends(self._pieces[owner]) for owner in self._staged}
        # First to those for which this block lies above or to the left, where their first tiles are.
        later = {owner for owner, pieces in margin.others if _corner(pieces[0].source) > _corner(arrays.block.pixels)}
        self._borrowers = sorted(loans, key=lambda number: (number not in later, number))
        self._loans = {borrower: arrays.lender(loans[borrower]) for borrower in self._borrowers}
        self.bytes_lent = PIXEL_BYTES * sum(rect.area for rects in loans.values() for rect in rects)
        self._lanes = min(LANES, thread_count(), max(len(self._pieces), len(loans)))
        received = sum(target.nbytes for target in self._targets.values())
        in_threads = self._lanes and received + self.bytes_lent >= _THREADED_BYTES
        self._pool = ThreadPoolExecutor(2 * self._lanes, "margins") if in_threads else None
        self._transfer: Transfer | None = None
        #: Bytes of each owner's frame that have come in this step, and how many staged pieces are written into the block.
        self._received: Mapping[int, int] = {}
        self._written: dict[int, int] = {}

    def begin(self) -> None:
        """Begin a step's exchange, and write the block's own pixels where they are mirrored or wrapped.

        Raises:
            PeerLost: A neighbour has gone.
            Abandoned: The step is given up.
        """
        self._received = dict.fromkeys(self._pieces, 0)
        self._written = dict.fromkeys(self._staged, 0)
        outgoing: Mapping[int, Callable[[], Buffers]] = {borrower: self._loans[borrower]() for borrower in self._borrowers}
        if self._pool is not None:
            self._transfer = self._group.start_exchange(outgoing, self._targets, self._pool, self._lanes)
            self._arrays.fill_own_margin()
            return
        self._arrays.fill_own_margin()
        self._group.exchange({borrower: read() for borrower, read in outgoing.items()}, self._targets)
        self._fill({owner: target.nbytes for owner, target in self._targets.items()})

    def ready_tiles(self, tiles: Sequence[Tile]) -> list[Tile]:
        """Return those of some tiles whose windows are whole, at least one, in their order; wait if there is none.

        Raises:
            PeerLost: A neighbour has gone.
            Abandoned: The step is given up.
        """
        while True:
            if self._transfer is not None:
                self._fill(self._transfer.received())
            missing = {tile: self._missing(tile) for tile in tiles}
            ready = [tile for tile, count in missing.items() if not count]
            if ready:
                return ready
            assert self._transfer is not None, "without threads, all are ready"
            # No tile can be ready before.
            self._transfer.wait(sum(self._received.values()) + min(missing.values()), self._group.check)

    def finish(self) -> None:
        """Wait until the margin is filled, and all that neighbours borrow is sent. Raises as `begin`."""
        if self._transfer is not None:
            self._transfer.finish(self._group.check)
            self._fill(self._transfer.received())
            self._transfer = None

    def close(self) -> None:
        """Give an exchange up that has not ended, and end the threads."""
        if self._transfer is not None:
            self._transfer.cancel()
            self._transfer = None
        if self._pool is not None:
            self._pool.shutdown()

    def _target(self, owner: int) -> FrameTarget:
        """Return what an owner's frame fills: rows of the margin itself, or arrays where that is not possible."""
        pieces = self._pieces[owner]
        size = PIXEL_BYTES * sum(piece.source.area for piece in pieces)
        rows = self._arrays.margin_rows(pieces)
        if rows is None:
            self._staged[owner] = [np.empty((*piece.source.shape, 3), np.float32) for piece in pieces]
            rows = self._staged[owner]
        return FrameTarget(rows, size)

    def _missing(self, tile: Tile) -> int:
        """Return how many bytes are missing, at least, of the owners' frames until a tile's window is whole.

        What has come counts: a need ends where a piece ends, and whole pieces are in the margin.
        """
        return sum(max(0, count - self._received[owner]) for owner, count in self._needs[tile.number].items())

    def _fill(self, received: Mapping[int, int]) -> None:
        """Write what has come and does not lie in the margin already, whole pieces at a time."""
        self._received = received
        for owner, staged in self._staged.items():
            first, last = self._written[owner], bisect_right(self._ends[owner], received[owner])
            if last > first:
                self._arrays.fill_margin_from(self._pieces[owner][first:last], staged[first:last])
                self._written[owner] = last


def _ends(pieces: Sequence[Piece]) -> list[int]:
    """Return how many bytes of an owner's frame there are up to the end of each piece."""
    return list(accumulate(PIXEL_BYTES * piece.source.area for piece in pieces))


def _corner(rect: Rect) -> tuple[int, int]:
    return rect.rows.start, rect.columns.start


def needed_bytes(block: Block, pieces: Mapping[int, Sequence[Piece]]) -> dict[int, dict[int, int]]:
    """Return for each tile's number how much of each owner's frame must be there before its window is whole, bytes.

    Args:
        block: The block.
        pieces: Pieces of the margin that each other owner sends, in the order in which it sends them.
    """
    needs: dict[int, dict[int, int]] = {tile.number: {} for tile in block.tiles()}
    if not pieces:
        return needs
    rows = {row: block.grid.rows.windows_extent(row, row) for row in range(*block.tile_rows)}
    columns = {column: block.grid.columns.windows_extent(column, column) for column in range(*block.tile_columns)}
    for tile in block.tiles():
        extent = Rect(rows[tile.row], columns[tile.column])
        for owner, parts in pieces.items():
            for part, end in zip(parts, _ends(parts), strict=True):
                if part.target.intersect(extent).area:
                    needs[tile.number][owner] = end
    return needs
