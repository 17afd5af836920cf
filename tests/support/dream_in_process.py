"""A small dream in this process whose kernel costs nothing, to be stopped, resumed and compared at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from render.config.compose import load_config
from render.dreaming.objectives import KernelInputs, Objective
from render.dreaming.resample import Pixels
from render.errors import WorkersLost
from render.farm.checkpoint import Checkpoints, OctaveHistory, ResumeKey
from render.farm.conductor import BlockOptions, Conductor, Saving
from render.farm.events import Event
from render.farm.executors import InlineExecutor, Reference
from render.farm.worker.resident_block import ResidencyRule
from render.farm.worker.tile_gradients import Gradient
from render.farm.worker.worker import Worker
from render.geometry.geometry import KernelShape
from render.job import job as jobs
from tests.conftest import INLINE
from tests.support.farm_job import held

FIXED = ResumeKey("digest", "weights", ((96, 96), (96, 80)), 2)
SMALL = (
    "image=sample:chelsea",
    "output.width=240",
    "octaves.count=2",
    "octaves.steps=3",
    "objective.terms=[mixed1]",
    "tiles.size=96",
    "checkpoint.every=0",
    INLINE,
)


@contextmanager
def chunks_of(side: int) -> Iterator[None]:
    """Make chunks so small that a small canvas has many, and do not wait for the disk, as no power fails here."""
    with ExitStack() as stack:
        for module in ("canvas.store", "farm.worker.block_store", "farm.conductor.saver"):
            stack.enter_context(mock.patch(f"render.{module}.CHUNK", side))
        stack.enter_context(mock.patch("os.fsync"))
        # One tile a call, however fast they are, so that a run has the same moments each time.
        stack.enter_context(mock.patch("render.planning.deal._CALL_SECONDS", 0))
        yield


class Ripples:
    """Substitute for a network: a gradient that depends on a few pixels around, and costs next to nothing.

    Each objective has another gradient.
    """

    def __call__(
        self, shape: KernelShape, window: Pixels, given: KernelInputs, offset: tuple[int, int], *more: object
    ) -> np.ndarray:
        assert window.shape[:2] == shape.window
        length = 9 + 4 * given.objective
        gradient = sum(np.sin(np.roll(window, shift, axis) / length) for shift, axis in ((3, 0), (-5, 1))) - window / 500
        return gradient[offset[0] : offset[0] + shape.core[0], offset[1] : offset[1] + shape.core[1]] / given.factors[0]


@dataclass(frozen=True)
class InProcess:
    worker: Worker

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self.worker, method)(*arguments)


class Stop:
    """Check that raises at its n-th call, and counts its calls."""

    def __init__(self, moment: int = -1, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.calls = 0
        self._moment = moment
        self._error = error

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self._moment:
            raise self._error("stopped by the test")


class MendingExecutor(InlineExecutor):
    """Executor that loses everything that its workers hold when it is mended."""

    def __init__(self, make: Callable[[], InProcess], workers: int, check: Callable[[], None]) -> None:
        self._make = make
        super().__init__([make() for _ in range(workers)], check)

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        # One at a time, so that there are as many moments as there are results.
        return super().wait(references)[:1]

    def mend(self) -> None:
        self._workers = [self._make() for _ in self._workers]


@dataclass(eq=False)
class Failed:
    """Reference to a call that raised: its error is raised when the result is fetched."""

    error: MemoryError


class LateExecutor(MendingExecutor):
    """Executor that keeps the errors of calls until their results are fetched, as Ray does."""

    def call(self, worker: int, method: str, *arguments: Any) -> Reference:
        for argument in arguments:
            if isinstance(argument, Failed):
                return argument
        try:
            return super().call(worker, method, *arguments)
        except MemoryError as error:
            return Failed(error)

    def call_parts(self, worker: int, method: str, parts: int, *arguments: Any) -> list[Reference]:
        done = self.call(worker, method, *arguments)
        return [done] * parts if isinstance(done, Failed) else [type(done)(part) for part in done.value]

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        for reference in references:
            if isinstance(reference, Failed):
                raise WorkersLost("out of memory") from reference.error
        return super().fetch(references)


@cache
def small_draft(*words: str) -> jobs.Draft:
    """Return a checked job. Nothing of it is on disk, so that any number of runs can share it."""
    return jobs.draft(load_config("preview", [*SMALL, *words]))


class Dream:
    """Small job whose kernel costs nothing; each `run` is a new start of the program in the same directory."""

    def __init__(self, directory: Path, *words: str) -> None:
        self._draft = small_draft(*words)
        self.checkpoints = Checkpoints(directory / "canvas")
        self.directory = directory
        self.history: list[OctaveHistory] = []

    def run(
        self,
        stop: Stop | None = None,
        workers: int = 2,
        every: float = 0,
        mapped: bool = False,
        kind: type[MendingExecutor] = MendingExecutor,
        kernel: Gradient | None = None,
        residency: ResidencyRule | None = None,
    ) -> tuple[Pixels, list[Event]]:
        """Run to the end, or to where `stop` raises; return the canvas and the events.

        A real `kernel` can take the place of ripples, on the device by `residency`.
        """
        job, model = self._draft.resolved, self._draft.resolved.network.model
        objectives = job.schedule.objectives

        def make() -> InProcess:
            worker = Worker(kernel or Ripples(), job.source, objectives, model.architecture, job.masks, residency=residency)
            return InProcess(worker)

        executor = kind(make, workers, stop or Stop())
        conductor = Conductor(
            self._draft.plan,
            model.architecture,
            objectives,
            executor,
            Saving(self.checkpoints, every, FIXED),
            BlockOptions(self.directory / "scratch" if mapped else None),
        )
        events = list(conductor.run(self._draft.resolved.seed))
        self.history = conductor.history
        return held(conductor), events

    def stopped(self, stop: Stop, **arguments: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            self.run(stop, **arguments)

    @property
    def source(self) -> Pixels:
        """The source at the final size: (rows, columns, 3) float32."""
        final = self._draft.plan.final
        return self._draft.resolved.source.at(final.shape, final.grid.canvas)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives of the job."""
        return self._draft.resolved.schedule.objectives

    @property
    def gradients(self) -> list[tuple[float, ...]]:
        return [octave.mean_gradient for octave in self.history]

    @property
    def saved(self) -> list[tuple[int, int]]:
        """(octave, step) of every checkpoint, newest first."""
        read = self.checkpoints.read()
        return [(checkpoint.octave, checkpoint.steps) for checkpoint in read[1]] if read else []
