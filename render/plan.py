"""From a config to everything a render will do: octaves, tiles, windows, memory, disk, arithmetic. Pure.

A plan is made before any work, and refuses what cannot work. What XLA needs for a window is asked through a callable, so
the same code plans from a quick estimate and from the compiled executable's own figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from render.config import Config, OutputConfig, picture_width, pictures
from render.errors import UserError
from render.formats import FORMATS, refuse_size
from render.geometry import BAND, BOUNDARY_MODES, Axis, AxisMode, Block, Grid, deal_blocks, round_up
from render.models.architecture import Architecture

#: Bytes that the kernel needs for a window of (rows, columns) px with a core of (rows, columns) px.
WindowBytes = Callable[[tuple[int, int], tuple[int, int]], int]

#: Largest window that `auto` takes, px: beyond it the saving is small and the time between two signs of life long.
_AUTO_WINDOW = 3200 * 3200
#: Shortest side of a tile that `auto` makes, px.
_AUTO_SHORTEST = 64
_SMALLEST_USEFUL = 48
#: How often a wrapping axis may be repeated within the network's view.
_MOST_TURNS = 16
#: Share of the memory that a kernel call may take, and that everything may take.
_KERNEL_SHARE, _TOTAL_SHARE = 0.5, 0.9
#: What a kernel call needs over the size of its activations, about, as XLA's analysis of real windows had it.
_ESTIMATE = 2
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
    where that is another disk than the run's.
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
    """One resolution of the canvas and the work done on it."""

    index: int
    grid: Grid
    steps: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) px."""
        return self.grid.rows.length, self.grid.columns.length

    @property
    def step_window_pixels(self) -> int:
        """Pixels that the kernel processes in one step, halos included."""
        rows, columns = self.grid.window_shape
        return self.grid.tiles * rows * columns


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
    flops: int

    @property
    def final(self) -> Octave:
        return self.octaves[-1]

    @property
    def window_pixels(self) -> int:
        """Pixels that the kernel processes in the whole render."""
        return sum(octave.steps * octave.step_window_pixels for octave in self.octaves)


def picture_shape(config: Config, source: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) px of the finished picture: the height follows the source's aspect unless it is given."""
    width = picture_width(config.output)
    height = config.output.height
    if width is None:
        if source is None:
            raise UserError("noise has no size of its own: set output.width (and output.height)")
        width = source[1] if height is None else max(1, round(source[1] * height / source[0]))
    if height is None:
        # Noise has no aspect: three to two, as photos have.
        height = max(1, round(width * source[0] / source[1])) if source else max(1, round(width * 2 / 3))
    return height, width


def make_plan(
    config: Config,
    architecture: Architecture,
    layers: Sequence[str],
    source_shape: tuple[int, int] | None,
    machine: Machine,
    window_bytes: WindowBytes | None = None,
    *,
    workers: int = 1,
    tiles: Sequence[tuple[int, int]] | None = None,
    channels: int = 3,
) -> Plan:
    """The plan for a job; `UserError` with the reason where it cannot work.

    `layers` are those that the objective reads. Without `window_bytes` the kernel's memory is estimated from the size of
    its activations. `workers` are those of the whole farm. `tiles` gives every octave's core in (rows, columns) px, as an
    earlier plan of the same job had it, and `channels` counts those of the finished picture.
    """
    truncated = architecture.truncated(layers)
    read = [truncated.layer(name) for name in layers]
    stride = max(layer.stride for layer in read)
    field = max(layer.receptive_field for layer in read)
    exact_halo = round_up(field - 1, stride)
    halo = _halo(config.tiles.halo, exact_halo, stride)
    useful = max(_SMALLEST_USEFUL, 4 * stride, field // 4)
    shapes, skipped = _octave_shapes(picture_shape(config, source_shape), config, useful)
    for form in pictures(config.output):
        refuse_size(form, shapes[-1], config.output.bits, channels)

    modes = BOUNDARY_MODES[config.boundary.mode]

    def grid(shape: tuple[int, int], tile: tuple[int, int]) -> Grid:
        rows, columns = (
            Axis(length, core, halo, _fill(mode, config.boundary.fill, exact_halo), stride, mode)
            for length, core, mode in zip(shape, tile, modes, strict=True)
        )
        return Grid(rows, columns)

    def need(grids: Sequence[Grid]) -> int:
        _refuse_small(grids[0], truncated, layers)
        largest = max(grids, key=lambda g: g.window_shape[0] * g.window_shape[1])
        if window_bytes is not None:
            return window_bytes(largest.window_shape, largest.core_shape)
        return _ESTIMATE * truncated.activation_bytes(*largest.window_shape)

    size = config.tiles.size
    if tiles is not None and len(tiles) == len(shapes):
        grids = [grid(shape, tile) for shape, tile in zip(shapes, tiles, strict=True)]
        kernel_bytes = need(grids)
    elif size == "auto":
        guess = _ESTIMATE * truncated.activation_bytes(1024, 1024) / 1024**2
        grids, kernel_bytes = _auto_grids(shapes, grid, config.tiles.parallel, machine.kernel_limit, guess, need)
    else:
        grids = [grid(shape, (int(size), int(size))) for shape in shapes]
        kernel_bytes = need(grids)
    octaves = tuple(Octave(index, made, config.octaves.steps) for index, made in enumerate(grids))
    # The same step on host and device: a kernel on a CPU takes host memory.
    at_work = machine.held_bytes + _working_bytes(octaves[-1]) + (kernel_bytes if machine.shares_memory else 0)
    blocks = _block_bytes(octaves, workers)
    in_memory = at_work + max(blocks) <= machine.limit
    worker_bytes = at_work + (max(blocks) if in_memory else 0)
    plan = Plan(
        octaves=octaves,
        skipped_octaves=skipped,
        useful_side=useful,
        stride=stride,
        halo=halo,
        exact_halo=exact_halo,
        workers=workers,
        kernel_bytes=kernel_bytes,
        worker_bytes=worker_bytes,
        memory_bytes=machine.shared_bytes + min(machine.workers, len(blocks)) * worker_bytes,
        scratch_bytes=0 if in_memory else sum(blocks),
        disk_bytes=_disk_bytes(shapes, config.output, channels),
        flops=sum(
            octave.steps * octave.grid.tiles * truncated.gradient_flops(*octave.grid.window_shape) for octave in octaves
        ),
    )
    _refuse_size(plan, machine)
    return plan


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


def _octave_shapes(final: tuple[int, int], config: Config, useful: int) -> tuple[list[tuple[int, int]], int]:
    """(height, width) from coarse to fine, and how many of the octaves asked for would be too small to see anything."""
    shapes = [final]
    for above in range(1, config.octaves.count):
        factor = config.octaves.scale**above
        shape = (max(1, round(final[0] / factor)), max(1, round(final[1] / factor)))
        if min(shape) < useful:
            break
        shapes.append(shape)
    return shapes[::-1], config.octaves.count - len(shapes)


MakeGrid = Callable[[tuple[int, int], tuple[int, int]], Grid]


def _auto_grids(
    shapes: Sequence[tuple[int, int]],
    grid: MakeGrid,
    parallel: int,
    budget: int,
    bytes_per_pixel: float,
    need: Callable[[Sequence[Grid]], int],
) -> tuple[list[Grid], int]:
    """For every octave the grid with the least work whose windows fit the budget, and the bytes that the largest needs.

    `bytes_per_pixel` is a first guess; `need` knows, and the guess is mended until what it says fits.
    """
    area = min(float(_AUTO_WINDOW), budget / bytes_per_pixel)
    while True:
        grids = [_least_work(shape, grid, area, parallel) for shape in shapes]
        needed = need(grids)
        rows, columns = max((g.window_shape for g in grids), key=lambda shape: shape[0] * shape[1])
        if needed <= budget or rows * columns > area:
            # It fits, or the smallest windows there are do not: the caller refuses those.
            return grids, needed
        area = 0.95 * rows * columns * budget / needed


def _least_work(shape: tuple[int, int], grid: MakeGrid, area: float, parallel: int) -> Grid:
    """The grid of equal tiles with the fewest window pixels on each of `parallel` workers, then in all, among those whose
    windows are within `area` px.
    """
    best: tuple[tuple[int, int], Grid] | None = None
    across_at_least = 1
    for down in range(max(1, shape[0] // _AUTO_SHORTEST), 0, -1):
        # Fewer, taller rows of windows leave less width to each: the search for columns only ever moves on.
        for across in range(across_at_least, max(1, shape[1] // _AUTO_SHORTEST) + 1):
            made = grid(shape, (-(-shape[0] // down), -(-shape[1] // across)))
            if made.window_shape[0] * made.window_shape[1] <= area:
                break
            across_at_least = across + 1
        else:
            continue
        # As few columns as fit; and, for several workers, as many as give each the same number of tiles.
        columns = {across} | {-(-turns * parallel // down) for turns in range(1, _MOST_TILES_EACH + 1) if parallel > 1}
        for count in sorted(columns):
            if across <= count <= max(1, shape[1] // _AUTO_SHORTEST):
                made = grid(shape, (-(-shape[0] // down), -(-shape[1] // count)))
                window = made.window_shape[0] * made.window_shape[1]
                cost = (-(-made.tiles // parallel) * window, made.tiles * window)
                if best is None or cost <= best[0]:
                    best = (cost, made)
    return best[1] if best else grid(shape, (_AUTO_SHORTEST, _AUTO_SHORTEST))


def _block_bytes(octaves: Sequence[Octave], workers: int) -> list[int]:
    """Bytes of each worker's arrays at their largest: the padded block and its gradient or, while an octave changes, the
    octave before.
    """
    largest: dict[int, int] = {}
    before: tuple[Block, ...] = ()
    for octave in octaves:
        dealt = deal_blocks(octave.grid, workers)
        for number, block in enumerate(dealt):
            beside = max(block.pixels.area, before[number].padded.area if number < len(before) else 0)
            largest[number] = max(largest.get(number, 0), _PIXEL * (block.padded.area + beside))
        before = dealt
    return list(largest.values())


def _working_bytes(final: Octave) -> int:
    """Host memory for what is being worked on: strips of the canvas on their way, and windows."""
    rows, columns = final.grid.window_shape
    return _PIXEL * (_STRIPS * min(BAND, final.grid.canvas.area) + 2 * rows * columns)


def _disk_bytes(shapes: list[tuple[int, int]], output: OutputConfig, channels: int) -> int:
    """At most what lies on disk: two checkpoints, pictures, copies and previews uncompressed, log and record."""
    area = shapes[-1][0] * shapes[-1][1]
    previews = sum(min(height * width, 1024 * 1024) for height, width in shapes)
    kept = 0.0
    for form, copies in pictures(output).items():
        bits = next(bits for bits in (output.bits, *FORMATS[form].bits) if bits in FORMATS[form].bits)
        # One more while it is written beside an older one.
        kept += (2 + len(copies)) * area * channels * bits / 8 * FORMATS[form].pyramid
    return round(2 * _PIXEL * area + kept + _PICTURE_PIXEL * previews + 2_000_000)


def _refuse_small(coarsest: Grid, architecture: Architecture, layers: Sequence[str]) -> None:
    for axis in (coarsest.rows, coarsest.columns):
        if axis.mode == "wrap" and axis.fill > _MOST_TURNS * axis.length:
            raise UserError(
                f"an axis of {axis.length} px cannot wrap for {', '.join(layers)}, which sees {axis.fill} px either way: "
                "render larger, choose a shallower layer, or boundary.mode=reflect"
            )
    side, needed = min(coarsest.window_shape), architecture.smallest_input()
    if side >= needed:
        return
    rows, columns = coarsest.canvas.shape
    mend = "render larger or choose a shallower layer"
    if min(coarsest.extended_shape) >= needed:
        mend = "set a larger tiles.size or tiles.halo"
    raise UserError(
        f"the coarsest octave, {columns} x {rows} px, has windows of {side} px and {architecture.name} needs {needed} px a "
        f"side for {', '.join(layers)}: {mend}"
    )


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
