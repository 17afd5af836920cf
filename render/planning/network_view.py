"""Part of a network that an octave reads, with its stride and halos. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from render.dreaming.stage import Stage
from render.geometry.geometry import round_up
from render.networks.architecture import Architecture
from render.planning.schedule import Schedule

#: Least short side of an octave, px, for networks that see little.
_MIN_USEFUL_SIDE = 48


@dataclass(frozen=True)
class NetworkView:
    """Part of the network that an octave's objectives read; it ends at their deepest layer.

    Attributes:
        layers: Layers that the objectives read.
        network: The network up to the deepest of them.
        stride: Largest stride of the layers, px.
        exact_halo: Halo with which a tile's gradient is exact, px.
        halo: Halo of the job's tiles, px.
        useful_side: Least short side of an octave at which the layers see enough, px.
    """

    layers: tuple[str, ...]
    network: Architecture
    stride: int
    exact_halo: int
    halo: int
    useful_side: int

    @classmethod
    def of(cls, stage: Stage, schedule: Schedule, architecture: Architecture, halo: int | str) -> NetworkView:
        """Return the view of an octave's objectives.

        Args:
            stage: The octave's settings.
            schedule: The job's objectives.
            architecture: The whole network.
            halo: `exact`, `balanced`, or px.
        """
        layers = tuple(dict.fromkeys(name for number in stage.objectives for name in schedule.objectives[number].layers))
        truncated = architecture.truncated(layers)
        layers_read = [truncated.layer(name) for name in layers]
        stride = max(layer.stride for layer in layers_read)
        field = max(layer.receptive_field for layer in layers_read)
        exact_halo = round_up(field - 1, stride)
        useful_side = max(_MIN_USEFUL_SIDE, 4 * stride, field // 4)
        return cls(layers, truncated, stride, exact_halo, _halo_px(halo, exact_halo, stride), useful_side)


def _halo_px(halo: int | str, exact: int, stride: int) -> int:
    """Return the halo in px: exact, half of it, or a number, in whole strides and never more than exact."""
    if halo == "exact":
        return exact
    if halo == "balanced":
        return round_up(exact // 2, stride)
    return min(exact, round_up(int(halo), stride))
