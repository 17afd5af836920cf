"""A block that lives in its device's memory while it is stepped.

The host fills it, saves it and changes octaves, as it does any other. In between no pixel comes to the host but those that
are asked for: what others borrow, what a checkpoint writes, what a preview shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from render.dream.kernel import Kernel
from render.dream.objectives import Given
from render.dream.resample import Pixels
from render.dream.resident import (
    Form,
    Position,
    call_bytes,
    compiled_cores,
    kept,
    moved,
    replaced,
    taken,
    windows_of,
    zeros,
)
from render.errors import UserError
from render.farm.messages import Assignment, TileSum
from render.farm.worker.block import CANVAS, BlockArrays, MaskOfPixels, SourceOfPixels, not_finite
from render.geometry.geometry import Block, KernelShape, Rect, Tile
from render.planning.plan import size_text
from render.planning.residence import (
    TOTAL_SHARE,
    WINDOWS_SHARE,
    Residence,
    canvas_bytes,
    estimated_bytes,
    slots_bytes,
    slots_shape,
    stepping_bytes,
    suits,
)

#: Calls handed to the device before the oldest is awaited.
_IN_FLIGHT = 3


class Ascent:
    """What computes the gradients of a block's tiles on the device, a few at once."""

    def __init__(self, kernel: Kernel, given: Given, form: Form) -> None:
        self.form = form
        self.cores = compiled_cores(kernel, given, form)
        self._kernel = kernel
        self._given: Given | None = None
        self._constants: tuple = ()

    def __call__(
        self, given: Given, canvas: jax.Array, slots: jax.Array, positions: Sequence[Position], places: Sequence[np.ndarray]
    ) -> tuple[jax.Array, jax.Array]:
        """The slots with the tiles at `positions` in them, and the tiles' sums: see `dream.resident.kept`.

        `slots` are donated. Where there are fewer positions than windows in a call, the last is computed again.
        """
        if given is not self._given:
            self._given = given
            self._constants = jax.device_put((self._kernel.constants(given), np.asarray(given.divisors, np.float32)))
        missing = self.form.windows - len(positions)
        where = np.asarray([*positions, *[positions[-1]] * missing], np.int32)
        looked_at, offsets = np.stack([*places, *[places[-1]] * missing]), where[:, 1]
        if self.form.windows == 1:
            looked_at, offsets = looked_at[0], offsets[0]
        there, *arguments = jax.device_put((where, looked_at, np.ascontiguousarray(offsets)))
        windows = windows_of(canvas, there, self.form)
        cores = self.cores(self._kernel.programs.state, windows, None, *self._constants, *arguments)
        return kept(slots, cores, there, self.form)

    def places(self, given: Given, block: Block, window: Rect, jitter: tuple[int, int]) -> np.ndarray:
        """See `Objective.places`."""
        objective = self._kernel.objectives[given.objective]
        return objective.places(self._kernel.programs.network.architecture, block.grid, window, jitter)


class Residency:
    """Decides which blocks live on this process' device."""

    def __init__(self, kernel: Kernel, asked: Residence, platform: str, memory: int) -> None:
        """`platform` and `memory`, bytes, are the device's."""
        self._kernel = kernel
        self._asked = asked
        self._platform = platform
        self._memory = memory

    def ascent(self, given: Assignment) -> Ascent | None:
        """What steps a block on the device; None where it is to stay on the host.

        Raises `UserError` where `farm.worker.resident=true` and it does not fit.
        """
        stage, block, toward = given.stage, given.block, given.given[0]
        if not self._asked.asked(self._platform) or self._kernel.devices > 1:
            return None
        if not suits(stage, self._kernel.objectives[toward.objective]):
            return None
        if self._platform == "cpu" and given.directory is not None:
            # A CPU's memory is the host's. Stepped window by window, sums would round otherwise.
            raise UserError(
                "farm.worker.resident=true: blocks have outgrown this machine's memory and lie in scratch files: set "
                "farm.worker.resident=auto, or render smaller"
            )
        shape = KernelShape.of(block.grid)
        each = estimated_bytes(self._kernel.programs.network.architecture, shape.window)
        together = self._asked.together(self._platform, shape.window, each, int(self._memory * WINDOWS_SHARE))
        # Of the whole grid, not of the block: the number of workers has no part in it.
        together = min(together, block.grid.tiles)
        form = Form(shape, together, stage.conditioning.normalize, stage.conditioning.luminance_only)
        limit = int(self._memory * TOTAL_SHARE)
        # Before anything is compiled: what lies there in any case.
        canvas, slots, made = canvas_bytes(block), slots_bytes(block), None
        needed = canvas + slots
        if needed <= limit:
            made = Ascent(self._kernel, toward, form)
            given_bytes, kernel = call_bytes(made.cores)
            needed = given_bytes + stepping_bytes(canvas, slots, kernel)
        if needed <= limit:
            return made
        if self._asked.resident == "auto":
            return None
        raise UserError(
            f"farm.worker.resident=true: a block of {block.pixels.columns.size:,} x {block.pixels.rows.size:,} px needs "
            f"{size_text(needed)} on its device and there are {size_text(limit)}: set more farm.workers, a smaller "
            "tiles.size or farm.worker.batch, or farm.worker.resident=auto"
        )


class ResidentBlock(BlockArrays):
    """A block as the host has it until its margin is first filled, and on the device from there to its octave's end."""

    def __init__(
        self,
        given: Assignment,
        source: SourceOfPixels,
        masks: Sequence[MaskOfPixels],
        *,
        needs_source: bool,
        ascent: Ascent,
    ) -> None:
        super().__init__(given, source, masks, needs_source=needs_source)
        self._ascent = ascent
        self._canvas: jax.Array | None = None
        self._slots: jax.Array | None = None

    @property
    def together(self) -> int:
        """How many windows are computed at once."""
        return self._ascent.form.windows

    @property
    def gradients(self) -> list[Pixels]:
        """The gradient, fetched from the device: (rows, columns, 3) float32 over the block."""
        assert self._slots is not None, "ascend comes first"
        return [jax.device_get(taken(self._slots, (0, 0), self.block.pixels.shape))]

    def part(self, rect: Rect, part: str = CANVAS) -> Pixels:
        """As on the host, but of what lies on the device a copy, for reading."""
        if self._canvas is None or part != CANVAS:
            return super().part(rect, part)
        return jax.device_get(taken(self._canvas, self._corner(rect), rect.shape))

    def fill_margin(self, *parts: Sequence[Pixels]) -> None:
        """As on the host; the block's own pixels stay on the device."""
        canvas, margin = self._resident(), self.given.margin
        for piece in margin.own:
            pixels = taken(canvas, self._corner(piece.source), piece.source.shape, (piece.flip_rows, piece.flip_columns))
            canvas = replaced(canvas, self._corner(piece.target), pixels)
        for (_, pieces), found in zip(margin.others, parts, strict=True):
            for piece, values in zip(pieces, found, strict=True):
                flipped = values[:: -1 if piece.flip_rows else 1, :: -1 if piece.flip_columns else 1]
                canvas = replaced(canvas, self._corner(piece.target), np.ascontiguousarray(flipped))
        self._canvas = canvas

    def ascend(self, step: int, jitter: tuple[int, int], tiles: Sequence[Tile]) -> list[TileSum]:
        """What the gradient of some tiles measures, which stays on the device itself. Raises `NumericalError`."""
        canvas, given, form = self._resident(), self.given.given[0], self._ascent.form
        if self._slots is None:
            self._slots = zeros((*slots_shape(self.block), 3))
        rows: list[jax.Array] = []
        for first in range(0, len(tiles), form.windows):
            if len(rows) >= _IN_FLIGHT:
                # A device that has enough at hand is not handed more: each call that waits holds memory.
                rows[-_IN_FLIGHT].block_until_ready()
            together = tiles[first : first + form.windows]
            windows = [self.block.grid.window(tile, jitter) for tile in together]
            places = [self._ascent.places(given, self.block, window, jitter) for window in windows]
            where = [self._position(tile, window) for tile, window in zip(together, windows, strict=True)]
            self._slots, sums = self._ascent(given, canvas, self._slots, where, places)
            rows.append(sums)
        by_row = np.concatenate(jax.device_get(rows)) if rows else np.empty((0, form.sums, 0))
        # Short calls have more windows than tiles, but only the last is one.
        return [self._measured(step, tile, sums) for tile, sums in zip(tiles, by_row, strict=False)]

    def move(self, statistics: Sequence[float]) -> None:
        """Moves the block's own pixels along the gradient: see `moving.move`."""
        assert self._slots is not None, "ascend comes first"
        scale = jax.device_put(np.float32(self.given.stage.step_size / statistics[0]))
        pixels = self.block.pixels
        self._canvas = moved(self._resident(), self._slots, scale, self._corner(pixels), pixels.shape)

    def forget_gradients(self) -> None:
        """As on the host, to which the canvas comes back."""
        self._slots = None
        if self._canvas is not None:
            self.canvas = self._room((*self.block.padded.shape, 3))
            self.own = self.canvas[self.block.pixels.slices_from(self.block.padded)]
            for rect in self.block.pixels.bands():
                self.own[rect.slices_from(self.block.pixels)] = self.part(rect)
            self._canvas = None
        super().forget_gradients()

    def _resident(self) -> jax.Array:
        """The canvas on the device, brought there where it is not; the host's is let go."""
        if self._canvas is None:
            canvas = zeros((*self.block.padded.shape, 3))
            for rect in self.block.pixels.bands():
                canvas = replaced(canvas, self._corner(rect), np.array(super().part(rect)))
            self._canvas = canvas
            del self.canvas, self.own
        return self._canvas

    def _corner(self, rect: Rect) -> tuple[int, int]:
        """Where a rectangle begins in the canvas on the device."""
        return rect.rows.start - self.block.padded.rows.start, rect.columns.start - self.block.padded.columns.start

    def _position(self, tile: Tile, window: Rect) -> Position:
        grid, shape, pixels = self.block.grid, self._ascent.form.kernel, self.block.pixels
        # A device would cut another window without a word.
        assert window.intersect(self.block.padded) == window, "the window lies beyond the margin"
        core = grid.core(tile)
        ahead = core.rows.start - window.rows.start, core.columns.start - window.columns.start
        offset = shape.offset(window, core)
        return Position(
            self._corner(window),
            offset,
            (ahead[0] - offset[0], ahead[1] - offset[1]),
            core.shape,
            (core.rows.start - pixels.rows.start, core.columns.start - pixels.columns.start),
        )

    def _measured(self, step: int, tile: Tile, rows: np.ndarray) -> TileSum:
        # Rows in float32, which are short, and their sum in float64.
        totals = rows.sum(axis=1, dtype=np.float64)
        if not np.isfinite(totals).all():
            raise not_finite(self.given.octave, step, tile)
        return TileSum(tile.number, 0, (*map(float, totals), float(3 * self.block.grid.core(tile).area)))
