"""Schedules of shots: as many at once as there are workers, none idle for long, never too far ahead, each frame once."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest

from render.film.footage.shot_schedule import Shot, ShotSchedule, divided


class Simulation:
    """A farm by a clock of its own: a frame takes `cost` ticks of one worker, and taking one nothing."""

    def __init__(self, starts: Collection[int], last: int, size: int, ahead: int, most: int = 99, cost: int = 12) -> None:
        self.starts, self.last, self.size, self.cost = set(starts), last, size, cost
        self.schedule = ShotSchedule(0, last, ahead, most)
        self.limit = ahead
        #: Ticks that are left of the frame in hand of every shot.
        self.left: dict[Shot, int] = {}
        self.dreamed: list[int] = []
        self.taken = self.ticks = self.busy = 0
        self.at_once: list[int] = []

    def run(self) -> None:
        """Run to the end."""
        while self.taken < self.last:
            self._search()
            for shot in self.schedule.start(self.size):
                self.left[shot] = self.cost
            assert self.left, "no shot is dreamed, and frames are left"
            used = sum(shot.workers for shot in self.left)
            assert used <= self.size
            self.at_once.append(len(self.left))
            self.ticks += 1
            self.busy += used
            for shot in list(self.left):
                self.left[shot] -= shot.workers
                if self.left[shot] <= 0:
                    self._finish(shot)
            while self.taken in self.dreamed:
                self.taken += 1
                self.schedule.take(self.taken)

    def _search(self) -> None:
        while self.schedule.searched < self.schedule.limit:
            number = self.schedule.searched
            self.schedule.search(number, begins=number in self.starts)

    def _finish(self, shot: Shot) -> None:
        number = shot.next
        assert number not in self.dreamed
        assert number < self.taken + self.limit
        assert number in self.starts or number == 0 or number - 1 in self.dreamed, (
            "a frame is dreamed before the one before"
        )
        self.dreamed.append(number)
        shot.next += 1
        if self.schedule.goes_on(shot, shot.next):
            self.left[shot] = self.cost
        else:
            del self.left[shot]
            self.schedule.give_back(shot)


def test_as_many_shots_as_workers_are_dreamed_at_once() -> None:
    simulation = Simulation(range(0, 40, 10), 40, size=4, ahead=40)
    simulation.run()
    assert set(simulation.at_once) == {4}
    assert simulation.ticks == 40 * simulation.cost / 4


def test_fewer_shots_than_workers_share_them() -> None:
    schedule = ShotSchedule(0, 20, ahead=20, most_workers=99)
    for number in range(1, 20):
        schedule.search(number, begins=number == 10)
    assert [shot.workers for shot in schedule.start(5)] == [3, 2]


def test_a_shot_gets_no_more_workers_than_it_has_tiles() -> None:
    assert divided(8, 2, most=3) == [3, 3]
    assert divided(8, 3, most=99) == [3, 3, 2]
    assert divided(2, 5, most=99) == [1, 1]


def test_workers_of_a_shot_that_is_over_help_with_the_others() -> None:
    """One shot of 4 frames and one of 16: no worker waits once the short one is over, but for the frame in hand."""
    simulation = Simulation([4], 20, size=2, ahead=20)
    simulation.run()
    assert simulation.at_once[0] == 2
    assert simulation.ticks <= 20 * simulation.cost / 2 + simulation.cost


def test_a_single_shot_has_all_workers() -> None:
    simulation = Simulation([], 12, size=4, ahead=3)
    simulation.run()
    assert simulation.ticks == 12 * simulation.cost / 4


def test_frames_that_an_earlier_run_dreamed_are_left_out() -> None:
    schedule = ShotSchedule(3, 20, ahead=20, most_workers=99, finished=[3, 4, 10, 11])
    for number in range(4, 20):
        schedule.search(number, begins=number == 10)
    assert [shot.next for shot in schedule.start(2)] == [5, 12]


@pytest.mark.parametrize("seed", range(40))
def test_every_frame_is_dreamed_once_and_none_too_far_ahead(seed: int) -> None:
    draws = random.Random(seed)
    last = draws.randrange(1, 80)
    starts = sorted(draws.sample(range(last), draws.randrange(min(last, 12))))
    size, ahead = draws.randrange(1, 9), draws.randrange(2, 40)
    simulation = Simulation(starts, last, size, ahead, most=draws.randrange(1, 9), cost=draws.randrange(1, 20))
    simulation.run()
    assert sorted(simulation.dreamed) == list(range(last))
    assert simulation.schedule.is_idle
