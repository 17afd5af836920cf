"""Shots that are dreamed at once: the same bytes as one after the other, in order, and nothing is dreamed twice."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from render.canvas import store
from render.config.schema import FarmConfig
from render.errors import UserError
from render.farm.conductor import Conductor
from render.farm.events import Event, OctaveStarted, Recovered, StepDone, TilesDone
from render.farm.farms import InlineFarm
from render.farm.ray.pool import RayFarm
from render.film.dreamed.canvases import FrameCanvas
from render.film.footage import footage_frames
from render.film.footage.shot_lanes import ShotLanes
from render.film.footage.shot_schedule import ShotSchedule
from tests.film.footage import clips
from tests.film.footage.tiny_footage import TinyFootage
from tests.support.film_on_farm import inline_farm

SHAPE = (56, 72)
WORDS = ("octaves.count=1", "checkpoint.every=0")


def _shots() -> list[clips.Frame]:
    """Return three shots of three frames."""
    return [
        *clips.pan(clips.photo("astronaut"), SHAPE, 3, (1.0, 2.5)),
        *clips.turning(clips.photo("coffee"), SHAPE, 3, 2.0),
        *clips.pan(clips.photo("chelsea"), SHAPE, 3, (-2.0, 1.0)),
    ]


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Return the canvases of the shots, dreamed one after the other."""
    return TinyFootage(tmp_path_factory.mktemp("turn"), _shots(), WORDS).make()


class Stop(Exception):
    """What ends a film in the middle."""


class FakeLane:
    """A lane whose frames are there at once, unless `wait` takes time."""

    def __init__(self, wait: Callable[[int], object]) -> None:
        self._wait = wait

    def dreamed(self, first: int, goes_on: Callable[[int], bool]) -> Iterator[tuple[int, FrameCanvas]]:
        number = first
        while True:
            self._wait(number)
            yield number, FrameCanvas(Path(f"{number}"), "")
            number += 1
            if not goes_on(number):
                return


def _lanes(last: int, size: int, wait: Callable[[int], object], leases: list[int], ahead: int = 99) -> ShotLanes:
    """Return lanes of shots of four frames, which note their leases."""

    @contextmanager
    def open_lane(workers: int) -> Iterator[FakeLane]:
        leases.append(workers)
        yield FakeLane(wait)

    schedule = ShotSchedule(0, last, ahead, 99)
    return ShotLanes(schedule, {}, open_lane, lambda: size, lambda number: number % 4 == 0, lambda _count: None)


def test_three_shots_are_in_hand_at_once_on_three_workers() -> None:
    """The last frame of each waits for those of the others: alone it would wait in vain."""
    together = threading.Barrier(3)
    leases: list[int] = []

    def wait(number: int) -> None:
        while number == 0 and lanes._schedule.searched < 12:
            time.sleep(0.01)
        if number % 4 == 3:
            together.wait(20)

    lanes = _lanes(12, 3, wait, leases)
    assert [canvas.path.name for canvas in lanes.taken(0, 12)] == [str(number) for number in range(12)]
    lanes.stop()
    assert leases.count(1) >= 3


def test_no_frame_is_dreamed_farther_ahead_than_allowed() -> None:
    taken = -1

    def check(number: int) -> None:
        assert number <= taken + 1 + 5

    lanes = _lanes(40, 4, check, [], ahead=5)
    for number, _ in enumerate(lanes.taken(0, 40)):
        taken = number
    lanes.stop()


def test_frames_before_an_error_are_taken_and_the_error_is_told() -> None:
    def fail(number: int) -> None:
        if number == 6:
            raise UserError("the disk is full")

    lanes, taken = _lanes(12, 2, fail, []), []
    with pytest.raises(UserError, match="disk is full"):
        for canvas in lanes.taken(0, 12):
            taken.append(int(canvas.path.name))
    lanes.stop()
    assert taken == list(range(len(taken)))
    assert max(taken) <= 5


@pytest.mark.parametrize("workers", [2, 3])
def test_shots_at_once_have_the_bytes_of_shots_in_turn(workers: int, tmp_path: Path, in_turn: dict[int, str]) -> None:
    film = TinyFootage(tmp_path, _shots(), WORDS)
    assert film.make(workers, ahead=9) == in_turn
    assert max(film.ahead) > 1
    names = sorted(path.name for path in (tmp_path / "film" / "canvases").iterdir())
    assert names == ["000007", "000008", "colours.json", "grids.json"]


def test_shots_lease_workers_of_their_own(tmp_path: Path, in_turn: dict[int, str]) -> None:
    leases: list[int | None] = []

    class CountedFarm(InlineFarm):
        def lease(self, workers=None):  # type: ignore[no-untyped-def]
            leases.append(workers)
            return super().lease(workers)

    farm = CountedFarm(3, 1, kernels=inline_farm(1)._kernels)  # type: ignore[attr-defined]
    farm.close()
    assert TinyFootage(tmp_path, _shots(), WORDS).make(ahead=9, farm=farm) == in_turn
    assert leases[0] is None, "the first lease prepares the film on all workers"
    assert leases.count(1) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_what_was_dreamed_ahead_is_found_again_on_any_number_of_workers(
    seed: int, tmp_path: Path, in_turn: dict[int, str]
) -> None:
    film, draws = TinyFootage(tmp_path, _shots(), WORDS), random.Random(seed)
    steps: dict[tuple[int, int, int], int] = {}
    left, stops = draws.randrange(8, 25), 0

    def stop(frame: int, event: Event, _conductor: object) -> None:
        nonlocal left
        if isinstance(event, StepDone):
            step = (frame, event.octave.index, event.step)
            steps[step] = steps.get(step, 0) + 1
        left -= not isinstance(event, TilesDone)
        if left <= 0:
            raise Stop

    while len(film.canvases) < len(film.clip):
        try:
            film.make(draws.choice((1, 2, 3)), len(film.canvases), watch=stop, ahead=9)
        except Stop:
            left, stops = draws.randrange(10, 30), stops + 1
    assert film.canvases == in_turn
    assert stops
    # Every step is saved: only what was in hand at a stop is done again, one step in each of three lanes.
    assert sum(steps.values()) - len(steps) <= 3 * stops


def test_a_film_made_shorter_leaves_nothing_ahead(tmp_path: Path, in_turn: dict[int, str]) -> None:
    film = TinyFootage(tmp_path, _shots(), WORDS)
    seen: set[int] = set()

    def stop(frame: int, event: Event, _conductor: object) -> None:
        seen.add(frame)
        if 7 in seen:
            raise Stop

    with pytest.raises(Stop):
        film.make(3, watch=stop, ahead=9)
    film.make(2, len(film.canvases), 4, ahead=9)
    names = sorted(path.name for path in (tmp_path / "film" / "canvases").iterdir())
    assert names == ["000002", "000003", "colours.json", "grids.json"]
    assert film.make(2, 4, ahead=9) == in_turn


def test_without_room_ahead_all_workers_dream_one_shot_after_the_other(tmp_path: Path, in_turn: dict[int, str]) -> None:
    film, order = TinyFootage(tmp_path, _shots(), WORDS), []

    def note(frame: int, event: Event, _conductor: object) -> None:
        if isinstance(event, OctaveStarted):
            assert event.workers == 2
            order.append(frame)

    assert film.make(2, watch=note, ahead=1) == in_turn
    assert order == sorted(order)


def test_a_clip_that_is_cut_off_is_dreamed_to_its_end_and_named(tmp_path: Path, in_turn: dict[int, str]) -> None:
    film = TinyFootage(tmp_path, _shots(), WORDS)
    with pytest.raises(UserError, match="footage has no frame 9"):
        film.make(2, last=11, ahead=9)
    assert film.canvases == in_turn


def test_a_full_disk_stops_all_shots_with_one_line_and_loses_nothing(
    tmp_path: Path, in_turn: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    film = TinyFootage(tmp_path, _shots(), WORDS)
    create = store.create

    def create_until_full(place: Path, *arguments: Any) -> None:
        if place.name == "start-000004":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        create(place, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(footage_frames.store, "create", create_until_full)
        with pytest.raises(UserError, match=r"start-000004 cannot be written \(No space left on device\): free some space"):
            film.make(2, ahead=9)
    assert len(film.canvases) <= 4
    assert film.make(2, len(film.canvases), ahead=9) == in_turn


@pytest.mark.slow
def test_a_lost_worker_on_ray_costs_only_its_shot(tmp_path: Path, in_turn: dict[int, str]) -> None:
    film = TinyFootage(tmp_path, _shots(), WORDS)
    recovered: list[int] = []
    killed: list[int] = []

    def kill(frame: int, event: Event, conductor: Conductor) -> None:
        if isinstance(event, Recovered):
            recovered.append(frame)
        if frame == 4 and isinstance(event, StepDone) and not killed:
            killed.append(conductor._executor.members[0].facts.pid)  # type: ignore[attr-defined]
            os.kill(killed[0], signal.SIGKILL)

    farm = RayFarm(FarmConfig(workers=2), threads=1, store_bytes=300_000_000)
    try:
        assert film.make(watch=kill, ahead=9, farm=farm) == in_turn
    finally:
        farm.close()
    assert set(recovered) == {4}
    assert np.isfinite(film.pixels[8]).all()
