"""Octaves of a touch: at each, the part of the canvas that the network must see to dream the area exactly. Pure.

The part is the area with the halo around it, and with what filters read; it begins on the phase of the network's grid. So
inside of the area the gradient is that of the whole canvas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from render.config.schema import BoundaryConfig
from render.dreaming.stage import Region, Stage
from render.geometry.geometry import BOUNDARY_MODES, AxisMode, Interval, Rect
from render.planning.network_view import NetworkView
from render.planning.plan import Machine, Octave, Plan
from render.planning.planner import PlanRequest, WindowBytes, make_plan

#: Least short side of the area at an octave, px.
_MIN_AREA_PX = 32


@dataclass(frozen=True)
class TouchOctave:
    """Part of the canvas that is dreamed at one octave.

    Attributes:
        canvas_shape: (rows, columns) px of the whole canvas at the octave.
        area: Extent of the area there.
        window: The part that is computed, px of the octave; it may reach beyond ends that wrap.
        reference: Pixels of the area with its halo.
        stage: Settings of the octave.
        boundary: Continuation of the part beyond its edges.
    """

    canvas_shape: tuple[int, int]
    area: Rect
    window: Rect
    reference: int
    stage: Stage
    boundary: BoundaryConfig


def touch_octaves(request: PlanRequest, box: Rect) -> list[TouchOctave]:
    """Return the octaves of a touch, coarse to fine.

    Args:
        request: Values of the run's job with the touch's settings; its shape is that of the whole canvas.
        box: Extent of the area, px of the canvas.
    """
    octaves: list[TouchOctave] = []
    for level, stage in enumerate(reversed(request.schedule.stages)):
        factor = request.scale**level
        shape = max(1, round(request.shape[0] / factor)), max(1, round(request.shape[1] / factor))
        area = _scaled(box, request.shape, shape)
        if level and min(area.shape) < _MIN_AREA_PX:
            break
        view = NetworkView.of(stage, request.schedule, request.architecture, request.tiles.halo)
        octaves.append(_octave(shape, area, stage, view, request.boundary))
    return octaves[::-1]


def plan_touch(
    request: PlanRequest,
    octaves: Sequence[TouchOctave],
    machine: Machine,
    window_bytes: WindowBytes | None = None,
    *,
    workers: int = 1,
    core_shape: tuple[int, int] | None = None,
) -> Plan:
    """Return the plan of a touch: the octaves' grids lie over their parts of the canvas.

    All octaves have the tiles of the last one.

    Args:
        request: Values of the touch's job.
        octaves: Its octaves.
        machine: Resources of each machine.
        window_bytes: Memory of a kernel call; None estimates it.
        workers: Number of workers.
        core_shape: Largest core of a tile, (rows, columns) px, as in an earlier plan; None chooses it.

    Raises:
        UserError: The touch cannot work; the message has the reason.
    """
    plans: list[Plan] = []
    for octave in reversed(octaves):
        plan = make_plan(
            request_of(request, octave),
            machine, window_bytes, workers=workers, core_shapes=None if core_shape is None else [core_shape],
        )  # fmt: skip
        core_shape = core_shape or plan.final.grid.core_shape
        plans.insert(0, plan)
    planned = tuple(replace(plan.final, index=index) for index, plan in enumerate(plans))
    return replace(
        plans[-1],
        octaves=planned,
        skipped_octaves=len(request.schedule.stages) - len(octaves),
        kernel_bytes=max(plan.kernel_bytes for plan in plans),
        worker_bytes=max(plan.worker_bytes for plan in plans),
        memory_bytes=max(plan.memory_bytes for plan in plans),
        scratch_bytes=max(plan.scratch_bytes for plan in plans),
        disk_bytes=max(plan.disk_bytes for plan in plans),
    )


def request_of(request: PlanRequest, octave: TouchOctave) -> PlanRequest:
    """Return the values by which one octave of a touch is planned: a job of a single octave over its part."""
    schedule = replace(request.schedule, stages=(octave.stage,))
    return replace(request, shape=octave.window.shape, schedule=schedule, boundary=octave.boundary, source_window=None)


def with_masks(octaves: Sequence[TouchOctave]) -> list[TouchOctave]:
    """Return the octaves with the area as the only mask of every region: mask N is the area at octave N."""
    masked = []
    for number, octave in enumerate(octaves):
        regions = tuple(Region(region.objective, (number,)) for region in octave.stage.regions)
        masked.append(replace(octave, stage=replace(octave.stage, regions=regions)))
    return masked


def step_pixels(octave: Octave, touched: TouchOctave) -> int:
    """Return the pixels that kernels process in one step: the windows of those tiles that the area or its filter meets."""
    reach = octave.stage.conditioning.reach
    first_row, first_column = touched.window.rows.start, touched.window.columns.start
    area = Rect(touched.area.rows.shifted(-first_row), touched.area.columns.shifted(-first_column)).grown(reach)
    rows = sum(octave.grid.rows.core(index).intersect(area.rows).size > 0 for index in range(octave.grid.rows.tiles))
    columns = sum(
        octave.grid.columns.core(index).intersect(area.columns).size > 0 for index in range(octave.grid.columns.tiles)
    )
    return rows * columns * octave.tile_pixels


def work_ratio(plan: Plan, octaves: Sequence[TouchOctave]) -> float:
    """Return the pixels that kernels process, relative to those of the area with its halo at every step."""
    pixels = sum(octave.steps * step_pixels(octave, touched) for octave, touched in zip(plan.octaves, octaves, strict=True))
    reference = sum(
        octave.steps * len(octave.stage.regions) * touched.reference
        for octave, touched in zip(plan.octaves, octaves, strict=True)
    )
    return pixels / reference if reference else 1.0


def _octave(shape: tuple[int, int], area: Rect, stage: Stage, view: NetworkView, boundary: BoundaryConfig) -> TouchOctave:
    """Return the octave of a view: the area with its halo, cut at the canvas' ends unless they wrap."""
    margin, modes = view.halo + stage.conditioning.reach, BOUNDARY_MODES[boundary.mode]
    wanted = area.grown(margin)
    at_end = any(
        mode == "reflect" and (span.start < view.stride or span.stop > length)
        for span, length, mode in zip(wanted, shape, modes, strict=True)
    )
    # Only at an end does the network see the canvas continued; elsewhere the part itself has what it sees.
    fill = boundary.fill if at_end else 0
    window = Rect(
        *(
            _aligned(span, length, mode, view.stride, fill - boundary.fill)
            for span, length, mode in zip(wanted, shape, modes, strict=True)
        )
    )
    seen = [
        span.size if mode == "wrap" else span.intersect(Interval(-boundary.fill, length + boundary.fill)).size
        for span, length, mode in zip(wanted, shape, modes, strict=True)
    ]
    return TouchOctave(shape, area, window, math.prod(seen), stage, replace(boundary, mode="reflect", fill=fill))


def _aligned(span: Interval, length: int, mode: AxisMode, stride: int, phase: int) -> Interval:
    """Return a span that begins at `phase` modulo the stride, and is cut at the canvas' ends unless they wrap."""
    start = span.start - (span.start - phase) % stride
    if mode == "wrap":
        return Interval(start, span.stop)
    return Interval(max(0, start), min(span.stop, length))


def _scaled(box: Rect, shape: tuple[int, int], octave_shape: tuple[int, int]) -> Rect:
    """Return the extent of a box at an octave: all pixels that it covers in part."""
    rows, columns = (
        Interval(span.start * small // length, min(small, -(-span.stop * small // length)))
        for span, length, small in zip(box, shape, octave_shape, strict=True)
    )
    return Rect(rows, columns)
