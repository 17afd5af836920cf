"""Geometry of pixels: intervals and rectangles, boundary maps, the tile grid and its windows.

All coordinates are canvas coordinates of one octave, in whole pixels, rows before columns, stops exclusive. Coordinates
below 0 or beyond the canvas are pixels of the *extended canvas*; a boundary mode says which canvas pixel each repeats.

Nothing here holds a pixel. Each axis is computed separately, and rectangles are products of two axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

#: Behaviour of an axis at the canvas' ends: mirrored without the edge pixel, or repeated.
AxisMode = Literal["reflect", "wrap"]

#: (rows, columns) behaviour of each boundary mode.
BOUNDARY_MODES: dict[str, tuple[AxisMode, AxisMode]] = {
    "reflect": ("reflect", "reflect"),
    "wrap": ("wrap", "wrap"),
    "wrap_x": ("reflect", "wrap"),
}


#: Most repetitions of a wrapping axis on either side, within the network's receptive field.
MOST_TURNS = 16

#: Bytes of a pixel of a canvas or a gradient: three channels of float32.
PIXEL_BYTES = 12

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
        """Number of pixels."""
        return self.stop - self.start

    def intersect(self, other: Interval) -> Interval:
        """Return the common part; its size is 0 if there is none."""
        start = max(self.start, other.start)
        return Interval(start, max(start, min(self.stop, other.stop)))

    def contains(self, other: Interval) -> bool:
        """Return True if every pixel of the other interval is in this one."""
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
        """(rows, columns) px."""
        return self.rows.size, self.columns.size

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.rows.size * self.columns.size

    def intersect(self, other: Rect) -> Rect:
        """Return the common part; its area is 0 if there is none."""
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

        Args:
            pixels: Most pixels of a strip.
            multiple: Unit of the strips' sides, px.
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
    """Range of extended coordinates whose canvas pixels are consecutive."""

    #: The extended coordinates.
    target: Interval
    #: The canvas pixels that they repeat.
    source: Interval
    #: True if the pixels come in reversed order.
    reversed: bool


def boundary_runs(interval: Interval, length: int, mode: AxisMode) -> Iterator[Run]:
    """Split extended coordinates into runs of canvas pixels.

    `reflect` mirrors without repeating the edge pixel (period 2 * length - 2), `wrap` repeats the canvas (period
    length). The runs come in order and cover `interval` exactly once; every source lies inside [0, length).

    Args:
        interval: Extended coordinates, px.
        length: Length of the canvas along the axis, px.
        mode: Behaviour of the axis at the canvas' ends.
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
    """One axis of an octave: the canvas, its tiles, and the windows of their gradients.

    The extended canvas begins `fill` + jitter pixels before the canvas, has the same length for every jitter in
    [0, stride), and ends at least `fill` beyond the canvas.

    Attributes:
        length: Length of the canvas, px.
        tile: Length of a tile, px.
        halo: Pixels around a tile that its gradient depends on, on either side.
        fill: Pixels of the extended canvas beyond the canvas, on either side.
        stride: The network's total stride, px.
        mode: Behaviour at the canvas' ends.
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
        """Length of every window in px: tile, two halos and room for the phase.

        It is at most that of the extended canvas.
        """
        return min(round_up(self.core_size + self.stride - 1, self.stride) + 2 * self.halo, self.extended)

    @property
    def core_size(self) -> int:
        """Length of every tile; only the last may be shorter."""
        return min(self.tile, self.length)

    @property
    def tiles(self) -> int:
        """Number of tiles along the axis."""
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

        Args:
            index: Index of the tile along the axis.
            jitter: The step's shift, px, in [0, stride).
        """
        origin = -self.fill - jitter
        halo_start = (self.core(index).start - self.halo - origin) // self.stride * self.stride
        start = origin + min(max(halo_start, 0), self.extended - self.window)
        return Interval(start, start + self.window)

    def windows_extent(self, first: int, last: int) -> Interval:
        """Return the extended coordinates in the windows of some tiles under any jitter.

        Args:
            first: Index of the first tile along the axis.
            last: Index of the last tile, included.
        """
        starts = [self.window_of(first, jitter).start for jitter in range(self.stride)]
        stops = [self.window_of(last, jitter).stop for jitter in range(self.stride)]
        return Interval(min(starts), max(stops))


class Tile(NamedTuple):
    """Tile of the grid."""

    #: Number in tile order: row by row.
    number: int
    #: Index along the rows' axis.
    row: int
    #: Index along the columns' axis.
    column: int


@dataclass(frozen=True)
class Grid:
    """Tile grid of one octave, the same for any number of workers."""

    rows: Axis
    columns: Axis

    @property
    def canvas(self) -> Rect:
        """Rectangle of the whole canvas, px."""
        return whole(self.rows.length, self.columns.length)

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.rows.tiles * self.columns.tiles

    @property
    def window_shape(self) -> tuple[int, int]:
        """(rows, columns) of every window, px."""
        return self.rows.window, self.columns.window

    @property
    def core_shape(self) -> tuple[int, int]:
        """(rows, columns) of every tile but the last of an axis, px."""
        return self.rows.core_size, self.columns.core_size

    @property
    def extended_shape(self) -> tuple[int, int]:
        """(rows, columns) of the extended canvas, px."""
        return self.rows.extended, self.columns.extended

    def tile(self, row: int, column: int) -> Tile:
        """Return the tile at a row and column of the grid."""
        return Tile(row * self.columns.tiles + column, row, column)

    def core(self, tile: Tile) -> Rect:
        """Return the pixels whose gradient a tile owns."""
        return Rect(self.rows.core(tile.row), self.columns.core(tile.column))

    def window(self, tile: Tile, jitter: tuple[int, int]) -> Rect:
        """Return a tile's window, in extended coordinates, under a shift of (rows, columns) px."""
        return Rect(self.rows.window_of(tile.row, jitter[0]), self.columns.window_of(tile.column, jitter[1]))


@dataclass(frozen=True)
class KernelShape:
    """Shape that a kernel is compiled for: window and core, (rows, columns) px."""

    window: tuple[int, int]
    core: tuple[int, int]

    @classmethod
    def of(cls, grid: Grid) -> KernelShape:
        """Return the shape of all tiles of a grid."""
        return cls(grid.window_shape, grid.core_shape)

    def offset(self, window: Rect, core: Rect) -> tuple[int, int]:
        """Return the position in a window where the kernel cuts out a full core.

        The cut stays inside the window, so a smaller core, the last of an axis, lies at the end of the cut.

        Args:
            window: Position of the window, px.
            core: Position of the tile's core, px.

        Returns:
            (rows, columns) from the window's start, px.
        """
        rows, columns = (
            min(inner.start - outer.start, length - core_length)
            for outer, inner, length, core_length in zip(window, core, self.window, self.core, strict=True)
        )
        return rows, columns
