"""From a config to everything a render will do: octaves, tiles, windows, memory, disk, arithmetic. Pure.

A plan is made before any work, and refuses what cannot work. What XLA needs for a window is asked through a callable, so
the same code plans from a quick estimate and from the compiled executable's own figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from render.config.formats import FORMATS, refuse_size
from render.config.schema import Config, OutputConfig, pictures
from render.dream.stage import Stage
from render.errors import UserError
from render.geometry.geometry import BAND, BOUNDARY_MODES, MOST_TURNS, Axis, AxisMode, Block, Grid, deal_blocks, round_up
from render.models.architecture import Architecture
from render.planning.layout import lay_out
from render.planning.residence import Residence, estimated_bytes, suits
from render.planning.schedule import Schedule

#: Bytes that the kernel of an objective, by number, needs for a window of (rows, columns) px with a core of such.
WindowBytes = Callable[[int, tuple[int, int], tuple[int, int]], int]

#: Bytes that the source takes on disk for octaves of these (rows, columns) px.
SourceDisk = Callable[[Sequence[tuple[int, int]]], int]

#: Largest window that `auto` takes, px: beyond it signs of life are far apart, and tiles too few to deal out.
_AUTO_WINDOW = 4096 * 4096
#: Share of the memory allowed from which on `auto` does not ask again for larger windows: asking is compiling.
_WELL_USED = 0.8
#: Shortest side of a tile that `auto` makes, px.
_AUTO_SHORTEST = 64
#: For more of a step's time than this share of what it takes with the least work in all, `auto` does not cut.
_WORTH = 0.9
_SMALLEST_USEFUL = 48
#: Share of the memory that a kernel call may take, and that everything may take.
_KERNEL_SHARE, _TOTAL_SHARE = 0.5, 0.9
#: What a kernel call needs over the size of its activations, about: XLA's analysis of real windows has 0.5 for InceptionV3
#: and 1.1 for GoogLeNet.
_ESTIMATE = 1
#: What compiling kernels and calling them for the first time leaves in a worker's process, beyond what XLA says of them:
#: the compiler's part, and that of each layer, measured, bytes.
_COMPILER_BYTES, _LAYER_BYTES = 170_000_000, 3_300_000
_PIXEL, _PICTURE_PIXEL = 12, 3  # bytes of three float32 or uint8 channels
#: Strips of `BAND` px that are at hand at once while octaves change, the source's own included.
_STRIPS = 8
#: How many tiles `auto` considers to give each worker, where there are several.
_MOST_TILES_EACH = 4


@dataclass(frozen=True)
class Machine:
    """What a render may use of each machine: memory of host and device (the same on CPU) and free disk, bytes.

    `workers` live on it, with `held_bytes` each before they have a block, and `shared_bytes` are held once beside them.
    `worker_bytes` is what the config allows a worker, and `scratch_free` what is free where blocks larger than memory go,
    where that is another disk than the run's. Each worker has so many `devices`, with `device_bytes` and a window each.
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
        """Device memory that a kernel call should need at most. It does not depend on the number of workers, because
        the tile grid must not.
        """
        most = self.device_bytes if self.worker_bytes is None or not self.shares_memory else self.worker_bytes
        return int(most * _KERNEL_SHARE)


@dataclass(frozen=True)
class Octave:
    """One resolution of the canvas and the work done on it.

    `window_flops` are the floating-point operations of a kernel call for one window, those of convolutions alone. Windows
    are counted by them wherever time is told from work: of two as large that with the smaller core takes less. `residence`
    says how blocks live on devices, where these have the memory, with about `device_window_bytes` for each window besides;
    None where they cannot.
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
        """Pixels that the kernel processes for a tile, halos included: a window for each region."""
        return len(self.stage.regions) * _area(self.grid.window_shape)

    @property
    def tile_flops(self) -> int:
        """Floating-point operations of the same, as `window_flops` counts them."""
        return len(self.stage.regions) * self.window_flops

    @property
    def step_window_pixels(self) -> int:
        """Pixels that the kernel processes in one step, if no mask spares it any."""
        return self.grid.tiles * self.tile_pixels

    @property
    def step_flops(self) -> int:
        """Floating-point operations of one step, as `window_flops` counts them."""
        return self.grid.tiles * self.tile_flops

    @property
    def flops(self) -> int:
        """The same of all its steps."""
        return self.steps * self.step_flops


@dataclass(frozen=True)
class Plan:
    """What will be done, and what it takes.

    `worker_bytes` is the host memory of the worker that needs most, `scratch_bytes` what all blocks take on disk because
    they would not fit in memory (0 where they do), `disk_bytes` what lies in the run directory at most.
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
    """(height, width) px of the finished picture, bleed included."""
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
    """The plan for a job; `UserError` with the reason where it cannot work.

    Without `window_bytes` the kernel's memory is estimated from the size of its activations. `workers` are those of the
    whole farm. `tiles` gives every octave's core in (rows, columns) px, as an earlier plan of the same job had it.
    `channels` counts those of the finished picture, and `source_disk` says what the source keeps in the run directory.
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
        for made, view in zip(grids, views, strict=True):
            _refuse_small(made, view)
        # The largest window of every objective: others need less.
        largest: dict[int, tuple[Grid, _View]] = {}
        for made, view, stage in zip(grids, views, stages, strict=True):
            for number in stage.objectives:
                if number not in largest or _area(largest[number][0].window_shape) <= _area(made.window_shape):
                    largest[number] = (made, view)
        needs = []
        for number, (made, view) in largest.items():
            if window_bytes is not None:
                needs.append(window_bytes(number, made.window_shape, made.core_shape))
            else:
                needs.append(_ESTIMATE * view.network.activation_bytes(*made.window_shape))
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
    asked = config.farm.worker
    residence = None if asked.resident is False else Residence(asked.resident, asked.batch)
    octaves = tuple(
        Octave(
            index,
            made,
            stage,
            view.network.gradient_flops(made.window_shape, made.core_shape),
            estimated_bytes(view.network, made.window_shape),
            residence if all(suits(stage, schedule.objectives[number]) for number in stage.objectives) else None,
        )
        for index, (made, stage, view) in enumerate(zip(grids, stages, views, strict=True))
    )
    # The same step on host and device: a kernel on a CPU takes host memory.
    compiled = _COMPILER_BYTES + _LAYER_BYTES * max(len(view.network.layers) for view in views)
    at_work = machine.held_bytes + compiled + _working_bytes(octaves[-1], machine.devices)
    batch = int(asked.batch) if asked.resident is True and asked.batch != "auto" else 1
    at_work += max(machine.devices, batch) * kernel_bytes if machine.shares_memory else 0
    blocks = _block_bytes(octaves, workers, schedule)
    in_memory = at_work + max(blocks) <= machine.limit
    worker_bytes = at_work + (max(blocks) if in_memory else 0)
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
        memory_bytes=machine.shared_bytes + min(machine.workers, len(blocks)) * worker_bytes,
        scratch_bytes=0 if in_memory else sum(blocks),
        disk_bytes=_disk_bytes(shapes, config.output, channels, stages[-1].optimizer.moments) + source_disk(shapes),
    )
    _refuse_size(plan, machine)
    return plan


@dataclass(frozen=True)
class _View:
    """What the objectives of an octave see: the network up to their deepest layer, its stride, halos, and least canvas."""

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
        read = [truncated.layer(name) for name in layers]
        stride = max(layer.stride for layer in read)
        field = max(layer.receptive_field for layer in read)
        exact = round_up(field - 1, stride)
        useful = max(_SMALLEST_USEFUL, 4 * stride, field // 4)
        return cls(layers, truncated, stride, exact, _halo(wanted, exact, stride), useful)


def _halo(wanted: int | str, exact: int, stride: int) -> int:
    """Halo in px: exact, half of it, or as many as asked for, in whole strides and never more than exact."""
    if wanted == "exact":
        return exact
    if wanted == "balanced":
        return round_up(exact // 2, stride)
    return min(exact, round_up(int(wanted), stride))


def _fill(mode: AxisMode, fill: int, exact_halo: int) -> int:
    """A torus has no border, so a wrapping axis repeats as far as the network sees."""
    return exact_halo if mode == "wrap" else fill


def _octave_shapes(final: tuple[int, int], config: Config, useful: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """(height, width) from coarse to fine, and how many of the octaves asked for would be too small to see anything.

    `useful` is the least short side for each of them.
    """
    shapes = [final]
    for above in range(1, config.octaves.count):
        factor = config.octaves.scale**above
        shape = (max(1, round(final[0] / factor)), max(1, round(final[1] / factor)))
        if min(shape) < useful[-1 - above]:
            break
        shapes.append(shape)
    return shapes[::-1], config.octaves.count - len(shapes)


#: The grid of an octave, by number, with tiles of (rows, columns) px.
MakeGrid = Callable[[int, tuple[int, int]], Grid]


def _auto_grids(
    shapes: Sequence[tuple[int, int]],
    grid: MakeGrid,
    parallel: int,
    budget: int,
    bytes_per_pixel: float,
    need: Callable[[Sequence[Grid]], int],
) -> tuple[list[Grid], int]:
    """For every octave the grid with the least work whose windows fit the budget, and the bytes that the largest needs.

    `bytes_per_pixel` is a first guess; `need` knows. The guess is mended until what it says fits, and once upwards where
    far more would fit.
    """
    area, grown = min(float(_AUTO_WINDOW), budget / bytes_per_pixel), False
    while True:
        grids = [_least_work(shape, partial(grid, octave), area, parallel) for octave, shape in enumerate(shapes)]
        needed = need(grids)
        largest = max(_area(made.window_shape) for made in grids)
        if needed > budget and largest <= area:
            area = 0.95 * largest * budget / needed
        elif needed <= _WELL_USED * budget and area < _AUTO_WINDOW and not grown and any(made.tiles > 1 for made in grids):
            # Once is enough: from there on the guess is mended downwards alone.
            area, grown = min(float(_AUTO_WINDOW), max(area, 0.95 * largest * budget / needed)), True
        else:
            # It fits, or the smallest windows there are do not: the caller refuses those.
            return grids, needed


def _least_work(shape: tuple[int, int], grid: Callable[[tuple[int, int]], Grid], area: float, parallel: int) -> Grid:
    """The grid of equal tiles with the least work on each of `parallel` workers, then in all, among those whose windows
    are within `area` px; that with the least in all where the other would be done hardly sooner.
    """
    best: tuple[tuple[int, int], Grid] | None = None
    least: tuple[tuple[int, int], Grid] | None = None
    across_at_least = 1
    for down in range(max(1, shape[0] // _AUTO_SHORTEST), 0, -1):
        # Fewer, taller rows of windows leave less width to each: the search for columns only ever moves on.
        for across in range(across_at_least, max(1, shape[1] // _AUTO_SHORTEST) + 1):
            made = grid((-(-shape[0] // down), -(-shape[1] // across)))
            if made.window_shape[0] * made.window_shape[1] <= area:
                break
            across_at_least = across + 1
        else:
            continue
        # As few columns as fit; and, for several workers, as many as give each the same number of tiles.
        dealt = range(parallel, parallel * _MOST_TILES_EACH + 1, parallel) if parallel > 1 else ()
        columns = {across} | {count for tiles in dealt for count in (tiles // down, -(-tiles // down))}
        for count in sorted(columns):
            if across <= count <= max(1, shape[1] // _AUTO_SHORTEST):
                made = grid((-(-shape[0] // down), -(-shape[1] // count)))
                work = _window_work(made)
                cost = (-(-made.tiles // parallel) * work, made.tiles * work)
                if best is None or cost <= best[0]:
                    best = (cost, made)
                if least is None or cost[::-1] <= least[0][::-1]:
                    least = (cost, made)
    if best and least and best[0][0] > _WORTH * least[0][0]:
        best = least
    return best[1] if best else grid((_AUTO_SHORTEST, _AUTO_SHORTEST))


def _window_work(grid: Grid) -> int:
    """What a window takes, as pixels: forward all of it, back from a part that on average is half a halo wider than the
    core on every side.
    """
    sides = zip(grid.window_shape, grid.core_shape, (grid.rows.halo, grid.columns.halo), strict=True)
    rows, columns = (min(window, core + halo) for window, core, halo in sides)
    return _area(grid.window_shape) + rows * columns


def _block_bytes(octaves: Sequence[Octave], workers: int, schedule: Schedule) -> list[int]:
    """Bytes of each worker's arrays at their largest: the padded block and its gradient or, while an octave changes, the
    octave before; what stages need besides.
    """
    largest: dict[int, int] = {}
    before: tuple[Block, ...] = ()
    for octave in octaves:
        dealt = deal_blocks(octave.grid, workers)
        for number, block in enumerate(dealt):
            gradients, others = _arrays(octave.stage, schedule, block)
            beside = max(gradients, _PIXEL * before[number].padded.area if number < len(before) else 0)
            largest[number] = max(largest.get(number, 0), _PIXEL * block.padded.area + beside + others)
        before = dealt
    return list(largest.values())


def _arrays(stage: Stage, schedule: Schedule, block: Block) -> tuple[int, int]:
    """Bytes of a block's gradients, and of what it has besides canvas and gradients: masks, moments, the source."""
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
    """Host memory for what is being worked on: strips of the canvas on their way, and windows."""
    rows, columns = final.grid.window_shape
    # Two in flight, and where they go to several devices once more, in one piece.
    windows = 2 if devices == 1 else 4 * devices
    return _PIXEL * (_STRIPS * min(BAND, final.grid.canvas.area) + windows * rows * columns)


def _disk_bytes(shapes: list[tuple[int, int]], output: OutputConfig, channels: int, moments: int) -> int:
    """At most what lies on disk: two checkpoints, pictures, copies and previews uncompressed, log and record."""
    area = shapes[-1][0] * shapes[-1][1]
    previews = sum(min(height * width, 1024 * 1024) for height, width in shapes)
    kept = 0.0
    for form, copies in pictures(output).items():
        bits = next(bits for bits in (output.bits, *FORMATS[form].bits) if bits in FORMATS[form].bits)
        # One more while it is written beside an older one.
        kept += (2 + len(copies)) * area * channels * bits / 8 * FORMATS[form].pyramid
    return round(2 * (1 + moments) * _PIXEL * area + kept + _PICTURE_PIXEL * previews + 2_000_000)


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
    mend = "render larger or choose a shallower layer"
    if min(made.extended_shape) >= needed:
        mend = "set a larger tiles.size or tiles.halo"
    raise UserError(
        f"an octave of {columns} x {rows} px has windows of {side} px and {view.network.name} needs {needed} px a "
        f"side for {', '.join(view.layers)}: {mend}"
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
        each = "" if machine.workers == 1 else f" for each of {machine.workers} workers"
        raise UserError(
            f"a worker needs {size_text(plan.worker_bytes)} of memory, {size_text(plan.kernel_bytes)} of it for a window "
            f"of {columns} x {rows} px, and there are {size_text(machine.limit)}{each}: set a smaller tiles.size, fewer "
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
    """Bytes for people: 1.5 GB."""
    for unit in ("bytes", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
