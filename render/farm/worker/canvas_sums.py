"""Sums over the whole canvas that textures need, added up tile by tile before each step's gradient.

Windows are smaller than those of gradients, and sums are exact in any order: see `dreaming.gram` and
`dreaming.exact_sums`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from render.dreaming.exact_sums import ExactSums
from render.dreaming.gram import measuring_grid, packed, position_weights
from render.dreaming.objectives import Objective
from render.dreaming.resample import Pixels
from render.errors import NumericalError
from render.farm.messages import CanvasSums
from render.farm.worker.block import BlockArrays
from render.geometry.geometry import Grid, Rect, Tile
from render.networks.architecture import Architecture, Layer


class GramProducts(Protocol):
    """The part of `dreaming.kernel.Kernel` that measures."""

    def gram_products(
        self, window: Pixels, weights: Mapping[str, NDArray[np.float32]], /
    ) -> Mapping[str, NDArray[np.float32]]:
        """Return the weighted sums of products of activations over a window, by layer: (channels, channels) each."""


class CanvasMeasurer:
    """Adds up products of activations over tiles of the canvas, and of textures."""

    def __init__(self, kernel: GramProducts, objectives: Sequence[Objective], architecture: Architecture | None) -> None:
        """Store the parts; nothing is measured yet.

        Args:
            kernel: Measures a window.
            objectives: All objectives, to which the kernel's inputs refer by index.
            architecture: The network's architecture; needed only to measure.
        """
        self._kernel = kernel
        self._objectives = tuple(objectives)
        self._whole_architecture = architecture
        self._sums: dict[tuple[int, str], ExactSums] = {}

    @property
    def _architecture(self) -> Architecture:
        assert self._whole_architecture is not None, "textures need an architecture"
        return self._whole_architecture

    def begin(self) -> None:
        """Forget the sums of the step before."""
        self._sums = {}

    def add(self, arrays: BlockArrays, jitter: tuple[int, int], tiles: Sequence[Tile]) -> None:
        """Add some tiles of the canvas to the sums of every region that needs them.

        Args:
            arrays: The block, with its margin filled.
            jitter: The step's shift of the network's grid, px.
            tiles: Tiles of the block.

        Raises:
            NumericalError: A sum is not finite.
        """
        for region, inputs in enumerate(arrays.assignment.kernel_inputs):
            objective = self._objectives[inputs.objective]
            if not objective.textures:
                continue
            layers = [self._architecture.layer(name) for name in objective.measured_layers]
            grid = measuring_grid(arrays.block.grid, layers)
            for tile in tiles:
                if not arrays.works_on(region, tile):
                    continue
                window, core = grid.window(tile, jitter), grid.core(tile)
                pixels, mask = arrays.window(window), arrays.mask(region, core)
                for layer, sums in self._measure(pixels, window, core, layers, mask).items():
                    self._sums[region, layer] = sums.added_to(self._sums.get((region, layer)))

    def collect(self) -> list[CanvasSums]:
        """Return the sums of all tiles added since `begin`, by region and layer."""
        return [CanvasSums(region, layer, sums) for (region, layer), sums in self._sums.items()]

    def texture_sums(self, canvas: Grid, objective: int, term: int, first: int, count: int) -> ExactSums:
        """Return the sums over some tiles of a texture.

        Args:
            canvas: Grid of the octave.
            objective: Number of the objective.
            term: Number of its term, a `Texture`.
            first: Number of the first tile of the texture's grid.
            count: Most tiles to measure, of which there must be one.
        """
        texture = self._objectives[objective].textures[term]
        layer = self._architecture.layer(texture.layer)
        grid = texture.grid(canvas, layer)
        total: ExactSums | None = None
        for number in range(first, min(first + count, grid.tiles)):
            tile = grid.tile(*divmod(number, grid.columns.tiles))
            window = grid.window(tile, (0, 0))
            sums = self._measure(texture.window(grid, window), window, grid.core(tile), [layer], None)[layer.name]
            total = sums.added_to(total)
        assert total is not None, "there is a tile to measure"
        return total

    def _measure(
        self, pixels: Pixels, window: Rect, core: Rect, layers: Sequence[Layer], mask: NDArray[np.float32] | None
    ) -> dict[str, ExactSums]:
        """Return the sums of a core by layer, with the mask's values of the core as weights."""
        sizes = self._architecture.truncated([layer.name for layer in layers]).output_sizes(*window.shape)
        weights = {layer.name: position_weights(layer, sizes[layer.name], window, core, mask) for layer in layers}
        products = self._kernel.gram_products(pixels, weights)
        try:
            return {name: packed(products[name], float(part.sum(dtype=np.float64))) for name, part in weights.items()}
        except ValueError:
            raise NumericalError(
                f"the activations of {', '.join(weights)} are not finite where the texture is measured: use other weights "
                "or a shallower layer"
            ) from None
