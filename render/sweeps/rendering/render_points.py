"""Rendering of points: weights are loaded while the farm opens, then points go out by rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from render.canvas import store
from render.config.schema import FarmConfig
from render.errors import RenderError
from render.farm.farms import Farm, open_farm
from render.job.resolve import NetworkChoice
from render.job.weight_loading import load_weights
from render.networks.weights import Loaded
from render.sweeps.axes.definition import SweepDefinition
from render.sweeps.axes.points import rank
from render.sweeps.monitor.event_log import Event, point_event
from render.sweeps.rendering.drafting import DraftedPoint, kernels_of
from render.sweeps.rendering.launcher import AssignedPoint, Launcher
from render.sweeps.rendering.orders import WeightsKey, weights_key
from render.sweeps.rendering.point_kinds import point_job
from render.sweeps.rendering.point_queue import PointTask
from render.sweeps.rendering.source_cache import SourceCache
from render.sweeps.rendering.worker_loop import LaunchSettings
from render.system import interrupts
from render.system.machine import cores

#: Bytes that Ray stores besides weights, and largest size of a network's weights.
_STORED_BYTES, _MAX_WEIGHTS_BYTES = 150_000_000, 120_000_000


class Reporter(Protocol):
    """Receiver of a sweep's events. Any number of threads may call `report`."""

    def report(self, event: Event) -> None:
        """Record and show an event."""

    def tick(self) -> None:
        """Update what is shown. Called regularly while points are rendered."""

    def say(self, text: str) -> None:
        """Print a line."""


def render_points(
    definition: SweepDefinition,
    points: Sequence[DraftedPoint],
    farm_config: FarmConfig,
    settings: LaunchSettings,
    reporter: Reporter,
    record: dict[str, Any],
) -> None:
    """Render points on a farm.

    Args:
        definition: The sweep.
        points: The points that are not done.
        farm_config: The farm to open.
        settings: Settings that hold for all points.
        reporter: Gets the events of the points.
        record: Gets totals for `sweep.json`, even if an error ends the rendering.

    Raises:
        KeyboardInterrupt: If interrupted.
        UserError: If the farm cannot be opened, or points are left that no worker can render.
    """
    with ThreadPoolExecutor(1) as background:
        # Start Ray and read weights concurrently: both take seconds and wait for different resources.
        loading: Future[dict[WeightsKey, Loaded]] = background.submit(_load_weights, points, reporter)
        background.submit(store.get_ready)
        with open_farm(
            farm_config,
            threads=farm_config.worker.threads or cores(),
            store_bytes=_store_bytes(points, farm_config.workers or 1),
            check=interrupts.check,
            say=reporter.say,
        ) as farm:
            loaded = loading.result()
            launcher = Launcher(farm, loaded, settings, report=reporter.report, tick=reporter.tick)
            loaded_points = [point for point in points if not point.kernels or weights_key(point.config) in loaded]
            try:
                _launch(definition, loaded_points, farm, launcher)
            finally:
                record |= {
                    "workers": farm.size,
                    "kernels": len(kernels_of(loaded_points)),
                    "compiled": sum(launcher.totals.compiled.values()),
                    "peak_bytes": launcher.totals.peak_bytes,
                }


def _load_weights(points: Sequence[DraftedPoint], reporter: Reporter) -> dict[WeightsKey, Loaded]:
    """Load the weights of all networks that points dream with.

    Points whose weights cannot be loaded are reported as failed.
    """
    loaded: dict[WeightsKey, Loaded] = {}
    reasons: dict[WeightsKey, str] = {}
    for point in points:
        if not point.kernels:
            continue
        key = weights_key(point.config)
        if key not in loaded and key not in reasons:
            try:
                loaded[key] = load_weights(NetworkChoice.of(point.config.model), point.config.look)
            except RenderError as error:
                reasons[key] = str(error)
        if key in reasons:
            reporter.report(point_event("failed", point.point.number, reason=reasons[key]))
    return loaded


def _launch(definition: SweepDefinition, points: Sequence[DraftedPoint], farm: Farm, launcher: Launcher) -> None:
    """Render the points rank by rank.

    In each rank, first one point per worker, then the large points with all workers.
    """
    total = sum(point.teraflops for point in points)
    large = {
        point.point.number
        for point in points
        if farm.size > 1 and (not point.fits_worker or (point.max_tiles > 1 and point.teraflops * farm.size > total))
    }
    for group in _by_rank(definition, points) if large else [points]:
        assigned = [_assigned(definition, point) for point in group]
        launcher.pack([point for point in assigned if point.number not in large])
        launcher.spread([point for point in assigned if point.number in large])


def _by_rank(definition: SweepDefinition, points: Sequence[DraftedPoint]) -> Iterator[list[DraftedPoint]]:
    """Yield the points of each rank, the highest first."""
    ranks = {point.point.number: rank(definition, point.point) for point in points}
    for point_rank in sorted(set(ranks.values()), reverse=True):
        yield [point for point in points if ranks[point.point.number] == point_rank]


def _assigned(definition: SweepDefinition, point: DraftedPoint) -> AssignedPoint:
    number = point.point.number
    return AssignedPoint(number, point.config, PointTask(number, point.kernels, rank(definition, point.point)))


def _store_bytes(points: Sequence[DraftedPoint], workers: int) -> int:
    """Return the bytes that Ray stores at once here.

    They are all weights, and the transfers of the largest point for all workers.
    """
    weights = _MAX_WEIGHTS_BYTES * len({weights_key(point.config) for point in points})
    large_points = [point for point in points if workers > 1 and (point.max_tiles > 1 or not point.fits_worker)]
    if not large_points:
        return _STORED_BYTES + weights
    largest = max(large_points, key=lambda point: point.megapixels)
    return _STORED_BYTES + weights + point_job(largest.config, SourceCache()).store_bytes()
