"""Settings of one octave: number and size of steps, objectives and their regions, conditioning of the gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

from render.config.octave_settings import OctaveConditioning
from render.dreaming.ascent import luminance
from render.dreaming.decorrelation import decorrelate
from render.dreaming.filters import cascade_reach, laplacian_reach
from render.dreaming.optimizer import Optimizer
from render.dreaming.resample import Pixels


@dataclass(frozen=True)
class Conditioning(OctaveConditioning):
    """Processing of a gradient before it moves pixels.

    At most one filter is applied, before the gradient is divided by its statistic.

    Attributes:
        normalize: Statistic of the whole canvas that the gradient is divided by: `mean_abs`, the mean of its absolute
            values, or `std`, its standard deviation.
        laplacian: Number of levels of a pyramid that are brought to the same strength; 0 for no pyramid.
        smoothing: Sigma of a Gaussian cascade that blurs the gradient, px; 0 for none.
        total_variation: Weight of the canvas' smoothing against a gradient of mean 1.
        pull: Share of its distance from the source that a pixel goes back at each step, 0..1.
        luminance_only: If true, all channels move alike, which keeps the source's colours.
        decorrelate: Strength, 0 to 1, of ascent in a colour space whose axes are independent in natural images.
        shoulder: Room, in levels, from which on detail is limited near black and white; 0 only clips.
    """

    def mix_channels(self, gradient: Pixels) -> Pixels:
        """Return a gradient with its channels mixed as the settings say: (rows, columns, 3) float32, as before."""
        if self.luminance_only:
            return luminance(gradient)
        return decorrelate(gradient, self.decorrelate) if self.decorrelate else gradient

    @property
    def compares(self) -> bool:
        """True if an update needs the source's pixels."""
        return self.pull > 0 or self.shoulder > 0

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
    """Objective of a job, and the region of the canvas where it counts.

    Attributes:
        objective: Number of the objective.
        masks: Numbers of the masks whose product is the region; without masks it is the whole canvas.
        outside: Numbers of the masks of other regions: the objective counts with the share of each pixel that they leave
            over.
    """

    objective: int
    masks: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()

    @property
    def everywhere(self) -> bool:
        """True if the objective counts fully in every pixel."""
        return not self.masks and not self.outside


@dataclass(frozen=True)
class Stage:
    """Settings of one octave.

    Attributes:
        steps: Number of steps.
        step_size: Mean distance that a step moves pixels, in levels of 0..255.
        regions: Objectives and where they count.
        jitter: Largest shift of the network's grid, px; None for a whole stride.
        conditioning: Processing of the gradient.
        optimizer: Rule that turns gradients into directions.
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
