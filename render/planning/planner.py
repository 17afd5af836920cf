"""Planning of a job: octaves, tiles, windows, memory and disk from the job's resolved values. Pure.

A plan is made before any work, and refuses what cannot work. XLA's memory for a window is queried through a callable,
so the same code plans from a quick estimate and from the compiled executable's own figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from render.config.formats import refuse_size
from render.config.schema import BoundaryConfig, TilesConfig
from render.dreaming.objectives import Objective
from render.dreaming.stage import Stage
from render.geometry.geometry import BOUNDARY_MODES, Axis, AxisMode, Grid
from render.geometry.source_window import SourceWindow
from render.networks.architecture import Architecture
from render.planning.auto_tiles import auto_grids
from render.planning.device_memory import estimated_bytes
from render.planning.device_traffic import kernel_work
from render.planning.footprint import PictureFiles, block_bytes, disk_bytes, margin_bytes, working_bytes
from render.planning.limits import refuse_disk, refuse_memory, refuse_reach, refuse_small
from render.planning.network_view import NetworkView
from render.planning.plan import Machine, Octave, Plan
from render.planning.residence import ResidencySettings
from render.planning.schedule import Schedule
from render.planning.shared_shapes import SharingSettings

#: Function of an objective's number, a window and a core, both (rows, columns) px; returns the bytes that the kernel needs.
WindowBytes = Callable[[int, tuple[int, int], tuple[int, int]], int]

#: Function of the octaves' (rows, columns) px; returns the bytes that the source takes on disk.
SourceDisk = Callable[[Sequence[tuple[int, int]]], int]

#: Memory of a kernel call relative to the size of its activations, about: by XLA's analysis of real windows 0.5 for
#: InceptionV3 and 1.1 for GoogLeNet.
_KERNEL_PER_ACTIVATIONS = 1
#: Side of the window that the memory for a pixel is first guessed from, px.
_GUESS_SIDE = 1024
#: Bytes that stay in a worker's process after kernels are compiled and first called, beyond XLA's own figures: a fixed part
#: for the compiler, and a part for each layer. Measured.
_COMPILER_BYTES, _LAYER_BYTES = 170_000_000, 3_300_000


@dataclass(frozen=True)
class PlanRequest:
    """Values of a job that its plan depends on.

    Attributes:
        shape: (height, width) px of the finished canvas, bleed included.
        scale: Ratio of the widths of successive octaves.
        architecture: The network.
        schedule: The objectives, and a stage for each octave that the job asks for.
        tiles: Tile size, halo and number of workers to cut for.
        boundary: Continuation of the canvas beyond its edges.
        residence: Blocks on devices: whether, and windows of a kernel call.
        files: Files of the finished picture.
        source_disk: Bytes that the source stores in the run directory.
        source_window: Part of the source that the canvas shows; None for noise.
        precision: Precision of the kernels.
    """

    shape: tuple[int, int]
    scale: float
    architecture: Architecture
    schedule: Schedule
    tiles: TilesConfig
    boundary: BoundaryConfig
    residence: ResidencySettings
    files: PictureFiles
    source_disk: SourceDisk = lambda _: 0
    source_window: SourceWindow | None = None
    precision: str = "float32"


@dataclass(frozen=True)
class _Resolution:
    """An octave before its tiles are chosen: size, settings, and the part of the network that it reads."""

    shape: tuple[int, int]
    stage: Stage
    view: NetworkView

    def grid(self, boundary: BoundaryConfig, core: tuple[int, int]) -> Grid:
        """Return the octave's grid with tiles of (rows, columns) px."""
        rows, columns = (
            Axis(length, side, self.view.halo, _fill(mode, boundary.fill, self.view.exact_halo), self.view.stride, mode)
            for length, side, mode in zip(self.shape, core, BOUNDARY_MODES[boundary.mode], strict=True)
        )
        return Grid(rows, columns)


def make_plan(
    request: PlanRequest,
    machine: Machine,
    window_bytes: WindowBytes | None = None,
    *,
    workers: int = 1,
    core_shapes: Sequence[tuple[int, int]] | None = None,
) -> Plan:
    """Return the plan for a job.

    Args:
        request: The job's values.
        machine: The resources of each machine.
        window_bytes: The kernel's memory; None estimates it from the size of its activations.
        workers: The number of workers of the whole farm.
        core_shapes: The core of every octave in (rows, columns) px, as in an earlier plan of the same job.

    Raises:
        UserError: The job cannot work; the message has the reason.
    """
    resolutions = _resolutions(request)
    for form in request.files.copies:
        refuse_size(form, request.shape, request.files.bits, request.files.channels)
    for resolution in resolutions:
        refuse_reach(resolution.shape, resolution.stage.conditioning)
    grids, kernel_bytes = _choose_grids(request, resolutions, machine, window_bytes, core_shapes)
    octaves = _octaves(request, resolutions, grids)
    worker_bytes, block_sizes = _host_memory(request, resolutions, octaves, machine, kernel_bytes, workers)
    in_memory = worker_bytes + max(block_sizes) <= machine.limit
    worker_bytes += max(block_sizes) if in_memory else 0
    views = [resolution.view for resolution in resolutions]
    shapes = [resolution.shape for resolution in resolutions]
    plan = Plan(
        octaves=octaves,
        skipped_octaves=len(request.schedule.stages) - len(octaves),
        useful_side=max(view.useful_side for view in views),
        stride=max(view.stride for view in views),
        halo=max(view.halo for view in views),
        exact_halo=max(view.exact_halo for view in views),
        workers=workers,
        kernel_bytes=kernel_bytes,
        worker_bytes=worker_bytes,
        memory_bytes=machine.shared_bytes + min(machine.workers, len(block_sizes)) * worker_bytes,
        scratch_bytes=0 if in_memory else sum(block_sizes),
        disk_bytes=disk_bytes(shapes, request.files, octaves[-1].stage.optimizer.moments) + request.source_disk(shapes),
    )
    refuse_memory(plan, machine)
    refuse_disk(plan, machine)
    return plan


def _resolutions(request: PlanRequest) -> list[_Resolution]:
    """Return the octaves from coarse to fine, without those that would be too small for the network."""
    schedule = request.schedule
    resolutions: list[_Resolution] = []
    for level, stage in enumerate(reversed(schedule.stages)):
        view = NetworkView.of(stage, schedule, request.architecture, request.tiles.halo)
        factor = request.scale**level
        rows, columns = (max(1, round(side / factor)) for side in request.shape)
        # The finished size counts, however small.
        if level and min(rows, columns) < view.useful_side:
            break
        resolutions.append(_Resolution((rows, columns), stage, view))
    return resolutions[::-1]


def _fill(mode: AxisMode, fill: int, exact_halo: int) -> int:
    """Return the fill of an axis; a torus has no border, so a wrapping axis repeats as far as the network sees."""
    return exact_halo if mode == "wrap" else fill


def _choose_grids(
    request: PlanRequest,
    resolutions: Sequence[_Resolution],
    machine: Machine,
    window_bytes: WindowBytes | None,
    core_shapes: Sequence[tuple[int, int]] | None,
) -> tuple[list[Grid], int]:
    """Return every octave's grid, and the most bytes that a kernel call takes; the machine bounds those of `auto`."""
    size = request.tiles.size
    kernel_bytes = partial(_kernel_bytes, resolutions, window_bytes)

    def make_grid(octave: int, core: tuple[int, int]) -> Grid:
        return resolutions[octave].grid(request.boundary, core)

    if core_shapes is not None and len(core_shapes) == len(resolutions):
        grids = [make_grid(octave, core) for octave, core in enumerate(core_shapes)]
    elif size == "auto":
        shapes = [resolution.shape for resolution in resolutions]
        largest = max(_estimated_kernel_bytes(resolution.view, (_GUESS_SIDE, _GUESS_SIDE)) for resolution in resolutions)
        # CPUs compile fast, and every pixel more takes long. Accelerators compile slowly.
        sharing = None if machine.shares_memory else _sharing(request, resolutions)
        guess = largest / _GUESS_SIDE**2
        return auto_grids(shapes, make_grid, request.tiles.parallel, machine.kernel_limit, guess, kernel_bytes, sharing)
    else:
        grids = [make_grid(octave, (int(size), int(size))) for octave in range(len(resolutions))]
    return grids, kernel_bytes(grids)


def _sharing(request: PlanRequest, resolutions: Sequence[_Resolution]) -> SharingSettings:
    """Return the settings by which octaves share kernel shapes."""
    stages = [resolution.stage for resolution in resolutions]
    return SharingSettings(
        steps=[stage.steps for stage in stages],
        programs=[stage.objectives for stage in stages],
        parallel=max(1, request.tiles.parallel),
        area=0,
    )


def _kernel_bytes(resolutions: Sequence[_Resolution], window_bytes: WindowBytes | None, grids: Sequence[Grid]) -> int:
    """Return the most bytes that a kernel call takes; raise `UserError` where a window is too small for the network."""
    for grid, resolution in zip(grids, resolutions, strict=True):
        refuse_small(grid, resolution.view)
    # Only the largest window of every objective counts: smaller ones need less.
    largest: dict[int, tuple[Grid, NetworkView]] = {}
    for grid, resolution in zip(grids, resolutions, strict=True):
        for number in resolution.stage.objectives:
            if number not in largest or _window_area(largest[number][0]) <= _window_area(grid):
                largest[number] = (grid, resolution.view)
    return max(
        _estimated_kernel_bytes(view, grid.window_shape)
        if window_bytes is None
        else window_bytes(number, grid.window_shape, grid.core_shape)
        for number, (grid, view) in largest.items()
    )


def _estimated_kernel_bytes(view: NetworkView, window: tuple[int, int]) -> int:
    return _KERNEL_PER_ACTIVATIONS * view.network.activation_bytes(*window)


def _window_area(grid: Grid) -> int:
    return grid.window_shape[0] * grid.window_shape[1]


def _octaves(request: PlanRequest, resolutions: Sequence[_Resolution], grids: Sequence[Grid]) -> tuple[Octave, ...]:
    """Return the octaves with their tiles and the work on each."""
    objectives = request.schedule.objectives
    residence = None if request.residence.resident is False else request.residence
    return tuple(
        Octave(
            index,
            grid,
            resolution.stage,
            _window_flops(resolution, grid, [objectives[number] for number in resolution.stage.objectives]),
            estimated_bytes(resolution.view.network, grid.window_shape, request.precision),
            residence,
            any(objectives[number].needs_source for number in resolution.stage.objectives),
            kernel_work(resolution.view.network, grid.window_shape, grid.core_shape, request.precision).bytes,
            request.source_window,
        )
        for index, (grid, resolution) in enumerate(zip(grids, resolutions, strict=True))
    )


def _window_flops(resolution: _Resolution, grid: Grid, objectives: Sequence[Objective]) -> int:
    """Return the work on a window: that of its gradient, and of measuring it before if an objective needs that."""
    network, measuring = resolution.view.network, 0
    for objective in objectives:
        measuring_grid = objective.measuring_grid(network, grid)
        if measuring_grid is not None:
            measured_part = network.truncated(objective.measured_layers)
            measuring = max(measuring, measured_part.activation_flops(measuring_grid.window_shape))
    return network.gradient_flops(grid.window_shape, grid.core_shape) + measuring


def _host_memory(
    request: PlanRequest,
    resolutions: Sequence[_Resolution],
    octaves: Sequence[Octave],
    machine: Machine,
    kernel_bytes: int,
    workers: int,
) -> tuple[int, list[int]]:
    """Return the bytes of a worker's process without its block, and the bytes of every worker's block."""
    residence = request.residence
    compiled = _COMPILER_BYTES + _LAYER_BYTES * max(len(resolution.view.network.layers) for resolution in resolutions)
    working = machine.held_bytes + compiled + working_bytes(octaves[-1], machine.devices) + margin_bytes(octaves, workers)
    if machine.shares_memory:
        # A kernel on a CPU takes host memory, so it counts among the worker's bytes.
        windows = int(residence.batch) if residence.resident is True and residence.batch != "auto" else 1
        working += max(machine.devices, windows) * kernel_bytes
    return working, block_bytes(octaves, workers, request.schedule)
