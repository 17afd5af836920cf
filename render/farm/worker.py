"""A worker: owns one block of the canvas, computes its gradient by windows, and applies the update.

The same class runs in-process for the `inline` executor and is written to live on another machine: what goes in and out of
its methods is plain data (rectangles, numbers, arrays of the pixels asked for).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from render.canvas.source import Source
from render.dream.ascent import magnitude, update
from render.dream.kernel import Kernel, KernelShape
from render.dream.resample import Pixels, resample
from render.errors import NumericalError
from render.geometry import Block, Interval, Piece, Rect, Tile

log = logging.getLogger(__name__)

#: Windows handed to the device before the oldest is awaited.
_IN_FLIGHT = 2


class TileSum(NamedTuple):
    """A tile's share of the canvas' sum of absolute gradients."""

    tile: int
    total: float


@dataclass
class _State:
    """A worker's block at one octave. `canvas` covers the padded block; `own` is the view of the block in it."""

    octave: int
    block: Block
    canvas: Pixels
    own: Pixels
    gradient: Pixels
    source: Pixels
    divisors: tuple[float, ...]


class Worker:
    """Steps one block. Methods are called in the conductor's order: begin, then fill, ascend, update for every step."""

    def __init__(self, kernel: Kernel, source: Source, on_tile: Callable[[int], None] | None = None) -> None:
        """`on_tile` is told the window's pixels after each tile, for progress."""
        self._kernel = kernel
        self._source = source
        self._on_tile = on_tile or (lambda _pixels: None)
        self._state: _State | None = None
        self._detail: tuple[Rect, tuple[int, int], Pixels] | None = None

    def end_octave(self) -> None:
        """Keeps what dreaming added to the block so far, canvas minus source, for the next octave, and drops the rest."""
        state = self._current
        shape = state.block.grid.canvas.shape
        self._detail = (state.block.pixels, shape, state.own - state.source)
        self._state = None

    def read_detail(self, rect: Rect) -> Pixels:
        """What dreaming added at the octave that ended, for a rectangle inside the block: float32, any sign."""
        assert self._detail is not None, "no octave has ended yet"
        pixels, _, detail = self._detail
        return detail[rect.slices_from(pixels)]

    def begin_octave(self, octave: int, block: Block, divisors: tuple[float, ...]) -> None:
        """Takes a block of a new octave, filled with the source."""
        padded, pixels = block.padded, block.pixels
        canvas = np.empty((*padded.shape, 3), np.float32)
        own = canvas[pixels.slices_from(padded)]
        source = self._source.at(block.grid.canvas.shape, pixels)
        own[...] = source
        self._state = _State(octave, block, canvas, own, np.empty_like(source), source, divisors)

    def add_detail(self, shape: tuple[int, int], needed: Rect, pieces: Sequence[Piece], *parts: Pixels) -> None:
        """Adds the last octave's detail, resampled from `shape`; `parts` are the pixels of `pieces` of `needed`."""
        state = self._current
        gathered = np.empty((*needed.shape, 3), np.float32)
        for piece, pixels in zip(pieces, parts, strict=True):
            gathered[piece.target.slices_from(needed)] = pixels
        self._detail = None
        state.own += resample(
            lambda rect: gathered[rect.slices_from(needed)],
            shape,
            state.block.grid.canvas.shape,
            state.block.pixels,
            (state.block.grid.rows.mode, state.block.grid.columns.mode),
        )
        np.clip(state.own, 0.0, 255.0, out=state.own)

    def read(self, rect: Rect) -> Pixels:
        """Canvas pixels of a rectangle inside the block: (rows, columns, 3) float32, 0..255."""
        state = self._current
        return state.own[rect.slices_from(state.block.pixels)]

    def fill_margin(self, pieces: Sequence[Piece], *pixels: Pixels) -> None:
        """Writes other owners' pixels (or this block's own, mirrored or wrapped) into the margin."""
        state = self._current
        for piece, values in zip(pieces, pixels, strict=True):
            rows = slice(None, None, -1 if piece.flip_rows else 1)
            columns = slice(None, None, -1 if piece.flip_columns else 1)
            state.canvas[piece.target.slices_from(state.block.padded)] = values[rows, columns]

    def ascend(self, step: int, jitter: tuple[int, int]) -> list[TileSum]:
        """Computes the block's gradient; returns sum|g| of each tile in tile order.

        Raises `NumericalError` that names octave, step and tile when a gradient is not finite.
        """
        sums: list[TileSum] = []
        pending: deque[tuple[Tile, Rect, jax.Array]] = deque()
        for tile in self._current.block.tiles():
            pending.append(self._start_tile(tile, jitter))
            if len(pending) >= _IN_FLIGHT:
                sums.append(self._finish_tile(step, *pending.popleft()))
        while pending:
            sums.append(self._finish_tile(step, *pending.popleft()))
        return sums

    def update(self, scale: float) -> None:
        """Canvas += scale * gradient for the block's own pixels."""
        update(self._current.own, self._current.gradient, scale)

    @property
    def gradient(self) -> Pixels:
        """The block's gradient from the last `ascend`: (rows, columns, 3) float32."""
        return self._current.gradient

    def thumbnail(self, every: int) -> tuple[Rect, np.ndarray]:
        """The block averaged over squares of `every` px: its rectangle in the small picture, and uint8 RGB."""
        state = self._current
        pixels = state.block.pixels
        # A square belongs to the block that holds its first pixel, and averages the part that lies in that block.
        first = [-(-start // every) * every for start in (pixels.rows.start, pixels.columns.start)]
        inside = state.own[first[0] - pixels.rows.start :, first[1] - pixels.columns.start :]
        counts = [len(range(0, length, every)) for length in inside.shape[:2]]
        sums = np.add.reduceat(np.add.reduceat(inside, range(0, inside.shape[0], every), axis=0),
                               range(0, inside.shape[1], every), axis=1)  # fmt: skip
        areas = [np.minimum(every, length - np.arange(0, length, every)) for length in inside.shape[:2]]
        means = sums / (areas[0][:, None] * areas[1][None, :])[..., None]
        rect = Rect(*(Interval(at // every, at // every + n) for at, n in zip(first, counts, strict=True)))
        return rect, np.clip(np.rint(means), 0, 255).astype(np.uint8)

    def _start_tile(self, tile: Tile, jitter: tuple[int, int]) -> tuple[Tile, Rect, jax.Array]:
        state = self._current
        grid = state.block.grid
        shape = KernelShape.of(grid)
        window, core = grid.window(tile, jitter), grid.core(tile)
        pixels = np.ascontiguousarray(state.canvas[window.slices_from(state.block.padded)])
        # The kernel cuts out a full-size core; a last, smaller tile lies at the end of what it cuts.
        rows = min(core.rows.start - window.rows.start, shape.window[0] - shape.core[0])
        columns = min(core.columns.start - window.columns.start, shape.window[1] - shape.core[1])
        cut = Rect(
            Interval(window.rows.start + rows, window.rows.start + rows + shape.core[0]),
            Interval(window.columns.start + columns, window.columns.start + columns + shape.core[1]),
        )
        return tile, cut, self._kernel(shape, pixels, state.divisors, (rows, columns))

    def _finish_tile(self, step: int, tile: Tile, cut: Rect, result: jax.Array) -> TileSum:
        state = self._current
        core = state.block.grid.core(tile)
        gradient = np.ascontiguousarray(np.asarray(result)[core.slices_from(cut)])
        total = magnitude(gradient)
        if not np.isfinite(total):
            raise NumericalError(
                f"the gradient is not finite at octave {state.octave + 1}, step {step + 1}, tile {tile.number} "
                f"(row {tile.row}, column {tile.column}): lower step_size or the objective's weights"
            )
        state.gradient[core.slices_from(state.block.pixels)] = gradient
        self._on_tile(state.block.grid.window_shape[0] * state.block.grid.window_shape[1])
        return TileSum(tile.number, total)

    @property
    def _current(self) -> _State:
        assert self._state is not None, "begin_octave comes first"
        return self._state
