"""What tiles and the farm cost: the steps of a render on Ray against what the kernel alone needs for the same windows."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from render.config.compose import load_config
from render.farm.events import OctaveStarted, Saved, StepDone
from render.geometry.blocks import deal_blocks
from render.job.job import Job, draft, prepared
from tests.benchmarks.table import Table

#: By how much steps may be slower than their kernels.
ALLOWED = 0.08
#: Four by three tiles.
FULL = ("output.width=3264", "output.height=2448", "tiles.size=816", "objective.terms=[mixed3]")
QUICK = ("output.width=192", "output.height=144", "tiles.size=48", "objective.terms=[mixed0]")


@dataclass(frozen=True)
class Step:
    """How long a step took, and how long the kernel alone takes on the busiest worker for the windows of it, s."""

    seconds: float
    kernel: float

    @property
    def overhead(self) -> float:
        """By what share the step is slower."""
        return self.seconds / self.kernel - 1


def measure(quick: bool) -> Table:
    """One worker with all cores, and, unless `quick`, two that share them."""
    rows = [_row(quick, 1, 0)] if quick else [_row(quick, 1, 0), _row(quick, 2, 1)]
    return Table(
        name="overhead",
        title="steps of a tiled render on Ray against the bare kernel, called in the same processes before and after each",
        columns=("workers", "threads", "Mpx", "tiles", "window px", "kernel s", "step s", "overhead %", "worst %"),
        rows=rows,
        goals={
            f"{row['workers']} x {row['threads']} threads: at most {100 * ALLOWED:.0f} % slower than the kernel": float(
                row["overhead %"]
            )
            <= 100 * ALLOWED
            for row in rows
        },
        notes=("a step is timed by the first worker, from its margins to its update; the sums of all lie between",),
    )


def _row(quick: bool, workers: int, threads: int) -> dict[str, str | float]:
    """`threads` 0 takes all cores."""
    with tempfile.TemporaryDirectory() as place:
        words = [
            "image=noise",
            "quiet=true",
            "octaves.count=1",
            "checkpoint.every=0",
            f"octaves.steps={2 if quick else 3}",
            f"farm.workers={workers}",
            f"farm.worker.threads={threads or 'null'}",
            f"output.dir={place}/run",
            *(QUICK if quick else FULL),
        ]
        with prepared(draft(load_config("preview", words))) as job:
            steps = stepped(job)
            grid, used = job.plan.final.grid, job.resume_key.threads
    rows, columns = grid.window_shape
    return {
        "workers": workers,
        "threads": used,
        "Mpx": grid.canvas.area / 1e6,
        "tiles": grid.tiles,
        "window px": f"{columns} x {rows}",
        "kernel s": median(step.kernel for step in steps),
        "step s": median(step.seconds for step in steps),
        "overhead %": 100 * median(step.overhead for step in steps),
        "worst %": 100 * max(step.overhead for step in steps),
    }


def stepped(job: Job) -> list[Step]:
    """Steps a job of one octave; before, between and after steps all workers at once time the kernel alone."""
    grid, executor = job.plan.final.grid, job.executor
    blocks = deal_blocks(grid, executor.workers)
    seconds: list[float] = []
    windows: list[list[float]] = []

    def everyone(method: str, *arguments: object) -> list[float]:
        return executor.fetch([executor.call(number, method, *arguments) for number in range(len(blocks))])

    def bare() -> list[float]:
        """Return the seconds of a window on each worker."""
        return everyone("window_seconds", 0, grid.window_shape, grid.core_shape)

    for event in job.conductor().run(job.resolved.seed):
        if isinstance(event, StepDone):
            seconds.append(event.seconds)
        if isinstance(event, OctaveStarted | Saved):
            # Nobody steps now: each step is saved, and its own seconds do not include that.
            windows.append(bare())
    steps = []
    for taken, (before, after) in zip(seconds, pairwise(windows), strict=True):
        means = [fmean(pair) for pair in zip(before, after, strict=True)]
        steps.append(Step(taken, max(block.size * mean for block, mean in zip(blocks, means, strict=True))))
    return steps
