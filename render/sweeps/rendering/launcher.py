"""Launch of points on one farm: a point per worker, or all workers for one large point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from render.config.schema import Config
from render.errors import UserError
from render.farm.farms import Farm
from render.networks.weights import Loaded
from render.sweeps.monitor.event_log import Event, point_event
from render.sweeps.rendering.orders import WeightsKey, weights_key
from render.sweeps.rendering.point_kinds import point_job
from render.sweeps.rendering.point_queue import PointTask
from render.sweeps.rendering.renderer import RendererRecipe, attempt_point
from render.sweeps.rendering.shared_queue import SharedQueue
from render.sweeps.rendering.source_cache import SourceCache
from render.sweeps.rendering.worker_loop import LaunchSettings, LaunchTotals, WorkerLoop, finished_event
from render.sweeps.rendering.worker_threads import run_in_threads
from render.system import interrupts


@dataclass(frozen=True)
class AssignedPoint:
    """Point to be rendered: its number, its config with a run directory, its task."""

    number: int
    config: Config
    task: PointTask


class Launcher:
    """Runner of points on a farm's workers; reports events."""

    def __init__(
        self,
        farm: Farm,
        loaded: Mapping[WeightsKey, Loaded],
        settings: LaunchSettings,
        *,
        report: Callable[[Event], None],
        tick: Callable[[], None],
    ) -> None:
        """Share the weights with the farm.

        Args:
            farm: The workers.
            loaded: The weights of every network.
            settings: Settings that hold for all points.
            report: Called with every event, from several threads.
            tick: Called regularly while points are rendered.
        """
        self.totals = LaunchTotals()
        self._farm = farm
        self._loaded = loaded
        self._recipe = farm.share(RendererRecipe(loaded))
        self._settings = settings
        self._report = report
        self._tick = tick

    def pack(self, points: Sequence[AssignedPoint]) -> None:
        """Render points, each within one worker, as many at once as there are workers.

        Raises:
            KeyboardInterrupt: If interrupted.
            UserError: If points are left that no worker can render.
        """
        configs = {point.number: point.config for point in points}
        queue = SharedQueue([point.task for point in points], self._settings.retries, self._settings.stop_file)
        # Try to lease one worker even if the farm has lost all.
        workers = range(min(max(1, self._farm.size), len(points)))
        errors = self._run_in_threads([partial(self._run_worker, worker, queue, configs) for worker in workers])
        if queue.waiting and errors:
            raise UserError(f"{queue.waiting} points could not be rendered: {errors[-1]}")

    def spread(self, points: Sequence[AssignedPoint]) -> None:
        """Render points one after the other, each with all workers.

        Raise KeyboardInterrupt if interrupted.
        """
        for point in points:
            self._run_in_threads([partial(self._render_with_all, point)])

    def _run_in_threads(self, tasks: Sequence[Callable[[], None]]) -> Sequence[Exception]:
        return run_in_threads(tasks, tick=self._tick, stop_file=self._settings.stop_file)

    def _run_worker(self, worker: int, queue: SharedQueue, configs: Mapping[int, Config]) -> None:
        """Lease one worker and give it points until there are none."""
        with self._farm.lease(1) as executor:
            loop = WorkerLoop(worker, queue, configs, self._settings, self._farm, self.totals, self._report)
            try:
                loop.run(self._recipe, executor)
            finally:
                queue.leave(worker)

    def _render_with_all(self, point: AssignedPoint) -> None:
        """Render a point with all workers, and retry it if that might help."""

        def render() -> float:
            job = point_job(point.config, SourceCache())
            loaded = self._loaded.get(weights_key(point.config))
            return job.render(self._farm, loaded, self._settings.thumbnail_side, interrupts.check)

        is_retried, attempt = True, 0
        while is_retried:
            attempt += 1
            workers = f"all {self._farm.size} workers"
            self._report(point_event("started", point.number, worker=workers, attempt=attempt))
            outcome = attempt_point(point.config, render)
            match outcome.status:
                case "done":
                    self._report(finished_event(point.number, outcome))
                    return
                case "interrupted":
                    self._report(point_event("interrupted", point.number))
                    raise KeyboardInterrupt
            is_retried = outcome.may_retry and attempt <= self._settings.retries
            self._report(point_event("retried" if is_retried else "failed", point.number, reason=outcome.reason))
