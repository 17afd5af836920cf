"""Submits a sweep's points to one farm: a whole point to each worker, or, for large ones, all workers to a point.

Every worker has a thread here that hands it points and hears what became of them; events go to a queue, which whoever runs
the launcher reads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from render import interrupts
from render import job as jobs
from render.config import Config
from render.errors import RenderError, UrgentInterrupt, UserError, WorkersLost
from render.farm.executors import Executor, Reference
from render.farm.farms import Farm
from render.machine import cores
from render.models.weights import Loaded
from render.sweep.events import Event, Kind
from render.sweep.queue import Queue, Task
from render.sweep.renderer import Order, Outcome, RendererRecipe, WeightsKey, attempted, render_draft, weights_key

log = logging.getLogger(__name__)

#: How long a worker with nothing to do waits before it looks again, s; whoever finishes something wakes it.
_NAP = 1.0
#: How many points in a row may cost a worker its life, each time again, before nobody is put in its place.
_DEADLY = 3


@dataclass(frozen=True)
class Assigned:
    """A point to be rendered: its number, its config with a run directory, its task."""

    number: int
    config: Config
    task: Task


@dataclass
class Tally:
    """How many kernels each worker has compiled or loaded, and the most memory that any process has used, bytes."""

    programs: dict[int, int] = field(default_factory=dict)
    peak_bytes: int = 0


class Launcher:
    """Runs points on a farm's workers, and tells what happens."""

    def __init__(
        self,
        farm: Farm,
        points: Sequence[Assigned],
        loaded: Mapping[WeightsKey, Loaded],
        *,
        retries: int,
        thumbnail: int,
        stop: Path,
    ) -> None:
        """`stop` is a file that workers look for: once it is there, they save their canvas and leave it."""
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.tally = Tally()
        self._farm = farm
        self._points = {point.number: point for point in points}
        self._loaded = loaded
        self._queue = Queue([point.task for point in points], retries)
        self._retries = retries
        self._thumbnail = thumbnail
        self._stop = stop
        self._changed = threading.Condition()
        #: Why workers gave up, where they did.
        self._troubles: list[BaseException] = []

    @contextmanager
    def packed(self) -> Iterator[Callable[[], bool]]:
        """Starts rendering, a point to a worker; gives a function that says whether that is still going on.

        On the way out it waits for all workers; raises KeyboardInterrupt where one was interrupted, and `UserError` where
        points are left that nobody can render.
        """
        recipe = self._farm.share(RendererRecipe(self._loaded))
        threads = [
            threading.Thread(target=self._guarded, args=(worker, recipe), name=f"worker-{worker + 1}", daemon=True)
            for worker in range(min(self._farm.size, len(self._points)))
        ]
        for thread in threads:
            thread.start()

        def going() -> bool:
            return any(thread.is_alive() for thread in threads)

        try:
            yield going
        except KeyboardInterrupt:
            self._stop.touch()
            raise
        finally:
            # Workers that save their canvas take a while; a second interrupt does not wait for them.
            while going():
                time.sleep(0.05)
        for trouble in self._troubles:
            if not isinstance(trouble, RenderError):
                raise trouble
        if self._queue.waiting and self._troubles:
            raise UserError(f"{self._queue.waiting} points could not be rendered: {self._troubles[-1]}")

    def spread(self, number: int) -> None:
        """Renders one point on all of the farm's workers; tells what became of it. Raises KeyboardInterrupt."""
        point, again, attempt = self._points[number], True, 0
        while again:
            attempt += 1
            self._tell("started", number, worker=f"all {self._farm.size} workers", attempt=attempt)
            outcome = attempted(point.config, lambda: self._on_all(point))
            match outcome.status:
                case "done":
                    self._tell("finished", number, seconds=outcome.seconds, megapixels=outcome.megapixels)
                    return
                case "interrupted":
                    self._tell("interrupted", number)
                    raise KeyboardInterrupt
            again = outcome.again and attempt <= self._retries
            self._tell("retried" if again else "failed", number, reason=outcome.reason)

    def _on_all(self, point: Assigned) -> float:
        draft = jobs.draft(point.config)
        return render_draft(draft, self._farm, self._loaded[weights_key(point.config)], self._thumbnail)

    def _guarded(self, worker: int, recipe: Reference) -> None:
        """One worker from its lease to its end; what goes wrong is kept for whoever waits for all of them."""
        try:
            with self._farm.lease(1) as executor:
                self._work(worker, recipe, executor)
        except BaseException as error:
            if not isinstance(error, (RenderError, KeyboardInterrupt)):
                log.exception("worker %d", worker + 1)
            self._troubles.append(error)
        finally:
            with self._changed:
                self._changed.notify_all()

    def _work(self, worker: int, recipe: Reference, executor: Executor) -> None:
        facts = executor.open(recipe)[0]
        deadly = 0
        self._join(worker, executor)
        try:
            while (task := self._next(worker)) is not None:
                where = f"pid {facts.pid} on {facts.host}"
                self._tell("started", task.number, worker=where, attempt=self._queue.attempt(task.number))
                try:
                    outcome = self._run(worker, self._order(task, facts.host_bytes), executor)
                except WorkersLost as lost:
                    given_up = not self._failed(worker, task.number, f"its worker was lost: {lost}", again=True)
                    deadly += given_up
                    if deadly == _DEADLY:
                        raise UserError(f"{deadly} points in a row were the end of a worker, the last: {lost}") from None
                    executor.mend()
                    if given_up:
                        # The point is to blame, not whoever was given it.
                        executor.settled()
                    facts = executor.fetch([executor.call(0, "ping")])[0]
                    self._join(worker, executor)
                    continue
                deadly = 0
                executor.settled()
                self._hear(worker, task.number, outcome)
        finally:
            with self._changed:
                self._queue.leave(worker)
                self._changed.notify_all()

    def _join(self, worker: int, executor: Executor) -> None:
        with self._changed:
            self._queue.join(worker, executor.place(0))

    def _next(self, worker: int) -> Task | None:
        """The next point for a worker, awaited where there may be one later; None once there will be none."""
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
        """Has a worker compile what it lacks for a point, and render it."""
        if self._queue.lacks(worker):
            compiled = self._call(executor, "compile_point", order)
            if compiled.status != "done":
                return compiled
            with self._changed:
                self._queue.compiled(worker)
                self._changed.notify_all()
        return self._call(executor, "render_point", order)

    def _call(self, executor: Executor, method: str, order: Order) -> Outcome:
        reference = executor.call(0, method, order)
        try:
            executor.wait([reference])
        except UrgentInterrupt:
            raise
        except KeyboardInterrupt:
            # The worker looks for this file, and answers once its canvas is saved.
            self._stop.touch()
        outcome = executor.fetch([reference])[0]
        assert isinstance(outcome, Outcome)
        return outcome

    def _hear(self, worker: int, number: int, outcome: Outcome) -> None:
        self.tally.peak_bytes = max(self.tally.peak_bytes, outcome.peak_bytes)
        self.tally.programs[worker] = outcome.programs
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
        """Tells of a failure; whether the point will be given out again."""
        with self._changed:
            again = self._queue.failed(worker, again=again)
            self._changed.notify_all()
        self._tell("retried" if again else "failed", number, reason=reason)
        return again

    def _order(self, task: Task, host_bytes: int) -> Order:
        config = self._points[task.number].config
        wanted = config.farm.worker
        memory = int(wanted.memory_gb * 1e9) if wanted.memory_gb else host_bytes // max(1, self._farm.size)
        return Order(config, self._thumbnail, wanted.threads or cores(), memory, self._stop)

    def _tell(self, kind: Kind, number: int, **facts: Any) -> None:
        self.events.put(Event(kind, time.time(), number, facts))
