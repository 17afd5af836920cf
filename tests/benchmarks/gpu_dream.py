"""Steps and octave changes of a resident block, timed: the program's own plan, conductor and worker, without files."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from render.config.schema import Config
from render.config.validation import validate
from render.farm.conductor import Conductor
from render.farm.events import OctaveDone, OctaveStarted, StepDone
from render.farm.executors import InlineExecutor
from render.farm.worker.kernel_recipe import KernelRecipe
from render.farm.worker.process import WorkerProcess
from render.job.resolve import plan_request, schedule_of
from render.networks.parameters import fingerprint
from render.networks.weights import Loaded
from render.planning.plan import Machine
from render.planning.planner import make_plan
from render.planning.residence import ResidencySettings
from tests.benchmarks.device import Noise

_PLENTY = 1 << 40


def timed_octaves(
    loaded: Loaded, layer: str, *, canvas: int, tile: int, octaves: int, steps: int, laplacian: int, resident: bool | str
) -> Iterator[dict[str, Any]]:
    """Yield the figures of each octave of a square canvas of noise, in bfloat16.

    Args:
        loaded: The network.
        layer: The layer that is dreamed of.
        canvas: Side of the finest octave, px.
        tile: Side of a tile, px.
        octaves: Number of octaves.
        steps: Steps of each.
        laplacian: Levels of the pyramid of the gradient; 0 for none.
        resident: Whether blocks stay on the device, as `farm.worker.resident` says.
    """
    config = Config(image="noise")
    config.octaves.count, config.octaves.steps = octaves, steps
    config.tiles.size, config.output.width, config.output.height = tile, canvas, canvas
    config.conditioning.laplacian, config.model.precision = laplacian, "bfloat16"
    schedule = schedule_of(validate(config), loaded.architecture, [layer])
    plan = make_plan(
        plan_request(config, loaded.architecture, schedule, (canvas, canvas)), Machine(_PLENTY, _PLENTY, _PLENTY)
    )
    loaded = Loaded(loaded.architecture, loaded.parameters, fingerprint(loaded.parameters))
    executor = InlineExecutor([WorkerProcess()])
    executor.open(KernelRecipe(loaded, schedule.objectives, "bfloat16", ResidencySettings(resident)), Noise.made(), ())
    ended, change, taken = time.perf_counter(), 0.0, []
    for event in Conductor(plan, loaded.architecture, schedule.objectives, executor).run(0):
        now = time.perf_counter()
        match event:
            case OctaveStarted():
                change, taken = now - ended, []
            case StepDone():
                # By this clock: what a step leaves to be done is in the next one's time.
                taken.append(now - ended - change - sum(taken))
            case OctaveDone(octave):
                yield {
                    "rows": octave.grid.canvas.rows.size, "tiles": octave.grid.tiles, "window": octave.grid.window_shape[0],
                    "step_ms": 1000 * statistics.median(taken[1:]), "first_step_s": taken[0], "change_s": change,
                    "megapixels_per_second": octave.grid.canvas.area / statistics.median(taken[1:]) / 1e6,
                }  # fmt: skip
                ended = time.perf_counter()
