"""A small dream in this process whose kernel costs nothing, to be stopped, resumed and compared at will."""

from __future__ import annotations

import threading
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
from render.farm.messages import GradientReport
from render.farm.peers.group import RootLink
from render.farm.worker.process import KernelCache, WorkerProcess
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
        stack.enter_context(mock.patch("render.farm.conductor.octave_stepper._PATIENCE_S", 0.01))
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


class Stop:
    """Request to stop at the n-th moment of a run, and the number of moments.

    A moment is a call of a worker's kernel, or a wait of the conductor. The worker at work then goes on only after the root
    has been asked to stop, or has been left, so that the step in hand is never done: see `watched`.
    """

    def __init__(self, moment: int = -1, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.calls = 0
        self.is_requested = False
        self._moment = moment
        self._error = error
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._is_taken = False

    def __call__(self) -> None:
        """A wait of the conductor."""
        self._count()
        self.check()

    def work(self) -> None:
        """A call of a kernel."""
        if self._count():
            assert self._told.wait(60), "the conductor has not seen the request"

    def check(self) -> None:
        """Raise the error if a stop is requested."""
        if self.take():
            raise self._error("stopped by the test")

    def take(self) -> bool:
        """Return whether a stop is requested, only once."""
        is_new, self._is_taken = self.is_requested and not self._is_taken, self._is_taken or self.is_requested
        return is_new

    def tell(self) -> None:
        """The root knows."""
        if self._is_taken:
            self._told.set()

    def _count(self) -> bool:
        with self._lock:
            self.calls += 1
            is_now = self.calls == self._moment
        self.is_requested = self.is_requested or is_now
        return is_now


@contextmanager
def watched(stop: Stop) -> Iterator[None]:
    """Make every kernel call of a worker in this process a moment, and let `stop` know when the root has been asked."""
    compute, request, close = Worker.compute_gradient, RootLink.stop, RootLink.close

    def compute_watched(self: Worker, *arguments: Any) -> GradientReport:
        stop.work()
        return compute(self, *arguments)

    def request_watched(self: RootLink, *, at_once: bool) -> None:
        request(self, at_once=at_once)
        stop.tell()

    def close_watched(self: RootLink) -> None:
        close(self)
        stop.tell()

    with (
        mock.patch.object(Worker, "compute_gradient", compute_watched),
        mock.patch.object(RootLink, "stop", request_watched),
        mock.patch.object(RootLink, "close", close_watched),
    ):
        yield


@dataclass(frozen=True)
class Ready:
    """Recipe of a worker that is there already."""

    worker: Worker

    def make(self, _kernels: KernelCache) -> Worker:
        return self.worker


def process_of(worker: Worker) -> WorkerProcess:
    """Return a process, which is this one, that serves a worker."""
    process = WorkerProcess()
    process.open(Ready(worker))
    return process


class MendingExecutor(InlineExecutor):
    """Executor that loses everything that its workers hold when it is mended."""

    def __init__(self, make: Callable[[], Worker], workers: int, stop: Stop) -> None:
        self._make_worker = make
        self.stop = stop
        self._made: list[WorkerProcess] = []
        super().__init__([self._make() for _ in range(workers)], stop)

    def wait(self, references: Sequence[Reference]) -> list[Reference]:
        # One at a time, so that there are as many moments as there are results.
        return super().wait(references)[:1]

    def poll(self, references: Sequence[Reference], *, heard: bool) -> list[Reference]:
        self.stop.check()
        return [reference for reference in references if reference.is_ready]

    def mend(self) -> None:
        self._workers = [self._make() for _ in self._workers]

    def end(self) -> None:
        """Close what all workers have opened."""
        for process in self._made:
            process.close()

    def _make(self) -> WorkerProcess:
        process = process_of(self._make_worker())
        self._made.append(process)
        return process


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

    def fetch(self, references: Sequence[Reference]) -> list[Any]:
        for reference in references:
            if isinstance(reference, Failed):
                raise WorkersLost("out of memory") from reference.error
        try:
            return super().fetch(references)
        except MemoryError as error:
            raise WorkersLost("out of memory") from error


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
        #: Workers of the last run.
        self.workers: list[Worker] = []

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

        stop = stop or Stop()
        self.workers = []

        def make() -> Worker:
            used = kernel or Ripples()
            worker = Worker(used, job.source, objectives, model.architecture, job.masks, residency=residency)
            self.workers.append(worker)
            return worker

        executor = kind(make, workers, stop)
        conductor = Conductor(
            self._draft.plan,
            model.architecture,
            objectives,
            executor,
            Saving(self.checkpoints, every, FIXED),
            BlockOptions(self.directory / "scratch" if mapped else None),
        )
        try:
            with watched(stop):
                events = list(conductor.run(self._draft.resolved.seed))
            self.history = conductor.history
            return held(conductor), events
        finally:
            executor.end()

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
