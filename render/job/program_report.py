"""Report of what a job's compiled programs have cost: in the log and in the run's record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from render.errors import WorkersLost
from render.farm.executors import Executor
from render.farm.messages import ProgramTimes
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.job.progress import duration_text
from render.job.run_directory import RunDirectory

if TYPE_CHECKING:
    from render.job.job import Job

log = logging.getLogger(__name__)


def report_programs(executor: Executor, directory: RunDirectory) -> None:
    """Log and record what the job's programs have cost on its workers. Do nothing if one of them is lost just now."""
    times = _times(executor)
    if times is None:
        return
    directory.save(programs=times._asdict())
    log.info(
        "programs: %d loaded, %d traced, %d of them compiled, in %.2f s; waited %.2f s for them",
        times.loaded, times.traced, times.compiled, times.seconds, times.waited,
    )  # fmt: skip


def report_first_step(executor: Executor, seconds: float) -> None:
    """Log how many seconds after the job began its first step was done, and the wait for programs until then."""
    times = _times(executor)
    waited = "" if times is None else f", {times.waited:.2f} s of it waiting for programs"
    log.info("first step done %.2f s after the job began%s", seconds, waited)


def _times(executor: Executor) -> ProgramTimes | None:
    """Return what the programs have cost on all workers; None if one of them is lost just now."""
    try:
        return combined(Workers(executor).run(range(executor.workers), RemoteProcess.program_times))
    except WorkersLost:
        return None


class ShapeState(NamedTuple):
    """A kernel shape of a plan.

    Attributes:
        window: (rows, columns) of the window, px.
        is_ready: Whether its kernel is compiled already, and only loaded.
        seconds: Seconds that compiling it takes, about; None if nothing of the kind was compiled yet.
    """

    window: tuple[int, int]
    is_ready: bool
    seconds: float | None


def shape_states(job: Job) -> list[ShapeState]:
    """Return the kernel shapes of a job's plan, in the order of the octaves, as its first worker has them.

    The time of a kernel that was never compiled is the mean of those that were.
    """
    shapes = dict.fromkeys(
        (objective, octave.grid.window_shape, octave.grid.core_shape)
        for octave in job.plan.octaves
        for objective in octave.stage.objectives
    )
    workers = Workers(job.executor)
    states = [workers.run([0], RemoteProcess.compile_state, *shape)[0] for shape in shapes]
    measured = [seconds for _, seconds in states if seconds is not None]
    usual = sum(measured) / len(measured) if measured else None
    return [
        ShapeState(window, is_ready, usual if seconds is None else seconds)
        for (_, window, _), (is_ready, seconds) in zip(shapes, states, strict=True)
    ]


def shapes_text(states: Sequence[ShapeState], octaves: int) -> str:
    """Return a line about the kernel shapes of a plan: how many, and what compiling those takes that are not ready."""
    count = f"{len(states)} shape{'s' if len(states) > 1 else ''} for {octaves} octave{'s' if octaves > 1 else ''}"
    missing = [state for state in states if not state.is_ready]
    if not missing:
        return f"{count}, all compiled before"
    each = ", ".join(_shape_text(state) for state in missing)
    is_sum = len(missing) > 1 and all(state.seconds is not None for state in missing)
    total = f" in about {duration_text(sum(state.seconds or 0 for state in missing))}" if is_sum else ""
    return f"{count}, {len(missing)} to compile once{total}: {each}"


def _shape_text(state: ShapeState) -> str:
    rows, columns = state.window
    return f"{columns} x {rows} px" + ("" if state.seconds is None else f" {state.seconds:.1f} s")


def combined(times: list[ProgramTimes]) -> ProgramTimes:
    """Return the numbers of all workers together, and the seconds of the worker that took longest, in each case."""
    loaded, traced, compiled, seconds, waited = zip(*times, strict=True)
    return ProgramTimes(sum(loaded), sum(traced), sum(compiled), round(max(seconds), 3), round(max(waited), 3))
