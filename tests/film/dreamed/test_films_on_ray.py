"""A dreamed film on real Ray processes, of which one is killed within a frame."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from render.config.schema import FarmConfig
from render.farm.conductor import Conductor
from render.farm.events import Event, Recovered, StepDone
from render.farm.ray.pool import RayFarm
from tests.support.film_on_farm import TinyFilm

WORDS = ("film.zoom=1.4", "film.turn=10", "film.octaves.count=2", "checkpoint.every=0")


@pytest.fixture
def farm() -> Iterator[RayFarm]:
    """Return two workers on a local Ray."""
    farm = RayFarm(FarmConfig(workers=2), threads=1, store_bytes=200_000_000)
    yield farm
    farm.close()


@pytest.mark.slow
def test_a_worker_killed_within_a_frame_is_replaced_and_nothing_shows(farm: RayFarm, tmp_path: Path) -> None:
    """The new worker gets the frame's source with its block: no message to the first one matters."""
    expected = TinyFilm(tmp_path / "here", WORDS, frames=3).make(1)
    recovered: list[int] = []

    def kill(frame: int, event: Event, conductor: Conductor) -> None:
        if isinstance(event, Recovered):
            recovered.append(frame)
        if frame == 2 and isinstance(event, StepDone) and not recovered:
            os.kill(conductor._executor.members[1].facts.pid, signal.SIGKILL)

    assert TinyFilm(tmp_path / "ray", WORDS, frames=3).make(farm, watch=kill) == expected
    assert recovered
    assert set(recovered) == {2}
