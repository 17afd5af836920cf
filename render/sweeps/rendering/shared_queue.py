"""Point queue for threads: a worker that finds no point waits until another one changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from render.sweeps.rendering.point_queue import PointQueue, PointTask
from render.system import interrupts

#: Seconds after which an idle worker looks for a point again, although no other worker has changed.
_MAX_IDLE_S = 1.0


class SharedQueue:
    """`PointQueue` behind a lock. Any number of threads may call it."""

    def __init__(self, tasks: Sequence[PointTask], retries: int, stop_file: Path) -> None:
        """Queue all tasks.

        Args:
            tasks: The points to render.
            retries: How often a failed point is tried again.
            stop_file: Once it exists, no more points are given out.
        """
        self._queue = PointQueue(tasks, retries)
        self._stop_file = stop_file
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """Number of points that wait for a worker."""
        with self._changed:
            return self._queue.waiting

    def attempt(self, number: int) -> int:
        """Return the number of the point's current or next attempt, from 1."""
        with self._changed:
            return self._queue.attempt(number)

    def join(self, worker: int, place: str) -> None:
        """Add a worker at `place`, with nothing compiled, or replace one of this number."""
        with self._changed:
            self._queue.join(worker, place)

    def leave(self, worker: int) -> None:
        """Remove a worker, if it joined; its unfinished point waits again."""
        with self._change() as queue:
            queue.leave(worker)

    def next_task(self, worker: int) -> PointTask | None:
        """Return the next point for a worker, waiting for one if necessary.

        Return None if there will be no more.

        Raises:
            KeyboardInterrupt: If interrupted, or if the stop file exists.
        """
        with self._changed:
            while True:
                interrupts.check()
                if self._stop_file.exists():
                    raise KeyboardInterrupt
                task = self._queue.take(worker)
                if task is not None or not (self._queue.waiting or self._queue.running):
                    return task
                self._changed.wait(_MAX_IDLE_S)

    def lacks_kernels(self, worker: int) -> bool:
        """Return whether the worker must compile or load a kernel for its point."""
        with self._changed:
            return self._queue.lacks_kernels(worker)

    def kernels_ready(self, worker: int) -> None:
        """Record that the worker has the kernels of its point."""
        with self._change() as queue:
            queue.kernels_ready(worker)

    def finished(self, worker: int) -> None:
        """Record that the worker has finished its point."""
        with self._change() as queue:
            queue.finished(worker)

    def failed(self, worker: int, *, may_retry: bool) -> bool:
        """Record that the worker's point failed; return whether it will be retried."""
        with self._change() as queue:
            return queue.failed(worker, may_retry=may_retry)

    @contextmanager
    def _change(self) -> Iterator[PointQueue]:
        """Hold the lock for a change of the queue, then wake the waiting threads."""
        with self._changed:
            yield self._queue
            self._changed.notify_all()
