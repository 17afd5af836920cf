"""Loop of one worker: take a point from the queue, have it rendered, replace a lost worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from render.config.schema import Config
from render.errors import UrgentInterrupt, UserError, WorkersLost
from render.farm.executors import Executor, Reference
from render.farm.farms import Farm
from render.farm.remote import Workers
from render.farm.worker.interface import RemoteProcess
from render.sweeps.monitor.event_log import Event, point_event
from render.sweeps.rendering.orders import PointOutcome, RenderOrder
from render.sweeps.rendering.point_queue import PointTask
from render.sweeps.rendering.renderer import Renderer
from render.sweeps.rendering.shared_queue import SharedQueue
from render.system.machine import cores

#: Number of points given up in a row, each after repeated losses of the worker, at which the worker is given up.
_MAX_LOST_POINTS = 3


@dataclass(frozen=True)
class LaunchSettings:
    """Settings of a sweep that hold for all its points.

    Attributes:
        retries: How often a failed point is tried again.
        thumbnail_side: Longest side of thumbnails, px.
        stop_file: Once it exists, workers save their canvas and stop.
    """

    retries: int
    thumbnail_side: int
    stop_file: Path


@dataclass
class LaunchTotals:
    """Totals of the points that single workers rendered.

    Attributes:
        compiled: Number of kernels that each process compiled, by pid.
        peak_bytes: Peak memory of any process.
    """

    compiled: dict[int, int] = field(default_factory=dict)
    peak_bytes: int = 0

    def add(self, pid: int, outcome: PointOutcome) -> None:
        """Add the outcome of a point.

        A replaced worker is another process, which starts with nothing compiled.
        """
        self.compiled[pid] = outcome.compiled
        self.peak_bytes = max(self.peak_bytes, outcome.peak_bytes)


@dataclass
class WorkerLoop:
    """Loop of one worker.

    Attributes:
        worker: Its number.
        queue: The points, shared with the other workers.
        configs: The points' configs by number.
        settings: The sweep's settings.
        farm: The farm that the worker belongs to.
        totals: Totals, shared with the other workers.
        report: Called with every event.
    """

    worker: int
    queue: SharedQueue
    configs: Mapping[int, Config]
    settings: LaunchSettings
    farm: Farm
    totals: LaunchTotals
    report: Callable[[Event], None]

    def run(self, recipe: Reference, executor: Executor) -> None:
        """Render points until there are none.

        Args:
            recipe: The `RendererRecipe`.
            executor: The worker.

        Raises:
            KeyboardInterrupt: If interrupted.
            UserError: If several points in a row were the end of the worker.
        """
        facts = executor.open(recipe)[0]
        lost_points = 0
        self.queue.join(self.worker, executor.node_of(0))
        while (task := self.queue.next_task(self.worker)) is not None:
            worker_name = f"pid {facts.pid} on {facts.host}"
            attempt = self.queue.attempt(task.number)
            self.report(point_event("started", task.number, worker=worker_name, attempt=attempt))
            try:
                outcome = self._render(self._order(task, facts.host_bytes), executor)
            except WorkersLost as lost:
                is_given_up = self._replace_worker(task.number, lost, executor)
                lost_points += is_given_up
                if lost_points == _MAX_LOST_POINTS:
                    raise UserError(f"{lost_points} points in a row were the end of a worker, the last: {lost}") from None
                if is_given_up:
                    # The point caused the losses, not the worker.
                    executor.settled()
                (facts,) = Workers(executor).run([0], RemoteProcess.ping)
                self.queue.join(self.worker, executor.node_of(0))
                continue
            lost_points = 0
            executor.settled()
            self.totals.add(facts.pid, outcome)
            self._record(task.number, outcome)

    def _render(self, order: RenderOrder, executor: Executor) -> PointOutcome:
        """Have the worker compile the missing kernels of a point, then render it."""
        if self.queue.lacks_kernels(self.worker):
            compilation = self._call(executor, Renderer.compile_point, order)
            if compilation.status != "done":
                return compilation
            self.queue.kernels_ready(self.worker)
        return self._call(executor, Renderer.render_point, order)

    def _call(
        self, executor: Executor, method: Callable[[Renderer, RenderOrder], PointOutcome], order: RenderOrder
    ) -> PointOutcome:
        """Call the worker's renderer.

        At an interrupt the worker is asked to save its canvas and stop, which is the outcome then.
        """
        workers = Workers(executor)
        promise = workers.start(0, method, order)
        try:
            workers.wait([promise])
        except UrgentInterrupt:
            raise
        except KeyboardInterrupt:
            # The worker watches for this file, and answers once its canvas is saved.
            self.settings.stop_file.touch()
        (outcome,) = workers.fetch([promise])
        return outcome

    def _replace_worker(self, number: int, lost: WorkersLost, executor: Executor) -> bool:
        """Replace a worker that was lost at a point; return whether the point is given up."""
        try:
            # Replace the worker first: one that hangs locks the point's directory until it is ended.
            executor.mend()
        finally:
            is_retried = self._fail(number, f"its worker was lost: {lost}", may_retry=True)
        return not is_retried

    def _record(self, number: int, outcome: PointOutcome) -> None:
        """Record and report the outcome of a point. Raise KeyboardInterrupt if it was interrupted."""
        match outcome.status:
            case "done":
                self.queue.finished(self.worker)
                self.report(finished_event(number, outcome))
            case "failed":
                self._fail(number, outcome.reason, may_retry=outcome.may_retry)
            case "interrupted":
                self.report(point_event("interrupted", number))
                raise KeyboardInterrupt

    def _fail(self, number: int, reason: str, *, may_retry: bool) -> bool:
        """Record and report a failure; return whether the point will be retried."""
        is_retried = self.queue.failed(self.worker, may_retry=may_retry)
        self.report(point_event("retried" if is_retried else "failed", number, reason=reason))
        return is_retried

    def _order(self, task: PointTask, host_bytes: int) -> RenderOrder:
        """Return the order for a point.

        A worker has its share of `host_bytes` unless the config sets its memory.
        """
        config = self.configs[task.number]
        worker = config.farm.worker
        memory_bytes = int(worker.memory_gb * 1e9) if worker.memory_gb else host_bytes // self.farm.workers_per_machine
        threads = worker.threads or cores()
        return RenderOrder(Path.cwd(), config, self.settings.thumbnail_side, threads, memory_bytes, self.settings.stop_file)


def finished_event(number: int, outcome: PointOutcome) -> Event:
    """Return the event of a point that is done."""
    facts: dict[str, Any] = {"seconds": outcome.seconds, "megapixels": outcome.megapixels}
    return point_event("finished", number, **facts)
