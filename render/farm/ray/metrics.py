"""What a render on a cluster tells Prometheus, by way of Ray: each node has an endpoint, and Ray finds them all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from render.config.schema import FarmConfig
from render.farm.conductor import filter_bytes_exchanged
from render.farm.events import Event, Noticed, OctaveStarted, Recovered, Saved, StepDone, TilesDone
from render.geometry.geometry import deal_blocks
from render.planning.cost import Traffic

#: What Ray puts in front of every name.
PREFIX = "ray_"
#: Steps from a small canvas on a GPU to a gigapixel, s.
_STEP_BOUNDARIES = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
#: How often what changes all the time is told, s.
_EVERY = 5.0


@dataclass(frozen=True)
class Described:
    """A metric: gauge, counter or histogram."""

    kind: str
    text: str


#: All metrics, by the names that they have in the program.
METRICS = {
    "render_megapixels_per_second": Described("gauge", "Megapixels of windows dreamed a second, of the whole farm"),
    "render_tiles_total": Described("counter", "Tiles whose gradient has been computed"),
    "render_step_seconds": Described("histogram", "How long a step of the whole canvas took, s"),
    "render_exchanged_bytes_total": Described("counter", "Bytes of margins and gradients sent from worker to worker"),
    "render_checkpoint_age_seconds": Described("gauge", "How long ago the canvas was last saved, or the run begun, s"),
    "render_workers": Described("gauge", "Workers that have a block"),
    "render_octave": Described("gauge", "The octave under way, from 1"),
    "render_step": Described("gauge", "Steps done of the octave"),
    "render_losses_total": Described("counter", "Times that workers were lost and the last checkpoint was taken up"),
    "render_notices_total": Described("counter", "Times that workers were let go because their machines were about to go"),
}


class NoMetrics:
    """Tells nobody."""

    def tell(self, event: Event) -> None:
        """Something happened."""

    def close(self) -> None:
        """The run is over."""


class Metrics:
    """Follows what a conductor tells."""

    def __init__(self, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`run` tells runs apart. Ray must be there."""
        # Imported where it is needed: the inline executor does without Ray.
        from ray.util import metrics

        made: dict[str, Any] = {}
        for name, one in METRICS.items():
            match one.kind:
                case "gauge":
                    made[name] = metrics.Gauge(name, one.text, ("run",))
                case "counter":
                    made[name] = metrics.Counter(name, one.text, ("run",))
                case _:
                    made[name] = metrics.Histogram(name, one.text, _STEP_BOUNDARIES, ("run",))
            made[name].set_default_tags({"run": run})
        self._made = made
        self._clock = clock
        self._saved_at = self._told_at = clock()
        self._pixels = 0
        #: What a step sends as the blocks are dealt now, bytes.
        self._sent = 0

    def tell(self, event: Event) -> None:
        """Something happened."""
        made = self._made
        match event:
            case OctaveStarted():
                grid = event.octave.grid
                filtered = filter_bytes_exchanged(deal_blocks(grid, event.workers), event.octave.stage)
                self._sent = Traffic.of(grid, event.workers).bytes + filtered
                made["render_workers"].set(event.workers)
                made["render_octave"].set(event.octave.index + 1)
                made["render_step"].set(event.steps)
            case TilesDone():
                self._pixels += event.tiles * event.octave.tile_pixels
                if event.tiles:
                    made["render_tiles_total"].inc(event.tiles)
            case StepDone():
                made["render_step"].set(event.step + 1)
                made["render_step_seconds"].observe(event.seconds)
                if self._sent:
                    made["render_exchanged_bytes_total"].inc(self._sent)
            case Saved():
                self._saved_at = self._clock()
            case Recovered():
                made["render_losses_total"].inc()
            case Noticed():
                made["render_notices_total"].inc()
        self._tell_pace()

    def close(self) -> None:
        """The run is over: what only a run that is under way has is none."""
        self._made["render_workers"].set(0)
        self._made["render_megapixels_per_second"].set(0)

    def _tell_pace(self) -> None:
        now = self._clock()
        if now - self._told_at < _EVERY:
            return
        self._made["render_megapixels_per_second"].set(self._pixels / 1e6 / (now - self._told_at))
        self._made["render_checkpoint_age_seconds"].set(now - self._saved_at)
        self._pixels, self._told_at = 0, now


def open_metrics(config: FarmConfig, run: str) -> Metrics | NoMetrics:
    """Metrics where somebody may look at them: on a cluster, or where the farm's own dashboard is asked for."""
    watched = config.executor == "ray" and (config.address is not None or config.dashboard)
    return Metrics(run) if watched else NoMetrics()
