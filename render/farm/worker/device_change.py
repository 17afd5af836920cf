"""An octave change of a block that is resident on its device: the old canvas becomes detail, the new one is made of it.

The host reads the source's samples in threads, and sends those that a tile depends on, while the device makes the tiles
before. Where the source shrinks, so that a tile depends on many more samples than it has pixels, the host resamples it,
too. Which of the two does it follows from the octave alone, so that every deal of blocks gives the same pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from render.dreaming.device_resample import (
    TileTaps,
    Window,
    complete_window,
    cut_window,
    make_tile,
    subtract_tile,
    tile_shape,
    window_length,
    write_tile,
)
from render.dreaming.resample import Pixels, Samples, axis_taps, taps_per_output
from render.dreaming.resident import zeros
from render.farm.pixel_sources import SourceOfPixels
from render.farm.worker import scratch
from render.farm.worker.block import put
from render.farm.worker.resident_block import ResidentBlock
from render.farm.worker.threads import map_ordered, thread_count
from render.geometry.blocks import Block, Gathering
from render.geometry.geometry import PIXEL_BYTES, AxisMode, Interval, Rect
from render.geometry.source_window import Span

#: Most taps of an output along an axis with which the device resamples the source: those of an axis that does not shrink.
_MOST_TAPS = 6
#: Tiles handed to the device before the oldest is awaited, and at most this many that the host prepares meanwhile.
_IN_FLIGHT, _MOST_AHEAD = 3, 8
#: Sizes of windows between one power of two and the next: those of details are alike in all octaves, those of sources not.
DETAIL_STEPS, SOURCE_STEPS = 4, 1
#: Longer than any tile: lengths of what is read are not limited by one.
_ANY_LENGTH = 1 << 30
#: Most pixels of a strip of an octave change.
_MOST_STRIP_PX = 1 << 25


@runtime_checkable
class SampledSource(Protocol):
    """Source that is resampled from samples: a picture, not noise."""

    def samples(self, shape: tuple[int, int], /) -> Samples:
        """Return the samples of which `at` makes an octave of (rows, columns) px."""


class HostDetail:
    """Detail of a block on the host: (rows, columns, 3) float32, any sign."""

    def __init__(self, pixels: Pixels, rect: Rect) -> None:
        self._pixels = pixels
        self._rect = rect

    def part(self, rect: Rect) -> Pixels:
        """Return the view of a rectangle inside the block."""
        return self._pixels[rect.slices_from(self._rect)]


class DeviceDetail:
    """Detail of a block on its device, where its canvas was."""

    def __init__(self, array: jax.Array, block: Block) -> None:
        self.array = array
        self.block = block

    def part(self, rect: Rect) -> Pixels:
        """Return a copy of a rectangle inside the block.

        A little more is read, because the program that reads is compiled for each size, and pieces of blocks have many.
        """
        padded = self.block.padded
        indices = [
            np.minimum(np.arange(window_length(part.size, _ANY_LENGTH, DETAIL_STEPS)), part.size - 1)
            + (part.start - origin)
            for part, origin in ((rect.rows, padded.rows.start), (rect.columns, padded.columns.start))
        ]
        rows, columns = jax.device_put([positions.astype(np.int32) for positions in indices])
        pixels = jax.device_get(cut_window(self.array, rows, columns))
        return pixels[: rect.rows.size, : rect.columns.size]

    def on_host(self, directory: Path | None) -> HostDetail:
        """Return the detail on the host, in memory or in a scratch file in `directory`."""
        pixels = self.block.pixels
        detail = HostDetail(scratch.empty((*pixels.shape, 3), directory), pixels)
        for rect in pixels.bands():
            detail.part(rect)[...] = self.part(rect)
        return detail


#: Detail wherever it is.
Detail = HostDetail | DeviceDetail


def strip_pixels(block: Block) -> int:
    """Return the most pixels of a strip of the block: a row of tiles."""
    return min(_MOST_STRIP_PX, tile_shape()[0] * block.pixels.columns.size)


def change_bytes(block: Block, detail: Detail | None) -> int:
    """Return the bytes on the device while a block is made: both canvases, and the tiles on the way."""
    held = detail.array.nbytes if isinstance(detail, DeviceDetail) else 0
    rows, columns = tile_shape()
    # Of every tile in flight: itself, and the windows of source and detail, each at most about as large.
    return held + PIXEL_BYTES * block.padded.area + (_IN_FLIGHT + 1) * 4 * PIXEL_BYTES * rows * columns


def fill_with_source(arrays: ResidentBlock, source: SourceOfPixels) -> None:
    """Fill a new block, which has no detail, with the source."""
    tiles = _Tiles(arrays, source)
    for rect, window in tiles.sources(arrays.block.pixels):
        tiles.write(rect, make_tile(window))
    arrays.adopt(tiles.canvas)


def take_detail(arrays: ResidentBlock, source: SourceOfPixels) -> DeviceDetail:
    """Return the detail of a block, canvas minus source: see `exchange.subtract_source`. The block is gone then."""
    shoulder = arrays.assignment.stage.conditioning.shoulder
    tiles = _Tiles(arrays, source, arrays.take_canvas())
    for rect, window in tiles.sources(arrays.block.pixels):
        tile = make_tile(window)
        tiles.canvas = subtract_tile(tiles.canvas, tile, tiles.place(rect), shoulder)
        tiles.note(tile)
    return DeviceDetail(tiles.canvas, arrays.block)


class BlockMaker:
    """A block of a new octave on its way: the source plus the detail of the octave before, strip by strip."""

    def __init__(self, arrays: ResidentBlock, source: SourceOfPixels) -> None:
        """Reserve the canvas on the device, where no pixel is set yet."""
        self._arrays = arrays
        self._tiles = _Tiles(arrays, source)
        self._missing = arrays.block.pixels.area

    def add_strip(
        self,
        strip: Rect,
        detail: Detail | None,
        shape: tuple[int, int],
        needed: Rect,
        gathering: Gathering,
        others: Sequence[list[Pixels]],
    ) -> None:
        """Make the pixels of a strip. With the last strip, the block gets its canvas.

        Args:
            strip: Rectangle inside the block; strips do not overlap.
            detail: This worker's detail, if it owned a block of the octave before.
            shape: (rows, columns) px of the last octave's canvas.
            needed: Rectangle of the last octave's canvas on which the strip depends.
            gathering: Pieces of `needed`.
            others: The other owners' pixels in it.
        """
        windows = _DetailWindows(self._arrays, detail, shape, needed, gathering, others)
        shoulder = self._arrays.assignment.stage.conditioning.shoulder
        for rect, source in self._tiles.sources(strip):
            self._tiles.write(rect, make_tile(source, windows.window(rect), shoulder))
        self._missing -= strip.area
        if not self._missing:
            self._arrays.adopt(self._tiles.canvas)


class _Tiles:
    """Canvas of a block on the device, to which tiles are written, and the source of every tile."""

    def __init__(self, arrays: ResidentBlock, source: SourceOfPixels, canvas: jax.Array | None = None) -> None:
        self._padded = arrays.block.padded
        self._shape = arrays.shape
        self._source = source
        self._samples = _device_samples(source, arrays.shape)
        self._running: deque[jax.Array] = deque()
        self.canvas = zeros((*self._padded.shape, 3)) if canvas is None else canvas

    def sources(self, rect: Rect) -> Iterator[tuple[Rect, Window]]:
        """Yield the tiles of a rectangle of the block, and each one's window of the source on the device."""
        for tile, window in map_ordered(self._window, _tiles_of(rect), min(_MOST_AHEAD, 2 * thread_count())):
            yield tile, jax.device_put(window)

    def place(self, rect: Rect) -> jax.Array:
        """Return the place of a tile in the canvas on the device: see `write_tile`."""
        corner = rect.rows.start - self._padded.rows.start, rect.columns.start - self._padded.columns.start
        return jax.device_put(np.asarray([corner, rect.shape], np.int32))

    def write(self, rect: Rect, tile: jax.Array) -> None:
        """Write a tile to the canvas."""
        self.canvas = write_tile(self.canvas, tile, self.place(rect))
        self.note(tile)

    def note(self, tile: jax.Array) -> None:
        """Note a tile that the device makes, and await the oldest: each one that waits holds memory."""
        self._running.append(tile)
        if len(self._running) > _IN_FLIGHT:
            self._running.popleft().block_until_ready()

    def _window(self, rect: Rect) -> Window:
        """Read the window of the source for a tile; called in threads."""
        shape = tile_shape()
        if self._samples is None:
            return Window(_padded(self._source.at(self._shape, rect), shape), TileTaps.of_itself(shape))
        rows = axis_taps(self._samples.window.rows, self._shape[0], rect.rows)
        columns = axis_taps(self._samples.window.columns, self._shape[1], rect.columns)
        inputs = Rect(rows.inputs, columns.inputs)
        lengths = _lengths(inputs, SOURCE_STEPS)
        return Window(_padded(self._samples.read(inputs), lengths), TileTaps.of(rows, columns, shape))


class _DetailWindows:
    """Windows of the last octave's detail for the tiles of a strip."""

    def __init__(
        self,
        arrays: ResidentBlock,
        detail: Detail | None,
        shape: tuple[int, int],
        needed: Rect,
        gathering: Gathering,
        others: Sequence[list[Pixels]],
    ) -> None:
        self._grid = arrays.block.grid
        self._shape = shape
        self._needed = needed
        self._detail = detail if isinstance(detail, DeviceDetail) else None
        #: Pixels that come from the host; None if all are on the device.
        self._gathered: Pixels | None = None
        from_host = [(pieces, pixels) for (_, pieces), pixels in zip(gathering.others, others, strict=True)]
        if gathering.own and self._detail is None:
            assert detail is not None, "no octave has ended"
            from_host.append((gathering.own, [detail.part(piece.source) for piece in gathering.own]))
        if from_host:
            self._gathered = np.zeros((*needed.shape, 3), np.float32)
            for pieces, pixels in from_host:
                put(self._gathered, needed, pieces, pixels)

    def window(self, rect: Rect) -> Window:
        """Return the window of a tile, with its pixels on the device."""
        rows, columns = (
            axis_taps(Span.whole(old, axis.mode), axis.length, interval)
            for old, axis, interval in zip(
                self._shape, (self._grid.rows, self._grid.columns), (rect.rows, rect.columns), strict=True
            )
        )
        inputs = Rect(rows.inputs, columns.inputs)
        lengths = _lengths(inputs, DETAIL_STEPS)
        taps = jax.device_put(TileTaps.of(rows, columns, tile_shape()))
        others = None
        if self._gathered is not None:
            others = _padded(self._gathered[inputs.slices_from(self._needed)], lengths)
        if self._detail is None:
            return Window(jax.device_put(others), taps)
        block = self._detail.block
        own_rows, row_indices = _own(
            inputs.rows, self._shape[0], self._grid.rows.mode, block.pixels.rows, block.padded.rows.start, lengths[0]
        )
        own_columns, column_indices = _own(
            inputs.columns, self._shape[1], self._grid.columns.mode, block.pixels.columns, block.padded.columns.start,
            lengths[1],
        )  # fmt: skip
        pixels = cut_window(self._detail.array, *jax.device_put((row_indices, column_indices)))
        if others is not None and not (own_rows.all() and own_columns.all()):
            pixels = complete_window(pixels, *jax.device_put((others, own_rows, own_columns)))
        return Window(pixels, taps)


def _own(
    inputs: Interval, length: int, mode: AxisMode, owned: Interval, origin: int, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels of a window along an axis are the block's own, bool, and where in its canvas they are, int32.

    Pixels beyond `inputs` repeat the last.
    """
    positions = np.minimum(np.arange(inputs.start, inputs.start + window), inputs.stop - 1)
    if mode == "wrap":
        positions %= length
    own = (positions >= owned.start) & (positions < owned.stop)
    return own, np.where(own, positions - origin, 0).astype(np.int32)


def _device_samples(source: SourceOfPixels, shape: tuple[int, int]) -> Samples | None:
    """Return the samples of which the device makes a source of (rows, columns) px; None if the host makes it."""
    if not isinstance(source, SampledSource):
        return None
    samples = source.samples(shape)
    spans = samples.window.rows, samples.window.columns
    fits = all(taps_per_output(span, length) <= _MOST_TAPS for span, length in zip(spans, shape, strict=True))
    return samples if fits else None


def _tiles_of(rect: Rect) -> Iterator[Rect]:
    """Yield the tiles of a rectangle, in order; those at its ends may be smaller."""
    rows, columns = tile_shape()
    for top in range(*rect.rows, rows):
        for left in range(*rect.columns, columns):
            yield Rect(
                Interval(top, min(top + rows, rect.rows.stop)), Interval(left, min(left + columns, rect.columns.stop))
            )


def _lengths(inputs: Rect, steps: int) -> tuple[int, int]:
    """Return (rows, columns) of the window for a tile's inputs."""
    rows, columns = tile_shape()
    return window_length(inputs.rows.size, rows, steps), window_length(inputs.columns.size, columns, steps)


def _padded(pixels: Pixels, shape: tuple[int, int]) -> Pixels:
    """Return pixels with zeros after them, (*shape, 3) float32."""
    padded = np.zeros((*shape, 3), np.float32)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return padded
