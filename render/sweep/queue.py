"""Which point of a sweep which worker takes next. Pure: it knows nothing of farms.

A kernel is compiled at most once at each place: while one worker does so the others there take points of other kernels, and
find it in the cache on disk afterwards. A worker stays with the kernels that it has while there are points for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

#: All that tells a compiled kernel from others.
KernelKey = Hashable


@dataclass(frozen=True)
class Task:
    """A point to be rendered: its number, the kernels that it needs, and its rank: higher ones are taken first."""

    number: int
    kernels: frozenset[KernelKey]
    rank: int = 0


@dataclass
class _Hand:
    """What is known of a worker: where it lives, what it has compiled or loaded, what it is at."""

    place: str
    kernels: set[KernelKey] = field(default_factory=set)
    task: Task | None = None


class Queue:
    """The points that wait, and which worker is at which."""

    def __init__(self, tasks: Sequence[Task], retries: int) -> None:
        """`retries` is how often a point is given out again after it failed."""
        self._retries = retries
        self._hands: dict[int, _Hand] = {}
        self._failures: Counter[int] = Counter()
        #: What some worker at a place has compiled.
        self._compiled: dict[str, set[KernelKey]] = {}
        #: By rank and kernels, each from its last point to its first; those that failed come before the last.
        self._groups: dict[tuple[int, frozenset[KernelKey]], list[Task]] = {}
        for task in sorted(tasks, key=lambda task: task.number, reverse=True):
            self._groups.setdefault((task.rank, task.kernels), []).append(task)

    @property
    def waiting(self) -> int:
        """How many points no worker is at."""
        return sum(map(len, self._groups.values()))

    @property
    def at_work(self) -> int:
        """How many points workers are at."""
        return sum(hand.task is not None for hand in self._hands.values())

    def attempt(self, number: int) -> int:
        """The how-manieth time a point is given out, from 1."""
        return self._failures[number] + 1

    def join(self, worker: int, place: str) -> None:
        """A worker begins, with nothing compiled; `place` is where it lives."""
        self._hands[worker] = _Hand(place)
        self._compiled.setdefault(place, set())

    def take(self, worker: int) -> Task | None:
        """The next point for a worker; None where there is none for it now: there may be when others have compiled."""
        hand = self._hands[worker]
        compiling = self._compiling(hand)
        compiled = self._compiled[hand.place]
        best: tuple[int, int, int, int] | None = None
        chosen: tuple[int, frozenset[KernelKey]] | None = None
        for (rank, kernels), tasks in self._groups.items():
            if kernels & compiling:
                continue
            at_hand = len(kernels & hand.kernels)
            # Best with what is at hand, else with some of it; of the rest rather what nobody here has compiled: those who
            # did will see to their own.
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
        """Whether the worker has to compile or load something for the point that it is at."""
        hand = self._hands[worker]
        return hand.task is not None and not hand.task.kernels <= hand.kernels

    def compiled(self, worker: int) -> None:
        """The worker has the kernels of the point that it is at."""
        hand = self._hands[worker]
        assert hand.task is not None, "it is at a point"
        hand.kernels |= hand.task.kernels
        self._compiled[hand.place] |= hand.task.kernels

    def finished(self, worker: int) -> None:
        """The worker is done with its point."""
        self._hands[worker].task = None

    def failed(self, worker: int, *, again: bool) -> bool:
        """The worker's point failed. Whether it will be given out once more, after its like: if `again`, so many times."""
        hand = self._hands[worker]
        task, hand.task = hand.task, None
        assert task is not None, "it is at a point"
        self._failures[task.number] += 1
        if not again or self._failures[task.number] > self._retries:
            return False
        self._groups.setdefault((task.rank, task.kernels), []).insert(0, task)
        return True

    def leave(self, worker: int) -> None:
        """The worker is gone, if ever it joined; a point that it was still at waits again, as the next of its like."""
        hand = self._hands.pop(worker, None)
        if hand is not None and hand.task is not None:
            self._groups.setdefault((hand.task.rank, hand.task.kernels), []).append(hand.task)

    def _compiling(self, hand: _Hand) -> set[KernelKey]:
        """What others at a worker's place are compiling just now."""
        at_work: set[KernelKey] = set()
        for other in self._hands.values():
            if other is not hand and other.place == hand.place and other.task is not None:
                at_work |= other.task.kernels - other.kernels
        return at_work - self._compiled[hand.place]
