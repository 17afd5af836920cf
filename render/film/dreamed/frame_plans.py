"""Plans of a film's later frames: one tile grid for each octave of all frames, with each frame's own settings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from render.dreaming.objectives import Objective
from render.dreaming.stage import Stage
from render.planning.limits import refuse_reach
from render.planning.network_view import NetworkView
from render.planning.plan import Machine, Octave, Plan
from render.planning.planner import PlanRequest, WindowBytes, make_plan
from render.planning.schedule import Schedule


def plan_frames(
    request: PlanRequest,
    objectives: Sequence[Objective],
    stages: Sequence[tuple[Stage, ...]],
    machine: Machine,
    window_bytes: WindowBytes | None = None,
    *,
    workers: int = 1,
    core_shapes: Sequence[tuple[int, int]] | None = None,
) -> Plan:
    """Return the plan whose grids all later frames have: those of the stages that see farthest.

    Args:
        request: Values of the film's job, with the film's scale of octaves.
        objectives: All objectives of the film.
        stages: Stages of every dream, coarse to fine.
        machine: Resources of each machine.
        window_bytes: Memory of a kernel call; None estimates it.
        workers: Number of workers.
        core_shapes: Core of every octave's grid, as in an earlier plan of the film.

    Raises:
        UserError: The film cannot work; the message has the reason.
    """
    schedule = Schedule(tuple(objectives), request.schedule.masks, ())
    views = {
        stage: NetworkView.of(stage, schedule, request.architecture, request.tiles.halo)
        for octaves in stages
        for stage in octaves
    }

    def sight(stage: Stage) -> tuple[int, int, int]:
        """Return how far and how much a stage sees, to compare."""
        view = views[stage]
        return view.halo, view.stride, len(view.layers)

    widest = tuple(max(octave, key=sight) for octave in zip(*stages, strict=True))
    plan = make_plan(
        replace(request, schedule=replace(schedule, stages=widest)),
        machine, window_bytes, workers=workers, core_shapes=core_shapes,
    )  # fmt: skip
    for octaves in stages:
        for octave, stage in zip(plan.octaves, octaves[-len(plan.octaves) :], strict=True):
            refuse_reach(octave.shape, stage.conditioning)
    return plan


def frame_plan(plan: Plan, stages: Sequence[Stage], objectives: Sequence[Objective]) -> Plan:
    """Return the plan of one frame.

    Args:
        plan: Result of `plan_frames`.
        stages: The frame's stages, coarse to fine; the coarsest are left out if the plan leaves them out.
        objectives: All objectives of the film.
    """
    octaves = tuple(
        _with_stage(octave, stage, objectives)
        for octave, stage in zip(plan.octaves, stages[-len(plan.octaves) :], strict=True)
    )
    return replace(plan, octaves=octaves)


def _with_stage(octave: Octave, stage: Stage, objectives: Sequence[Objective]) -> Octave:
    needs_source = any(objectives[number].needs_source for number in stage.objectives)
    return replace(octave, stage=stage, needs_source=needs_source)
