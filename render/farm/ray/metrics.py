"""Prometheus metrics of a render on a cluster, through Ray: each node has an endpoint, and Ray finds them all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from render.config.schema import FarmConfig
from render.farm.conductor import filter_bytes_exchanged
from render.farm.events import Event, Noticed, OctaveStarted, Recovered, Saved, StepDone, TilesDone
from render.geometry.blocks import deal_blocks
from render.planning.cost import Traffic

#: Prefix that Ray adds to every name.
PREFIX = "ray_"
#: Histogram boundaries, for steps of a small canvas on a GPU up to a gigapixel, s.
_STEP_BOUNDARIES_S = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
#: Time between updates of metrics that always change, s.
_UPDATE_PERIOD_S = 5.0


@dataclass(frozen=True)
class MetricSpec:
    """A metric's kind, which is gauge, counter or histogram, and its description."""

    kind: str
    text: str


#: All metrics, by their names in the program.
METRICS = {
    "render_megapixels_per_second": MetricSpec("gauge", "Megapixels of windows dreamed a second, of the whole farm"),
    "render_tiles_total": MetricSpec("counter", "Tiles whose gradient has been computed"),
    "render_step_seconds": MetricSpec("histogram", "How long a step of the whole canvas took, s"),
    "render_exchanged_bytes_total": MetricSpec("counter", "Bytes of margins and gradients sent from worker to worker"),
    "render_checkpoint_age_seconds": MetricSpec("gauge", "How long ago the canvas was last saved, or the run begun, s"),
    "render_workers": MetricSpec("gauge", "Workers that have a block"),
    "render_octave": MetricSpec("gauge", "The octave under way, from 1"),
    "render_step": MetricSpec("gauge", "Steps done of the octave"),
    "render_losses_total": MetricSpec("counter", "Times that workers were lost and the last checkpoint was taken up"),
    "render_notices_total": MetricSpec("counter", "Times that workers were let go because their machines were about to go"),
}


class NoMetrics:
    """Metrics that are not published."""

    def update(self, event: Event) -> None:
        """Ignore an event."""

    def close(self) -> None:
        """Do nothing."""


class Metrics:
    """Metrics that follow a conductor's events."""

    def __init__(self, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Make the metrics in Ray, which must be started.

        Args:
            run: Tag that tells runs apart.
            clock: Seconds of a clock that never goes back.
        """
        # Imported only here: the inline executor does not need Ray.
        from ray.util import metrics

        metrics_by_name: dict[str, Any] = {}
        for name, description in METRICS.items():
            match description.kind:
                case "gauge":
                    metrics_by_name[name] = metrics.Gauge(name, description.text, ("run",))
                case "counter":
                    metrics_by_name[name] = metrics.Counter(name, description.text, ("run",))
                case _:
                    metrics_by_name[name] = metrics.Histogram(name, description.text, _STEP_BOUNDARIES_S, ("run",))
            metrics_by_name[name].set_default_tags({"run": run})
        self._metrics = metrics_by_name
        self._clock = clock
        self._saved_at = self._updated_at = clock()
        self._pixels = 0
        #: Bytes that a step sends with the current deal of blocks.
        self._step_bytes = 0

    def update(self, event: Event) -> None:
        """Update the metrics by an event."""
        metrics = self._metrics
        match event:
            case OctaveStarted():
                grid = event.octave.grid
                filtered = filter_bytes_exchanged(deal_blocks(grid, event.workers), event.octave.stage)
                self._step_bytes = Traffic.of(grid, event.workers).bytes + filtered
                metrics["render_workers"].set(event.workers)
                metrics["render_octave"].set(event.octave.index + 1)
                metrics["render_step"].set(event.steps)
            case TilesDone():
                self._pixels += event.tiles * event.octave.tile_pixels
                if event.tiles:
                    metrics["render_tiles_total"].inc(event.tiles)
            case StepDone():
                metrics["render_step"].set(event.step + 1)
                metrics["render_step_seconds"].observe(event.seconds)
                if self._step_bytes:
                    metrics["render_exchanged_bytes_total"].inc(self._step_bytes)
            case Saved():
                self._saved_at = self._clock()
            case Recovered():
                metrics["render_losses_total"].inc()
            case Noticed():
                metrics["render_notices_total"].inc()
        self._update_pace()

    def close(self) -> None:
        """Set the metrics that only a running render has to 0."""
        self._metrics["render_workers"].set(0)
        self._metrics["render_megapixels_per_second"].set(0)

    def _update_pace(self) -> None:
        now = self._clock()
        if now - self._updated_at < _UPDATE_PERIOD_S:
            return
        self._metrics["render_megapixels_per_second"].set(self._pixels / 1e6 / (now - self._updated_at))
        self._metrics["render_checkpoint_age_seconds"].set(now - self._saved_at)
        self._pixels, self._updated_at = 0, now


def open_metrics(config: FarmConfig, run: str) -> Metrics | NoMetrics:
    """Return metrics if they can be read: on a cluster, or if the farm's own dashboard is requested."""
    is_watched = config.executor == "ray" and (config.address is not None or config.dashboard)
    return Metrics(run) if is_watched else NoMetrics()
