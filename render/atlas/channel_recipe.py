"""Recipe for the channels of a layer: all that a worker needs, sent once.

It is imported without JAX, because the driver may not have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from render.config.atlas_schema import AtlasConfig, MacoConfig, TransformsConfig
from render.farm.worker.kernel_recipe import check_arrival
from render.networks.weights import Loaded

if TYPE_CHECKING:
    from render.atlas.visualiser import Visualiser

#: Memory of a picture relative to the size of its activations, about: their gradient keeps them all.
_PER_ACTIVATIONS = 2


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
    method: str = "ascent"
    maco: MacoConfig = field(default_factory=MacoConfig)

    @classmethod
    def of(cls, config: AtlasConfig, layer: str, loaded: Loaded) -> ChannelRecipe:
        """Return the recipe of a config for a layer, or for the classifier."""
        return cls(
            loaded, layer, config.neuron, config.size, config.steps, config.rate, config.transforms, config.seed,
            config.method, config.maco,
        )  # fmt: skip

    @property
    def classifies(self) -> bool:
        """True if classes are drawn, not channels."""
        return self.layer == self.loaded.architecture.classifier

    @property
    def picture_bytes(self) -> int:
        """About how many bytes of a device's memory one picture takes while it is drawn."""
        architecture = self.loaded.architecture
        if not self.classifies:
            architecture = architecture.truncated([self.layer])
        views, side = (self.maco.crops, self.maco.view) if self.method == "maco" else (1, self.size)
        return views * _PER_ACTIVATIONS * architecture.activation_bytes(side, side)

    def make(self, _kernels: object = None) -> Visualiser:
        """Return a visualiser for the layer. Raise `UserError` if the weights arrived damaged."""
        from render.atlas.visualiser import Visualiser

        check_arrival(self.loaded)
        return Visualiser(self)
