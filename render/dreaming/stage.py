"""Settings of one octave: number and size of steps, objectives and their regions, conditioning of the gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

from render.config.octave_settings import OctaveConditioning
from render.dreaming.filters import cascade_reach, laplacian_reach
from render.dreaming.optimizer import Optimizer


@dataclass(frozen=True)
class Conditioning(OctaveConditioning):
    """Processing of a gradient before it moves pixels.

    `normalize` names the statistic of the whole canvas that the gradient is divided by: `mean_abs`, the mean of its
    absolute values, or `std`, its standard deviation. Before that, at most one filter is applied: `laplacian` brings
    that many levels of a pyramid to the same strength, or a Gaussian cascade of `smoothing` px blurs the gradient.
    `luminance_only` keeps the source's colours: all channels move alike. `total_variation` is the weight of the canvas'
    smoothing against a gradient of mean 1. `pull` is the share of its distance from the source that a pixel goes back
    at each step.
    """

    @property
    def filters(self) -> bool:
        """True if a pixel's gradient depends on its neighbours'."""
        return self.laplacian > 0 or self.smoothing > 0

    @property
    def reach(self) -> int:
        """Distance in px up to which the filter reads."""
        if self.laplacian:
            return laplacian_reach(self.laplacian)
        return cascade_reach(self.smoothing) if self.smoothing else 0


@dataclass(frozen=True)
class Region:
    """Objective of a job, by number, and the region where it counts.

    The region is the product of `masks`, by number; without masks it is the whole canvas. `outside` are masks of other
    regions: the objective counts with the share of each pixel that they leave over.
    """

    objective: int
    masks: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()

    @property
    def everywhere(self) -> bool:
        return not self.masks and not self.outside


@dataclass(frozen=True)
class Stage:
    """Settings of one octave.

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
        """True if the update is the scaled gradient and nothing else."""
        conditioning = self.conditioning
        adjusted = conditioning.total_variation > 0 or conditioning.pull > 0 or self.optimizer.moments > 0
        return not adjusted and len(self.regions) == 1 and self.regions[0].everywhere

    @property
    def objectives(self) -> tuple[int, ...]:
        """The objectives of the regions, by number."""
        return tuple(dict.fromkeys(region.objective for region in self.regions))
