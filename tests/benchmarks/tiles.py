"""Whether `tiles.size=auto` is near the best size: a step of a canvas, by the plan's own grid and the real kernel.

A step's time is that of one window times the tiles: all windows of a grid have one shape. Sizes take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import jax
import numpy as np
from numpy.typing import NDArray

from render.config.schema import Config
from render.config.validation import validate
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import KernelInputs, resolve
from render.dreaming.programs import Programs
from render.farm.worker.process import use_compilation_cache
from render.geometry.geometry import Grid, KernelShape
from render.job.resolve import plan_request, schedule_of
from render.networks.network import Network
from render.networks.weights import Loaded
from render.planning.plan import Machine
from render.planning.planner import make_plan
from render.system.machine import host_memory
from tests.benchmarks.table import Table, interleaved
from tests.benchmarks.trained import missing, trained

#: How much slower than the best size `auto` may be.
BOUND = 0.1
#: Canvases of (rows, columns) px that are dreamed toward a layer, and the sizes that `auto` is compared with, px.
CANVASES = (
    ("inception_v3", "mixed5", (2304, 3456), (256, 512, 1024, 1728)),
    ("googlenet", "inception_4c", (2304, 3456), (256, 512, 1024, 1728)),
)
_QUICK = (("inception_v3", "mixed0", (128, 192), (64,)),)
#: Memory to plan for, besides this machine's: less, where `auto` has to cut.
_MEMORIES = (4e9,)


def measure(quick: bool) -> Table:
    """For each canvas and size megapixels of canvas and of windows a second, and how far `auto` is from the best."""
    use_compilation_cache()
    rows: list[dict[str, str | float]] = []
    goals = {}
    notes = []
    for model, layer, shape, sizes in _QUICK if quick else CANVASES:
        if lacking := missing(model):
            notes.append(lacking)
            continue
        loaded = trained(model)
        kernel = _kernel(loaded, layer)
        for memory in (host_memory(), *(() if quick else _MEMORIES)):
            plans = {str(size): _grid(kernel, loaded, layer, shape, size, memory) for size in ("auto", *sizes)}
            grids = {size: grid for size, (grid, needed) in plans.items() if needed <= memory / 2}
            seconds = _seconds(kernel, grids, rounds=1 if quick else 3)
            rates = {size: grid.canvas.area / seconds[size] / 1e6 for size, grid in grids.items()}
            best = max(rate for size, rate in rates.items() if size != "auto") if len(rates) > 1 else rates["auto"]
            for size, grid in grids.items():
                rows.append(
                    {
                        "canvas": f"{layer}, {shape[1]} x {shape[0]} px, {memory / 1e9:.0f} GB",
                        "size": size,
                        "core": "{1} x {0}".format(*grid.core_shape),
                        "window": "{1} x {0}".format(*grid.window_shape),
                        "tiles": grid.tiles,
                        "GB": plans[size][1] / 1e9,
                        "window Mpx/s": grid.tiles * _area(grid.window_shape) / seconds[size] / 1e6,
                        "Mpx/s": rates[size],
                        "to the best size": rates[size] / best,
                    }
                )
            goals[f"{layer}, {memory / 1e9:.0f} GB: auto has {rates['auto'] / best:.2f} of the best size's rate"] = (
                rates["auto"] >= (1 - BOUND) * best
            )
    return Table("tiles", "a step by tiles of fixed sizes and auto", tuple(rows[0]), rows, goals, tuple(notes))


def _kernel(loaded: Loaded, layer: str) -> Kernel:
    network = Network(loaded.architecture.truncated([layer]), loaded.parameters)
    return Kernel(Programs(network, jax.local_devices()[:1]), [resolve([layer], loaded.architecture)], loaded)


def _grid(
    kernel: Kernel, loaded: Loaded, layer: str, shape: tuple[int, int], size: int | str, memory: float
) -> tuple[Grid, int]:
    """Return the grid that a job would have with so much memory, and the bytes of a window by XLA."""
    config = Config()
    config.tiles.size, config.octaves.count = size, 1
    config.output.height, config.output.width = shape
    schedule = schedule_of(validate(config), loaded.architecture, [layer])
    # Host memory is not what is in question: a fixed size may need more than there is, and is left out then.
    device = int(memory) if size == "auto" else 1 << 50
    machine = Machine(host_bytes=1 << 50, device_bytes=device, disk_free=1 << 50, shares_memory=False)

    def needed(objective: int, window: tuple[int, int], core: tuple[int, int]) -> int:
        return kernel.memory(KernelShape(window, core), objective)

    plan = make_plan(plan_request(config, loaded.architecture, schedule, shape), machine, needed)
    return plan.final.grid, plan.kernel_bytes


def _seconds(kernel: Kernel, grids: dict[str, Grid], rounds: int) -> dict[str, float]:
    """Return the seconds of a step with each grid: the median of some windows times the tiles."""
    calls: dict[str, Callable[[], float]] = {}
    for size, grid in grids.items():
        pixels = np.random.default_rng(0).normal(128, 30, (*grid.window_shape, 3)).clip(0, 255).astype(np.float32)
        calls[size] = partial(_window_seconds, kernel, KernelShape.of(grid), pixels)
    return {size: grids[size].tiles * median(found) for size, found in interleaved(calls, rounds).items()}


def _window_seconds(kernel: Kernel, shape: KernelShape, pixels: NDArray[np.float32]) -> float:
    begun = time.perf_counter()
    kernel(shape, pixels, KernelInputs(0, (1.0,)), (0, 0)).block_until_ready()
    return time.perf_counter() - begun


def _area(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]
