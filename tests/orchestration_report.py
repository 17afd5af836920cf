"""What the farm itself costs: the kernel is replaced by a sleep, so that all time beyond it is orchestration.

    python -m tests.orchestration_report [workers=16] [tiles=8] [sleep_ms=200] [steps=12]

Real Ray processes step a canvas whose margins are those of a real network (mixed0). Efficiency is the kernels' own time on
the busiest worker over the time that the step took; bytes are those that workers gave out, against the geometry's.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from render.config import Config, FarmConfig, validate
from render.dream.objectives import Objective
from render.farm.conductor import Conductor, bytes_exchanged
from render.farm.events import StepDone
from render.farm.ray_farm import RayFarm
from render.geometry import KernelShape, Rect, deal_blocks
from render.models.inception_v3 import INCEPTION_V3
from render.plan import Machine, make_plan
from render.schedule import make_schedule


@dataclass(frozen=True)
class Sleeper:
    """A kernel that takes its time and gives back a gradient of ones."""

    seconds: float
    devices: int = 1

    def __call__(self, shape: KernelShape, window: np.ndarray, given: Any, offset: Any, *more: Any) -> np.ndarray:
        time.sleep(self.seconds)
        return np.ones((*shape.core, 3), np.float32)


@dataclass(frozen=True)
class Grey:
    """A source that costs nothing."""

    size: None = None
    sha256: str = ""
    nbytes: int = 0

    def at(self, shape: tuple[int, int], rect: Rect) -> np.ndarray:
        return np.full((*rect.shape, 3), 128, np.float32)


@dataclass(frozen=True)
class Asleep:
    """Stands for a `KernelRecipe`: makes the sleeping kernel."""

    seconds: float
    loaded: Any
    objectives: tuple[Objective, ...]
    network_key: tuple[str, ...] = ("asleep",)

    def make_programs(self) -> None:
        """There is nothing to compile."""

    def make(self, _programs: None) -> Sleeper:
        return Sleeper(self.seconds)


def main() -> None:
    """Steps and prints."""
    settings = {"workers": 16, "tiles": 8, "sleep_ms": 200, "steps": 12} | {
        name: int(value) for name, value in (word.split("=") for word in sys.argv[1:])
    }
    workers, tiles, seconds = settings["workers"], settings["tiles"], settings["sleep_ms"] / 1000
    side = 128
    rows = next(n for n in range(int((workers * tiles) ** 0.5), 0, -1) if (workers * tiles) % n == 0)
    config = Config(image="noise")
    config.octaves.count, config.octaves.steps = 1, settings["steps"]
    config.tiles.size = side
    config.output.width, config.output.height = side * workers * tiles // rows, side * rows
    roomy = Machine(1 << 40, 1 << 40, 1 << 40)
    schedule = make_schedule(validate(config), INCEPTION_V3, ["mixed0"])
    plan = make_plan(config, INCEPTION_V3, schedule, None, roomy, workers=workers)
    blocks = deal_blocks(plan.final.grid, workers)
    busiest = max(block.size for block in blocks)
    farm = RayFarm(FarmConfig(workers=workers), threads=1, store_bytes=400_000_000)
    try:
        with farm.lease() as executor:
            executor.open(Asleep(seconds, SimpleNamespace(architecture=INCEPTION_V3), schedule.objectives), Grey())
            # By this clock, and with nothing asked in between: what a step leaves to be done is in the next one's time.
            ends = []
            for event in Conductor(plan, INCEPTION_V3, schedule.objectives, executor).run(0):
                if isinstance(event, StepDone):
                    ends.append(time.perf_counter())
            sent = sum(executor.fetch([executor.call(n, "bytes_sent") for n in range(len(blocks))]))
    finally:
        farm.close()
    height, width = plan.final.shape
    print(f"canvas {width} x {height} px, {plan.final.grid.tiles} tiles of {side} px, {len(blocks)} workers, "
          f"{busiest} tiles on the busiest, kernel {1000 * seconds:.0f} ms")  # fmt: skip
    ideal = busiest * seconds
    times = [after - before for before, after in pairwise(ends)]
    for step, taken in enumerate(times):
        print(f"step {step + 2}: {taken:.3f} s, efficiency {100 * ideal / taken:.1f} %")
    print(f"median efficiency after the first step: {100 * ideal / statistics.median(times):.1f} %")
    print(f"bytes exchanged a step: {sent / settings['steps']:,.0f}; by geometry {bytes_exchanged(blocks):,}")


if __name__ == "__main__":
    main()
