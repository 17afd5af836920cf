"""Geometry of pixels: intervals and rectangles, boundary maps, the tile grid, windows, blocks and their margins.

All coordinates are canvas coordinates of one octave, in whole pixels, rows before columns, stops exclusive. Coordinates
below 0 or beyond the canvas are pixels of the *extended canvas*; a boundary mode says which canvas pixel each repeats.

Nothing here holds a pixel. Each axis is computed separately, and rectangles are products of two axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal, NamedTuple

AxisMode = Literal["reflect", "wrap"]

#: (rows, columns) behaviour of each boundary mode.
BOUNDARY_MODES: dict[str, tuple[AxisMode, AxisMode]] = {
    "reflect": ("reflect", "reflect"),
    "wrap": ("wrap", "wrap"),
    "wrap_x": ("reflect", "wrap"),
}


#: Most repetitions of a wrapping axis on either side, within the network's view.
MOST_TURNS = 16

#: Pixels of a strip, for work on a block that is too large to be done at once: 24 MB of float32.
BAND = 2_000_000

#: Side of a chunk of a canvas on disk, px: 3 MB each. One writer per chunk: see `chunk_extent`.
CHUNK = 512


def round_up(value: int, multiple: int) -> int:
    """Return the least multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


class Interval(NamedTuple):
    """Half-open range of pixels [start, stop) along one axis."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def intersect(self, other: Interval) -> Interval:
        """Return the common part; its size is 0 if there is none."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))

    def contains(self, other: Interval) -> bool:
        return self.start <= other.start and other.stop <= self.stop

    def shifted(self, by: int) -> Interval:
        """Return this interval moved by `by` px along its axis."""
        return Interval(self.start + by, self.stop + by)

    def slice_from(self, origin: int) -> slice:
        """Return this interval as a slice of an array whose first element lies at `origin`."""
        return slice(self.start - origin, self.stop - origin)


class Rect(NamedTuple):
    """Rectangle of pixels: the product of a row interval and a column interval."""

    rows: Interval
    columns: Interval

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.size, self.columns.size

    @property
    def area(self) -> int:
        return self.rows.size * self.columns.size

    def intersect(self, other: Rect) -> Rect:
        return Rect(self.rows.intersect(other.rows), self.columns.intersect(other.columns))

    def grown(self, by: int) -> Rect:
        """Return this rectangle with `by` px more on every side."""
        return Rect(
            Interval(self.rows.start - by, self.rows.stop + by), Interval(self.columns.start - by, self.columns.stop + by)
        )

    def slices_from(self, origin: Rect) -> tuple[slice, slice]:
        """Return this rectangle as slices of an array that covers `origin`."""
        return self.rows.slice_from(origin.rows.start), self.columns.slice_from(origin.columns.start)

    def bands(self, pixels: int = BAND, multiple: int = 1) -> Iterator[Rect]:
        """Yield strips of at most `pixels`, in order, that cover this rectangle exactly.

        Strips are whole rows if a row fits. They begin at a multiple of `multiple` rows (and columns, if rows are cut)
        from the rectangle's start. They are at least that large, even if that is more than `pixels`.
        """
        if not self.area:
            return
        height = max(1, pixels // self.columns.size // multiple) * multiple
        width = self.columns.size
        if height * width > pixels:
            width = max(1, pixels // height // multiple) * multiple
        for top in range(*self.rows, height):
            for left in range(*self.columns, width):
                yield Rect(
                    Interval(top, min(top + height, self.rows.stop)), Interval(left, min(left + width, self.columns.stop))
                )


def whole(height: int, width: int) -> Rect:
    """Return the rectangle of a whole canvas."""
    return Rect(Interval(0, height), Interval(0, width))


class Run(NamedTuple):
    """Range of extended coordinates whose canvas pixels are consecutive, in the same or in reversed order."""

    target: Interval
    source: Interval
    reversed: bool


def boundary_runs(interval: Interval, length: int, mode: AxisMode) -> Iterator[Run]:
    """Split extended coordinates into runs of canvas pixels.

    `reflect` mirrors without repeating the edge pixel (period 2 * length - 2), `wrap` repeats the canvas (period
    length). The runs come in order and cover `interval` exactly once; every source lies inside [0, length).
    """
    position = interval.start
    period = length if mode == "wrap" else max(1, 2 * length - 2)
    while position < interval.stop:
        phase = position % period
        if phase < length:
            count = min(interval.stop - position, length - phase)
            yield Run(Interval(position, position + count), Interval(phase, phase + count), False)
        else:
            count = min(interval.stop - position, period - phase)
            first = period - phase
            yield Run(Interval(position, position + count), Interval(first - count + 1, first + 1), True)
        position += count


@dataclass(frozen=True)
class Axis:
    """One axis of an octave: the canvas, its tiles, and the windows from which their gradients are computed.

    `halo` and `fill` are in pixels; `stride` is the network's total stride. The extended canvas begins `fill` + jitter
    pixels before the canvas, has the same length for every jitter in [0, stride), and ends at least `fill` beyond the
    canvas.
    """

    length: int
    tile: int
    halo: int
    fill: int
    stride: int
    mode: AxisMode

    @property
    def extended(self) -> int:
        """Length of the extended canvas in px, a multiple of the stride."""
        return round_up(self.length + 2 * self.fill + self.stride - 1, self.stride)

    @property
    def window(self) -> int:
        """Length of every window in px: tile, two halos and room for the phase, at most the extended canvas."""
        return min(round_up(self.core_size + self.stride - 1, self.stride) + 2 * self.halo, self.extended)

    @property
    def core_size(self) -> int:
        """Length of every tile; only the last may be shorter."""
        return min(self.tile, self.length)

    @property
    def tiles(self) -> int:
        return -(-self.length // self.core_size)

    def core(self, index: int) -> Interval:
        """Return the pixels whose gradient tile `index` owns."""
        start = index * self.core_size
        return Interval(start, min(start + self.core_size, self.length))

    def window_of(self, index: int, jitter: int) -> Interval:
        """Return the window of tile `index`, as far left as its halo needs.

        At the ends of the extended canvas it is shifted inwards. Its start is congruent to the extended canvas' start
        modulo the stride. So the network's grid falls on the same pixels in every window, and at a border the network's
        own padding falls where the untiled picture has it.
        """
        origin = -self.fill - jitter
        halo_start = (self.core(index).start - self.halo - origin) // self.stride * self.stride
        start = origin + min(max(halo_start, 0), self.extended - self.window)
        return Interval(start, start + self.window)

    def span_of(self, first: int, last: int) -> Interval:
        """Return all extended coordinates in the windows of tiles `first` to `last` (inclusive) under any jitter."""
        starts = [self.window_of(first, jitter).start for jitter in range(self.stride)]
        stops = [self.window_of(last, jitter).stop for jitter in range(self.stride)]
        return Interval(min(starts), max(stops))


class Tile(NamedTuple):
    """Tile of the grid: its number in tile order (row by row) and its position on each axis."""

    number: int
    row: int
    column: int


@dataclass(frozen=True)
class Grid:
    """Tile grid of one octave, the same for any number of workers."""

    rows: Axis
    columns: Axis

    @property
    def canvas(self) -> Rect:
        return whole(self.rows.length, self.columns.length)

    @property
    def tiles(self) -> int:
        return self.rows.tiles * self.columns.tiles

    @property
    def window_shape(self) -> tuple[int, int]:
        return self.rows.window, self.columns.window

    @property
    def core_shape(self) -> tuple[int, int]:
        return self.rows.core_size, self.columns.core_size

    @property
    def extended_shape(self) -> tuple[int, int]:
        return self.rows.extended, self.columns.extended

    def tile(self, row: int, column: int) -> Tile:
        return Tile(row * self.columns.tiles + column, row, column)

    def core(self, tile: Tile) -> Rect:
        return Rect(self.rows.core(tile.row), self.columns.core(tile.column))

    def window(self, tile: Tile, jitter: tuple[int, int]) -> Rect:
        return Rect(self.rows.window_of(tile.row, jitter[0]), self.columns.window_of(tile.column, jitter[1]))


@dataclass(frozen=True)
class KernelShape:
    """Shape that a kernel is compiled for: window and core, (rows, columns) px."""

    window: tuple[int, int]
    core: tuple[int, int]

    @classmethod
    def of(cls, grid: Grid) -> KernelShape:
        return cls(grid.window_shape, grid.core_shape)

    def offset(self, window: Rect, core: Rect) -> tuple[int, int]:
        """Return the position in a window where the kernel cuts out a full core.

        The cut stays inside the window, so a smaller core, the last of an axis, lies at the end of the cut.
        """
        rows, columns = (
            min(inner.start - outer.start, length - core_length)
            for outer, inner, length, core_length in zip(window, core, self.window, self.core, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class Block:
    """Tiles that one worker owns: a rectangle of the tile grid, [start, stop) on each axis."""

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
        """Return an iterator of `count` of the block's tiles in tile order, from `first` on; fewer if the block ends."""
        return islice(self.tiles(), first, first + count)

    @cached_property
    def pixels(self) -> Rect:
        """The canvas pixels that the block owns."""
        rows, columns = self.grid.rows, self.grid.columns
        return Rect(
            Interval(rows.core(self.tile_rows.start).start, rows.core(self.tile_rows.stop - 1).stop),
            Interval(columns.core(self.tile_columns.start).start, columns.core(self.tile_columns.stop - 1).stop),
        )

    @cached_property
    def padded(self) -> Rect:
        """The block with its margin: every extended pixel that its windows touch under any jitter."""
        return Rect(
            self.grid.rows.span_of(self.tile_rows.start, self.tile_rows.stop - 1),
            self.grid.columns.span_of(self.tile_columns.start, self.tile_columns.stop - 1),
        )


def deal_blocks(grid: Grid, workers: int, arrangement: tuple[int, int] | None = None) -> tuple[Block, ...]:
    """Deal the tile grid to at most `workers` blocks, in the best arrangement of rows and columns of blocks.

    The best arrangement has the fewest tiles on the busiest worker, and of those the shortest perimeter, so that least
    is exchanged. Every tile belongs to exactly one block. With more workers than tiles can use, there are fewer blocks
    than workers.

    Args:
        grid: the tile grid.
        workers: the number of workers, at least 1.
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


class Piece(NamedTuple):
    """Rectangle of extended pixels and the canvas rectangle it repeats, flipped along the axes that say so.

    `owner` is the index of the block that owns the whole of `source`.
    """

    target: Rect
    source: Rect
    flip_rows: bool
    flip_columns: bool
    owner: int


def pieces_of(rect: Rect, blocks: tuple[Block, ...]) -> Iterator[Piece]:
    """Cut a rectangle of extended pixels by the owners of the canvas pixels it repeats.

    The pieces' targets are disjoint and cover `rect` exactly.
    """
    rows_axis, columns_axis = blocks[0].grid.rows, blocks[0].grid.columns
    for rows in boundary_runs(rect.rows, rows_axis.length, rows_axis.mode):
        for columns in boundary_runs(rect.columns, columns_axis.length, columns_axis.mode):
            for owner, block in enumerate(blocks):
                source = Rect(rows.source, columns.source).intersect(block.pixels)
                if source.area:
                    target = Rect(_image_of(rows, source.rows), _image_of(columns, source.columns))
                    yield Piece(target, source, rows.reversed, columns.reversed, owner)


def margin_pieces(block: Block, blocks: tuple[Block, ...]) -> list[Piece]:
    """Return the pieces that a worker must fetch to complete its padded block; its own pixels are left out."""
    return [piece for piece in pieces_of(block.padded, blocks) if piece.target != block.pixels]


@dataclass(frozen=True)
class Gathering:
    """Pieces from which one worker puts a rectangle together: its own pixels, and those of each other owner."""

    own: tuple[Piece, ...]
    others: tuple[tuple[int, tuple[Piece, ...]], ...]

    @classmethod
    def of(cls, pieces: Iterable[Piece], worker: int) -> Gathering:
        by_owner: dict[int, list[Piece]] = {}
        for piece in pieces:
            by_owner.setdefault(piece.owner, []).append(piece)
        own_pieces = by_owner.pop(worker, [])
        return cls(tuple(own_pieces), tuple((owner, tuple(by_owner[owner])) for owner in sorted(by_owner)))

    @property
    def foreign_pixels(self) -> int:
        """Pixels that travel from worker to worker."""
        return sum(piece.source.area for _, pieces in self.others for piece in pieces)


def chunk_extent(pixels: Rect, canvas: Rect, chunk: int) -> Rect:
    """Return the rectangle of a store's chunks that the owner of `pixels` writes.

    Chunks have `chunk` px a side, counted from the canvas' corner. A chunk belongs to the owner of its first pixel, so
    blocks that partition the canvas partition its chunks. The rectangle may be empty, and may reach beyond `pixels` at
    its end.
    """
    return Rect(
        *(
            Interval(round_up(part.start, chunk), max(round_up(part.start, chunk), min(round_up(part.stop, chunk), stop)))
            for part, stop in ((pixels.rows, canvas.rows.stop), (pixels.columns, canvas.columns.stop))
        )
    )


def _image_of(run: Run, part: Interval) -> Interval:
    """Return the extended coordinates at which `part` of a run's source appears."""
    if run.reversed:
        start = run.target.start + run.source.stop - part.stop
    else:
        start = run.target.start + part.start - run.source.start
    return Interval(start, start + part.size)
