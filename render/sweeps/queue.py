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
class Task:
    """Point to be rendered: its number, the kernels that it needs, and its rank (higher ranks are taken first)."""

    number: int
    kernels: frozenset[KernelKey]
    rank: int = 0


@dataclass
class _Hand:
    """State of a worker: its place, the kernels that it has compiled or loaded, and its current task."""

    place: str
    kernels: set[KernelKey] = field(default_factory=set)
    task: Task | None = None


class Queue:
    """Waiting points, and the current point of each worker."""

    def __init__(self, tasks: Sequence[Task], retries: int) -> None:
        """Queue all tasks; a failed point is retried at most `retries` times."""
        self._retries = retries
        self._hands: dict[int, _Hand] = {}
        self._failures: Counter[int] = Counter()
        #: Kernels that any worker at a place has compiled.
        self._compiled: dict[str, set[KernelKey]] = {}
        #: Stacks of tasks by rank and kernels: the lowest number is taken first, failed tasks last.
        self._groups: dict[tuple[int, frozenset[KernelKey]], list[Task]] = {}
        for task in sorted(tasks, key=lambda task: task.number, reverse=True):
            self._groups.setdefault((task.rank, task.kernels), []).append(task)

    @property
    def waiting(self) -> int:
        """Number of points that wait for a worker."""
        return sum(map(len, self._groups.values()))

    @property
    def at_work(self) -> int:
        """Number of points that workers are rendering."""
        return sum(hand.task is not None for hand in self._hands.values())

    def attempt(self, number: int) -> int:
        """Return the number of the point's current or next attempt, from 1."""
        return self._failures[number] + 1

    def join(self, worker: int, place: str) -> None:
        """Add a worker at `place`, with nothing compiled."""
        self._hands[worker] = _Hand(place)
        self._compiled.setdefault(place, set())

    def take(self, worker: int) -> Task | None:
        """Assign the next point to a worker; return None if there is none now, perhaps until others have compiled."""
        hand = self._hands[worker]
        compiling = self._compiling(hand)
        compiled = self._compiled[hand.place]
        best: tuple[int, int, int, int] | None = None
        chosen: tuple[int, frozenset[KernelKey]] | None = None
        for (rank, kernels), tasks in self._groups.items():
            if kernels & compiling:
                continue
            at_hand = len(kernels & hand.kernels)
            # Prefer points whose kernels the worker has, then points that share some. Of the others prefer kernels that
            # nobody here has compiled: the workers that compiled the rest will take those points.
            fitness = 3 if at_hand == len(kernels) else 2 if at_hand else int(not kernels & compiled)
            score = (rank, fitness, at_hand, -tasks[-1].number)
            if best is None or score > best:
                best, chosen = score, (rank, kernels)
        if chosen is None:
            return None
        hand.task = self._groups[chosen].pop()
        if not self._groups[chosen]:
            del self._groups[chosen]
        return hand.task

    def lacks(self, worker: int) -> bool:
        """Return whether the worker must compile or load a kernel for its point."""
        hand = self._hands[worker]
        return hand.task is not None and not hand.task.kernels <= hand.kernels

    def compiled(self, worker: int) -> None:
        """Record that the worker has the kernels of its point."""
        hand = self._hands[worker]
        assert hand.task is not None, "it is at a point"
        hand.kernels |= hand.task.kernels
        self._compiled[hand.place] |= hand.task.kernels

    def finished(self, worker: int) -> None:
        """Record that the worker has finished its point."""
        self._hands[worker].task = None

    def failed(self, worker: int, *, again: bool) -> bool:
        """Record that the worker's point failed; queue it again, last of its group, if `again` and retries are left.

        Returns:
            Whether it will be retried.
        """
        hand = self._hands[worker]
        task, hand.task = hand.task, None
        assert task is not None, "it is at a point"
        self._failures[task.number] += 1
        if not again or self._failures[task.number] > self._retries:
            return False
        self._groups.setdefault((task.rank, task.kernels), []).insert(0, task)
        return True

    def leave(self, worker: int) -> None:
        """Remove a worker, if it joined; its unfinished point waits again, first of its group."""
        hand = self._hands.pop(worker, None)
        if hand is not None and hand.task is not None:
            self._groups.setdefault((hand.task.rank, hand.task.kernels), []).append(hand.task)

    def _compiling(self, hand: _Hand) -> set[KernelKey]:
        """Return the kernels that other workers at the same place are compiling."""
        kernels: set[KernelKey] = set()
        for neighbour in self._hands.values():
            if neighbour is not hand and neighbour.place == hand.place and neighbour.task is not None:
                kernels |= neighbour.task.kernels - neighbour.kernels
        return kernels - self._compiled[hand.place]
