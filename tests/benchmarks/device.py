"""Speed of one device on batches of windows, and on whole steps of a block in its memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from render.dreaming.ascent import statistic
from render.dreaming.kernel import Kernel
from render.dreaming.objectives import MOST_COPIES, KernelInputs, resolve
from render.dreaming.programs import GradientArguments, Programs
from render.dreaming.resample import Pixels
from render.dreaming.resident import BatchSpec, compile_gradient
from render.dreaming.stage import Stage
from render.errors import UserError
from render.farm.messages import Assignment, GradientReport, GradientSums, WorkerFacts
from render.farm.worker.resident_block import ResidencyRule
from render.farm.worker.worker import Worker
from render.geometry.blocks import Gathering, deal_blocks, margin_pieces
from render.geometry.geometry import Axis, Grid, Interval, KernelShape, Rect, round_up, whole
from render.networks.network import Network
from render.networks.weights import Loaded
from render.planning.residence import ResidencySettings

_GIGAPIXEL = 1e9
#: Share of a memory that windows, or a block, may take here, and the longest that a step may be expected to take, s.
_SHARE, _LONGEST = 0.5, 120.0
_PATTERN = 1024
#: Steps that are measured, after a first in which all is compiled, and tiles that a call is for.
_STEPS, _TILES = 2, 64


@dataclass(frozen=True)
class Noise:
    """A source of any size: one square of noise, repeated."""

    pattern: Pixels

    @classmethod
    def made(cls) -> Noise:
        normal = np.random.default_rng(0).normal(128, 40, (_PATTERN, _PATTERN, 3))
        return cls(normal.clip(0, 255).astype(np.float32))

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        rows, columns = (np.arange(*side) % _PATTERN for side in rect)
        return self.pattern[rows[:, None], columns]


def seconds_of(call: Callable[[], jax.Array], min_seconds: float) -> float:
    """Return the seconds of one call: the mean of as many as fit into `min_seconds`, awaited together."""
    call().block_until_ready()
    begun = time.perf_counter()
    call().block_until_ready()
    count = max(2, math.ceil(min_seconds / max(1e-6, time.perf_counter() - begun)))
    begun = time.perf_counter()
    for _ in range(count):
        last = call()
    last.block_until_ready()
    return (time.perf_counter() - begun) / count


def kernel_of(loaded: Loaded, layer: str, precision: str) -> Kernel:
    """On the first device alone."""
    network = Network(loaded.architecture.truncated([layer]), loaded.parameters, precision=precision)
    return Kernel(Programs(network, jax.local_devices()[:1]), [resolve([layer], loaded.architecture)], loaded)


def measure_batch(kernel: Kernel, side: int, batch: int, min_seconds: float, memory: int) -> dict[str, float] | None:
    """Return the speed on `batch` windows of `side` px at once; None if `memory` might be too small."""
    architecture = kernel.programs.network.architecture
    if 2 * batch * architecture.activation_bytes(side, side) > _SHARE * memory:
        return None
    kernel_inputs = KernelInputs(0, (1.0,))
    compiled = compile_gradient(kernel, kernel_inputs, BatchSpec(KernelShape((side, side), (side, side)), batch))
    first = (batch,) if batch > 1 else ()
    window = Noise.made().at((side, side), whole(side, side))
    arguments = (
        np.broadcast_to(window, (*first, *window.shape)).copy(),
        None,
        kernel.constants(kernel_inputs),
        np.ones(1, np.float32),
        np.full((*first, 1, 2, MOST_COPIES), -1, np.int32),
        np.zeros((*first, 2), np.int32),
    )
    device_arguments = GradientArguments(kernel.programs.state, *jax.device_put(arguments))
    seconds = seconds_of(lambda: compiled(device_arguments), min_seconds)
    return {
        "side": side,
        "batch": batch,
        "megapixels_per_second": batch * side**2 / seconds / 1e6,
        "tflops": batch * architecture.gradient_flops((side, side), (side, side)) / seconds / 1e12,
    }


def measure_step(
    kernel: Kernel,
    loaded: Loaded,
    facts: WorkerFacts,
    *,
    side: int,
    tile: int,
    rate: float,
    resident: bool,
    profile: Path | None = None,
) -> dict[str, Any]:
    """Measure a whole step: margin, gradient and update of a square block of `side` px a side, or of the half, the
    quarter... of that for which there is memory and patience. `rate` is the kernel's, window pixels a second.

    With `profile` one more step is traced, into that directory.
    """
    while not (worker_grid := _worker(kernel, loaded, facts, side, tile, rate, resident)):
        if side <= 2 * tile:
            raise UserError(f"there is no room for a block of {side} px: set a smaller --tile")
        side //= 2
    worker, grid = worker_grid
    seconds = []
    for step in range(1 + _STEPS):
        begun = time.perf_counter()
        last = _step(worker, grid, step)
        seconds.append(time.perf_counter() - begun)
    with jax.profiler.trace(str(profile)) if profile else nullcontext():
        if profile:
            _step(worker, grid, 1 + _STEPS)
    step_seconds = statistics.median(seconds[1:])
    rows, columns = grid.window_shape
    flops = grid.tiles * kernel.programs.network.architecture.gradient_flops((rows, columns), grid.core_shape)
    return {
        "resident": resident,
        "side": side,
        "tile": grid.core_shape[0],
        "window": rows,
        "tiles": grid.tiles,
        "batch": last.tiles_at_once,
        "step_seconds": step_seconds,
        "megapixels_per_second": side**2 / step_seconds / 1e6,
        "window_megapixels_per_second": grid.tiles * rows * columns / step_seconds / 1e6,
        "tflops": flops / step_seconds / 1e12,
        "gigapixel_seconds": step_seconds * _GIGAPIXEL / side**2,
        "extrapolated": side**2 < _GIGAPIXEL,
    }


def _worker(
    kernel: Kernel, loaded: Loaded, facts: WorkerFacts, side: int, tile: int, rate: float, resident: bool
) -> tuple[Worker, Grid] | None:
    """Return a worker with such a block; None if it would not fit, or if a step would take too long."""
    layer = loaded.architecture.layer(kernel.objectives[0].terms[0].layer)
    axis = Axis(side, tile, round_up(layer.receptive_field - 1, layer.stride), 32, layer.stride, "reflect")
    grid = Grid(axis, axis)
    (block,) = blocks = deal_blocks(grid, 1)
    arrays = 24 * block.padded.area
    if grid.tiles * axis.window**2 / rate > _LONGEST or arrays > _SHARE * facts.host_bytes:
        return None
    given = KernelInputs(0, kernel.objectives[0].factors(loaded.architecture, grid.extended_shape))
    assignment = Assignment(0, 0, block, Gathering.of(margin_pieces(block, blocks), 0), {}, Stage(1, 1.5), (given,))
    residency = ResidencyRule(kernel, ResidencySettings(resident), facts.platform, facts.device_bytes)
    worker = Worker(kernel, Noise.made(), kernel.objectives, loaded.architecture, residency=residency)
    try:
        worker.begin_octave(assignment)
    except UserError:
        return None
    return worker, grid


def _step(worker: Worker, grid: Grid, step: int) -> GradientReport:
    """Run a step as the conductor does, in calls of several tiles, until the new canvas is computed."""
    shift = 5 * step % grid.rows.stride, 3 * step % grid.columns.stride
    worker.fill_margin()
    block, sums = worker.arrays.block, list[GradientSums]()
    reports = []
    for first in range(0, block.size, _TILES):
        reports.append(worker.compute_gradient(step, shift, list(block.tiles_from(first, _TILES))))
        sums += reports[-1].sums
    worker.update(step, [statistic(np.sum([one.sums for one in sums], axis=0).tolist(), "mean_abs")])
    worker.read([Rect(Interval(0, 1), Interval(0, 1))])
    return reports[0]
