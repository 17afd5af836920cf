"""Arrays of a worker's block at one octave: canvas, gradients, masks, source and optimizer moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels
from render.errors import NumericalError
from render.farm.messages import Assignment
from render.farm.parts import CANVAS, moment_index
from render.farm.peers.frames import Buffers
from render.farm.pixel_sources import MaskOfPixels, SourceOfPixels
from render.farm.worker import scratch
from render.geometry.blocks import Block, Piece, deal_blocks, pieces_of
from render.geometry.geometry import PIXEL_BYTES, Rect, Tile, boundary_runs


class BlockArrays:
    """Arrays of a worker's block. `canvas` covers it with its margin, and `block_pixels` is the view of the block alone."""

    def __init__(
        self, assignment: Assignment, source: SourceOfPixels, masks: Sequence[MaskOfPixels], *, needs_source: bool
    ) -> None:
        """Allocate the canvas, and fill masks and source. With `needs_source`, keep the source under margins, too."""
        self.assignment = assignment
        block, stage = assignment.block, assignment.stage
        self.canvas: Pixels = self._room((*block.padded.shape, 3))
        self.block_pixels: Pixels = self.canvas[block.pixels.slices_from(block.padded)]
        #: Each region's mask, None if it has none.
        self.masks = [self._mask(number, masks) for number in range(len(stage.regions))]
        #: For each region, the numbers of the tiles that it has no part in.
        self.idle = [self._idle(number, masks) for number in range(len(stage.regions))]
        #: The source: under the whole of `canvas`, under `block_pixels` alone, or None if it is not used.
        self.source: Pixels | None = None
        if needs_source:
            self.source = self._padded_source(source)
        elif stage.conditioning.compares:
            self.source = self._room((*block.pixels.shape, 3))
            for rect in block.pixels.bands():
                self.source[rect.slices_from(block.pixels)] = source.at(self.shape, rect)
        self._covers_margin = needs_source
        #: The optimizer's moments, initially zero.
        self.moments = [self._room((*block.pixels.shape, 3)) for _ in range(stage.optimizer.moments)]
        for moment in self.moments:
            for rect in block.pixels.bands():
                moment[rect.slices_from(block.pixels)] = 0
        self._gradients: list[Pixels] = []
        self._filtered: list[Pixels] = []

    @property
    def block(self) -> Block:
        """The tiles that the worker owns."""
        return self.assignment.block

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px of the whole canvas."""
        return self.block.grid.canvas.shape

    @property
    def gradient_rect(self) -> Rect:
        """Rectangle that `gradients` cover: the block grown by the reach of the filter."""
        return self.block.pixels.grown(self.assignment.stage.conditioning.reach)

    @property
    def gradients(self) -> list[Pixels]:
        """Each region's gradient, over `gradient_rect`; 0 in tiles that the region has no part in."""
        if not self._gradients:
            for idle in self.idle:
                gradient = self._room((*self.gradient_rect.shape, 3))
                for tile in self.block.tiles():
                    if tile.number in idle:
                        gradient[self.block.grid.core(tile).slices_from(self.gradient_rect)] = 0
                self._gradients.append(gradient)
        return self._gradients

    @property
    def conditioned(self) -> list[Pixels]:
        """Each region's gradient for the update, over the block alone: filtered, if there is a filter."""
        if not self.assignment.stage.conditioning.filters:
            return [gradient[self.block.pixels.slices_from(self.gradient_rect)] for gradient in self.gradients]
        if not self._filtered:
            self._filtered = [self._room((*self.block.pixels.shape, 3)) for _ in self.assignment.stage.regions]
        return self._filtered

    def fill_margin(self, *parts: Sequence[Pixels]) -> None:
        """Write pixels into the margin: the block's own where it is mirrored or wrapped, and those of other blocks.

        `parts` are the pixels that `Gathering.others` of the margin names, in that order.
        """
        self.fill_own_margin()
        for (_, pieces), pixels in zip(self.assignment.margin.others, parts, strict=True):
            self.fill_margin_from(pieces, pixels)

    def fill_own_margin(self) -> None:
        """Write the block's own pixels into the margin, where it is mirrored or wrapped."""
        own = self.assignment.margin.own
        put(self.canvas, self.block.padded, own, (self.part(piece.source) for piece in own))

    def fill_margin_from(self, pieces: Sequence[Piece], pixels: Sequence[Pixels]) -> None:
        """Write another owner's pixels into the margin, piece by piece."""
        put(self.canvas, self.block.padded, pieces, pixels)

    def lender(self, rects: Sequence[Rect]) -> Callable[[], Callable[[], Buffers]]:
        """Return a function that begins to read rectangles inside the block, and returns one that returns their pixels.

        The latter may be called in another thread, while the block's own pixels do not change. Here both do nothing: the
        buffers are rows of the canvas itself.
        """
        buffers = [row for rect in rects for row in self._rows(rect)]
        return lambda: lambda: buffers

    def margin_rows(self, pieces: Sequence[Piece]) -> Buffers | None:
        """Return the rows of the canvas that pieces of the margin fill; None if they cannot be written there directly."""
        if any(piece.flip_rows or piece.flip_columns for piece in pieces):
            return None
        return [row for piece in pieces for row in self._rows(piece.target)]

    def _rows(self, rect: Rect) -> list[memoryview]:
        """Return the bytes of a rectangle in the canvas: a buffer for each row, or one if it has whole rows."""
        flat, padded = self.canvas.data.cast("B"), self.block.padded
        rows, columns = rect.slices_from(padded)
        pitch = PIXEL_BYTES * padded.columns.size
        if rect.columns == padded.columns:
            return [flat[rows.start * pitch : rows.stop * pitch]]
        first, last = PIXEL_BYTES * columns.start, PIXEL_BYTES * columns.stop
        return [flat[row * pitch + first : row * pitch + last] for row in range(rows.start, rows.stop)]

    def forget_gradients(self) -> None:
        """Free gradients, masks, moments and source; the canvas stays."""
        self._gradients, self._filtered, self.moments, self.masks, self.source = [], [], [], [], None

    def array(self, part: str) -> Pixels:
        """Return the block's own pixels of the canvas, or of a moment, by the part's name in checkpoints."""
        if part == CANVAS:
            return self.block_pixels
        return self.moments[moment_index(part)]

    def part(self, rect: Rect, part: str = CANVAS) -> Pixels:
        """Return the view of the block's own pixels in a rectangle of the canvas."""
        return self.array(part)[rect.slices_from(self.block.pixels)]

    def window(self, rect: Rect) -> Pixels:
        """Return the canvas' pixels in a window, which the margin covers: (rows, columns, 3) float32."""
        return np.ascontiguousarray(self.canvas[rect.slices_from(self.block.padded)])

    def own_source(self, rect: Rect) -> Pixels:
        """Return the source's pixels in a rectangle of the block."""
        assert self.source is not None, "nobody asked for the source"
        return self.source[rect.slices_from(self.block.padded if self._covers_margin else self.block.pixels)]

    def padded_source(self, rect: Rect) -> Pixels:
        """Return the source's pixels in a rectangle of the block with its margin."""
        assert self.source is not None and self._covers_margin, "nobody asked for the source under the margin"
        return self.source[rect.slices_from(self.block.padded)]

    def source_window(self, window: Rect) -> Pixels | None:
        """Return the source's pixels under a window, or None if the kernel does not need them."""
        if self.source is None or not self._covers_margin:
            return None
        return np.ascontiguousarray(self.padded_source(window))

    def mask(self, region: int, rect: Rect) -> NDArray[np.float32] | None:
        """Return a region's mask in a rectangle of the block, or None if it is 1."""
        mask = self.masks[region]
        return None if mask is None else mask[rect.slices_from(self.block.pixels)]

    def works_on(self, region: int, tile: Tile) -> bool:
        """Return True if a region has a part in a tile."""
        return tile.number not in self.idle[region]

    def _room(self, shape: tuple[int, ...]) -> NDArray:
        return scratch.empty(shape, self.assignment.directory)

    def _mask_at(self, number: int, masks: Sequence[MaskOfPixels], rect: Rect) -> NDArray[np.float32]:
        region = self.assignment.stage.regions[number]
        value = np.ones(rect.shape, np.float32)
        for mask in region.masks:
            value *= masks[mask].at(self.shape, rect)
        if region.outside:
            others = np.sum([masks[mask].at(self.shape, rect) for mask in region.outside], axis=0, dtype=np.float32)
            value *= np.float32(1) - np.minimum(others, np.float32(1))
        return value

    def _mask(self, number: int, masks: Sequence[MaskOfPixels]) -> NDArray[np.float32] | None:
        if self.assignment.stage.regions[number].everywhere:
            return None
        mask_array = self._room(self.block.pixels.shape)
        for rect in self.block.pixels.bands():
            mask_array[rect.slices_from(self.block.pixels)] = self._mask_at(number, masks, rect)
        return mask_array

    def _idle(self, number: int, masks: Sequence[MaskOfPixels]) -> frozenset[int]:
        """Return the numbers of the tiles where a region's mask is 0, also within the filter's reach."""
        mask, reach = self.masks[number], self.assignment.stage.conditioning.reach
        if mask is None:
            return frozenset()
        grid, idle = self.block.grid, []
        for tile in self.block.tiles():
            core = grid.core(tile)
            if not mask[core.slices_from(self.block.pixels)].any() and not any(
                self._mask_at(number, masks, band).any()
                for rect in _repeated(core.grown(reach), self.block)
                for band in rect.bands()
            ):
                idle.append(tile.number)
        return frozenset(idle)

    def _padded_source(self, source: SourceOfPixels) -> Pixels:
        pixels = self._room((*self.block.padded.shape, 3))
        everything = deal_blocks(self.block.grid, 1)
        for band in self.block.padded.bands():
            pieces = list(pieces_of(band, everything))
            put(pixels, self.block.padded, pieces, (source.at(self.shape, piece.source) for piece in pieces))
        return pixels


def not_finite(octave: int, step: int, tile: Tile) -> NumericalError:
    """Return the error for a tile's gradient that contains an infinity or a NaN."""
    return NumericalError(
        f"the gradient is not finite at octave {octave + 1}, step {step + 1}, tile {tile.number} "
        f"(row {tile.row}, column {tile.column}): lower step_size or the objective's weights"
    )


def put(target: Pixels, where: Rect, pieces: Iterable[Piece], pixels: Iterable[Pixels]) -> None:
    """Write each piece's pixels, flipped as it says, into `target`, which covers the extended rectangle `where`."""
    for piece, values in zip(pieces, pixels, strict=True):
        rows = slice(None, None, -1 if piece.flip_rows else 1)
        columns = slice(None, None, -1 if piece.flip_columns else 1)
        target[piece.target.slices_from(where)] = values[rows, columns]


def _repeated(rect: Rect, block: Block) -> Iterable[Rect]:
    """Yield the rectangles of the canvas that a rectangle of extended pixels repeats."""
    rows, columns = block.grid.rows, block.grid.columns
    for down in boundary_runs(rect.rows, rows.length, rows.mode):
        for across in boundary_runs(rect.columns, columns.length, columns.mode):
            yield Rect(down.source, across.source)
