"""Programs that compute the gradients of a block's tiles on the devices of a worker, a few windows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs
from render.dreaming.programs import GradientArguments
from render.dreaming.resident import BatchSpec, Position, call_bytes, compile_gradient, cut_windows, store_gradients
from render.geometry.blocks import Block
from render.geometry.geometry import Rect


class TileInput(NamedTuple):
    """Position of a tile, and the places of the objective in its window: see `Objective.places`."""

    position: Position
    places: np.ndarray


class RegionArrays(NamedTuple):
    """Arrays on the device that the gradient toward a region's objective is computed from and stored in."""

    #: The canvas with its margin, (rows, columns, 3) float32, 0..255.
    canvas: jax.Array
    #: The source under it, if the objective compares with the source.
    source: jax.Array | None
    #: The gradient's slots with their ring, (rows, columns, 3) float32.
    slots: jax.Array
    #: The region's mask over the slots, (rows, columns) float32; None if it is 1.
    mask: jax.Array | None


class ResidentProgram:
    """Programs for the objectives of a block's regions."""

    def __init__(self, kernel: Kernel, kernel_inputs: Sequence[KernelInputs], form: BatchSpec) -> None:
        """Compile the kernels; of `kernel_inputs`, which are by region, the numbers do not matter."""
        self.form = form
        self.cores = [compile_gradient(kernel, inputs, form) for inputs in kernel_inputs]
        self._kernel = kernel
        #: The last inputs of each region, and their numbers on the device.
        self._constants: dict[int, tuple[KernelInputs, tuple]] = {}

    @property
    def call_bytes(self) -> tuple[int, int]:
        """Bytes of a call on each device, of its arguments and of all else: see `resident.call_bytes`."""
        arguments, others = zip(*map(call_bytes, self.cores), strict=True)
        return max(arguments), max(others)

    def __call__(
        self, region: int, kernel_inputs: KernelInputs, arrays: RegionArrays, tiles: Sequence[TileInput]
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Return the slots with some tiles filled in, and the tiles' sums, by device: see `store_gradients`.

        `arrays.slots` are donated. If there are fewer tiles than windows in a call, the last is computed again.
        """
        form = self.form
        padded = [*tiles, *[tiles[-1]] * (form.windows_at_once - len(tiles))]
        positions = np.asarray([tile.position for tile in padded], np.int32)
        batches = positions.reshape(form.devices, form.windows, *positions.shape[1:])
        device_positions = jax.device_put(list(batches))
        constants, factors = self._region_constants(region, kernel_inputs)
        arguments = GradientArguments(
            state=self._kernel.programs.state,
            window=self._windows(arrays.canvas, device_positions),
            source=None if arrays.source is None else self._windows(arrays.source, device_positions),
            constants=constants,
            factors=factors,
            places=self._by_device(np.stack([tile.places for tile in padded])),
            offset=self._by_device(np.ascontiguousarray(positions[:, 1])),
        )
        cores = self.cores[region](arguments)
        slots, sums = arrays.slots, []
        entries = [cores] if form.devices == 1 else self._kernel.programs.devices.gathered(cores)
        for entry, entry_positions in zip(entries, device_positions, strict=True):
            slots, rows = store_gradients(slots, entry, entry_positions, form, arrays.mask)
            sums.append(rows)
        return slots, sums

    def places(self, kernel_inputs: KernelInputs, block: Block, window: Rect, jitter: tuple[int, int]) -> np.ndarray:
        """Return the places of the objective in a window: see `Objective.places`."""
        objective = self._kernel.objectives[kernel_inputs.objective]
        return objective.places(self._kernel.programs.network.architecture, block.grid, window, jitter)

    def needs_source(self, kernel_inputs: KernelInputs) -> bool:
        """Return True if the objective compares windows with the source's."""
        return self._kernel.objectives[kernel_inputs.objective].needs_source

    def on_all_devices(self, pixels: jax.Array) -> jax.Array:
        """Return an array with a copy on each device."""
        copies: jax.Array = self._kernel.programs.devices.replicated(pixels)
        return copies

    def _region_constants(self, region: int, kernel_inputs: KernelInputs) -> tuple:
        """Return the constants and factors of an objective on the devices."""
        last_inputs, constants = self._constants.get(region, (None, ()))
        if last_inputs is not kernel_inputs:
            numbers = (self._kernel.constants(kernel_inputs), np.asarray(kernel_inputs.factors, np.float32))
            devices = self._kernel.programs.devices
            constants = jax.device_put(numbers) if self.form.devices == 1 else devices.replicated(numbers)
            self._constants[region] = kernel_inputs, constants
        return constants

    def _windows(self, array: jax.Array, positions: Sequence[jax.Array]) -> jax.Array:
        """Return the windows of a call, cut on the first device and copied from there to the others."""
        entries = [cut_windows(array, entry_positions, self.form) for entry_positions in positions]
        return entries[0] if self.form.devices == 1 else self._kernel.programs.devices.spread(entries)

    def _by_device(self, values: np.ndarray) -> jax.Array:
        """Return values, one for each window, as the kernel takes them."""
        form = self.form
        windows = () if form.windows == 1 else (form.windows,)
        if form.devices == 1:
            return jax.device_put(values.reshape(*windows, *values.shape[1:]))
        return self._kernel.programs.devices.sharded(values.reshape(form.devices, *windows, *values.shape[1:]))
