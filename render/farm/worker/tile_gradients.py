"""Gradients of a block's tiles, computed window by window with the block in the host's memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from render.dreaming.ascent import measure
from render.dreaming.objectives import KernelInputs, Objective
from render.dreaming.resample import Pixels
from render.farm.messages import GradientSums
from render.farm.worker.block import BlockArrays, not_finite
from render.farm.worker.timings import PhaseTimer, timed
from render.geometry.geometry import Interval, KernelShape, Rect, Tile
from render.networks.architecture import Architecture

#: Kernel calls in progress before the oldest is awaited; each has one window for each device.
_IN_FLIGHT = 2


class Gradient(Protocol):
    """The part of `dreaming.kernel.Kernel` that a worker uses."""

    def __call__(
        self,
        shape: KernelShape,
        window: Pixels,
        kernel_inputs: KernelInputs,
        offset: tuple[int, int],
        source: Pixels | None = None,
        places: NDArray[np.int32] | None = None,
        /,
    ) -> ArrayLike:
        """Return d(objective)/d(pixel) of the core that begins at `offset` in the window; may be asynchronous."""

    def batch(
        self,
        shape: KernelShape,
        windows: Sequence[Pixels],
        kernel_inputs: KernelInputs,
        offsets: Sequence[tuple[int, int]],
        sources: Sequence[Pixels] | None,
        places: Sequence[NDArray[np.int32]],
        /,
    ) -> ArrayLike:
        """Compute several windows at once, one for each device, and return an array of results."""

    def gram_products(
        self, window: Pixels, weights: Mapping[str, NDArray[np.float32]], /
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return the weighted sums of products of activations over a window, by layer: (channels, channels) each."""

    def channel_sums(
        self, shape: KernelShape, window: Pixels, window_rect: Rect, core: Rect, layer: str, /
    ) -> NDArray[np.float64]:
        """Return, for every channel of a layer, the sum of the activations whose view is centred in `core`."""


class _Window(NamedTuple):
    """Kernel inputs of a tile and region, and the rectangle that the kernel cuts out of the window."""

    tile: Tile
    region: int
    pixels: Pixels
    offset: tuple[int, int]
    cut: Rect
    #: The source's pixels and the objective's places, if the objective is known.
    objective_inputs: tuple[Any, ...]


class _KernelCall(NamedTuple):
    """A kernel call that is running: its windows, and their result."""

    windows: list[_Window]
    result: ArrayLike


class TileGradients:
    """Computes the gradients of tiles, with a few kernel calls in flight."""

    def __init__(
        self,
        kernel: Gradient,
        objectives: Sequence[Objective],
        architecture: Architecture | None,
        devices: int,
        timer: PhaseTimer,
    ) -> None:
        """Store the settings.

        Args:
            kernel: Computes the gradient of a window.
            objectives: All objectives, to which the kernel's inputs refer by index.
            architecture: The network's architecture; without one or without objectives, the kernel gets neither the
                source nor places.
            devices: Number of windows that the kernel computes at once.
            timer: Counts the seconds of each phase.
        """
        self._kernel = kernel
        self._objectives = tuple(objectives)
        self._architecture = architecture
        self._devices = devices
        self.timer = timer

    def compute(self, arrays: BlockArrays, step: int, jitter: tuple[int, int], tiles: Sequence[Tile]) -> list[GradientSums]:
        """Compute the gradient of some tiles into `arrays.gradients`, and return its sums.

        Raises:
            NumericalError: A gradient is not finite. The error names octave, step and tile.
        """
        sums: list[GradientSums] = []
        running: deque[_KernelCall] = deque()
        # Batches are gathered by region, with one window for each device: a kernel call has one objective.
        batches: dict[int, list[_Window]] = {region: [] for region in range(len(arrays.assignment.stage.regions))}
        for tile in tiles:
            for region, windows in batches.items():
                if not arrays.works_on(region, tile):
                    continue
                windows.append(self._window(arrays, tile, region, jitter))
                if len(windows) == self._devices:
                    running.append(self._start(arrays, windows))
                    batches[region] = []
                    if len(running) >= _IN_FLIGHT:
                        sums += self._finish(arrays, step, running.popleft())
        running += [self._start(arrays, windows) for windows in batches.values() if windows]
        while running:
            sums += self._finish(arrays, step, running.popleft())
        return sums

    def channel_sums(self, arrays: BlockArrays, region: int, term: int, tile: Tile) -> NDArray[np.float64]:
        """Return the sum of every channel of a term's layer over the source's activations in a tile: (channels,)."""
        grid, objective = arrays.block.grid, self._objectives[arrays.assignment.kernel_inputs[region].objective]
        window = grid.window(tile, (0, 0))
        pixels = arrays.source_window(window)
        assert pixels is not None, "the objective looks at no source"
        layer = objective.terms[term].layer
        return self._kernel.channel_sums(KernelShape.of(grid), pixels, window, grid.core(tile), layer)

    @timed("windows")
    def _window(self, arrays: BlockArrays, tile: Tile, region: int, jitter: tuple[int, int]) -> _Window:
        """Cut a tile's window out of the canvas."""
        grid, kernel_inputs = arrays.block.grid, arrays.assignment.kernel_inputs[region]
        shape = KernelShape.of(grid)
        window, core = grid.window(tile, jitter), grid.core(tile)
        pixels = arrays.window(window)
        rows, columns = shape.offset(window, core)
        cut = Rect(
            Interval(window.rows.start + rows, window.rows.start + rows + shape.core[0]),
            Interval(window.columns.start + columns, window.columns.start + columns + shape.core[1]),
        )
        objective_inputs: tuple[Any, ...] = ()
        if self._objectives and self._architecture:
            objective = self._objectives[kernel_inputs.objective]
            source = arrays.source_window(window) if objective.needs_source else None
            objective_inputs = (source, objective.places(self._architecture, grid, window, jitter))
        return _Window(tile, region, pixels, (rows, columns), cut, objective_inputs)

    @timed("kernel")
    def _start(self, arrays: BlockArrays, windows: list[_Window]) -> _KernelCall:
        """Start the kernel on windows of one region."""
        first = windows[0]
        shape, kernel_inputs = KernelShape.of(arrays.block.grid), arrays.assignment.kernel_inputs[first.region]
        if self._devices == 1:
            result = self._kernel(shape, first.pixels, kernel_inputs, first.offset, *first.objective_inputs)
            return _KernelCall(windows, result)
        sources, places = zip(*(window.objective_inputs for window in windows), strict=True)
        result = self._kernel.batch(
            shape,
            [window.pixels for window in windows],
            kernel_inputs,
            [window.offset for window in windows],
            None if sources[0] is None else sources,
            places,
        )
        return _KernelCall(windows, result)

    def _finish(self, arrays: BlockArrays, step: int, call: _KernelCall) -> list[GradientSums]:
        """Wait for a kernel call, and store the gradients of its tiles."""
        with self.timer.phase("kernel"):
            results = np.asarray(call.result)
        if self._devices == 1:
            results = results[None]
        return [self._store(arrays, step, window, result) for window, result in zip(call.windows, results, strict=False)]

    @timed("gradients")
    def _store(self, arrays: BlockArrays, step: int, window: _Window, result: NDArray[np.float32]) -> GradientSums:
        """Store a tile's gradient, and return its sums."""
        tile, region = window.tile, window.region
        core, conditioning = arrays.block.grid.core(tile), arrays.assignment.stage.conditioning
        gradient = conditioning.mix_channels(np.ascontiguousarray(result[core.slices_from(window.cut)]))
        sums = measure(gradient, arrays.mask(region, core), conditioning.normalize)
        if not np.isfinite(sums).all():
            raise not_finite(arrays.assignment.octave, step, tile)
        arrays.gradients[region][core.slices_from(arrays.gradient_rect)] = gradient
        return GradientSums(tile.number, region, sums)
