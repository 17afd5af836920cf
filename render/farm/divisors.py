"""Divisors of a step's gradient, such as mean|g|, from the sums that workers return. Pure but for warnings."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

from render.dreaming.ascent import statistic
from render.dreaming.objectives import Objective
from render.errors import NumericalError, UserError
from render.farm.messages import GradientSums
from render.networks.architecture import Architecture
from render.planning.plan import Octave

log = logging.getLogger(__name__)


def region_divisors(
    octave: Octave,
    step: int,
    sums: Sequence[GradientSums],
    objectives: Sequence[Objective],
    architecture: Architecture,
) -> tuple[float, ...]:
    """Return the divisor of each region's gradient.

    It is 0 for a region that has no part in this step: its mask is empty at this octave's size, or nothing under the
    mask excites its objective.

    Args:
        octave: The octave of the step.
        step: Index of the step, from 0.
        sums: Sums of all tiles and regions, in any order.
        objectives: All objectives, to which the octave's regions refer by index.
        architecture: The network's architecture.

    Raises:
        UserError: All regions' divisors are 0.
        NumericalError: A divisor is so small that the step would be infinite.
    """
    stage, position = octave.stage, f"octave {octave.index + 1}, step {step + 1}"
    divisors, reasons = [], []
    for number, region in enumerate(stage.regions):
        objective = objectives[region.objective]
        totals = _totals((tile for tile in sums if tile.region == number), stage.conditioning.normalize)
        support = objective.support(architecture, octave.shape)
        if totals[-1] > 0:
            # The share of the pixels that count, which are fewer than the canvas' under a mask.
            support = min(1.0, support * 3 * octave.grid.canvas.area / totals[-1])
        divisor = statistic(totals, stage.conditioning.normalize, support)
        if divisor == 0.0 and totals[-1] > 0:
            reasons.append(f"nothing in the picture excites {objective}")
        if divisor and not math.isfinite(stage.step_size / divisor):
            raise NumericalError(f"the gradient is too small to follow at {position}: mean|g| is {divisor:.3g}")
        divisors.append(divisor)
    if any(divisors):
        for reason in reasons:
            log.warning("%s: %s under its mask", position, reason)
        return tuple(divisors)
    if reasons:
        raise UserError(
            f"the gradient is zero everywhere at {position}: {'; '.join(reasons)}; choose another layer or channel, or "
            "start from another image"
        )
    raise UserError(f"the masks show nothing at {position}: draw them larger, or take fewer octaves.count")


def mean_divisor(divisors: Sequence[float]) -> float:
    """Return the mean over the regions that have a part in the step."""
    nonzero = [divisor for divisor in divisors if divisor]
    return sum(nonzero) / len(nonzero)


def _totals(sums: Iterable[GradientSums], normalize: str) -> list[float]:
    """Return one region's sums over all tiles: added in tile order, so that no deal or order of arrival changes them."""
    totals = [0.0, 0.0] if normalize == "mean_abs" else [0.0, 0.0, 0.0]
    for tile in sorted(sums):
        totals = [total + part for total, part in zip(totals, tile.sums, strict=True)]
    return totals
