"""Submission of a sweep's points to one farm: a point per worker, or all workers to one large point.

Every worker has a thread here that sends it points and receives their outcomes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from render.config.schema import Config
from render.errors import NodeLost, RenderError, UrgentInterrupt, UserError, WorkersLost
from render.farm.executors import Executor
from render.farm.farms import Farm
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.job import job as jobs
from render.networks.weights import Loaded
from render.sweeps.event_log import Event, Kind
from render.sweeps.queue import Queue, Task
from render.sweeps.renderer import (
    Order,
    Outcome,
    Renderer,
    RendererRecipe,
    WeightsKey,
    attempted,
    render_draft,
    weights_key,
)
from render.system import interrupts
from render.system.machine import cores

log = logging.getLogger(__name__)

#: Seconds that an idle worker waits before it looks for a point again; every finished point wakes it.
_NAP = 1.0
#: Seconds between two calls of `tick`.
_TICK = 0.25
#: Number of points given up in a row, each after repeated losses of the worker, at which the worker is given up.
_DEADLY = 3


@dataclass(frozen=True)
class Assigned:
    """Point to be rendered: its number, its config with a run directory, its task."""

    number: int
    config: Config
    task: Task


@dataclass
class Tally:
    """Totals of packed points: kernels compiled by each process (by pid), and the peak memory of any process, bytes."""

    compiled: dict[int, int] = field(default_factory=dict)
    peak_bytes: int = 0


class Launcher:
    """Runner of points on a farm's workers; reports events."""

    def __init__(
        self,
        farm: Farm,
        loaded: Mapping[WeightsKey, Loaded],
        *,
        retries: int,
        thumbnail: int,
        stop: Path,
        tell: Callable[[Event], None],
        tick: Callable[[], None],
    ) -> None:
        """Share the weights with the farm.

        Args:
            farm: The workers.
            loaded: The weights of every network.
            retries: How often a failed point is tried again.
            thumbnail: Side of thumbnails, px.
            stop: File that makes workers save their canvas and stop, once it exists.
            tell: Called with every event, from several threads.
            tick: Called regularly while points are rendered.
        """
        self.tally = Tally()
        self._farm = farm
        self._loaded = loaded
        self._recipe = farm.share(RendererRecipe(loaded))
        self._retries = retries
        self._thumbnail = thumbnail
        self._stop = stop
        self._tell_of = tell
        self._tick = tick
        self._points: dict[int, Assigned] = {}
        self._queue = Queue([], retries)
        self._changed = threading.Condition()

    def pack(self, points: Sequence[Assigned]) -> None:
        """Render points, each within one worker, as many at once as there are workers.

        Raises:
            KeyboardInterrupt: If interrupted.
            UserError: If points are left that no worker can render.
        """
        self._points = {point.number: point for point in points}
        self._queue = Queue([point.task for point in points], self._retries)
        # Try to lease one worker even if the farm has lost all.
        workers = range(min(max(1, self._farm.size), len(points)))
        troubles = self._in_threads([partial(self._work, worker) for worker in workers])
        if self._queue.waiting and troubles:
            raise UserError(f"{self._queue.waiting} points could not be rendered: {troubles[-1]}")

    def spread(self, points: Sequence[Assigned]) -> None:
        """Render points one after the other, each with all workers. Raise KeyboardInterrupt if interrupted."""
        for point in points:
            self._in_threads([partial(self._share_out, point)])

    def _in_threads(self, tasks: Sequence[Callable[[], None]]) -> list[RenderError]:
        """Run tasks concurrently and wait for all; return their `RenderError`s, and raise `NodeLost` or any other error."""
        errors: list[BaseException] = []

        def guarded(task: Callable[[], None]) -> None:
            try:
                task()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(task,), daemon=True) for task in tasks]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                self._tick()
                interrupts.check()
                threads[0].join(_TICK) if threads[0].is_alive() else time.sleep(_TICK)
        except BaseException as error:
            self._stop.touch()
            # Wait until workers have saved their canvas, except after a second interrupt.
            while not isinstance(error, UrgentInterrupt) and any(thread.is_alive() for thread in threads):
                time.sleep(_TICK)
            raise
        for failure in errors:
            if isinstance(failure, NodeLost) or not isinstance(failure, RenderError):
                raise failure
        return [trouble for trouble in errors if isinstance(trouble, RenderError)]

    def _share_out(self, point: Assigned) -> None:
        retry, attempt = True, 0
        while retry:
            attempt += 1
            self._tell("started", point.number, worker=f"all {self._farm.size} workers", attempt=attempt)
            outcome = attempted(point.config, lambda: self._on_all(point))
            match outcome.status:
                case "done":
                    self._tell("finished", point.number, seconds=outcome.seconds, megapixels=outcome.megapixels)
                    return
                case "interrupted":
                    self._tell("interrupted", point.number)
                    raise KeyboardInterrupt
            retry = outcome.again and attempt <= self._retries
            self._tell("retried" if retry else "failed", point.number, reason=outcome.reason)

    def _on_all(self, point: Assigned) -> float:
        draft = jobs.draft(point.config)
        return render_draft(draft, self._farm, self._loaded[weights_key(point.config)], self._thumbnail)

    def _work(self, worker: int) -> None:
        """Lease one worker and give it points until there are none."""
        with self._farm.lease(1) as executor:
            try:
                self._work_with(worker, executor)
            finally:
                with self._changed:
                    self._queue.leave(worker)
                    self._changed.notify_all()

    def _work_with(self, worker: int, executor: Executor) -> None:
        facts = executor.open(self._recipe)[0]
        lost_in_a_row = 0
        self._join(worker, executor)
        while (task := self._next(worker)) is not None:
            worker_name = f"pid {facts.pid} on {facts.host}"
            self._tell("started", task.number, worker=worker_name, attempt=self._queue.attempt(task.number))
            try:
                outcome = self._run(worker, self._order(task, facts.host_bytes), executor)
            except WorkersLost as lost:
                try:
                    # Replace the worker first: one that hangs locks the point's directory until it is ended.
                    executor.mend()
                finally:
                    given_up = not self._failed(worker, task.number, f"its worker was lost: {lost}", again=True)
                lost_in_a_row += given_up
                if lost_in_a_row == _DEADLY:
                    raise UserError(f"{lost_in_a_row} points in a row were the end of a worker, the last: {lost}") from None
                if given_up:
                    # The point caused the losses, not the worker.
                    executor.settled()
                (facts,) = Workers(executor).run([0], RemoteProcess.ping)
                self._join(worker, executor)
                continue
            lost_in_a_row = 0
            executor.settled()
            # Count by process: a replacement starts with nothing compiled.
            self.tally.compiled[facts.pid] = outcome.compiled
            self._hear(worker, task.number, outcome)

    def _join(self, worker: int, executor: Executor) -> None:
        with self._changed:
            self._queue.join(worker, executor.place(0))

    def _next(self, worker: int) -> Task | None:
        """Return the next point for a worker, waiting for one if necessary; None if there will be no more."""
        with self._changed:
            while True:
                interrupts.check()
                if self._stop.exists():
                    raise KeyboardInterrupt
                task = self._queue.take(worker)
                if task is not None or not (self._queue.waiting or self._queue.at_work):
                    return task
                self._changed.wait(_NAP)

    def _run(self, worker: int, order: Order, executor: Executor) -> Outcome:
        """Make a worker compile the missing kernels of a point, then render it."""
        if self._queue.lacks(worker):
            compiled = self._call(executor, Renderer.compile_point, order)
            if compiled.status != "done":
                return compiled
            with self._changed:
                self._queue.compiled(worker)
                self._changed.notify_all()
        return self._call(executor, Renderer.render_point, order)

    def _call(self, executor: Executor, method: Callable[[Renderer, Order], Outcome], order: Order) -> Outcome:
        workers = Workers(executor)
        promise = workers.start(0, method, order)
        try:
            workers.wait([promise])
        except UrgentInterrupt:
            raise
        except KeyboardInterrupt:
            # The worker watches for this file, and answers once its canvas is saved.
            self._stop.touch()
        (outcome,) = workers.fetch([promise])
        return outcome

    def _hear(self, worker: int, number: int, outcome: Outcome) -> None:
        self.tally.peak_bytes = max(self.tally.peak_bytes, outcome.peak_bytes)
        match outcome.status:
            case "done":
                with self._changed:
                    self._queue.finished(worker)
                    self._changed.notify_all()
                self._tell("finished", number, seconds=outcome.seconds, megapixels=outcome.megapixels)
            case "failed":
                self._failed(worker, number, outcome.reason, again=outcome.again)
            case _:
                self._tell("interrupted", number)
                raise KeyboardInterrupt

    def _failed(self, worker: int, number: int, reason: str, *, again: bool) -> bool:
        """Report a failure; return whether the point will be retried."""
        with self._changed:
            again = self._queue.failed(worker, again=again)
            self._changed.notify_all()
        self._tell("retried" if again else "failed", number, reason=reason)
        return again

    def _order(self, task: Task, host_bytes: int) -> Order:
        config = self._points[task.number].config
        worker = config.farm.worker
        memory = int(worker.memory_gb * 1e9) if worker.memory_gb else host_bytes // self._farm.together
        return Order(Path.cwd(), config, self._thumbnail, worker.threads or cores(), memory, self._stop)

    def _tell(self, kind: Kind, number: int, **facts: Any) -> None:
        self._tell_of(Event(kind, time.time(), number, facts))
