"""What a whole render would take on a cluster that is not there yet: hours and dollars for a kind of node. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from render.config.schema import NodeConfig
from render.errors import UserError
from render.planning.cost import StepCost, step_cost
from render.planning.plan import Machine, Plan

#: Stands for memory and disk that nothing is known of, bytes.
_PLENTY = 1 << 60


@dataclass(frozen=True)
class Estimate:
    """A render on `nodes` machines: seconds of steps, of checkpoints, and of changes from octave to octave.

    `final` is a step of the last octave. Beginning and end are not in it: machines that start, kernels that are compiled,
    a large source's reading, the pictures that are written.
    """

    node: NodeConfig
    nodes: int
    final: StepCost
    steps: float
    saves: float
    changes: float

    @property
    def seconds(self) -> float:
        return self.steps + self.saves + self.changes

    @property
    def price(self) -> float | None:
        """Dollars, on demand; None where no price is known."""
        return _dollars(self, self.node.price_per_hour)

    @property
    def spot_price(self) -> float | None:
        """Dollars on spot machines, if none is lost."""
        return _dollars(self, self.node.spot_price_per_hour)


def estimate(
    plan: Plan,
    workers: int,
    node: NodeConfig,
    *,
    precision: str,
    every: float,
) -> Estimate:
    """What a plan's render would take on `workers` workers.

    `precision` is that of kernels, `every` how often the canvas is saved within an octave, s. Raises `UserError` where the
    node does not say what its kernels reach.
    """
    tflops = kernel_tflops(node, precision)
    costs = [step_cost(octave, workers, node, tflops) for octave in plan.octaves]
    steps = [octave.steps * cost.seconds for octave, cost in zip(plan.octaves, costs, strict=True)]
    # Each octave's end, and `every` so many seconds, or every step, before.
    counts = [
        1 + min(octave.steps, int(seconds / max(every, 1e-9))) for octave, seconds in zip(plan.octaves, steps, strict=True)
    ]
    return Estimate(
        node,
        -(-workers // node.workers),
        costs[-1],
        sum(steps),
        sum(count * cost.save for count, cost in zip(counts, costs, strict=True)),
        sum(cost.change for cost in costs),
    )


def kernel_tflops(node: NodeConfig, precision: str) -> float:
    """What a worker's kernels reach on a node, 10^12 operations a second; `UserError` where it is not known."""
    reached: float | None = getattr(node, f"tflops_{precision}")
    if reached is None:
        raise UserError(f"node.tflops_{precision} is not known of {node.name}: set it, or take another model.precision")
    return reached


def machine_of(node: NodeConfig) -> Machine:
    """What a plan may use of a node's memory; of its disk nothing is known. Without an accelerator, both are one memory."""
    host = _PLENTY if node.memory_gb is None else int(node.memory_gb * 1e9)
    shared = node.device_gb is None
    device = int(node.device_gb * 1e9) if node.device_gb is not None else host
    return Machine(host, device, _PLENTY, shares_memory=shared, workers=node.workers)


def network_bound_from(cost: Callable[[int], StepCost], most: int) -> int | None:
    """The least number of workers, of at most `most`, whose margins take longer on the network than the rest of a step.

    Found by doubling, then by halving: larger farms are taken to be bound as well. None where none is.
    """
    high = 1
    while not cost(high).network_bound:
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle).network_bound else (middle, high)
    return high


def _dollars(made: Estimate, hourly: float | None) -> float | None:
    return None if hourly is None else hourly * made.nodes * made.seconds / 3600
