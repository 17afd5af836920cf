"""How one octave is dreamed: how many steps, how far each goes, toward what and where, and what is done to the gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

from render.dream.filters import cascade_reach, laplacian_reach
from render.dream.optimizer import Optimizer


@dataclass(frozen=True)
class Conditioning:
    """What is done to a gradient before it moves pixels.

    `normalize` names the statistic of the whole canvas that it is divided by: `mean_abs`, the mean of its absolute
    values, or `std`, its standard deviation. Before that, at most one filter: `laplacian` levels of a pyramid are brought
    to the same strength, or a Gaussian cascade of `smoothing` px blurs it. `luminance_only` keeps the source's colours: all
    channels move alike. `total_variation` weighs the smoothing of the canvas against a gradient of mean 1, and `pull` is
    the share of its distance from the source that a pixel goes back at each step.
    """

    normalize: str = "mean_abs"
    laplacian: int = 0
    smoothing: float = 0.0
    total_variation: float = 0.0
    pull: float = 0.0
    luminance_only: bool = False

    @property
    def filters(self) -> bool:
        """Whether a pixel's gradient depends on its neighbours'."""
        return self.laplacian > 0 or self.smoothing > 0

    @property
    def reach(self) -> int:
        """How far the filter looks, px."""
        if self.laplacian:
            return laplacian_reach(self.laplacian)
        return cascade_reach(self.smoothing) if self.smoothing else 0


@dataclass(frozen=True)
class Region:
    """One of a job's objectives, by number, and where it counts: the product of masks, by number; none is everywhere.

    `outside` are masks of other regions: what they leave over counts here.
    """

    objective: int
    masks: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()

    @property
    def everywhere(self) -> bool:
        return not self.masks and not self.outside


@dataclass(frozen=True)
class Stage:
    """One octave's settings.

    `step_size` is in levels of 255; `jitter` is the largest shift in px, None for a whole stride.
    """

    steps: int
    step_size: float
    regions: tuple[Region, ...] = (Region(0),)
    jitter: int | None = None
    conditioning: Conditioning = field(default_factory=Conditioning)
    optimizer: Optimizer = field(default_factory=Optimizer)

    @property
    def plain(self) -> bool:
        """Whether the update is the scaled gradient and nothing else."""
        conditioning = self.conditioning
        rests = conditioning.total_variation > 0 or conditioning.pull > 0 or self.optimizer.moments > 0
        return not rests and len(self.regions) == 1 and self.regions[0].everywhere

    @property
    def objectives(self) -> tuple[int, ...]:
        """The objectives of its regions, by number."""
        return tuple(dict.fromkeys(region.objective for region in self.regions))
