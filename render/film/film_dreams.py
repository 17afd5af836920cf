"""Dreams of a film's frames, as plans: for those who measure or compile its kernels before a frame is made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from render.dreaming.stage import Stage
from render.job.job import Draft, calibrate, prepared
from render.job.resolve import ResolvedJob
from render.planning.plan import Plan

#: Window of a kernel: number of the objective, (rows, columns) px of the window, and of its core.
KernelWindow = tuple[int, tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class FilmDreams:
    """Dreams of a film's frames.

    Attributes:
        resolved: The job of the first frame, whose schedule has the objectives of all frames.
        first: Plan of the first frame.
        later: Plan of every later frame.
        stages: Stages of every dream of later frames, coarse to fine.
    """

    resolved: ResolvedJob
    first: Plan
    later: Plan
    stages: Sequence[tuple[Stage, ...]]

    def windows(self) -> list[KernelWindow]:
        """Return the windows of all kernels, each once."""
        octaves = [(octave.stage, octave.grid) for octave in self.first.octaves]
        for stages in self.stages:
            later = self.later.octaves
            octaves += [(stage, octave.grid) for stage, octave in zip(stages[-len(later) :], later, strict=True)]
        windows = ((number, grid.window_shape, grid.core_shape) for stage, grid in octaves for number in stage.objectives)
        return list(dict.fromkeys(windows))

    def window_pixels(self, frames: int) -> int:
        """Return the pixels that kernels process in a film of so many frames."""
        return self.first.window_pixels + (frames - 1) * self.later.window_pixels

    def flops(self, frames: int) -> int:
        """Return the floating-point operations of a film of so many frames."""
        return self.first.flops + (frames - 1) * self.later.flops

    def pace(self) -> float:
        """Return the floating-point operations a second of the first worker's kernels, from a window that it computes."""
        with prepared(Draft(self.resolved, self.first, None, time.perf_counter())) as job:
            return job.plan.octaves[0].window_flops / max(1e-9, calibrate(job))
