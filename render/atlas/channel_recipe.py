"""Recipe for the channels of a layer: all that a worker needs, sent once.

It is imported without JAX, because the driver may not have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from render.config.atlas_schema import AtlasConfig, TransformsConfig
from render.farm.worker.kernel_recipe import check_arrival
from render.networks.weights import Loaded

if TYPE_CHECKING:
    from render.atlas.visualiser import Visualiser


@dataclass(frozen=True)
class ChannelRecipe:
    """The weights of a network, and the settings for drawing the channels of one of its layers."""

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
        """Return the recipe for a config that names a layer."""
        assert config.layer is not None
        return cls(
            loaded, config.layer, config.neuron, config.size, config.steps, config.rate, config.transforms, config.seed
        )

    def make(self, _kernels: object = None) -> Visualiser:
        """Return a visualiser for the layer. Raise `UserError` if the weights arrived damaged."""
        from render.atlas.visualiser import Visualiser

        check_arrival(self.loaded)
        return Visualiser(self)
