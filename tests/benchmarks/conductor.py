"""What a step costs the driver and takes besides its kernel, by the number of workers: real Ray actors."""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median

from render.config.schema import Config, FarmConfig
from render.config.validation import validate
from render.farm.conductor import Conductor
from render.farm.events import StepDone
from render.farm.ray.executor import RayExecutor
from render.farm.ray.pool import RayFarm
from render.job.resolve import plan_request, schedule_of
from render.networks.inception_v3 import INCEPTION_V3
from render.planning.plan import Machine, Plan
from render.planning.planner import make_plan
from render.planning.schedule import Schedule
from tests.benchmarks.scaling import Asleep
from tests.benchmarks.table import Table

#: The most CPU time of the driver for a step, ms, and the most that each further worker may add.
WANTED_MS, WANTED_SLOPE_MS = 2.0, 0.02
#: Workers whose kernel takes so long, and the most that a step may then take, s.
AMONG, KERNEL_S, WANTED_STEP_S = 16, 0.2, 0.204


def measure(quick: bool) -> Table:
    """Measure with a kernel that takes no time, and, among `AMONG` workers, with one that sleeps."""
    counts, steps = ((1, 2), 10) if quick else ((8, 16, 32, 64), 200)
    farm = RayFarm(FarmConfig(workers=max(counts)), threads=1, store_bytes=400_000_000)
    try:
        rows = [_row(farm, count, 0.0, steps) for count in counts]
        asleep = _row(farm, min(AMONG, max(counts)), KERNEL_S, max(5, steps // 10))
    finally:
        farm.close()
    slope = (float(rows[-1]["driver ms"]) - float(rows[0]["driver ms"])) / (counts[-1] - counts[0])
    goals = {
        f"{row['workers']} workers: driver at most {WANTED_MS:g} ms": float(row["driver ms"]) <= WANTED_MS for row in rows
    }
    goals[f"each worker adds at most {WANTED_SLOPE_MS:g} ms: {slope:.4f}"] = slope <= WANTED_SLOPE_MS
    goals[f"{asleep['workers']} workers of {KERNEL_S:g} s: at most {1000 * WANTED_STEP_S:g} ms"] = (
        float(asleep["step ms"]) <= 1000 * WANTED_STEP_S
    )
    return Table(
        name="conductor",
        title="a step beside its kernel: the driver's CPU time, and the time by the clock, one tile a worker",
        columns=("workers", "kernel ms", "driver ms", "step ms", "worst ms"),
        rows=[*rows, asleep],
        goals=goals,
        notes=(
            "all workers share this machine, so with a kernel of 0 s the clock shows their own work, one after the other",
        ),
    )


def _row(farm: RayFarm, workers: int, seconds: float, steps: int) -> dict[str, str | float]:
    plan, schedule = _planned(workers, steps)
    with farm.lease(workers) as executor:
        executor.open(Asleep(seconds, schedule.objectives))
        cpu, ends = _stepped(plan, schedule, executor)
    times = [after - before for before, after in pairwise(ends)]
    return {
        "workers": workers,
        "kernel ms": 1000 * seconds,
        "driver ms": 1000 * cpu / (steps - 1),
        "step ms": 1000 * median(times),
        "worst ms": 1000 * max(times),
    }


def _stepped(plan: Plan, schedule: Schedule, executor: RayExecutor) -> tuple[float, list[float]]:
    """Return the driver's CPU seconds from the first step's end to the last's, and when each step ended."""
    ends, cpu = [], []
    for event in Conductor(plan, INCEPTION_V3, schedule.objectives, executor).run(0):
        if isinstance(event, StepDone):
            ends.append(time.perf_counter())
            cpu.append(time.process_time())
    return cpu[-1] - cpu[0], ends


def _planned(workers: int, steps: int) -> tuple[Plan, Schedule]:
    """Return the plan of a canvas with a tile for each worker, in rows of eight."""
    config = Config(image="noise")
    config.octaves.count, config.octaves.steps = 1, steps
    config.tiles.size = 256
    across = min(8, workers)
    config.output.width, config.output.height = across * config.tiles.size, -(-workers // across) * config.tiles.size
    schedule = schedule_of(validate(config), INCEPTION_V3, ["mixed0"])
    request = plan_request(config, INCEPTION_V3, schedule, (config.output.height, config.output.width))
    return make_plan(request, Machine(1 << 40, 1 << 40, 1 << 40), workers=workers), schedule
