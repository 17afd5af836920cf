"""A block that stays in its device's memory while it is stepped.

The host fills it, saves it and changes octaves, as with any other block. In between, the only pixels that come to the host
are loans to other workers, chunks of a checkpoint, and previews.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs
from render.dreaming.programs import GradientArguments
from render.dreaming.resample import Pixels
from render.dreaming.resident import (
    BatchSpec,
    Position,
    apply_update,
    call_bytes,
    compile_gradient,
    cut_windows,
    read_rect,
    store_gradients,
    write_rect,
    zeros,
)
from render.errors import UserError
from render.farm.messages import Assignment, GradientSums
from render.farm.parts import CANVAS
from render.farm.worker.block import BlockArrays, MaskOfPixels, SourceOfPixels, not_finite
from render.geometry.blocks import Block
from render.geometry.geometry import KernelShape, Rect, Tile
from render.planning.plan import size_text
from render.planning.residence import (
    TOTAL_SHARE,
    WINDOWS_SHARE,
    ResidencySettings,
    canvas_bytes,
    estimated_bytes,
    slots_bytes,
    slots_shape,
    source_bytes,
    stepping_bytes,
    suits,
)

#: Calls handed to the device before the oldest is awaited.
_IN_FLIGHT = 3


class ResidentProgram:
    """Program that computes the gradients of a block's tiles on the device, a few at once."""

    def __init__(self, kernel: Kernel, kernel_inputs: KernelInputs, form: BatchSpec) -> None:
        self.form = form
        self.cores = compile_gradient(kernel, kernel_inputs, form)
        self._kernel = kernel
        self._kernel_inputs: KernelInputs | None = None
        self._constants: tuple = ()

    def __call__(
        self,
        kernel_inputs: KernelInputs,
        canvas: jax.Array,
        slots: jax.Array,
        positions: Sequence[Position],
        places: Sequence[np.ndarray],
    ) -> tuple[jax.Array, jax.Array]:
        """Return the slots with the tiles at `positions` filled in, and the tiles' sums: see `store_gradients`.

        `slots` are donated. If there are fewer positions than windows in a call, the last is computed again.
        """
        if kernel_inputs is not self._kernel_inputs:
            self._kernel_inputs = kernel_inputs
            factors = np.asarray(kernel_inputs.factors, np.float32)
            self._constants = jax.device_put((self._kernel.constants(kernel_inputs), factors))
        missing_count = self.form.windows - len(positions)
        padded_positions = np.asarray([*positions, *[positions[-1]] * missing_count], np.int32)
        padded_places, offsets = np.stack([*places, *[places[-1]] * missing_count]), padded_positions[:, 1]
        if self.form.windows == 1:
            padded_places, offsets = padded_places[0], offsets[0]
        device_positions, *arguments = jax.device_put((padded_positions, padded_places, np.ascontiguousarray(offsets)))
        windows = cut_windows(canvas, device_positions, self.form)
        cores = self.cores(GradientArguments(self._kernel.programs.state, windows, None, *self._constants, *arguments))
        return store_gradients(slots, cores, device_positions, self.form)

    def places(self, kernel_inputs: KernelInputs, block: Block, window: Rect, jitter: tuple[int, int]) -> np.ndarray:
        """Return the places of the objective in a window: see `Objective.places`."""
        objective = self._kernel.objectives[kernel_inputs.objective]
        return objective.places(self._kernel.programs.network.architecture, block.grid, window, jitter)


class ResidencyRule:
    """Rule that decides which blocks stay on this process' device."""

    def __init__(self, kernel: Kernel, residence: ResidencySettings, platform: str, memory: int) -> None:
        """Store the device's `platform` and `memory` in bytes, and the `residence` that the config asks for."""
        self._kernel = kernel
        self._residence = residence
        self._platform = platform
        self._memory = memory

    def program(self, assignment: Assignment) -> ResidentProgram | None:
        """Return the program that steps a block on the device, or None if the block stays on the host.

        Raise `UserError` if `farm.worker.resident=true` and it does not fit.
        """
        stage, block, kernel_inputs = assignment.stage, assignment.block, assignment.kernel_inputs[0]
        if not self._residence.is_requested(self._platform) or self._kernel.devices > 1:
            return None
        if not suits(stage, self._kernel.objectives[kernel_inputs.objective]):
            return None
        if self._platform == "cpu" and assignment.directory is not None:
            # A CPU's memory is the host's. Stepping on the host instead would round sums differently.
            raise UserError(
                "farm.worker.resident=true: blocks have outgrown this machine's memory and lie in scratch files: set "
                "farm.worker.resident=auto, or render smaller"
            )
        shape = KernelShape.of(block.grid)
        window_bytes = estimated_bytes(self._kernel.programs.network.architecture, shape.window)
        batch = self._residence.windows_per_call(
            self._platform, shape.window, window_bytes, int(self._memory * WINDOWS_SHARE)
        )
        # Limited by the whole grid, not by the block, so that it does not depend on the number of workers.
        batch = min(batch, block.grid.tiles)
        conditioning = stage.conditioning
        form = BatchSpec(shape, batch, conditioning.normalize, conditioning.luminance_only, conditioning.decorrelate)
        limit = int(self._memory * TOTAL_SHARE)
        # Before compiling: check the memory that is needed in any case.
        canvas, slots, program = canvas_bytes(block), slots_bytes(block), None
        if conditioning.shoulder:
            canvas += source_bytes(block)
        needed = canvas + slots
        if needed <= limit:
            program = ResidentProgram(self._kernel, kernel_inputs, form)
            input_bytes, kernel_bytes = call_bytes(program.cores)
            needed = input_bytes + stepping_bytes(canvas, slots, kernel_bytes)
        if needed <= limit:
            return program
        if self._residence.resident == "auto":
            return None
        raise UserError(
            f"farm.worker.resident=true: a block of {block.pixels.columns.size:,} x {block.pixels.rows.size:,} px needs "
            f"{size_text(needed)} on its device and there are {size_text(limit)}: set more farm.workers, a smaller "
            "tiles.size or farm.worker.batch, or farm.worker.resident=auto"
        )


class ResidentBlock(BlockArrays):
    """Block on the host until its margin is first filled, then on the device until the octave's end."""

    def __init__(
        self,
        assignment: Assignment,
        source: SourceOfPixels,
        masks: Sequence[MaskOfPixels],
        *,
        needs_source: bool,
        program: ResidentProgram,
    ) -> None:
        super().__init__(assignment, source, masks, needs_source=needs_source)
        self._program = program
        self._canvas: jax.Array | None = None
        #: The source under the block, if updates need it.
        self._device_source: jax.Array | None = None
        self._slots: jax.Array | None = None

    @property
    def tiles_at_once(self) -> int:
        """Number of windows that are computed at once."""
        return self._program.form.windows

    @property
    def gradients(self) -> list[Pixels]:
        """The gradient, fetched from the device: (rows, columns, 3) float32 over the block."""
        assert self._slots is not None, "compute_gradient comes first"
        return [jax.device_get(read_rect(self._slots, (0, 0), self.block.pixels.shape))]

    def part(self, rect: Rect, part: str = CANVAS) -> Pixels:
        """Return the pixels as on the host. If the canvas is on the device, they are a copy, only for reading."""
        if self._canvas is None or part != CANVAS:
            return super().part(rect, part)
        return jax.device_get(read_rect(self._canvas, self._corner(rect), rect.shape))

    def window(self, rect: Rect) -> jax.Array:  # type: ignore[override]
        """Return the canvas' pixels in a window as on the host; they stay on the device."""
        return read_rect(self._resident(), self._corner(rect), rect.shape)

    def fill_margin(self, *parts: Sequence[Pixels]) -> None:
        """Fill the margin as on the host; the block's own pixels stay on the device."""
        canvas, margin = self._resident(), self.assignment.margin
        for piece in margin.own:
            pixels = read_rect(
                canvas, self._corner(piece.source), piece.source.shape, (piece.flip_rows, piece.flip_columns)
            )
            canvas = write_rect(canvas, self._corner(piece.target), pixels)
        for (_, pieces), arrays in zip(margin.others, parts, strict=True):
            for piece, values in zip(pieces, arrays, strict=True):
                flipped = values[:: -1 if piece.flip_rows else 1, :: -1 if piece.flip_columns else 1]
                canvas = write_rect(canvas, self._corner(piece.target), np.ascontiguousarray(flipped))
        self._canvas = canvas

    def compute_gradient(self, step: int, jitter: tuple[int, int], tiles: Sequence[Tile]) -> list[GradientSums]:
        """Compute the gradient of some tiles, which stays on the device, and return its sums. Raise `NumericalError`."""
        canvas, kernel_inputs, form = self._resident(), self.assignment.kernel_inputs[0], self._program.form
        if self._slots is None:
            self._slots = zeros((*slots_shape(self.block), 3))
        rows: list[jax.Array] = []
        for first in range(0, len(tiles), form.windows):
            if len(rows) >= _IN_FLIGHT:
                # Do not queue more calls than needed: each waiting call holds memory.
                rows[-_IN_FLIGHT].block_until_ready()
            batch = tiles[first : first + form.windows]
            windows = [self.block.grid.window(tile, jitter) for tile in batch]
            places = [self._program.places(kernel_inputs, self.block, window, jitter) for window in windows]
            positions = [self._position(tile, window) for tile, window in zip(batch, windows, strict=True)]
            self._slots, sums = self._program(kernel_inputs, canvas, self._slots, positions, places)
            rows.append(sums)
        by_row = np.concatenate(jax.device_get(rows)) if rows else np.empty((0, form.sums, 0))
        # Only the last call can have fewer tiles than windows.
        return [self._measured(step, tile, sums) for tile, sums in zip(tiles, by_row, strict=False)]

    def apply_update(self, divisors: Sequence[float]) -> None:
        """Move the block's own pixels along the gradient: see `block_update.apply_update`."""
        assert self._slots is not None, "compute_gradient comes first"
        stage, pixels = self.assignment.stage, self.block.pixels
        scale = jax.device_put(np.float32(stage.step_size / divisors[0]))
        self._canvas = apply_update(
            self._resident(),
            self._slots,
            scale,
            self._corner(pixels),
            pixels.shape,
            self._device_source,
            stage.conditioning.shoulder,
        )

    def forget_gradients(self) -> None:
        """Free the gradients as on the host, and bring the canvas back to the host."""
        self._slots = self._device_source = None
        if self._canvas is not None:
            self.canvas = self._room((*self.block.padded.shape, 3))
            self.block_pixels = self.canvas[self.block.pixels.slices_from(self.block.padded)]
            for rect in self.block.pixels.bands():
                self.block_pixels[rect.slices_from(self.block.pixels)] = self.part(rect)
            self._canvas = None
        super().forget_gradients()

    def _resident(self) -> jax.Array:
        """Return the canvas on the device. Bring it there first if needed, and free the host's."""
        if self._canvas is None:
            canvas = zeros((*self.block.padded.shape, 3))
            for rect in self.block.pixels.bands():
                canvas = write_rect(canvas, self._corner(rect), np.array(super().part(rect)))
            self._canvas = canvas
            del self.canvas, self.block_pixels
            if self.assignment.stage.conditioning.shoulder:
                self._device_source = self._uploaded_source()
        return self._canvas

    def _uploaded_source(self) -> jax.Array:
        """Return the source under the block, on the device."""
        pixels = self.block.pixels
        source = zeros((*pixels.shape, 3))
        for rect in pixels.bands():
            corner = rect.rows.start - pixels.rows.start, rect.columns.start - pixels.columns.start
            source = write_rect(source, corner, np.array(self.own_source(rect)))
        return source

    def _corner(self, rect: Rect) -> tuple[int, int]:
        """Return the first (row, column) of a rectangle in the canvas on the device."""
        return rect.rows.start - self.block.padded.rows.start, rect.columns.start - self.block.padded.columns.start

    def _position(self, tile: Tile, window: Rect) -> Position:
        grid, shape, pixels = self.block.grid, self._program.form.shape, self.block.pixels
        # A device would silently cut another window.
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

    def _measured(self, step: int, tile: Tile, rows: np.ndarray) -> GradientSums:
        # The device summed each short row in float32; sum the rows in float64.
        totals = rows.sum(axis=1, dtype=np.float64)
        if not np.isfinite(totals).all():
            raise not_finite(self.assignment.octave, step, tile)
        return GradientSums(tile.number, 0, (*map(float, totals), float(3 * self.block.grid.core(tile).area)))
