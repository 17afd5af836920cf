"""Price of a whole render on a cluster that does not exist yet: hours and dollars for a kind of node. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from render.config.schema import NodeConfig
from render.planning.cost import StepCost, step_cost
from render.planning.kernel_speed import kernel_speed
from render.planning.plan import Machine, Plan

#: Seconds to compile a kernel for an accelerator without autotuning. Assumed: mixed5 at 512 px takes 5 s on two idle cores,
#: and larger windows longer.
COMPILE = 8.0
#: Most kernels that a worker compiles at once, on accelerators and CPUs. Tracing them takes turns anyway.
COMPILING_THREADS = 4
#: Stands for memory and disk of unknown size, bytes.
_PLENTY = 1 << 60


@dataclass(frozen=True)
class Estimate:
    """Estimate of a render on `nodes` machines: seconds of steps, of checkpoints, of octave changes, and for kernels.

    `compiling` is the time that steps wait for kernels, which are compiled ahead while the octaves before are dreamed.

    `final` is a step of the last octave. Beginning and end of the render are not counted: starting machines, reading a
    large source, writing the pictures; nor is compiling for CPUs.
    """

    node: NodeConfig
    nodes: int
    final: StepCost
    steps: float
    saves: float
    changes: float
    compiling: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds of the render."""
        return self.steps + self.saves + self.changes + self.compiling

    @property
    def price(self) -> float | None:
        """Dollars, on demand; None if no price is known."""
        return _dollars(self, self.node.price_per_hour)

    @property
    def spot_price(self) -> float | None:
        """Dollars on spot machines, if none is lost; None if no price is known."""
        return _dollars(self, self.node.spot_price_per_hour)


def estimate(
    plan: Plan,
    workers: int,
    node: NodeConfig,
    *,
    precision: str,
    every: float,
) -> Estimate:
    """Estimate a plan's render on `workers` workers.

    Args:
        plan: The plan.
        workers: The number of workers.
        node: The kind of node.
        precision: The precision of the kernels.
        every: Seconds between checkpoints within an octave.

    Raises:
        UserError: The node does not say what its kernels reach.
    """
    speed = kernel_speed(node, precision)
    costs = [step_cost(octave, workers, node, speed) for octave in plan.octaves]
    steps = [octave.steps * cost.seconds for octave, cost in zip(plan.octaves, costs, strict=True)]
    # One checkpoint at each octave's end, and before it one per `every` seconds, at most one per step.
    counts = [
        1 + min(octave.steps, int(seconds / max(every, 1e-9))) for octave, seconds in zip(plan.octaves, steps, strict=True)
    ]
    saves = [count * cost.save for count, cost in zip(counts, costs, strict=True)]
    changes = [cost.change for cost in costs]
    busy = [sum(parts) for parts in zip(steps, saves, changes, strict=True)]
    waits = 0.0 if node.device_gb is None else compiling_waits(plan, busy)
    return Estimate(node, -(-workers // node.workers), costs[-1], sum(steps), sum(saves), sum(changes), waits)


def compiling_waits(plan: Plan, busy: Sequence[float]) -> float:
    """Return the seconds in which a render waits for kernels.

    Each shape of window and core, and each objective, has a kernel. They are compiled in the order in which they are
    needed, `COMPILING_THREADS` at once.

    Args:
        plan: The plan.
        busy: Seconds of each octave, without waiting.
    """
    ready: dict[object, float] = {}
    elapsed = waited = 0.0
    for octave, seconds in zip(plan.octaves, busy, strict=True):
        for objective in octave.stage.objectives:
            kernel = octave.grid.window_shape, octave.grid.core_shape, objective
            ready.setdefault(kernel, COMPILE * (1 + len(ready) // COMPILING_THREADS))
            wait = max(0.0, ready[kernel] - elapsed)
            elapsed, waited = elapsed + wait, waited + wait
        elapsed += seconds
    return waited


def machine_of(node: NodeConfig) -> Machine:
    """Return the memory of a node that a plan may use; its disk is unknown and counts as unlimited.

    Without an accelerator, host and device share one memory.
    """
    host = _PLENTY if node.memory_gb is None else int(node.memory_gb * 1e9)
    shared = node.device_gb is None
    device = int(node.device_gb * 1e9) if node.device_gb is not None else host
    return Machine(host, device, _PLENTY, shares_memory=shared, workers=node.workers)


def network_bound_from(cost: Callable[[int], StepCost], most: int) -> int | None:
    """Return the least number of workers, at most `most`, whose steps are `network_bound`; None if there is none.

    The number is found by doubling, then by halving; larger farms are assumed to be bound as well.
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


def _dollars(estimate: Estimate, hourly: float | None) -> float | None:
    return None if hourly is None else hourly * estimate.nodes * estimate.seconds / 3600
