"""What a worker's process needs to draw a layer's channels; sent to it once, and light enough for a driver without JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from render.config.atlas_schema import AtlasConfig, TransformsConfig
from render.farm.worker.kernel_recipe import check_arrival
from render.models.weights import Loaded

if TYPE_CHECKING:
    from render.atlas.visualiser import Visualiser


@dataclass(frozen=True)
class ChannelRecipe:
    """The weights of a network, and how the channels of one of its layers are drawn."""

    loaded: Loaded
    layer: str
    neuron: bool
    size: int
    steps: int
    rate: float
    transforms: TransformsConfig
    seed: int

    @classmethod
    def of(cls, config: AtlasConfig, loaded: Loaded) -> ChannelRecipe:
        """The recipe that a config with a layer asks for."""
        assert config.layer is not None
        return cls(
            loaded, config.layer, config.neuron, config.size, config.steps, config.rate, config.transforms, config.seed
        )

    def make(self, _kernels: object = None) -> Visualiser:
        """What draws them, on a network that stops at the layer. Raises `UserError` for weights broken on their way."""
        from render.atlas.visualiser import Visualiser

        check_arrival(self.loaded)
        return Visualiser(self)
