"""Kernel of a job: takes a window and the number of an objective, returns the gradient of its tile's core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from render.dreaming.gram import centred_in
from render.dreaming.objectives import MOST_COPIES, KernelInputs, Objective
from render.dreaming.programs import GradientArguments, Programs
from render.dreaming.term_base import TrainedModel, Vector, mean_vector
from render.geometry.geometry import PIXEL_BYTES, Grid, KernelShape, Rect
from render.networks.weights import Loaded


class Kernel:
    """Kernel for the gradients of a job's objectives on one network."""

    def __init__(self, programs: Programs, objectives: Sequence[Objective], loaded: Loaded) -> None:
        """Store the parts; nothing is compiled yet.

        Args:
            programs: Programs of the network, up to the deepest layer that the objectives read.
            objectives: The job's objectives; `KernelInputs.objective` is an index into them.
            loaded: The whole model, with its classifier if it has one.
        """
        self.programs = programs
        self.objectives = tuple(objectives)
        self._model = TrainedModel(
            architecture=loaded.architecture, parameters=loaded.parameters, activations=self._activations
        )
        self._constants: dict[int, list[tuple[jax.Array, ...]]] = {}
        #: The last inputs of each objective, and its constants with them put in.
        self._filled: dict[int, tuple[KernelInputs, list[tuple[jax.Array, ...]]]] = {}

    @property
    def devices(self) -> int:
        """Number of windows in a batch: one for each device."""
        return self.programs.devices.count

    def memory(self, shape: KernelShape, objective: int = 0) -> int:
        """Return the bytes that one call needs on each device beyond the weights.

        They are those of XLA's analysis of the executable, and of its pixels.

        Args:
            shape: Shapes of window and core.
            objective: Index of the objective.
        """
        target = self.objectives[objective]
        memory = self.programs.gradient_memory(target, self._constants_of(objective), shape)
        windows = 2 if target.needs_source else 1
        pixels = PIXEL_BYTES * windows * shape.window[0] * shape.window[1]
        return memory.temporary + memory.output + pixels

    def compile_state(self, shape: KernelShape, objective: int = 0) -> tuple[bool, float | None]:
        """Return whether the kernel of a shape need not be compiled, and the seconds that it takes; None if not known.

        Args:
            shape: Shapes of window and core.
            objective: Index of the objective.
        """
        return self.programs.gradient_state(self.objectives[objective], self._constants_of(objective), shape)

    def prepare(self, grid: Grid, kernel_inputs: KernelInputs) -> None:
        """Load or compile the programs that steps of an octave need, without calling them.

        Args:
            grid: Tile grid of the octave.
            kernel_inputs: The objective; its numbers do not matter.
        """
        objective = self.objectives[kernel_inputs.objective]
        self.programs.gradient(objective, self._constants_of(kernel_inputs.objective), KernelShape.of(grid))
        measuring_grid = objective.measuring_grid(self.programs.network.architecture, grid)
        if measuring_grid is not None:
            self.programs.grams(objective.measured_layers, measuring_grid.window_shape)

    def __call__(
        self,
        shape: KernelShape,
        window: np.ndarray,
        kernel_inputs: KernelInputs,
        offset: tuple[int, int],
        source: np.ndarray | None = None,
        places: NDArray[np.int32] | None = None,
    ) -> jax.Array:
        """Return d(objective)/d(pixel) of a window's core, not yet awaited.

        Args:
            shape: Shapes of window and core.
            window: (*shape.window, 3) float32 RGB, 0..255.
            kernel_inputs: The objective and its numbers.
            offset: Row and column in the window at which the core begins; clamped so that the core fits.
            source: The source's pixels under the window, for objectives that need them.
            places: Result of `Objective.places`; None if no term looks at a place.

        Returns:
            (*shape.core, 3) float32.
        """
        objective = self.objectives[kernel_inputs.objective]
        if places is None:
            places = np.full((len(objective.terms), 2, MOST_COPIES), -1, np.int32)
        if self.devices > 1:
            sources = None if source is None else [source]
            return self.batch(shape, [window], kernel_inputs, [offset], sources, [places])[0]
        return self._call(shape, kernel_inputs, window, source, places, np.asarray(offset, np.int32))

    def batch(
        self,
        shape: KernelShape,
        windows: Sequence[np.ndarray],
        kernel_inputs: KernelInputs,
        offsets: Sequence[tuple[int, int]],
        sources: Sequence[np.ndarray] | None,
        places: Sequence[NDArray[np.int32]],
    ) -> jax.Array:
        """Return the gradients of some windows, at most one for each device.

        Args:
            shape: Shapes of window and core.
            windows: Pixels of each window, as for a call.
            kernel_inputs: The objective and its numbers, the same for all windows.
            offsets: Position of each window's core.
            sources: The source's pixels under each window, for objectives that need them.
            places: Result of `Objective.places` for each window.

        Returns:
            (devices, *shape.core, 3) float32, not yet awaited. Entries beyond the number of windows mean nothing.
        """
        batch = self.programs.devices.batch
        offset_array = batch([np.asarray(offset, np.int32) for offset in offsets])
        source_batch = None if sources is None else batch(sources)
        return self._call(shape, kernel_inputs, batch(windows), source_batch, batch(places), offset_array)

    def _call(
        self,
        shape: KernelShape,
        kernel_inputs: KernelInputs,
        window: np.ndarray,
        source: np.ndarray | None,
        places: NDArray[np.int32],
        offset: NDArray[np.int32],
    ) -> jax.Array:
        objective = self.objectives[kernel_inputs.objective]
        constants = self.constants(kernel_inputs)
        arguments = GradientArguments(
            state=self.programs.state,
            window=window,
            source=source if objective.needs_source else None,
            constants=constants,
            factors=np.asarray(kernel_inputs.factors, np.float32),
            places=places,
            offset=offset,
        )
        return self.programs.gradient(objective, constants, shape)(arguments)

    def constants(self, kernel_inputs: KernelInputs) -> list[tuple[jax.Array, ...]]:
        """Return the constants of each term of an objective, with the chosen channels and the matrices put in."""
        filled_inputs, filled = self._filled.get(kernel_inputs.objective, (None, []))
        if filled_inputs is kernel_inputs:
            return filled
        filled = list(self._constants_of(kernel_inputs.objective))
        for number, channels in kernel_inputs.chosen.items():
            filled[number] = (jnp.asarray(mean_vector(channels, filled[number][0].size)),)
        for number, matrix in kernel_inputs.matrices.items():
            filled[number] = self.programs.devices.replicated((jnp.asarray(matrix),))
        self._filled[kernel_inputs.objective] = (kernel_inputs, filled)
        return filled

    def channel_sums(
        self, shape: KernelShape, window: np.ndarray, window_rect: Rect, core: Rect, layer: str
    ) -> NDArray[np.float64]:
        """Return each channel's sum over the activations of a layer that are centred in a core.

        Args:
            shape: Shapes of window and core.
            window: (*shape.window, 3) float32 RGB, 0..255.
            window_rect: Position of the window on the canvas, px.
            core: Rectangle of the canvas to sum over, px.
            layer: Name of the layer.

        Returns:
            (channels,) float64, of sums in float32.
        """
        architecture = self.programs.network.architecture
        sizes, fields = architecture.output_sizes(*shape.window)[layer], architecture.layer(layer).axis_fields
        axis_weights = []
        for field, window_side, core_side, size in zip(fields, window_rect, core, sizes, strict=True):
            weights = np.zeros(size, np.float32)
            weights[centred_in(field, window_side, core_side, size)[0]] = 1.0
            axis_weights.append(weights)
        return np.asarray(self.programs.sums(layer, shape)(self.programs.state, window, *axis_weights), np.float64)

    def gram_products(
        self, window: np.ndarray | jax.Array, weights: Mapping[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the sums over a window's positions of weight * activation * activation, for some layers.

        Args:
            window: (rows, columns, 3) float32 RGB, 0..255.
            weights: Weight of each position, (rows, columns) float32, by layer: see `gram.position_weights`.

        Returns:
            (channels, channels) float32 by layer.
        """
        layers = tuple(weights)
        program = self.programs.grams(layers, (window.shape[0], window.shape[1]))
        products = program(self.programs.state, window, tuple(weights.values()))
        return dict(zip(layers, map(np.asarray, products), strict=True))

    def measure_empty(self, objective: int, window: np.ndarray) -> None:
        """Measure a window for an objective's sums over the canvas without counting any position, to time it."""
        layers = self.objectives[objective].measured_layers
        sizes = self.programs.network.architecture.output_sizes(window.shape[0], window.shape[1])
        self.gram_products(window, {layer: np.zeros(sizes[layer], np.float32) for layer in layers})

    def _constants_of(self, number: int) -> list[tuple[jax.Array, ...]]:
        if number not in self._constants:
            self._constants[number] = self.programs.devices.replicated(
                [tuple(map(jnp.asarray, term.constants(self._model))) for term in self.objectives[number].terms]
            )
        return self._constants[number]

    def _activations(self, pixels: Vector, layer: str) -> Vector:
        height, width = pixels.shape[:2]
        return np.asarray(self.programs.activations(layer, (height, width))(self.programs.state, pixels))
