"""Where pixels live: intervals and rectangles, boundary maps, the tile grid, windows, blocks and their margins.

All coordinates are canvas coordinates of one octave, in whole pixels, rows before columns, stops exclusive. Coordinates
below 0 or beyond the canvas name pixels of the *extended canvas*; a boundary mode says which canvas pixel each repeats.

Nothing here holds a pixel. One axis is worked out at a time and rectangles are products of two axes.
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


#: How often a wrapping axis may be repeated on either side, within the network's view.
MOST_TURNS = 16

#: Pixels worked on at once where a whole block would be too much: 24 MB of float32.
BAND = 2_000_000

#: Side of a chunk of a canvas on disk, px: 3 MB each. One writer per chunk: see `chunk_extent`.
CHUNK = 512


def round_up(value: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


class Interval(NamedTuple):
    """Half-open range of pixels [start, stop) along one axis."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def intersect(self, other: Interval) -> Interval:
        """The common part; its size is 0 where there is none."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))

    def contains(self, other: Interval) -> bool:
        return self.start <= other.start and other.stop <= self.stop

    def shifted(self, by: int) -> Interval:
        """This interval moved along its axis."""
        return Interval(self.start + by, self.stop + by)

    def slice_from(self, origin: int) -> slice:
        """This interval as a slice of an array whose first element lies at `origin`."""
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
        """This rectangle with `by` px more on every side."""
        return Rect(
            Interval(self.rows.start - by, self.rows.stop + by), Interval(self.columns.start - by, self.columns.stop + by)
        )

    def slices_from(self, origin: Rect) -> tuple[slice, slice]:
        """This rectangle as slices of an array that covers `origin`."""
        return self.rows.slice_from(origin.rows.start), self.columns.slice_from(origin.columns.start)

    def bands(self, pixels: int = BAND, multiple: int = 1) -> Iterator[Rect]:
        """This rectangle cut into strips of at most `pixels`, in order; the strips cover it exactly.

        Strips are of whole rows where a row fits. They begin a multiple of `multiple` rows (and columns, where rows are
        cut) after the rectangle does, and are at least that large even where that is more than `pixels`.
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
    """The rectangle of a whole canvas."""
    return Rect(Interval(0, height), Interval(0, width))


class Run(NamedTuple):
    """A stretch of extended coordinates whose canvas pixels are consecutive, in the same or in reversed order."""

    target: Interval
    source: Interval
    reversed: bool


def boundary_runs(interval: Interval, length: int, mode: AxisMode) -> Iterator[Run]:
    """Splits extended coordinates into runs of canvas pixels.

    `reflect` mirrors without repeating the edge pixel (period 2 * length - 2), `wrap` repeats the canvas (period length).
    The runs come in order and cover `interval` exactly once; every source lies inside [0, length).
    """
    at = interval.start
    period = length if mode == "wrap" else max(1, 2 * length - 2)
    while at < interval.stop:
        phase = at % period
        if phase < length:
            count = min(interval.stop - at, length - phase)
            yield Run(Interval(at, at + count), Interval(phase, phase + count), False)
        else:
            count = min(interval.stop - at, period - phase)
            first = period - phase
            yield Run(Interval(at, at + count), Interval(first - count + 1, first + 1), True)
        at += count


@dataclass(frozen=True)
class Axis:
    """One axis of an octave: the canvas, its tiles, and the windows from which their gradients come.

    `halo` and `fill` count pixels; `stride` is the network's total stride. The extended canvas begins `fill` + jitter
    pixels before the canvas, has a fixed length for every jitter in [0, stride), and ends at least `fill` beyond it.
    """

    length: int
    tile: int
    halo: int
    fill: int
    stride: int
    mode: AxisMode

    @property
    def extended(self) -> int:
        """Length of the extended canvas, a multiple of the stride, px."""
        return round_up(self.length + 2 * self.fill + self.stride - 1, self.stride)

    @property
    def window(self) -> int:
        """Length of every window of this octave, px: tile, two halos and room for the phase, or all there is."""
        return min(round_up(self.core_size + self.stride - 1, self.stride) + 2 * self.halo, self.extended)

    @property
    def core_size(self) -> int:
        """Length of every tile but the last, which may be shorter."""
        return min(self.tile, self.length)

    @property
    def tiles(self) -> int:
        return -(-self.length // self.core_size)

    def core(self, index: int) -> Interval:
        """The pixels whose gradient tile `index` owns."""
        start = index * self.core_size
        return Interval(start, min(start + self.core_size, self.length))

    def window_of(self, index: int, jitter: int) -> Interval:
        """The window of tile `index`: as far left as its halo asks, shifted inwards at the extended canvas' ends.

        Its start is congruent to the extended canvas' modulo the stride, so the network's grid falls on the same pixels
        in every window, and at a border the network's own padding falls where the untiled picture has it.
        """
        origin = -self.fill - jitter
        wanted = (self.core(index).start - self.halo - origin) // self.stride * self.stride
        start = origin + min(max(wanted, 0), self.extended - self.window)
        return Interval(start, start + self.window)

    def span_of(self, first: int, last: int) -> Interval:
        """All extended coordinates that the windows of tiles `first` to `last` (inclusive) touch under any jitter."""
        starts = [self.window_of(first, jitter).start for jitter in range(self.stride)]
        stops = [self.window_of(last, jitter).stop for jitter in range(self.stride)]
        return Interval(min(starts), max(stops))


class Tile(NamedTuple):
    """A tile of the grid: its number in tile order (row by row) and its position on each axis."""

    number: int
    row: int
    column: int


@dataclass(frozen=True)
class Grid:
    """The fixed tile grid of one octave, the same for any number of workers."""

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
    """What a compilation is for: window and core, (rows, columns) px."""

    window: tuple[int, int]
    core: tuple[int, int]

    @classmethod
    def of(cls, grid: Grid) -> KernelShape:
        return cls(grid.window_shape, grid.core_shape)

    def offset(self, window: Rect, core: Rect) -> tuple[int, int]:
        """Where in a window the kernel cuts out a full core, so that it fits: a last, smaller core lies at its end."""
        rows, columns = (
            min(inner.start - outer.start, length - cut)
            for outer, inner, length, cut in zip(window, core, self.window, self.core, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class Block:
    """The tiles that one worker owns: a rectangle of the tile grid, [start, stop) on each axis."""

    grid: Grid
    tile_rows: Interval
    tile_columns: Interval

    def tiles(self) -> Iterator[Tile]:
        """The block's tiles in tile order."""
        for row in range(*self.tile_rows):
            for column in range(*self.tile_columns):
                yield self.grid.tile(row, column)

    @property
    def size(self) -> int:
        """How many tiles the block has."""
        return self.tile_rows.size * self.tile_columns.size

    def tiles_from(self, first: int, count: int) -> Iterator[Tile]:
        """`count` of the block's tiles in tile order, from the `first` on; fewer where the block ends."""
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
    """Deals the tile grid to at most `workers` blocks, in the arrangement of rows and columns of blocks that suits best.

    The best has the fewest tiles on the busiest worker, and of those the shortest perimeter: the least to exchange.
    Every tile belongs to exactly one block. With more workers than tiles can use, there are fewer blocks than workers.
    `arrangement` asks for (rows, columns) of blocks instead, if there are workers for so many.
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
        # Most work on one worker decides the step's time; then the shortest perimeter, the least exchanged.
        cost = (tallest * widest, height + width, down)
        if best is None or cost < best[0]:
            best = (cost, down, across)
    assert best is not None
    return best[1:]


def _split(count: int, parts: int) -> list[Interval]:
    """`count` items in `parts` consecutive runs whose sizes differ by at most one."""
    cuts = [count * part // parts for part in range(parts + 1)]
    return [Interval(start, stop) for start, stop in zip(cuts, cuts[1:], strict=False)]


class Piece(NamedTuple):
    """A rectangle of extended pixels and the canvas rectangle it repeats, flipped along the axes that say so.

    `owner` is the index of the block that owns the whole of `source`.
    """

    target: Rect
    source: Rect
    flip_rows: bool
    flip_columns: bool
    owner: int


def pieces_of(rect: Rect, blocks: tuple[Block, ...]) -> Iterator[Piece]:
    """Cuts a rectangle of extended pixels by who owns the canvas pixels it repeats.

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
    """What a worker must fetch, from whom, so that its padded block is complete; its own pixels are left out."""
    return [piece for piece in pieces_of(block.padded, blocks) if piece.target != block.pixels]


@dataclass(frozen=True)
class Gathering:
    """How one worker puts a rectangle together: pieces of its own pixels, and of others', owner by owner."""

    own: tuple[Piece, ...]
    others: tuple[tuple[int, tuple[Piece, ...]], ...]

    @classmethod
    def of(cls, pieces: Iterable[Piece], worker: int) -> Gathering:
        by_owner: dict[int, list[Piece]] = {}
        for piece in pieces:
            by_owner.setdefault(piece.owner, []).append(piece)
        own = by_owner.pop(worker, [])
        return cls(tuple(own), tuple((owner, tuple(by_owner[owner])) for owner in sorted(by_owner)))

    @property
    def foreign_pixels(self) -> int:
        """Pixels that travel from worker to worker."""
        return sum(piece.source.area for _, pieces in self.others for piece in pieces)


def chunk_extent(pixels: Rect, canvas: Rect, chunk: int) -> Rect:
    """The chunks of a store, `chunk` px a side from the canvas' corner, that the owner of `pixels` writes: a rectangle.

    A chunk belongs to the owner of its first pixel, so blocks that partition the canvas partition its chunks. The
    extent may be empty, and may reach beyond `pixels` at its end.
    """
    return Rect(
        *(
            Interval(round_up(part.start, chunk), max(round_up(part.start, chunk), min(round_up(part.stop, chunk), stop)))
            for part, stop in ((pixels.rows, canvas.rows.stop), (pixels.columns, canvas.columns.stop))
        )
    )


def _image_of(run: Run, part: Interval) -> Interval:
    """The extended coordinates at which `part` of a run's source appears."""
    if run.reversed:
        start = run.target.start + run.source.stop - part.stop
    else:
        start = run.target.start + part.start - run.source.start
    return Interval(start, start + part.size)
