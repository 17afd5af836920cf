"""A worker: owns one block of the canvas, computes its gradient by windows, and applies the update.

The same class runs in-process for the `inline` executor and in a Ray actor on another machine: what goes in and out of its
methods is plain data (rectangles, numbers, arrays of the pixels asked for). Whatever is as large as the block is worked on
in strips, so that a block may live in a mapped file and be larger than memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from render.canvas.store import CHUNK, CanvasStore
from render.dream.ascent import magnitude, update
from render.dream.resample import Pixels, resample
from render.errors import NumericalError, UserError
from render.farm import scratch
from render.farm.messages import Ascended, Assignment, TileSum
from render.geometry import Block, Gathering, Interval, KernelShape, Piece, Rect, Tile

#: Windows handed to the device before the oldest is awaited.
_IN_FLIGHT = 2


class SourceOfPixels(Protocol):
    """What a worker needs of a `canvas.source.Source`."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """The rectangle of the source resampled to `shape`: (rows, columns, 3) float32 RGB, 0..255."""


class Gradient(Protocol):
    """What a worker needs of a `dream.kernel.Kernel`."""

    def __call__(
        self, shape: KernelShape, window: Pixels, divisors: tuple[float, ...], offset: tuple[int, int]
    ) -> ArrayLike:
        """d(objective)/d(pixel) of the core that begins at `offset` in the window; it need not be awaited yet."""


@dataclass
class _State:
    """A worker's block at one octave. `canvas` covers the padded block; `own` is the view of the block in it."""

    given: Assignment
    canvas: Pixels
    own: Pixels
    gradient: Pixels | None = None

    @classmethod
    def of(cls, given: Assignment) -> _State:
        block = given.block
        canvas = scratch.empty((*block.padded.shape, 3), given.directory)
        return cls(given, canvas, canvas[block.pixels.slices_from(block.padded)])

    @property
    def block(self) -> Block:
        return self.given.block

    @property
    def shape(self) -> tuple[int, int]:
        return self.block.grid.canvas.shape

    def part(self, rect: Rect) -> Pixels:
        """The view of the block's own pixels in a rectangle of the canvas."""
        return self.own[rect.slices_from(self.block.pixels)]


class Worker:
    """Steps one block.

    Methods are called in the conductor's order: begin or load; then, for each step, lend, begin_step, ascend until all
    tiles are done, update.
    """

    def __init__(self, kernel: Gradient, source: SourceOfPixels) -> None:
        self._kernel = kernel
        self._source = source
        self._state: _State | None = None
        #: The block of the octave before, while the next one is being filled: what dreaming added to it.
        self._detail: _State | None = None
        self._bytes_sent = 0

    def begin_octave(self, given: Assignment) -> None:
        """Takes a block of a new octave, filled with the source."""
        # What an interrupted attempt left would cost memory twice.
        self._state = None
        if given.octave == 0:
            self._detail = None
        self._state = state = _State.of(given)
        for rect in given.block.pixels.bands():
            state.part(rect)[...] = self._source.at(state.shape, rect)

    def load(self, path: Path, token: str, given: Assignment) -> None:
        """Takes a block as `begin_octave` does, filled from a stored canvas. Raises `DamagedCheckpoint`."""
        # What an interrupted attempt left would cost memory twice.
        self._state = self._detail = None
        store = CanvasStore(path, token)
        state = _State.of(given)
        for rect in given.block.pixels.bands():
            state.part(rect)[...] = store.read(rect)
        self._state = state

    def end_octave(self) -> None:
        """Turns the canvas into what dreaming added to it, canvas minus source, for the next octave to build on."""
        state = self._current
        state.gradient = None
        for rect in state.block.pixels.bands():
            state.part(rect)[...] -= self._source.at(state.shape, rect)
        self._detail, self._state = state, None

    def read_detail(self, rects: Sequence[Rect]) -> list[Pixels]:
        """What dreaming added at the octave that ended, for rectangles inside the block: float32, any sign."""
        assert self._detail is not None, "no octave has ended"
        detail = self._detail
        return [np.array(detail.part(rect)) for rect in rects]

    def add_detail(
        self, rect: Rect, shape: tuple[int, int], needed: Rect, gathering: Gathering, *parts: list[Pixels]
    ) -> None:
        """Adds the last octave's detail, resampled from `shape`, to `rect` of the block.

        `gathering` says how `needed`, the part of the last octave that `rect` depends on, is put together; `parts` are the
        other owners' pixels in it.
        """
        state = self._current
        gathered = np.empty((*needed.shape, 3), np.float32)
        own = self.read_detail([piece.source for piece in gathering.own]) if gathering.own else []
        _put(gathered, needed, gathering.own, own)
        for (_, pieces), pixels in zip(gathering.others, parts, strict=True):
            _put(gathered, needed, pieces, pixels)
        target = state.part(rect)
        target += resample(
            lambda part: gathered[part.slices_from(needed)],
            shape,
            state.shape,
            rect,
            (state.block.grid.rows.mode, state.block.grid.columns.mode),
        )
        np.clip(target, 0.0, 255.0, out=target)

    def release(self) -> None:
        """Lets the block go."""
        self._state = self._detail = None

    def drop_detail(self) -> None:
        """Lets the octave before go; everybody has what they need of it."""
        self._detail = None

    def read(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Canvas pixels of rectangles inside the block, each (rows, columns, 3) float32, 0..255."""
        state = self._current
        found = [np.array(state.part(rect)) for rect in rects]
        self._bytes_sent += sum(pixels.nbytes for pixels in found)
        return found

    def lend(self) -> list[dict[int, list[Pixels]]]:
        """For each place in the assignment's loans the pixels of all who borrow there, by the borrower's number."""
        loans = self._current.given.loans
        return [{borrower: self.read(rects) for borrower, rects in loan.items()} for loan in loans]

    def update_and_lend(self, scale: float) -> list[dict[int, list[Pixels]] | None]:
        """`update`, then `lend` for the next step: one call instead of two. After the loans None, for the update."""
        self.update(scale)
        return [*self.lend(), None]

    def fill_margin(self, *parts: list[Pixels]) -> None:
        """Writes other owners' pixels, and this block's own where it is mirrored or wrapped, into the margin.

        `parts` are the pixels that `Gathering.others` of the margin names, in that order.
        """
        state = self._current
        margin, padded = state.given.margin, state.block.padded
        _put(state.canvas, padded, margin.own, (state.part(piece.source) for piece in margin.own))
        for (_, pieces), pixels in zip(margin.others, parts, strict=True):
            _put(state.canvas, padded, pieces, pixels)

    def ascend(self, step: int, jitter: tuple[int, int], first: int, count: int) -> Ascended:
        """Computes the gradient of `count` of the block's tiles from the `first` on, in tile order.

        Raises `NumericalError` that names octave, step and tile when a gradient is not finite.
        """
        begun = time.perf_counter()
        state = self._current
        if state.gradient is None:
            state.gradient = scratch.empty(state.own.shape, state.given.directory)
        sums: list[TileSum] = []
        pending: deque[tuple[Tile, Rect, ArrayLike]] = deque()
        for tile in state.block.tiles_from(first, count):
            pending.append(self._start_tile(tile, jitter))
            if len(pending) >= _IN_FLIGHT:
                sums.append(self._finish_tile(step, *pending.popleft()))
        while pending:
            sums.append(self._finish_tile(step, *pending.popleft()))
        return Ascended(tuple(sums), time.perf_counter() - begun)

    def begin_step(self, step: int, jitter: tuple[int, int], count: int, *lent: Mapping[int, list[Pixels]]) -> Ascended:
        """Fills the margin and computes the gradient of the first `count` tiles: one call instead of two.

        `lent` is what the margin's owners, in its order, lend to all borrowers at this worker's place.
        """
        self.fill_margin(*(loan[self._current.given.number] for loan in lent))
        return self.ascend(step, jitter, 0, count)

    def update(self, scale: float) -> None:
        """Canvas += scale * gradient for the block's own pixels."""
        state = self._current
        for rect in state.block.pixels.bands():
            update(state.part(rect), self.gradient[rect.slices_from(state.block.pixels)], scale)

    @property
    def gradient(self) -> Pixels:
        """The block's gradient from the last `ascend`: (rows, columns, 3) float32."""
        assert self._current.gradient is not None, "ascend comes first"
        return self._current.gradient

    def save(self, path: Path, token: str, extent: Rect, gathering: Gathering, *parts: list[Pixels]) -> None:
        """Writes the chunks of `extent` to the stored canvas and waits until they have reached the disk.

        `gathering` and `parts` bring the pixels of `extent` that others own. Raises `UserError` when the disk is full.
        """
        state = self._current
        foreign = [
            (piece.target, pixels)
            for (_, pieces), arrays in zip(gathering.others, parts, strict=True)
            for piece, pixels in zip(pieces, arrays, strict=True)
        ]
        try:
            store = CanvasStore(path, token, mode="r+")
            for rect in extent.bands(multiple=CHUNK):
                pixels = np.empty((*rect.shape, 3), np.float32)
                for piece in gathering.own:
                    part = piece.target.intersect(rect)
                    if part.area:
                        pixels[part.slices_from(rect)] = state.part(part)
                for target, values in foreign:
                    part = target.intersect(rect)
                    if part.area:
                        pixels[part.slices_from(rect)] = values[part.slices_from(target)]
                store.write(rect, pixels)
                store.flush([rect])
        except OSError as error:
            raise UserError(f"checkpoint {path} cannot be written ({error.strerror or error}): free some space") from None

    def thumbnail(self, every: int) -> tuple[Rect, np.ndarray]:
        """The block averaged over squares of `every` px: its rectangle in the small picture, and uint8 RGB.

        A square belongs to the block that holds its first pixel, and averages the part that lies in that block.
        """
        state = self._current
        pixels = state.block.pixels
        inside = Rect(
            *(
                Interval(min(-(-part.start // every) * every, part.stop), part.stop)
                for part in (pixels.rows, pixels.columns)
            )
        )
        small = Rect(*(Interval(-(-part.start // every), -(-part.stop // every)) for part in inside))
        means = np.zeros((*small.shape, 3), np.float32)
        for rect in inside.bands(multiple=every):
            starts = [range(0, part.size, every) for part in rect]
            sums = np.add.reduceat(np.add.reduceat(state.part(rect), starts[0], axis=0), starts[1], axis=1)
            areas = [np.minimum(every, part.size - np.asarray(start)) for part, start in zip(rect, starts, strict=True)]
            top, left = (part.start // every - corner.start for part, corner in zip(rect, small, strict=True))
            means[top : top + len(starts[0]), left : left + len(starts[1])] = (
                sums / (areas[0][:, None] * areas[1][None, :])[..., None]
            )
        return small, np.clip(np.rint(means), 0, 255).astype(np.uint8)

    def bytes_sent(self) -> int:
        """Bytes of canvas pixels that this worker has given out so far."""
        return self._bytes_sent

    def _start_tile(self, tile: Tile, jitter: tuple[int, int]) -> tuple[Tile, Rect, ArrayLike]:
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
        return tile, cut, self._kernel(shape, pixels, state.given.divisors, (rows, columns))

    def _finish_tile(self, step: int, tile: Tile, cut: Rect, result: ArrayLike) -> TileSum:
        state = self._current
        core = state.block.grid.core(tile)
        gradient = np.ascontiguousarray(np.asarray(result)[core.slices_from(cut)])
        total = magnitude(gradient)
        if not np.isfinite(total):
            raise NumericalError(
                f"the gradient is not finite at octave {state.given.octave + 1}, step {step + 1}, tile {tile.number} "
                f"(row {tile.row}, column {tile.column}): lower step_size or the objective's weights"
            )
        self.gradient[core.slices_from(state.block.pixels)] = gradient
        return TileSum(tile.number, total)

    @property
    def _current(self) -> _State:
        assert self._state is not None, "begin_octave comes first"
        return self._state


def _put(target: Pixels, where: Rect, pieces: Iterable[Piece], pixels: Iterable[Pixels]) -> None:
    """Writes each piece's pixels, flipped as it says, into `target`, which covers the extended rectangle `where`."""
    for piece, values in zip(pieces, pixels, strict=True):
        rows = slice(None, None, -1 if piece.flip_rows else 1)
        columns = slice(None, None, -1 if piece.flip_columns else 1)
        target[piece.target.slices_from(where)] = values[rows, columns]
