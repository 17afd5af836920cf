"""A block that stays in its device's memory while it is stepped.

Octaves change there, too: see `device_change`. The only pixels that come to the host are loans to other workers, chunks of
a checkpoint, and previews.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

from render.dreaming.kernel import Kernel
from render.dreaming.resample import Pixels
from render.dreaming.resident import BatchSpec, Position, read_rect, write_rect, zeros
from render.errors import UserError
from render.farm.messages import Assignment, GradientSums, TileSums
from render.farm.parts import CANVAS, moment_index
from render.farm.peers.frames import Buffers
from render.farm.pixel_sources import MaskOfPixels, SourceOfPixels
from render.farm.worker import resident_update
from render.farm.worker.block import BlockArrays, not_finite
from render.farm.worker.device_arrays import DeviceArrays, uploaded
from render.farm.worker.resident_program import RegionArrays, ResidentProgram, TileInput
from render.geometry.blocks import Gathering, Piece
from render.geometry.geometry import PIXEL_BYTES, KernelShape, Rect, Tile
from render.planning.device_memory import estimated_bytes
from render.planning.plan import size_text
from render.planning.residence import (
    TOTAL_SHARE,
    WINDOWS_SHARE,
    ResidencySettings,
    array_bytes,
    slots_ring,
    stepping_bytes,
)

#: Calls handed to the device before the oldest is awaited.
_IN_FLIGHT = 3


class ResidencyRule:
    """Rule that decides which blocks stay on this process' device."""

    def __init__(self, kernel: Kernel, residence: ResidencySettings, platform: str, memory: int) -> None:
        """Store the device's `platform` and `memory` in bytes, and the `residence` that the config asks for."""
        self._kernel = kernel
        self._residence = residence
        self._platform = platform
        self._memory = memory

    def has_room(self, needed: int) -> bool:
        """Return whether the device has room for so many bytes in all."""
        return needed <= int(self._memory * TOTAL_SHARE)

    def program(self, assignment: Assignment) -> ResidentProgram | None:
        """Return the program that steps a block on the device, or None if the block stays on the host.

        Raise `UserError` if `farm.worker.resident=true` and it does not fit.
        """
        stage, block = assignment.stage, assignment.block
        if not self._residence.is_requested(self._platform):
            return None
        if self._platform == "cpu" and assignment.directory is not None:
            # A CPU's memory is the host's. Stepping on the host instead would round sums differently.
            raise UserError(
                "farm.worker.resident=true: blocks have outgrown this machine's memory and lie in scratch files: set "
                "farm.worker.resident=auto, or render smaller"
            )
        form, limit = self._batch(assignment), int(self._memory * TOTAL_SHARE)
        needs_source = any(self._kernel.objectives[inputs.objective].needs_source for inputs in assignment.kernel_inputs)
        # Before compiling: check the memory that is needed in any case.
        needed = array_bytes(block, stage, needs_source=needs_source)
        if needed <= limit:
            program = ResidentProgram(self._kernel, assignment.kernel_inputs, form)
            input_bytes, kernel_bytes = program.call_bytes
            if form.devices > 1:
                # The first device holds the windows and cores of all.
                pixels = sum(rows * columns for rows, columns in (form.shape.window, form.shape.core))
                kernel_bytes += PIXEL_BYTES * form.windows_at_once * pixels
            needed = input_bytes + stepping_bytes(block, stage, kernel_bytes, needs_source=needs_source)
            if needed <= limit:
                return program
        if self._residence.resident == "auto":
            return None
        raise UserError(
            f"farm.worker.resident=true: a block of {block.pixels.columns.size:,} x {block.pixels.rows.size:,} px needs "
            f"{size_text(needed)} on its device and there are {size_text(limit)}: set more farm.workers, a smaller "
            "tiles.size or farm.worker.batch, or farm.worker.resident=auto"
        )

    def _batch(self, assignment: Assignment) -> BatchSpec:
        """Return the windows of a kernel call, and what is done with their gradients."""
        grid, conditioning = assignment.block.grid, assignment.stage.conditioning
        shape, network, devices = KernelShape.of(grid), self._kernel.programs.network, self._kernel.devices
        window_bytes = estimated_bytes(network.architecture, shape.window, network.precision)
        batch = self._residence.windows_per_call(
            self._platform, shape.window, window_bytes, int(self._memory * WINDOWS_SHARE)
        )
        return BatchSpec(
            shape,
            # Limited by the whole grid, not by the block, so that it does not depend on the number of workers.
            min(batch, -(-grid.tiles // devices)),
            conditioning.normalize,
            conditioning.luminance_only,
            conditioning.decorrelate,
            slots_ring(conditioning),
            devices,
        )


class ResidentBlock(BlockArrays):
    """Block on the host while a checkpoint fills it, else on the device until the octave's end."""

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
        #: Everything else on the device, as long as the canvas is there.
        self._device: DeviceArrays | None = None

    @property
    def device(self) -> DeviceArrays:
        """Arrays on the device."""
        assert self._device is not None, "fill_margin comes first"
        return self._device

    @property
    def tiles_at_once(self) -> int:
        """Number of windows that are computed at once."""
        return self._program.form.windows_at_once

    @property
    def gradients(self) -> list[Pixels]:
        """Each region's gradient as on the host, fetched from the device."""
        return resident_update.read_gradient(self, self.device, [self.gradient_rect])

    @property
    def conditioned(self) -> list[Pixels]:
        """Each region's gradient for the update, fetched from the device: (rows, columns, 3) float32 over the block."""
        return [jax.device_get(read_rect(slots, (0, 0), self.block.pixels.shape)) for slots in self.device.conditioned]

    def part(self, rect: Rect, part: str = CANVAS) -> Pixels:
        """Return the pixels as on the host. If the canvas is on the device, they are a copy, only for reading."""
        if self._canvas is None:
            return super().part(rect, part)
        if part == CANVAS:
            return jax.device_get(read_rect(self._canvas, self._corner(rect), rect.shape))
        corner = rect.rows.start - self.block.pixels.rows.start, rect.columns.start - self.block.pixels.columns.start
        return jax.device_get(read_rect(self.device.moments[moment_index(part)], corner, rect.shape))

    def window(self, rect: Rect) -> jax.Array:  # type: ignore[override]
        """Return the canvas' pixels in a window as on the host; they stay on the device."""
        pixels = read_rect(self._resident(), self._corner(rect), rect.shape)
        return self._program.on_all_devices(pixels)

    def fill_own_margin(self) -> None:
        """Write the block's own pixels into the margin as on the host; they stay on the device."""
        canvas = self._resident()
        for piece in self.assignment.margin.own:
            pixels = read_rect(
                canvas, self._corner(piece.source), piece.source.shape, (piece.flip_rows, piece.flip_columns)
            )
            canvas = write_rect(canvas, self._corner(piece.target), pixels)
        self._canvas = canvas

    def fill_margin_from(self, pieces: Sequence[Piece], pixels: Sequence[Pixels]) -> None:
        """Send another owner's pixels to the margin, piece by piece."""
        canvas = self._resident()
        for piece, values in zip(pieces, pixels, strict=True):
            flipped = values[:: -1 if piece.flip_rows else 1, :: -1 if piece.flip_columns else 1]
            canvas = write_rect(canvas, self._corner(piece.target), np.ascontiguousarray(flipped))
        self._canvas = canvas

    def lender(self, rects: Sequence[Rect]) -> Callable[[], Callable[[], Buffers]]:
        """Return a function that begins to copy rectangles to the host: see `BlockArrays.lender`."""

        def begin() -> Callable[[], Buffers]:
            canvas = self._resident()
            # Copies: the canvas is overwritten while margins are filled.
            copies = [read_rect(canvas, self._corner(rect), rect.shape) for rect in rects]
            for copy in copies:
                copy.copy_to_host_async()
            return lambda: [np.ascontiguousarray(pixels) for pixels in jax.device_get(copies)]

        return begin

    def margin_rows(self, pieces: Sequence[Piece]) -> Buffers | None:  # noqa: ARG002
        """Return None: nothing is written to the device directly."""
        return None

    def compute_gradient(self, step: int, jitter: tuple[int, int], tiles: Sequence[Tile]) -> list[GradientSums]:
        """Compute the gradients of some tiles, which stay on the device, and return their sums. Raise `NumericalError`."""
        sums: list[GradientSums] = []
        for region in range(len(self.assignment.stage.regions)):
            worked_on = [tile for tile in tiles if self.works_on(region, tile)]
            by_row = self._compute_region(region, jitter, worked_on)
            # Only the last call can have fewer tiles than windows.
            sums += [
                resident_update.gradient_sums(self, tile, region, rows)
                for tile, rows in zip(worked_on, by_row, strict=False)
            ]
        sums.sort(key=lambda part: part.tile)
        finite = {part.tile: bool(np.isfinite(part.sums).all()) for part in reversed(sums)}
        for tile in tiles:
            if not finite.get(tile.number, True):
                raise not_finite(self.assignment.octave, step, tile)
        return sums

    def _compute_region(self, region: int, jitter: tuple[int, int], tiles: Sequence[Tile]) -> np.ndarray:
        """Compute the gradient of some tiles toward a region's objective, and return the sums of their rows."""
        canvas, kernel_inputs, form = self._resident(), self.assignment.kernel_inputs[region], self._program.form
        device = self.device
        source = device.source if self._program.needs_source(kernel_inputs) else None
        rows: list[jax.Array] = []
        for first in range(0, len(tiles), form.windows_at_once):
            if len(rows) >= _IN_FLIGHT * form.devices:
                # Do not queue more calls than needed: each waiting call holds memory.
                rows[-_IN_FLIGHT * form.devices].block_until_ready()
            inputs = []
            for tile in tiles[first : first + form.windows_at_once]:
                window = self.block.grid.window(tile, jitter)
                places = self._program.places(kernel_inputs, self.block, window, jitter)
                inputs.append(TileInput(self._position(tile, window), places))
            arrays = RegionArrays(canvas, source, device.slots[region], device.masks[region])
            device.slots[region], sums = self._program(region, kernel_inputs, arrays, inputs)
            rows += sums
        return np.concatenate(jax.device_get(rows)) if rows else np.empty((0, form.sums, 0))

    def read_gradient(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Return copies of the gradients of rectangles: see `exchange.read_gradient`."""
        return resident_update.read_gradient(self, self.device, rects)

    def fill_gradient(self, gathering: Gathering, parts: Sequence[list[Pixels]]) -> None:
        """Write the gradient around the block: see `exchange.fill_gradient`."""
        resident_update.fill_gradient(self, self.device, gathering, parts)

    def level_sums(self, first: int, count: int) -> list[TileSums]:
        """Return the energy of every level of the gradient's pyramid: see `block_update.level_sums`."""
        return resident_update.level_sums(self, self.device, first, count)

    def filter_tiles(self, first: int, count: int, gains: Sequence[Sequence[float]]) -> list[GradientSums]:
        """Filter the gradient of some tiles: see `block_update.filter_tiles`."""
        return resident_update.filter_tiles(self, self.device, first, count, gains)

    def apply_update(self, step: int, divisors: Sequence[float]) -> None:
        """Move the block's own pixels along the gradient: see `block_update.apply_update`."""
        self._canvas = resident_update.update(self, self.device, self._resident(), step, divisors)

    def adopt(self, canvas: jax.Array) -> None:
        """Hold a canvas that is on the device, (*padded.shape, 3) float32. Its margin need not be filled."""
        needs_source = any(map(self._program.needs_source, self.assignment.kernel_inputs))
        self._device = uploaded(self, needs_source=needs_source)
        self._canvas = canvas
        self.moments = []
        # The host's, if this block still has them.
        for name in ("canvas", "block_pixels"):
            self.__dict__.pop(name, None)

    def take_canvas(self) -> jax.Array:
        """Return the canvas, which stays on the device, and free all else of the block."""
        canvas = self._resident()
        self._canvas = self._device = None
        self.forget_gradients()
        return canvas

    def _resident(self) -> jax.Array:
        """Return the canvas on the device. Bring it there first if needed, and free the host's."""
        if self._canvas is None:
            canvas = zeros((*self.block.padded.shape, 3))
            for rect in self.block.pixels.bands():
                canvas = write_rect(canvas, self._corner(rect), np.array(super().part(rect)))
            self.adopt(canvas)
        assert self._canvas is not None, "a canvas was adopted"
        return self._canvas

    def _corner(self, rect: Rect) -> tuple[int, int]:
        """Return the first (row, column) of a rectangle in the canvas on the device."""
        return rect.rows.start - self.block.padded.rows.start, rect.columns.start - self.block.padded.columns.start

    def _position(self, tile: Tile, window: Rect) -> Position:
        grid, form, pixels = self.block.grid, self._program.form, self.block.pixels
        # A device would silently cut another window.
        assert window.intersect(self.block.padded) == window, "the window lies beyond the margin"
        core = grid.core(tile)
        ahead = core.rows.start - window.rows.start, core.columns.start - window.columns.start
        offset = form.shape.offset(window, core)
        return Position(
            self._corner(window),
            offset,
            (ahead[0] - offset[0], ahead[1] - offset[1]),
            core.shape,
            (form.ring + core.rows.start - pixels.rows.start, form.ring + core.columns.start - pixels.columns.start),
        )
