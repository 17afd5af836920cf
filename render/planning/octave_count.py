"""Number of octaves that suits a picture and what a network sees. Pure."""

from __future__ import annotations

import math

from render.networks.architecture import Architecture
from render.planning.network_view import NetworkView
from render.planning.schedule import Schedule

#: Range of the coarsest octave's short side, px. Below, the network has no room for one whole thing; above, it dreams
#: several, and forms become small against the picture.
_MIN_COARSEST_PX, _MAX_COARSEST_PX = 150, 220
#: Part of a receptive field that contributes most of the gradient (Luo et al. 2016, arXiv:1701.04128).
_EFFECTIVE_SHARE = 0.5


def auto_octave_count(shape: tuple[int, int], scale: float, schedule: Schedule, architecture: Architecture) -> int:
    """Return the number of octaves whose coarsest shows the network one whole thing.

    Args:
        shape: (height, width) px of the finished canvas.
        scale: Ratio of the widths of successive octaves.
        schedule: The objectives, with their stages of any number of octaves.
        architecture: The whole network.

    Returns:
        The number, at least 1. The coarsest octave's short side is nearest to half the deepest layer's receptive field,
        and to 150 to 220 px.
    """
    views = [NetworkView.of(stage, schedule, architecture, "exact") for stage in schedule.stages]
    fields = [view.network.layer(name).receptive_field for view in views for name in view.layers]
    coarsest = min(max(_EFFECTIVE_SHARE * max(fields), _MIN_COARSEST_PX), _MAX_COARSEST_PX)
    return 1 + max(0, round(math.log(min(shape) / coarsest, scale)))
