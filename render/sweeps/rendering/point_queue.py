"""Queue that assigns a sweep's points to workers. Pure: it does not depend on farms.

A kernel is compiled at most once at each place: meanwhile the other workers there take points with other kernels, and
later load it from the cache on disk. A worker prefers points for the kernels that it already has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

#: Identity of a compiled kernel.
KernelKey = Hashable


@dataclass(frozen=True)
class PointTask:
    """Point to be rendered.

    Attributes:
        number: The point's number.
        kernels: The kernels that it needs.
        rank: Points of higher ranks are taken first.
    """

    number: int
    kernels: frozenset[KernelKey]
    rank: int = 0


@dataclass
class _WorkerState:
    """State of a worker.

    Attributes:
        place: The machine that it runs on.
        kernels: The kernels that it has compiled or loaded.
        task: Its current point; None if it is idle.
    """

    place: str
    kernels: set[KernelKey] = field(default_factory=set)
    task: PointTask | None = None


class PointQueue:
    """Waiting points, and the current point of each worker."""

    def __init__(self, tasks: Sequence[PointTask], retries: int) -> None:
        """Queue all tasks; a failed point is retried at most `retries` times."""
        self._retries = retries
        self._workers: dict[int, _WorkerState] = {}
        self._failures: Counter[int] = Counter()
        #: Kernels that any worker at a place has compiled.
        self._compiled_at: dict[str, set[KernelKey]] = {}
        #: Stacks of tasks by rank and kernels: the lowest number is taken first, failed tasks last.
        self._groups: dict[tuple[int, frozenset[KernelKey]], list[PointTask]] = {}
        for task in sorted(tasks, key=lambda task: task.number, reverse=True):
            self._groups.setdefault((task.rank, task.kernels), []).append(task)

    @property
    def waiting(self) -> int:
        """Number of points that wait for a worker."""
        return sum(map(len, self._groups.values()))

    @property
    def running(self) -> int:
        """Number of points that workers are rendering."""
        return sum(state.task is not None for state in self._workers.values())

    def attempt(self, number: int) -> int:
        """Return the number of the point's current or next attempt, from 1."""
        return self._failures[number] + 1

    def join(self, worker: int, place: str) -> None:
        """Add a worker at `place`, with nothing compiled."""
        self._workers[worker] = _WorkerState(place)
        self._compiled_at.setdefault(place, set())

    def take(self, worker: int) -> PointTask | None:
        """Assign the next point to a worker.

        Return None if there is none now; there may be one once others have compiled.
        """
        state = self._workers[worker]
        in_compilation = self._kernels_in_compilation(state)
        compiled_here = self._compiled_at[state.place]
        best: tuple[int, int, int, int] | None = None
        chosen: tuple[int, frozenset[KernelKey]] | None = None
        for (rank, kernels), tasks in self._groups.items():
            if kernels & in_compilation:
                continue
            ready_count = len(kernels & state.kernels)
            # Prefer points whose kernels the worker has, then points that share some. Of the others prefer kernels that
            # nobody here has compiled: the workers that compiled the rest will take those points.
            preference = 3 if ready_count == len(kernels) else 2 if ready_count else int(not kernels & compiled_here)
            score = (rank, preference, ready_count, -tasks[-1].number)
            if best is None or score > best:
                best, chosen = score, (rank, kernels)
        if chosen is None:
            return None
        state.task = self._groups[chosen].pop()
        if not self._groups[chosen]:
            del self._groups[chosen]
        return state.task

    def lacks_kernels(self, worker: int) -> bool:
        """Return whether the worker must compile or load a kernel for its point."""
        state = self._workers[worker]
        return state.task is not None and not state.task.kernels <= state.kernels

    def kernels_ready(self, worker: int) -> None:
        """Record that the worker has the kernels of its point."""
        state = self._workers[worker]
        assert state.task is not None, "the worker has a point"
        state.kernels |= state.task.kernels
        self._compiled_at[state.place] |= state.task.kernels

    def finished(self, worker: int) -> None:
        """Record that the worker has finished its point."""
        self._workers[worker].task = None

    def failed(self, worker: int, *, may_retry: bool) -> bool:
        """Record that the worker's point failed.

        The point waits again, last of its group, if `may_retry` and retries are left.

        Returns:
            Whether it will be retried.
        """
        state = self._workers[worker]
        task, state.task = state.task, None
        assert task is not None, "the worker has a point"
        self._failures[task.number] += 1
        if not may_retry or self._failures[task.number] > self._retries:
            return False
        self._groups.setdefault((task.rank, task.kernels), []).insert(0, task)
        return True

    def leave(self, worker: int) -> None:
        """Remove a worker, if it joined; its unfinished point waits again, first of its group."""
        state = self._workers.pop(worker, None)
        if state is not None and state.task is not None:
            self._groups.setdefault((state.task.rank, state.task.kernels), []).append(state.task)

    def _kernels_in_compilation(self, state: _WorkerState) -> set[KernelKey]:
        """Return the kernels that other workers at the same place are compiling."""
        kernels: set[KernelKey] = set()
        for neighbour in self._workers.values():
            if neighbour is not state and neighbour.place == state.place and neighbour.task is not None:
                kernels |= neighbour.task.kernels - neighbour.kernels
        return kernels - self._compiled_at[state.place]
