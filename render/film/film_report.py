"""Reports of a film that is being made, from any thread: to the terminal, to `status`, and as metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from render.farm.conductor import Conductor
from render.farm.events import Event, Noticed, OctaveDone, OctaveStarted, Recovered, TilesDone
from render.farm.ray.metrics import Metrics, NoMetrics
from render.film.film_progress import FilmDisplay
from render.job.run_home import RunHome

#: Events that count for the whole farm, whichever frame they are of.
_OF_THE_FARM = (TilesDone, Recovered, Noticed)


class FilmReport:
    """Reports of one film.

    Octave and step are those of the frame whose turn it is; frames that are made ahead are only counted.
    """

    def __init__(self, home: RunHome, display: FilmDisplay) -> None:
        """Store the receivers.

        Args:
            home: Home of the film; reports fail once another process has taken it over.
            display: Display and progress file.
        """
        self._home, self._display = home, display
        self._metrics: Metrics | NoMetrics = NoMetrics()
        self._lock = threading.Lock()
        #: Workers of every frame that is dreamed now.
        self._workers: dict[int, int] = {}

    @contextmanager
    def published(self, metrics: Metrics | NoMetrics) -> Iterator[None]:
        """Report as metrics, too, inside the context, while Ray is there."""
        self._metrics = metrics
        self._set_frames()
        try:
            yield
        finally:
            with self._lock:
                self._metrics = NoMetrics()
            metrics.close()

    def event(self, frame: int, event: Event, _conductor: Conductor) -> None:
        """Report what happens within a frame."""
        self._home.check_held()
        with self._lock:
            if frame == self._display.position.finished or isinstance(event, _OF_THE_FARM):
                self._metrics.update(event)
            if isinstance(event, OctaveStarted):
                self._workers[frame] = event.workers
                self._metrics.set_workers(sum(self._workers.values()))
            elif isinstance(event, OctaveDone):
                self._workers.pop(frame, None)
            self._display.event(frame, event)

    def ahead(self, count: int) -> None:
        """Report how many frames are made and wait for their turn."""
        with self._lock:
            self._display.ahead(count)
            self._set_frames()

    def finished(self, number: int) -> None:
        """Report a finished frame."""
        with self._lock:
            self._display.frame_finished(number)
            self._set_frames()

    def say(self, line: str) -> None:
        """Show a line that the user should know of."""
        with self._lock:
            self._display.say(line)

    def close(self) -> None:
        """End the reports."""
        with self._lock:
            self._display.close()

    def _set_frames(self) -> None:
        position = self._display.position
        self._metrics.set_frames(position.finished, position.ahead)
