"""Blocks of tiles, which workers own: how they are dealt, their margins, and their chunks of a store.

Nothing here holds a pixel. Coordinates are those of `render.geometry.geometry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import NamedTuple

from render.geometry.geometry import Grid, Interval, Rect, Run, Tile, boundary_runs, round_up

#: Most places at which a piece of a margin is cut for the sake of tiles.
_MOST_CUTS = 4


@dataclass(frozen=True)
class Block:
    """Tiles that one worker owns: a rectangle of the tile grid.

    Attributes:
        grid: The octave's grid.
        tile_rows: Indices of the rows of tiles.
        tile_columns: Indices of the columns of tiles.
    """

    grid: Grid
    tile_rows: Interval
    tile_columns: Interval

    def tiles(self) -> Iterator[Tile]:
        """Yield the block's tiles in tile order."""
        for row in range(*self.tile_rows):
            for column in range(*self.tile_columns):
                yield self.grid.tile(row, column)

    @property
    def size(self) -> int:
        """Number of tiles in the block."""
        return self.tile_rows.size * self.tile_columns.size

    def tiles_from(self, first: int, count: int) -> Iterator[Tile]:
        """Return an iterator of some of the block's tiles in tile order.

        Args:
            first: Number of tiles to skip.
            count: Most tiles to return; there are fewer if the block ends.
        """
        return islice(self.tiles(), first, first + count)

    @cached_property
    def pixels(self) -> Rect:
        """Canvas pixels that the block owns."""
        rows, columns = self.grid.rows, self.grid.columns
        return Rect(
            Interval(rows.core(self.tile_rows.start).start, rows.core(self.tile_rows.stop - 1).stop),
            Interval(columns.core(self.tile_columns.start).start, columns.core(self.tile_columns.stop - 1).stop),
        )

    @cached_property
    def padded(self) -> Rect:
        """The block with its margin: every extended pixel that its windows touch under any jitter."""
        return Rect(
            self.grid.rows.windows_extent(self.tile_rows.start, self.tile_rows.stop - 1),
            self.grid.columns.windows_extent(self.tile_columns.start, self.tile_columns.stop - 1),
        )


def deal_blocks(grid: Grid, workers: int, arrangement: tuple[int, int] | None = None) -> tuple[Block, ...]:
    """Return the tile grid dealt to at most `workers` blocks, in the best arrangement.

    Blocks lie in rows and columns. The best arrangement has the fewest tiles on the busiest worker, and of those the
    shortest perimeter, so that least is exchanged. Every tile belongs to exactly one block. With more workers than tiles
    can use, there are fewer blocks than workers.

    Args:
        grid: The tile grid.
        workers: The number of workers, at least 1.
        arrangement: (rows, columns) of blocks to use instead of the best, if there are enough workers.

    Raises:
        ValueError: `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"cannot deal tiles to {workers} workers")
    if arrangement and arrangement[0] * arrangement[1] > workers:
        arrangement = None
    down, across = arrangement or _arrange(grid, workers)
    return tuple(
        Block(grid, rows, columns)
        for rows in _split(grid.rows.tiles, min(down, grid.rows.tiles))
        for columns in _split(grid.columns.tiles, min(across, grid.columns.tiles))
    )


def _arrange(grid: Grid, workers: int) -> tuple[int, int]:
    """Return the best (rows, columns) of blocks."""
    best: tuple[tuple[int, int, int], int, int] | None = None
    for down in range(1, min(workers, grid.rows.tiles) + 1):
        across = min(workers // down, grid.columns.tiles)
        tallest, widest = -(-grid.rows.tiles // down), -(-grid.columns.tiles // across)
        height, width = tallest * grid.rows.core_size, widest * grid.columns.core_size
        # The busiest worker decides the step's time; of equals, the shortest perimeter exchanges least.
        cost = (tallest * widest, height + width, down)
        if best is None or cost < best[0]:
            best = (cost, down, across)
    assert best is not None
    return best[1:]


def _split(count: int, parts: int) -> list[Interval]:
    """Return `count` items as `parts` consecutive runs whose sizes differ by at most one."""
    cuts = [count * part // parts for part in range(parts + 1)]
    return [Interval(start, stop) for start, stop in zip(cuts, cuts[1:], strict=False)]


def node_order(blocks: Sequence[Block], per_node: int) -> list[int]:
    """Return the indices of blocks in an order in which the blocks of each machine lie close to each other.

    Every `per_node` consecutive ones are those of a machine. Of all rectangles of that many blocks, the shape is taken that
    leaves the least border between machines, so that least crosses the network.

    Args:
        blocks: All blocks of a grid, as `deal_blocks` returns them.
        per_node: Number of workers on each machine.
    """
    across = sum(block.tile_rows == blocks[0].tile_rows for block in blocks)
    orders = [
        sorted(range(len(blocks)), key=lambda i: (i // across // down, i % across // (per_node // down), i // across, i))
        for down in range(1, per_node + 1)
        if per_node % down == 0
    ]
    return min(orders, key=lambda order: _border_between(blocks, across, order, per_node))


def _border_between(blocks: Sequence[Block], across: int, order: Sequence[int], per_node: int) -> int:
    """Return the length of the borders between blocks of different machines, px."""
    nodes = {index: position // per_node for position, index in enumerate(order)}
    border = 0
    for index, block in enumerate(blocks):
        if (index + 1) % across and nodes[index] != nodes[index + 1]:
            border += block.pixels.rows.size
        if index + across < len(blocks) and nodes[index] != nodes[index + across]:
            border += block.pixels.columns.size
    return border


class Piece(NamedTuple):
    """Rectangle of extended pixels, and the canvas rectangle that it repeats."""

    #: The extended pixels.
    target: Rect
    #: The canvas pixels, of the same shape.
    source: Rect
    #: True if the rows come in reversed order.
    flip_rows: bool
    #: True if the columns come in reversed order.
    flip_columns: bool
    #: Index of the block that owns the whole of `source`.
    owner: int


def pieces_of(rect: Rect, blocks: tuple[Block, ...]) -> Iterator[Piece]:
    """Cut a rectangle of extended pixels by the owners of the canvas pixels it repeats.

    The pieces' targets are disjoint and cover `rect` exactly.

    Args:
        rect: Rectangle of extended pixels.
        blocks: All blocks of the grid.
    """
    rows_axis, columns_axis = blocks[0].grid.rows, blocks[0].grid.columns
    for rows in boundary_runs(rect.rows, rows_axis.length, rows_axis.mode):
        for columns in boundary_runs(rect.columns, columns_axis.length, columns_axis.mode):
            for owner, block in enumerate(blocks):
                source = Rect(rows.source, columns.source).intersect(block.pixels)
                if source.area:
                    target = Rect(_target_of(rows, source.rows), _target_of(columns, source.columns))
                    yield Piece(target, source, rows.reversed, columns.reversed, owner)


def margin_pieces(block: Block, blocks: tuple[Block, ...]) -> list[Piece]:
    """Return the pieces that a worker needs to complete its padded block.

    They include the block's own pixels where a border mirrors or repeats them, and leave out the block itself.

    Args:
        block: The worker's block.
        blocks: All blocks of the grid.
    """
    return [piece for piece in pieces_of(block.padded, blocks) if piece.target != block.pixels]


def cut_by_tiles(block: Block, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Cut pieces of a block's margin where its tiles need no more of them, in the order of tiles.

    So a tile's window can be filled before all of an owner's pixels have come. Pieces above and below the block are cut
    from left to right, the others from top to bottom, each into a few.

    Args:
        block: The block.
        pieces: Pieces of its margin.
    """
    rows, columns = block.grid.rows, block.grid.columns
    row_stops = [rows.windows_extent(index, index).stop for index in range(*block.tile_rows)]
    column_stops = [columns.windows_extent(index, index).stop for index in range(*block.tile_columns)]
    for piece in pieces:
        target, source = piece.target, piece.source
        if target.rows.intersect(block.pixels.rows).size:
            for part in _cut(target.rows, row_stops):
                lent = _lent(target.rows, source.rows, part, flip=piece.flip_rows)
                yield piece._replace(target=Rect(part, target.columns), source=Rect(lent, source.columns))
        else:
            for part in _cut(target.columns, column_stops):
                lent = _lent(target.columns, source.columns, part, flip=piece.flip_columns)
                yield piece._replace(target=Rect(target.rows, part), source=Rect(source.rows, lent))


def _cut(interval: Interval, stops: Sequence[int]) -> list[Interval]:
    """Return an interval cut at some of the stops that lie inside of it."""
    inside = sorted({stop for stop in stops if interval.start < stop < interval.stop})
    inside = inside[:: -(-len(inside) // _MOST_CUTS) or 1]
    return [Interval(start, stop) for start, stop in pairwise([interval.start, *inside, interval.stop])]


def _lent(target: Interval, source: Interval, part: Interval, *, flip: bool) -> Interval:
    """Return the part of a source that a part of its target repeats."""
    if flip:
        return Interval(source.stop - (part.stop - target.start), source.stop - (part.start - target.start))
    return part.shifted(source.start - target.start)


@dataclass(frozen=True)
class Gathering:
    """Pieces from which one worker puts a rectangle together.

    Attributes:
        own: Pieces of the worker's own pixels.
        others: For each other owner, in order, its index and its pieces.
    """

    own: tuple[Piece, ...]
    others: tuple[tuple[int, tuple[Piece, ...]], ...]

    @classmethod
    def of(cls, pieces: Iterable[Piece], worker: int) -> Gathering:
        """Return the pieces by owner, for the worker whose block has the index `worker`."""
        by_owner: dict[int, list[Piece]] = {}
        for piece in pieces:
            by_owner.setdefault(piece.owner, []).append(piece)
        own_pieces = by_owner.pop(worker, [])
        return cls(tuple(own_pieces), tuple((owner, tuple(by_owner[owner])) for owner in sorted(by_owner)))

    @property
    def foreign_pixels(self) -> int:
        """Number of pixels that travel from worker to worker."""
        return sum(piece.source.area for _, pieces in self.others for piece in pieces)


def chunk_extent(pixels: Rect, canvas: Rect, chunk: int) -> Rect:
    """Return the rectangle of a store's chunks that the owner of `pixels` writes.

    Chunks have `chunk` px a side, counted from the canvas' corner. A chunk belongs to the owner of its first pixel, so
    blocks that partition the canvas partition its chunks. The rectangle may be empty, and may reach beyond `pixels` at
    its end.

    Args:
        pixels: Pixels of a block.
        canvas: Rectangle of the whole canvas.
        chunk: Side of a chunk, px.
    """
    return Rect(
        *(
            Interval(round_up(part.start, chunk), max(round_up(part.start, chunk), min(round_up(part.stop, chunk), stop)))
            for part, stop in ((pixels.rows, canvas.rows.stop), (pixels.columns, canvas.columns.stop))
        )
    )


def _target_of(run: Run, part: Interval) -> Interval:
    """Return the extended coordinates at which `part` of a run's source appears."""
    if run.reversed:
        start = run.target.start + run.source.stop - part.stop
    else:
        start = run.target.start + part.start - run.source.start
    return Interval(start, start + part.size)
