"""The queue of a sweep: every point is given out, each kernel is compiled by one worker at a place, failures come again."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from render.sweeps.queue import Queue, Task

KERNELS = st.frozensets(st.sampled_from("abcdef"), min_size=1, max_size=3)
TASKS = st.lists(st.tuples(KERNELS, st.integers(0, 2)), min_size=1, max_size=20).map(
    lambda found: [Task(number, kernels, rank) for number, (kernels, rank) in enumerate(found)]
)


class Night:
    """Workers who take points in an order that `draw` decides, compile what they lack, and finish, fail or die."""

    def __init__(self, tasks: list[Task], places: list[str], retries: int = 2) -> None:
        self.queue = Queue(tasks, retries)
        self.places = places
        self.at: dict[int, Task | None] = dict.fromkeys(range(len(places)))
        self.compiling: dict[int, bool] = {}
        self.taken: list[int] = []
        self.compilations: list[tuple[str, str]] = []
        self.hands: dict[int, set[str]] = {worker: set() for worker in self.at}
        for worker, place in enumerate(places):
            self.queue.join(worker, place)

    def take(self, worker: int) -> bool:
        task = self.queue.take(worker)
        if task is None:
            return False
        self.at[worker] = task
        self.taken.append(task.number)
        self.compiling[worker] = self.queue.lacks(worker)
        assert self.compiling[worker] == bool(task.kernels - self.hands[worker])
        return True

    def compile(self, worker: int) -> None:
        task = self.at[worker]
        for kernel in task.kernels - self.hands[worker]:
            if (self.places[worker], kernel) not in self.compilations:
                self.compilations.append((self.places[worker], kernel))
        self.hands[worker] |= task.kernels
        self.queue.compiled(worker)
        self.compiling[worker] = False

    def finish(self, worker: int) -> None:
        self.queue.finished(worker)
        self.at[worker] = None


@given(st.data(), TASKS, st.lists(st.sampled_from(["here", "there"]), min_size=1, max_size=4))
def test_every_point_is_rendered_once_and_no_kernel_is_compiled_by_two_workers_of_a_place_at_a_time(data, tasks, places):
    night = Night(tasks, places)
    done: list[int] = []
    while len(done) < len(tasks):
        idle = [worker for worker, task in night.at.items() if task is None]
        took = [worker for worker in idle if night.take(worker)]
        under_way = [
            (night.places[worker], kernel)
            for worker, task in night.at.items()
            if task is not None and night.compiling[worker]
            for kernel in task.kernels - night.hands[worker]
            if (night.places[worker], kernel) not in night.compilations
        ]
        assert len(under_way) == len(set(under_way))
        busy = [worker for worker, task in night.at.items() if task is not None]
        assert busy, "somebody can always go on"
        worker = data.draw(st.sampled_from(busy))
        if night.compiling[worker]:
            night.compile(worker)
        else:
            done.append(night.at[worker].number)
            night.finish(worker)
        assert took or busy
    assert sorted(night.taken) == [task.number for task in tasks]
    assert night.queue.waiting == night.queue.at_work == 0
    assert len(night.compilations) == len(set(night.compilations))


@given(TASKS)
def test_one_worker_takes_higher_ranks_first_and_stays_with_a_kernel(tasks):
    night = Night(tasks, ["here"])
    while night.take(0):
        if night.compiling[0]:
            night.compile(0)
        night.finish(0)
    by_number = {task.number: task for task in tasks}
    order = [by_number[number] for number in night.taken]
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
    night = Night(tasks, ["here"], retries)
    bad = data.draw(st.sets(st.sampled_from([task.number for task in tasks])))
    hopeless = data.draw(st.sets(st.sampled_from([task.number for task in tasks])))
    again: list[bool] = []
    while night.take(0):
        number = night.at[0].number
        assert night.queue.attempt(number) == night.taken.count(number)
        if number in bad | hopeless:
            again.append(night.queue.failed(0, again=number not in hopeless))
            night.at[0] = None
        else:
            night.finish(0)
    for task in tasks:
        times = 1 if task.number in hopeless or task.number not in bad else 1 + retries
        assert night.taken.count(task.number) == times
    assert again.count(True) == len(bad - hopeless) * retries


def test_a_failed_point_waits_until_its_like_are_through():
    night = Night([Task(number, frozenset("a")) for number in range(4)], ["here"])
    night.take(0)
    assert night.queue.failed(0, again=True)
    for _ in range(4):
        night.take(0)
        night.finish(0)
    assert night.taken == [0, 1, 2, 3, 0]


def test_a_worker_that_leaves_gives_its_point_back_and_what_it_was_compiling_to_the_next():
    night = Night([Task(0, frozenset("a")), Task(1, frozenset("a"))], ["here", "here"])
    assert night.take(0)
    assert not night.take(1), "the other compiles it"
    night.queue.leave(0)
    assert night.take(1)
    assert night.taken == [0, 0]


def test_workers_spread_over_kernels_before_they_share_one():
    tasks = [Task(number, frozenset("abc"[number % 3])) for number in range(9)]
    night = Night(tasks, ["here"] * 3)
    for worker in range(3):
        assert night.take(worker)
    assert night.taken == [0, 1, 2]
    for worker in range(3):
        night.compile(worker)
        night.finish(worker)
        assert night.take(worker)
    assert night.taken[3:] == [3, 4, 5]


def test_elsewhere_a_kernel_is_compiled_at_the_same_time():
    night = Night([Task(0, frozenset("a")), Task(1, frozenset("a"))], ["here", "there"])
    assert night.take(0)
    assert night.take(1)


def test_two_thousand_points_with_kernels_of_their_own_are_given_out_in_a_few_milliseconds_each():
    night = Night([Task(number, frozenset([str(number)])) for number in range(2000)], ["here"])
    begun = time.perf_counter()
    while night.take(0):
        night.queue.compiled(0)
        night.hands[0] |= night.at[0].kernels
        night.finish(0)
    assert len(night.taken) == 2000
    assert (time.perf_counter() - begun) / 2000 < 0.01
