"""Queue of a sweep: every point is assigned, a kernel is compiled once per place, failures return."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from render.sweeps.rendering.point_queue import PointQueue, PointTask

KERNELS = st.frozensets(st.sampled_from("abcdef"), min_size=1, max_size=3)
TASKS = st.lists(st.tuples(KERNELS, st.integers(0, 2)), min_size=1, max_size=20).map(
    lambda drawn: [PointTask(number, kernels, rank) for number, (kernels, rank) in enumerate(drawn)]
)


class SimulatedFarm:
    """Simulated workers that take points, compile missing kernels, and finish, fail or die."""

    def __init__(self, tasks: list[PointTask], places: list[str], retries: int = 2) -> None:
        self.queue = PointQueue(tasks, retries)
        self.places = places
        self.at: dict[int, PointTask | None] = dict.fromkeys(range(len(places)))
        self.compiling: dict[int, bool] = {}
        self.taken: list[int] = []
        self.compilations: list[tuple[str, str]] = []
        self.hands: dict[int, set[str]] = {worker: set() for worker in self.at}
        for worker, place in enumerate(places):
            self.queue.join(worker, place)

    def take(self, worker: int) -> bool:
        """Give the worker its next point; return whether there was one."""
        task = self.queue.take(worker)
        if task is None:
            return False
        self.at[worker] = task
        self.taken.append(task.number)
        self.compiling[worker] = self.queue.lacks_kernels(worker)
        assert self.compiling[worker] == bool(task.kernels - self.hands[worker])
        return True

    def compile(self, worker: int) -> None:
        """Record that the worker has compiled the kernels of its point."""
        task = self.at[worker]
        for kernel in task.kernels - self.hands[worker]:
            if (self.places[worker], kernel) not in self.compilations:
                self.compilations.append((self.places[worker], kernel))
        self.hands[worker] |= task.kernels
        self.queue.kernels_ready(worker)
        self.compiling[worker] = False

    def finish(self, worker: int) -> None:
        """Record that the worker has finished its point."""
        self.queue.finished(worker)
        self.at[worker] = None


@given(st.data(), TASKS, st.lists(st.sampled_from(["here", "there"]), min_size=1, max_size=4))
def test_every_point_is_rendered_once_and_no_kernel_is_compiled_by_two_workers_of_a_place_at_a_time(data, tasks, places):
    farm = SimulatedFarm(tasks, places)
    done: list[int] = []
    while len(done) < len(tasks):
        idle = [worker for worker, task in farm.at.items() if task is None]
        took = [worker for worker in idle if farm.take(worker)]
        under_way = [
            (farm.places[worker], kernel)
            for worker, task in farm.at.items()
            if task is not None and farm.compiling[worker]
            for kernel in task.kernels - farm.hands[worker]
            if (farm.places[worker], kernel) not in farm.compilations
        ]
        assert len(under_way) == len(set(under_way))
        busy = [worker for worker, task in farm.at.items() if task is not None]
        assert busy, "somebody can always go on"
        worker = data.draw(st.sampled_from(busy))
        if farm.compiling[worker]:
            farm.compile(worker)
        else:
            done.append(farm.at[worker].number)
            farm.finish(worker)
        assert took or busy
    assert sorted(farm.taken) == [task.number for task in tasks]
    assert farm.queue.waiting == farm.queue.running == 0
    assert len(farm.compilations) == len(set(farm.compilations))


@given(TASKS)
def test_one_worker_takes_higher_ranks_first_and_stays_with_a_kernel(tasks):
    farm = SimulatedFarm(tasks, ["here"])
    while farm.take(0):
        if farm.compiling[0]:
            farm.compile(0)
        farm.finish(0)
    by_number = {task.number: task for task in tasks}
    order = [by_number[number] for number in farm.taken]
    assert [task.rank for task in order] == sorted((task.rank for task in tasks), reverse=True)
    for position, (task, following) in enumerate(itertools.pairwise(order)):
        at_hand = set().union(*(one.kernels for one in order[: position + 1]))
        if not following.kernels <= at_hand:
            # Nothing of this rank that needs nothing new was left.
            assert not [one for one in order[position + 1 :] if one.rank == following.rank and one.kernels <= at_hand]
        if task.kernels == following.kernels and task.rank == following.rank:
            assert task.number < following.number


@given(TASKS, st.integers(0, 3), st.data())
def test_a_point_that_fails_comes_again_so_many_times(tasks, retries, data):
    farm = SimulatedFarm(tasks, ["here"], retries)
    bad = data.draw(st.sets(st.sampled_from([task.number for task in tasks])))
    hopeless = data.draw(st.sets(st.sampled_from([task.number for task in tasks])))
    may_retry: list[bool] = []
    while farm.take(0):
        number = farm.at[0].number
        assert farm.queue.attempt(number) == farm.taken.count(number)
        if number in bad | hopeless:
            may_retry.append(farm.queue.failed(0, may_retry=number not in hopeless))
            farm.at[0] = None
        else:
            farm.finish(0)
    for task in tasks:
        times = 1 if task.number in hopeless or task.number not in bad else 1 + retries
        assert farm.taken.count(task.number) == times
    assert may_retry.count(True) == len(bad - hopeless) * retries


def test_a_failed_point_waits_until_its_like_are_through():
    farm = SimulatedFarm([PointTask(number, frozenset("a")) for number in range(4)], ["here"])
    farm.take(0)
    assert farm.queue.failed(0, may_retry=True)
    for _ in range(4):
        farm.take(0)
        farm.finish(0)
    assert farm.taken == [0, 1, 2, 3, 0]


def test_a_worker_that_leaves_gives_its_point_back_and_what_it_was_compiling_to_the_next():
    farm = SimulatedFarm([PointTask(0, frozenset("a")), PointTask(1, frozenset("a"))], ["here", "here"])
    assert farm.take(0)
    assert not farm.take(1), "the other compiles it"
    farm.queue.leave(0)
    assert farm.take(1)
    assert farm.taken == [0, 0]


def test_workers_spread_over_kernels_before_they_share_one():
    tasks = [PointTask(number, frozenset("abc"[number % 3])) for number in range(9)]
    farm = SimulatedFarm(tasks, ["here"] * 3)
    for worker in range(3):
        assert farm.take(worker)
    assert farm.taken == [0, 1, 2]
    for worker in range(3):
        farm.compile(worker)
        farm.finish(worker)
        assert farm.take(worker)
    assert farm.taken[3:] == [3, 4, 5]


def test_elsewhere_a_kernel_is_compiled_at_the_same_time():
    farm = SimulatedFarm([PointTask(0, frozenset("a")), PointTask(1, frozenset("a"))], ["here", "there"])
    assert farm.take(0)
    assert farm.take(1)


def test_two_thousand_points_with_kernels_of_their_own_are_given_out_in_a_few_milliseconds_each():
    farm = SimulatedFarm([PointTask(number, frozenset([str(number)])) for number in range(2000)], ["here"])
    begun = time.perf_counter()
    while farm.take(0):
        farm.queue.kernels_ready(0)
        farm.hands[0] |= farm.at[0].kernels
        farm.finish(0)
    assert len(farm.taken) == 2000
    assert (time.perf_counter() - begun) / 2000 < 0.01
