"""Prometheus metrics of a render on a cluster, through Ray: each node has an endpoint, and Ray finds them all."""

from __future__ import annotations

import threading
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
#: Shortest time over which the pace is measured, s.
_PACE_PERIOD_S = 5.0
#: Time between two repetitions of all gauges, s. Ray forgets a gauge that was not set for two of its report intervals,
#: the shortest of which is 1 s.
_REPEAT_PERIOD_S = 1.0


@dataclass(frozen=True)
class MetricSpec:
    """A metric's kind and its description.

    The kind is gauge, counter, histogram, or count: a gauge that only grows, from 0. Ray's counters cannot be told 0, and
    Prometheus does not see the first increase of a counter that begins above 0.
    """

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
    "render_frames": MetricSpec("gauge", "Frames of the film that are finished, in order"),
    "render_frames_ahead": MetricSpec("gauge", "Frames of later shots that are dreamed and wait for their turn"),
    "render_losses_total": MetricSpec("count", "Times that workers were lost and the last checkpoint was taken up"),
    "render_notices_total": MetricSpec("count", "Times that workers were let go because their machines were about to go"),
}


class NoMetrics:
    """Metrics that are not published."""

    def update(self, event: Event) -> None:
        """Ignore an event."""

    def set_frames(self, finished: int, ahead: int) -> None:
        """Ignore the frames of a film."""

    def set_workers(self, workers: int) -> None:
        """Ignore the number of workers."""

    def close(self) -> None:
        """Do nothing."""


class Metrics:
    """Metrics that follow a conductor's events, and that are repeated while there are none."""

    def __init__(
        self, run: str, clock: Callable[[], float] = time.monotonic, repeat_period_s: float | None = _REPEAT_PERIOD_S
    ) -> None:
        """Make the metrics in Ray, which must be started.

        Args:
            run: Tag that tells runs apart.
            clock: Seconds of a clock that never goes back.
            repeat_period_s: Time between two repetitions of the gauges, s; None for none but those by `repeat`.
        """
        # Imported only here: the inline executor does not need Ray.
        from ray.util import metrics

        metrics_by_name: dict[str, Any] = {}
        for name, description in METRICS.items():
            match description.kind:
                case "gauge" | "count":
                    metrics_by_name[name] = metrics.Gauge(name, description.text, ("run",))
                case "counter":
                    metrics_by_name[name] = metrics.Counter(name, description.text, ("run",))
                case _:
                    metrics_by_name[name] = metrics.Histogram(name, description.text, _STEP_BOUNDARIES_S, ("run",))
            metrics_by_name[name].set_default_tags({"run": run})
        self._metrics = metrics_by_name
        self._clock = clock
        #: Held while values are read or changed: by the conductor's thread and by the one that repeats.
        self._lock = threading.Lock()
        #: Last value of each gauge that has one.
        self._gauges = {name: 0.0 for name, description in METRICS.items() if description.kind == "count"}
        self._saved_at = self._measured_at = clock()
        self._pixels = 0
        #: Pixels of the last measurement of the pace.
        self._last_pixels = 0
        #: Bytes that a step sends with the current deal of blocks.
        self._step_bytes = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if repeat_period_s is not None:
            self._thread = threading.Thread(target=self._repeat_until_closed, args=(repeat_period_s,), daemon=True)
            self._thread.start()

    def update(self, event: Event) -> None:
        """Update the metrics by an event."""
        with self._lock:
            self._update(event)
            self._measure_pace()

    def set_frames(self, finished: int, ahead: int) -> None:
        """Set the frames of a film that are finished, and those that wait for their turn."""
        with self._lock:
            self._set("render_frames", finished)
            self._set("render_frames_ahead", ahead)

    def set_workers(self, workers: int) -> None:
        """Set the number of workers that dream, in all lanes of a film."""
        with self._lock:
            self._set("render_workers", workers)

    def repeat(self) -> None:
        """Set all gauges again: the last values, and those that change with time."""
        with self._lock:
            self._measure_pace()
            self._gauges["render_checkpoint_age_seconds"] = self._clock() - self._saved_at
            for name, value in self._gauges.items():
                self._metrics[name].set(value)

    def close(self) -> None:
        """Set the metrics that only a running render has to 0, and end the repetitions."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self._set("render_workers", 0)
        self._set("render_megapixels_per_second", 0)

    def _update(self, event: Event) -> None:
        metrics = self._metrics
        match event:
            case OctaveStarted():
                grid = event.octave.grid
                filtered = filter_bytes_exchanged(deal_blocks(grid, event.workers), event.octave.stage)
                self._step_bytes = Traffic.of(grid, event.workers).bytes + filtered
                self._set("render_workers", event.workers)
                self._set("render_octave", event.octave.index + 1)
                self._set("render_step", event.steps)
            case TilesDone():
                self._pixels += event.tiles * event.octave.tile_pixels
                if event.tiles:
                    metrics["render_tiles_total"].inc(event.tiles)
            case StepDone():
                self._set("render_step", event.step + 1)
                metrics["render_step_seconds"].observe(event.seconds)
                if self._step_bytes:
                    metrics["render_exchanged_bytes_total"].inc(self._step_bytes)
            case Saved():
                self._saved_at = self._clock()
            case Recovered():
                self._set("render_losses_total", self._gauges["render_losses_total"] + 1)
            case Noticed():
                self._set("render_notices_total", self._gauges["render_notices_total"] + 1)

    def _set(self, name: str, value: float) -> None:
        self._gauges[name] = value
        self._metrics[name].set(value)

    def _measure_pace(self) -> None:
        """Set the pace over the time since it was last measured.

        While no tile is done, it is at most what the last tiles would give over that time: it falls, but not to 0 between
        two tiles of a slow kernel.
        """
        now = self._clock()
        elapsed = now - self._measured_at
        if elapsed < _PACE_PERIOD_S:
            return
        name = "render_megapixels_per_second"
        if not self._pixels:
            if name in self._gauges:
                self._set(name, min(self._gauges[name], self._last_pixels / 1e6 / elapsed))
            return
        self._set(name, self._pixels / 1e6 / elapsed)
        self._last_pixels, self._pixels, self._measured_at = self._pixels, 0, now

    def _repeat_until_closed(self, period_s: float) -> None:
        while not self._closed.wait(period_s):
            self.repeat()


def open_metrics(config: FarmConfig, run: str) -> Metrics | NoMetrics:
    """Return metrics if they can be read: on a cluster, or if the farm's own dashboard is requested."""
    is_watched = config.executor == "ray" and (config.address is not None or config.dashboard)
    return Metrics(run) if is_watched else NoMetrics()
