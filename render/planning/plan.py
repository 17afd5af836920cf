"""Plan of a render, from a config: octaves, tiles, windows, memory, disk, arithmetic. Pure.

A plan is made before any work, and refuses what cannot work. XLA's memory for a window is queried through a callable,
so the same code plans from a quick estimate and from the compiled executable's own figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from render.config.formats import FORMATS, refuse_size
from render.config.schema import Config, OutputConfig, pictures
from render.dreaming.stage import Stage
from render.errors import UserError
from render.geometry.blocks import Block, deal_blocks
from render.geometry.geometry import BAND, BOUNDARY_MODES, MOST_TURNS, Axis, AxisMode, Grid, round_up
from render.networks.architecture import Architecture
from render.planning.layout import lay_out
from render.planning.residence import Residence, estimated_bytes, suits
from render.planning.schedule import Schedule

#: Function of an objective's number, a window and a core, both (rows, columns) px; returns the bytes that the kernel needs.
WindowBytes = Callable[[int, tuple[int, int], tuple[int, int]], int]

#: Function of the octaves' (rows, columns) px; returns the bytes that the source takes on disk.
SourceDisk = Callable[[Sequence[tuple[int, int]]], int]

#: Largest window that `auto` takes, px: with larger ones progress shows too rarely, and there are too few tiles to deal.
_AUTO_WINDOW = 4096 * 4096
#: If windows take this share of the allowed memory, `auto` does not try larger ones: every try compiles a kernel.
_WELL_USED = 0.8
#: Shortest side of a tile that `auto` makes, px.
_AUTO_SHORTEST = 64
#: `auto` cuts into more tiles only if that reduces the step's time to this share, or less, of the least-work grid's.
_WORTH = 0.9
_SMALLEST_USEFUL = 48
#: Share of the memory for a kernel call, and for everything.
_KERNEL_SHARE, _TOTAL_SHARE = 0.5, 0.9
#: Memory of a kernel call relative to the size of its activations, about: by XLA's analysis of real windows 0.5 for
#: InceptionV3 and 1.1 for GoogLeNet.
_ESTIMATE = 1
#: Bytes that stay in a worker's process after kernels are compiled and first called, beyond XLA's own figures: a fixed part
#: for the compiler, and a part for each layer. Measured.
_COMPILER_BYTES, _LAYER_BYTES = 170_000_000, 3_300_000
_PIXEL, _PICTURE_PIXEL = 12, 3  # bytes of three float32 or uint8 channels
#: Strips of `BAND` px in memory at once while octaves change, including those of the source.
_STRIPS = 8
#: Most tiles per worker for which `auto` tries to give all workers the same number.
_MOST_TILES_EACH = 4


@dataclass(frozen=True)
class Machine:
    """Resources of a machine for a render: memory of host and device (the same on CPU) and free disk, bytes.

    `workers` run on it. Each holds `held_bytes` before it has a block; `shared_bytes` are held once beside them.
    `worker_bytes` is the memory that the config allows a worker. `scratch_free` is the free disk for blocks larger than
    memory, if that is another disk than the run's. Each worker has `devices` devices, with `device_bytes` and a window
    each.
    """

    host_bytes: int
    device_bytes: int
    disk_free: int
    disk: str = "the disk"
    shares_memory: bool = True
    workers: int = 1
    held_bytes: int = 0
    shared_bytes: int = 0
    worker_bytes: int | None = None
    scratch_free: int | None = None
    devices: int = 1

    @property
    def limit(self) -> int:
        """Host memory that each worker may use in all."""
        share = int((self.host_bytes * _TOTAL_SHARE - self.shared_bytes) / self.workers)
        return share if self.worker_bytes is None else min(share, self.worker_bytes)

    @property
    def kernel_limit(self) -> int:
        """Device memory that a kernel call may need at most.

        It does not depend on the number of workers, because the tile grid must not.
        """
        memory = self.device_bytes if self.worker_bytes is None or not self.shares_memory else self.worker_bytes
        return int(memory * _KERNEL_SHARE)


@dataclass(frozen=True)
class Octave:
    """One resolution of the canvas and the work done on it.

    `window_flops` are the floating-point operations of a kernel call for one window, those of convolutions alone.
    Wherever time is estimated from work, windows count by them: of two windows of one size, that with the smaller core
    takes less. `residence` says how blocks are resident on devices that have the memory, with about
    `device_window_bytes` for each window in addition; None if they cannot be.
    """

    index: int
    grid: Grid
    stage: Stage
    window_flops: int
    device_window_bytes: int
    residence: Residence | None

    @property
    def steps(self) -> int:
        """Updates of the whole canvas."""
        return self.stage.steps

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) px."""
        return self.grid.rows.length, self.grid.columns.length

    @property
    def tile_pixels(self) -> int:
        """Pixels that the kernel processes for a tile, halos included: one window for each region."""
        return len(self.stage.regions) * _area(self.grid.window_shape)

    @property
    def tile_flops(self) -> int:
        """Floating-point operations for a tile, as `window_flops` counts them."""
        return len(self.stage.regions) * self.window_flops

    @property
    def step_window_pixels(self) -> int:
        """Pixels that the kernel processes in one step, if no mask saves any."""
        return self.grid.tiles * self.tile_pixels

    @property
    def step_flops(self) -> int:
        """Floating-point operations of one step, as `window_flops` counts them."""
        return self.grid.tiles * self.tile_flops

    @property
    def flops(self) -> int:
        """Floating-point operations of all its steps, as `window_flops` counts them."""
        return self.steps * self.step_flops


@dataclass(frozen=True)
class Plan:
    """Plan of a render: the work and the resources it takes.

    `worker_bytes` is the host memory of the worker that needs most. `scratch_bytes` is the disk space of all blocks if
    they do not fit in memory, else 0. `disk_bytes` is the most that lies in the run directory.
    """

    octaves: tuple[Octave, ...]
    skipped_octaves: int
    useful_side: int
    stride: int
    halo: int
    exact_halo: int
    workers: int
    kernel_bytes: int
    worker_bytes: int
    memory_bytes: int
    scratch_bytes: int
    disk_bytes: int

    @property
    def final(self) -> Octave:
        return self.octaves[-1]

    @property
    def window_pixels(self) -> int:
        """Pixels that the kernel processes in the whole render."""
        return sum(octave.steps * octave.step_window_pixels for octave in self.octaves)

    @property
    def flops(self) -> int:
        """Floating-point operations of the whole render, as `Octave.window_flops` counts them."""
        return sum(octave.flops for octave in self.octaves)


def picture_shape(config: Config, source: tuple[int, int] | None) -> tuple[int, int]:
    """Return (height, width) px of the finished picture, bleed included."""
    return lay_out(config.output, source).shape


def make_plan(
    config: Config,
    architecture: Architecture,
    schedule: Schedule,
    source_shape: tuple[int, int] | None,
    machine: Machine,
    window_bytes: WindowBytes | None = None,
    *,
    workers: int = 1,
    tiles: Sequence[tuple[int, int]] | None = None,
    channels: int = 3,
    source_disk: SourceDisk = lambda _: 0,
) -> Plan:
    """Return the plan for a job.

    Args:
        config: the config.
        architecture: the network.
        schedule: the objectives and stages.
        source_shape: (rows, columns) px; None if the source has no size of its own.
        machine: the resources of each machine.
        window_bytes: the kernel's memory; None estimates it from the size of its activations.
        workers: the number of workers of the whole farm.
        tiles: the core of every octave in (rows, columns) px, as in an earlier plan of the same job.
        channels: the number of channels of the finished picture.
        source_disk: the bytes that the source stores in the run directory.

    Raises:
        UserError: the job cannot work; the message has the reason.
    """
    views = [_View.of(stage, schedule, architecture, config.tiles.halo) for stage in schedule.stages]
    shapes, skipped = _octave_shapes(picture_shape(config, source_shape), config, [view.useful for view in views])
    stages, views = schedule.last(len(shapes)), views[skipped:]
    for form in pictures(config.output):
        refuse_size(form, shapes[-1], config.output.bits, channels)
    _refuse_reach(shapes, stages)

    modes = BOUNDARY_MODES[config.boundary.mode]

    def grid(octave: int, tile: tuple[int, int]) -> Grid:
        view = views[octave]
        rows, columns = (
            Axis(length, core, view.halo, _fill(mode, config.boundary.fill, view.exact_halo), view.stride, mode)
            for length, core, mode in zip(shapes[octave], tile, modes, strict=True)
        )
        return Grid(rows, columns)

    def need(grids: Sequence[Grid]) -> int:
        for octave_grid, view in zip(grids, views, strict=True):
            _refuse_small(octave_grid, view)
        # Only the largest window of every objective counts: smaller ones need less.
        largest: dict[int, tuple[Grid, _View]] = {}
        for octave_grid, view, stage in zip(grids, views, stages, strict=True):
            for number in stage.objectives:
                if number not in largest or _area(largest[number][0].window_shape) <= _area(octave_grid.window_shape):
                    largest[number] = (octave_grid, view)
        needs = []
        for number, (octave_grid, view) in largest.items():
            if window_bytes is not None:
                needs.append(window_bytes(number, octave_grid.window_shape, octave_grid.core_shape))
            else:
                needs.append(_ESTIMATE * view.network.activation_bytes(*octave_grid.window_shape))
        return max(needs)

    size = config.tiles.size
    if tiles is not None and len(tiles) == len(shapes):
        grids = [grid(octave, tile) for octave, tile in enumerate(tiles)]
        kernel_bytes = need(grids)
    elif size == "auto":
        guess = max(_ESTIMATE * view.network.activation_bytes(1024, 1024) / 1024**2 for view in views)
        grids, kernel_bytes = _auto_grids(shapes, grid, config.tiles.parallel, machine.kernel_limit, guess, need)
    else:
        grids = [grid(octave, (int(size), int(size))) for octave in range(len(shapes))]
        kernel_bytes = need(grids)
    worker_config = config.farm.worker
    residence = None if worker_config.resident is False else Residence(worker_config.resident, worker_config.batch)
    octaves = tuple(
        Octave(
            index,
            octave_grid,
            stage,
            view.network.gradient_flops(octave_grid.window_shape, octave_grid.core_shape),
            estimated_bytes(view.network, octave_grid.window_shape),
            residence if all(suits(stage, schedule.objectives[number]) for number in stage.objectives) else None,
        )
        for index, (octave_grid, stage, view) in enumerate(zip(grids, stages, views, strict=True))
    )
    # A kernel on a CPU takes host memory, so it counts among the worker's bytes.
    compiled = _COMPILER_BYTES + _LAYER_BYTES * max(len(view.network.layers) for view in views)
    working_bytes = machine.held_bytes + compiled + _working_bytes(octaves[-1], machine.devices)
    batch = int(worker_config.batch) if worker_config.resident is True and worker_config.batch != "auto" else 1
    working_bytes += max(machine.devices, batch) * kernel_bytes if machine.shares_memory else 0
    block_sizes = _block_bytes(octaves, workers, schedule)
    in_memory = working_bytes + max(block_sizes) <= machine.limit
    worker_bytes = working_bytes + (max(block_sizes) if in_memory else 0)
    plan = Plan(
        octaves=octaves,
        skipped_octaves=skipped,
        useful_side=max(view.useful for view in views),
        stride=max(view.stride for view in views),
        halo=max(view.halo for view in views),
        exact_halo=max(view.exact_halo for view in views),
        workers=workers,
        kernel_bytes=kernel_bytes,
        worker_bytes=worker_bytes,
        memory_bytes=machine.shared_bytes + min(machine.workers, len(block_sizes)) * worker_bytes,
        scratch_bytes=0 if in_memory else sum(block_sizes),
        disk_bytes=_disk_bytes(shapes, config.output, channels, stages[-1].optimizer.moments) + source_disk(shapes),
    )
    _refuse_size(plan, machine)
    return plan


@dataclass(frozen=True)
class _View:
    """Part of the network that an octave's objectives read, with its stride, halos and least useful side.

    It ends at the deepest layer of the objectives.
    """

    layers: tuple[str, ...]
    network: Architecture
    stride: int
    exact_halo: int
    halo: int
    useful: int

    @classmethod
    def of(cls, stage: Stage, schedule: Schedule, architecture: Architecture, wanted: int | str) -> _View:
        layers = tuple(dict.fromkeys(name for number in stage.objectives for name in schedule.objectives[number].layers))
        truncated = architecture.truncated(layers)
        layers_read = [truncated.layer(name) for name in layers]
        stride = max(layer.stride for layer in layers_read)
        field = max(layer.receptive_field for layer in layers_read)
        exact = round_up(field - 1, stride)
        useful = max(_SMALLEST_USEFUL, 4 * stride, field // 4)
        return cls(layers, truncated, stride, exact, _halo(wanted, exact, stride), useful)


def _halo(wanted: int | str, exact: int, stride: int) -> int:
    """Return the halo in px: exact, half of it, or a number, in whole strides and never more than exact."""
    if wanted == "exact":
        return exact
    if wanted == "balanced":
        return round_up(exact // 2, stride)
    return min(exact, round_up(int(wanted), stride))


def _fill(mode: AxisMode, fill: int, exact_halo: int) -> int:
    """Return the fill of an axis; a torus has no border, so a wrapping axis repeats as far as the network sees."""
    return exact_halo if mode == "wrap" else fill


def _octave_shapes(final: tuple[int, int], config: Config, useful: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """Return the octaves' (height, width) from coarse to fine, and the number of octaves left out as too small.

    `useful` is the least short side of each octave in the config.
    """
    shapes = [final]
    for level in range(1, config.octaves.count):
        factor = config.octaves.scale**level
        shape = (max(1, round(final[0] / factor)), max(1, round(final[1] / factor)))
        if min(shape) < useful[-1 - level]:
            break
        shapes.append(shape)
    return shapes[::-1], config.octaves.count - len(shapes)


#: Function that makes the grid of an octave, by number, with tiles of (rows, columns) px.
MakeGrid = Callable[[int, tuple[int, int]], Grid]


def _auto_grids(
    shapes: Sequence[tuple[int, int]],
    grid: MakeGrid,
    parallel: int,
    budget: int,
    bytes_per_pixel: float,
    need: Callable[[Sequence[Grid]], int],
) -> tuple[list[Grid], int]:
    """Return the least-work grid of every octave whose windows fit the budget, and the bytes of the largest window.

    `bytes_per_pixel` is a first guess; `need` returns the true bytes. The window's area is reduced until they fit, and
    enlarged once if far more would fit.
    """
    area, grown = min(float(_AUTO_WINDOW), budget / bytes_per_pixel), False
    while True:
        grids = [_least_work(shape, partial(grid, octave), area, parallel) for octave, shape in enumerate(shapes)]
        needed = need(grids)
        largest = max(_area(octave_grid.window_shape) for octave_grid in grids)
        if needed > budget and largest <= area:
            area = 0.95 * largest * budget / needed
        elif (
            needed <= _WELL_USED * budget
            and area < _AUTO_WINDOW
            and not grown
            and any(octave_grid.tiles > 1 for octave_grid in grids)
        ):
            # Enlarge only once: afterwards the area is only reduced.
            area, grown = min(float(_AUTO_WINDOW), max(area, 0.95 * largest * budget / needed)), True
        else:
            # It fits, or even the smallest windows do not; then the caller refuses the plan.
            return grids, needed


def _least_work(shape: tuple[int, int], grid: Callable[[tuple[int, int]], Grid], area: float, parallel: int) -> Grid:
    """Return the grid of equal tiles, with windows of at most `area` px, that has the least work on each worker.

    Of equals the one with the least work in all counts. The grid with the least work in all is returned instead if the
    other is hardly faster (see `_WORTH`). `parallel` is the number of workers.
    """
    best: tuple[tuple[int, int], Grid] | None = None
    least: tuple[tuple[int, int], Grid] | None = None
    across_at_least = 1
    for down in range(max(1, shape[0] // _AUTO_SHORTEST), 0, -1):
        # Fewer, taller rows of windows leave less width to each, so the number of columns never has to decrease.
        for across in range(across_at_least, max(1, shape[1] // _AUTO_SHORTEST) + 1):
            candidate = grid((-(-shape[0] // down), -(-shape[1] // across)))
            if candidate.window_shape[0] * candidate.window_shape[1] <= area:
                break
            across_at_least = across + 1
        else:
            continue
        # The fewest columns that fit and, for several workers, the numbers that give each worker as many tiles.
        tile_counts = range(parallel, parallel * _MOST_TILES_EACH + 1, parallel) if parallel > 1 else ()
        columns = {across} | {count for tiles in tile_counts for count in (tiles // down, -(-tiles // down))}
        for count in sorted(columns):
            if across <= count <= max(1, shape[1] // _AUTO_SHORTEST):
                candidate = grid((-(-shape[0] // down), -(-shape[1] // count)))
                work = _window_work(candidate)
                cost = (-(-candidate.tiles // parallel) * work, candidate.tiles * work)
                if best is None or cost <= best[0]:
                    best = (cost, candidate)
                if least is None or cost[::-1] <= least[0][::-1]:
                    least = (cost, candidate)
    if best and least and best[0][0] > _WORTH * least[0][0]:
        best = least
    return best[1] if best else grid((_AUTO_SHORTEST, _AUTO_SHORTEST))


def _window_work(grid: Grid) -> int:
    """Return the work of a window, in pixels: all of it forward, and a part back.

    The part that goes back is on average half a halo wider than the core on every side.
    """
    sides = zip(grid.window_shape, grid.core_shape, (grid.rows.halo, grid.columns.halo), strict=True)
    rows, columns = (min(window, core + halo) for window, core, halo in sides)
    return _area(grid.window_shape) + rows * columns


def _block_bytes(octaves: Sequence[Octave], workers: int, schedule: Schedule) -> list[int]:
    """Return the bytes of each worker's arrays at their largest.

    These are the padded block, the stage's other arrays, and the gradient or, while octaves change, the block of the
    octave before.
    """
    largest: dict[int, int] = {}
    before: tuple[Block, ...] = ()
    for octave in octaves:
        blocks = deal_blocks(octave.grid, workers)
        for number, block in enumerate(blocks):
            gradients, other_bytes = _arrays(octave.stage, schedule, block)
            gradient_or_old_block = max(gradients, _PIXEL * before[number].padded.area if number < len(before) else 0)
            largest[number] = max(largest.get(number, 0), _PIXEL * block.padded.area + gradient_or_old_block + other_bytes)
        before = blocks
    return list(largest.values())


def _arrays(stage: Stage, schedule: Schedule, block: Block) -> tuple[int, int]:
    """Return the bytes of a block's gradients, and those of its masks, moments and source."""
    area, conditioning = block.pixels.area, stage.conditioning
    rows, columns = (side + 2 * conditioning.reach for side in block.pixels.shape)
    gradients = len(stage.regions) * (rows * columns + (area if conditioning.filters else 0))
    masks = sum(not region.everywhere for region in stage.regions)
    source = 0
    if any(schedule.objectives[number].looks_at_source for number in stage.objectives):
        source = block.padded.area
    elif conditioning.pull:
        source = area
    return _PIXEL * gradients, _PIXEL * (source + stage.optimizer.moments * area) + _PIXEL // 3 * masks * area


def _working_bytes(final: Octave, devices: int) -> int:
    """Return the host memory for strips of the canvas in transit, and for windows."""
    rows, columns = final.grid.window_shape
    # Two windows are in flight for each device; several devices need them once more, stacked in one array.
    windows = 2 if devices == 1 else 4 * devices
    return _PIXEL * (_STRIPS * min(BAND, final.grid.canvas.area) + windows * rows * columns)


def _disk_bytes(shapes: list[tuple[int, int]], output: OutputConfig, channels: int, moments: int) -> int:
    """Return the most bytes on disk: two checkpoints, pictures, copies and previews uncompressed, log and record."""
    area = shapes[-1][0] * shapes[-1][1]
    previews = sum(min(height * width, 1024 * 1024) for height, width in shapes)
    picture_bytes = 0.0
    for form, copies in pictures(output).items():
        bits = next(bits for bits in (output.bits, *FORMATS[form].bits) if bits in FORMATS[form].bits)
        # One more picture while the new one is written beside an older one.
        picture_bytes += (2 + len(copies)) * area * channels * bits / 8 * FORMATS[form].pyramid
    return round(2 * (1 + moments) * _PIXEL * area + picture_bytes + _PICTURE_PIXEL * previews + 2_000_000)


def _refuse_small(made: Grid, view: _View) -> None:
    for axis in (made.rows, made.columns):
        if axis.mode == "wrap" and axis.fill > MOST_TURNS * axis.length:
            raise UserError(
                f"an axis of {axis.length} px cannot wrap for {', '.join(view.layers)}, which sees {axis.fill} px either "
                "way: render larger, choose a shallower layer, or boundary.mode=reflect"
            )
    side, needed = min(made.window_shape), view.network.smallest_input()
    if side >= needed:
        return
    rows, columns = made.canvas.shape
    remedy = "render larger or choose a shallower layer"
    if min(made.extended_shape) >= needed:
        remedy = "set a larger tiles.size or tiles.halo"
    raise UserError(
        f"an octave of {columns} x {rows} px has windows of {side} px and {view.network.name} needs {needed} px a "
        f"side for {', '.join(view.layers)}: {remedy}"
    )


def _refuse_reach(shapes: Sequence[tuple[int, int]], stages: Sequence[Stage]) -> None:
    for shape, stage in zip(shapes, stages, strict=True):
        reach, side = stage.conditioning.reach, min(shape)
        if reach >= side:
            key = "laplacian" if stage.conditioning.laplacian else "smoothing"
            raise UserError(
                f"conditioning.{key}={getattr(stage.conditioning, key):g} looks {reach} px far, and an octave is only "
                f"{shape[1]} x {shape[0]} px: set a smaller one, fewer octaves.count, or a list with one for each octave"
            )


def _area(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]


def _refuse_size(plan: Plan, machine: Machine) -> None:
    rows, columns = plan.final.grid.window_shape
    if plan.kernel_bytes > machine.device_bytes * _TOTAL_SHARE:
        raise UserError(
            f"a window of {columns} x {rows} px (halo {plan.halo}) needs {size_text(plan.kernel_bytes)} and "
            f"the device has {size_text(machine.device_bytes)}: set a smaller tiles.size, tiles.halo=balanced, or a "
            "shallower layer"
        )
    if plan.worker_bytes > machine.limit:
        share = "" if machine.workers == 1 else f" for each of {machine.workers} workers"
        raise UserError(
            f"a worker needs {size_text(plan.worker_bytes)} of memory, {size_text(plan.kernel_bytes)} of it for a window "
            f"of {columns} x {rows} px, and there are {size_text(machine.limit)}{share}: set a smaller tiles.size, fewer "
            "farm.workers, or a larger farm.worker.memory_gb"
        )
    height, width = plan.final.shape
    on_disk = plan.disk_bytes
    if plan.scratch_bytes and machine.scratch_free is None:
        on_disk += plan.scratch_bytes
    elif plan.scratch_bytes > (machine.scratch_free or 0):
        raise UserError(
            f"blocks of {width:,} x {height:,} px need {size_text(plan.scratch_bytes)} of scratch disk and "
            f"{size_text(machine.scratch_free or 0)} are free: set farm.scratch to a larger disk, or render it smaller"
        )
    if on_disk > machine.disk_free:
        scratch = f", {size_text(plan.scratch_bytes)} of it for scratch files," if on_disk > plan.disk_bytes else ""
        raise UserError(
            f"a canvas of {width:,} x {height:,} px needs up to {size_text(on_disk)} of disk{scratch} and "
            f"{size_text(machine.disk_free)} are free in {machine.disk}: set output.dir to a larger one, or render smaller"
        )


def size_text(count: float) -> str:
    """Return a number of bytes as text for people: 1.5 GB."""
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
