"""How a step scales with workers where kernels do not compete for one machine: real Ray processes whose kernel sleeps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from render.config.schema import Config, FarmConfig
from render.config.validation import validate
from render.dreaming.objectives import Objective
from render.farm.conductor import Conductor, bytes_exchanged
from render.farm.events import StepDone
from render.farm.ray.executor import RayExecutor
from render.farm.ray.pool import RayFarm
from render.farm.worker.process import KernelCache
from render.farm.worker.worker import Worker
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import KernelShape, Rect
from render.job.resolve import plan_request, schedule_of
from render.networks.inception_v3 import INCEPTION_V3
from render.planning.plan import Machine, Plan
from render.planning.planner import make_plan
from render.planning.schedule import Schedule
from tests.benchmarks.table import Table

#: What kernels should be of the busiest worker's time.
WANTED = 0.95


class Promised:
    """A gradient of ones that is there at a moment, by `time.perf_counter`; who asks earlier waits."""

    def __init__(self, there: float, shape: KernelShape) -> None:
        self._there = there
        self._shape = (*shape.core, 3)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        time.sleep(max(0.0, self._there - time.perf_counter()))
        return np.ones(self._shape, np.float32)


class Sleeper:
    """A device that computes one window after the other, each in so many seconds, and uses no core for it."""

    devices = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free = 0.0

    def __call__(self, shape: KernelShape, window: np.ndarray, given: Any, offset: Any, *more: Any) -> Promised:
        self._free = max(self._free, time.perf_counter()) + self._seconds
        return Promised(self._free, shape)


@dataclass(frozen=True)
class Grey:
    """A source that costs nothing."""

    def at(self, shape: tuple[int, int], rect: Rect) -> np.ndarray:
        return np.full((*rect.shape, 3), 128, np.float32)


@dataclass(frozen=True)
class Asleep:
    """Makes the renderer's own worker, with a kernel that sleeps."""

    seconds: float
    objectives: tuple[Objective, ...]

    def make(self, _kernels: KernelCache) -> Worker:
        return Worker(Sleeper(self.seconds), Grey(), self.objectives, INCEPTION_V3)


def measure(quick: bool) -> Table:
    """Measure one canvas with 1, 2, 4 and 8 workers; a window takes as long as on a CPU."""
    counts, tiles, seconds, steps = ((1, 2), 4, 0.05, 4) if quick else ((1, 2, 4, 8), 8, 0.2, 5)
    config = Config(image="noise")
    config.octaves.count, config.octaves.steps = 1, steps
    config.tiles.size = 256
    config.output.width = config.output.height = tiles * config.tiles.size
    schedule = schedule_of(validate(config), INCEPTION_V3, ["mixed0"])
    request = plan_request(config, INCEPTION_V3, schedule, (config.output.height, config.output.width))
    plan = make_plan(request, Machine(1 << 40, 1 << 40, 1 << 40), workers=max(counts))
    farm = RayFarm(FarmConfig(workers=max(counts)), threads=1, store_bytes=400_000_000)
    try:
        rows = []
        for count in counts:
            with farm.lease(count) as executor:
                executor.open(Asleep(seconds, schedule.objectives))
                rows.append(_row(plan, schedule, executor, seconds))
    finally:
        farm.close()
    return Table(
        name="scaling",
        title=f"workers on Ray whose kernel sleeps {1000 * seconds:.0f} ms a window, "
        f"on a canvas of {plan.final.grid.tiles} tiles of {config.tiles.size} px",
        columns=("workers", "tiles of one", "kernel s", "step s", "efficiency %", "worst %", "MB sent", "MB by geometry"),
        rows=rows,
        goals={
            f"{row['workers']} workers: kernels are at least {100 * WANTED:.0f} % of a step": float(row["efficiency %"])
            >= 100 * WANTED
            for row in rows
        },
        notes=("everything but the kernel is real, and all workers share this machine for it",),
    )


def _row(plan: Plan, schedule: Schedule, executor: RayExecutor, seconds: float) -> dict[str, str | float]:
    blocks = deal_blocks(plan.final.grid, executor.workers)
    # By this clock, and with nothing asked in between: what a step leaves to be done is in the next one's time.
    ends = [
        time.perf_counter()
        for event in Conductor(plan, INCEPTION_V3, schedule.objectives, executor).run(0)
        if isinstance(event, StepDone)
    ]
    sent = sum(executor.fetch([executor.call(number, "bytes_sent") for number in range(len(blocks))]))
    times = [after - before for before, after in pairwise(ends)]
    busiest = max(block.size for block in blocks)
    return {
        "workers": len(blocks),
        "tiles of one": busiest,
        "kernel s": busiest * seconds,
        "step s": median(times),
        "efficiency %": 100 * busiest * seconds / median(times),
        "worst %": 100 * busiest * seconds / max(times),
        "MB sent": sent / plan.final.steps / 1e6,
        "MB by geometry": bytes_exchanged(blocks) / 1e6,
    }
