"""Launcher of a sweep with simulated workers: a lost worker, and the retry of its point."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from render.config.schema import Config, SourceConfig
from render.errors import WorkersLost
from render.sweeps.monitor.event_log import Event
from render.sweeps.rendering.launcher import AssignedPoint, Launcher
from render.sweeps.rendering.orders import PointOutcome
from render.sweeps.rendering.point_queue import PointTask
from render.sweeps.rendering.source_cache import SourceCache
from render.sweeps.rendering.worker_loop import LaunchSettings


class HangingExecutor:
    """Executor whose worker hangs at its first point, and holds that point until it is mended."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm

    def open(self, *_job: Any) -> list[Any]:
        return [SimpleNamespace(pid=1, host="here", host_bytes=1 << 30)]

    def node_of(self, _worker: int) -> str:
        return "here"

    def call(self, _worker: int, method: str, *order: Any) -> Any:
        return method, *(argument.config.seed for argument in order)

    def wait(self, references: list[Any]) -> list[Any]:
        return references

    def fetch(self, references: list[Any]) -> list[Any]:
        ((method, *point),) = references
        if method == "ping":
            return self.open()
        with self.farm.lock:
            if method == "render_point" and not self.farm.hung:
                self.farm.hung, self.farm.held = True, point
                raise WorkersLost("it hangs")
            if self.farm.held == point:
                return [PointOutcome("failed", 0.0, "its directory belongs to a run that is still going")]
        return [PointOutcome("done", 0.0)]

    def mend(self) -> None:
        # Long enough for the other worker to take what is there to be taken.
        time.sleep(0.5)
        with self.farm.lock:
            self.farm.held = None

    def settled(self) -> None:
        pass


class Farm:
    """Farm of workers that share a lock."""

    workers_per_machine = 2

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.hung, self.held = False, None

    @contextmanager
    def lease(self, _workers: int) -> Iterator[HangingExecutor]:
        yield HangingExecutor(self)

    def share(self, value: Any) -> Any:
        return value


def packed(farm: Any, tmp_path: Path, points: int) -> list[Event]:
    """Render points on a farm; return the events."""
    events: list[Event] = []
    settings = LaunchSettings(retries=2, thumbnail_side=64, stop_file=tmp_path / "stop")
    launcher = Launcher(farm, {}, settings, report=events.append, tick=lambda: None)
    launcher.pack(
        [AssignedPoint(number, Config(seed=number), PointTask(number, frozenset("k"))) for number in range(points)]
    )
    return events


def test_a_point_is_given_out_again_once_its_worker_is_ended(tmp_path: Path) -> None:
    """A hanging worker holds the directory of its point: another worker would fail at it."""
    events = packed(Farm(2), tmp_path, 2)
    assert sorted(event.kind for event in events) == ["finished", "finished", "retried", "started", "started", "started"]


def test_a_farm_without_workers_is_asked_for_one(tmp_path: Path) -> None:
    """A farm may have lost all its workers at points of a higher rank: others must still be tried."""
    farm = Farm(0)
    assert [event.kind for event in packed(farm, tmp_path, 1)].count("finished") == 1


def test_a_picture_is_opened_once_for_many_points_and_anew_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (10, 20, 30)).save(path)
    sources = SourceCache()
    first = sources(str(path), 0, SourceConfig())
    assert sources(str(path), 1, SourceConfig()) is first
    assert sources(str(path), 0, SourceConfig(background=[0, 0, 0])) is not first
    Image.new("RGB", (9, 8), (10, 20, 30)).save(path)
    assert sources(str(path), 0, SourceConfig()).sha256 != first.sha256
