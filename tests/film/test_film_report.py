"""Reports of a film whose shots are made at once: frames count in order, and those ahead are told apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from render.farm.events import OctaveDone, OctaveStarted, StepDone, TilesDone
from render.farm.ray.metrics import Metrics
from render.film import film_progress
from render.film.film_progress import FilmDisplay, read_film_progress
from render.film.film_report import FilmReport
from render.film.film_state import FilmState
from render.film.film_status import film_values
from render.sweeps.run_status import run_summary


class Home:
    """Home of a film in a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_held(self) -> None:
        """Nobody else takes it over."""

    def store_progress(self, _name: str, _content: bytes | None) -> None:
        """The directory is the home itself."""


class Told:
    """Metrics that keep what they are told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.frames: tuple[int, int] = (-1, -1)
        self.workers = -1
        self.is_closed = False

    def update(self, event: Any) -> None:
        self.events.append(event)

    def set_frames(self, finished: int, ahead: int) -> None:
        self.frames = finished, ahead

    def set_workers(self, workers: int) -> None:
        self.workers = workers

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set."""
    clock = [100.0]
    monkeypatch.setattr(film_progress, "time", SimpleNamespace(monotonic=lambda: clock[0], time=lambda: clock[0]))
    return clock


def _octave(index: int) -> Any:
    return SimpleNamespace(index=index, steps=4)


def test_octave_and_step_are_those_of_the_frame_whose_turn_it_is(tmp_path: Path, now: list[float]) -> None:
    display = FilmDisplay(cast(Any, Home(tmp_path)), 5, 20, quiet=True)
    report, told = FilmReport(cast(Any, Home(tmp_path)), display), Told()
    events = [
        (5, OctaveStarted(_octave(0), 1, 0)),
        (9, OctaveStarted(_octave(1), 2, 0)),
        (9, TilesDone(_octave(1), 3)),
        (9, StepDone(_octave(1), 2, 1.0, 1.0)),
    ]
    with report.published(cast(Metrics, told)):
        for frame, event in events:
            report.event(frame, event, cast(Any, None))
        assert told.workers == 3
        report.event(9, OctaveDone(_octave(1), cast(Any, None)), cast(Any, None))
        report.event(5, OctaveStarted(_octave(1), 1, 0), cast(Any, None))
        assert told.workers == 1
    assert told.is_closed
    assert told.events == [events[0][1], events[2][1], OctaveStarted(_octave(1), 1, 0)]
    assert display.position.within == "octave 2 step 0/4"
    assert told.frames == (5, 0)


def test_frames_ahead_count_for_the_pace_and_the_time_left(tmp_path: Path, now: list[float]) -> None:
    """Four frames were ahead before: in ten seconds, two more are, and two are finished."""
    display = FilmDisplay(cast(Any, Home(tmp_path)), 10, 50, quiet=True)
    report = FilmReport(cast(Any, Home(tmp_path)), display)
    report.ahead(4)
    assert (display.position.rate, display.position.left) == (0.0, None)
    now[0] += 10
    report.ahead(6)
    report.finished(10)
    report.finished(11)
    position = display.position
    assert (position.finished, position.ahead, position.rate) == (12, 6, 0.4)
    assert position.left == pytest.approx((50 - 18) / 0.4)
    assert position.text == "frame 13/50 (+6 ahead) 0.40 frames/s"
    assert film_values(tmp_path, FilmState("a", 12, 50), live=True)["frames_ahead"] == 6
    now[0] += 5
    report.ahead(6)
    assert read_film_progress(tmp_path) == position
    report.close()
    assert read_film_progress(tmp_path) is None


def test_progress_of_an_older_process_is_read(tmp_path: Path) -> None:
    (tmp_path / "film-progress.json").write_text(
        '{"finished": 1, "frames": 3, "rate": 2.0, "left": 1.0, "within": "", "time": 1.0}'
    )
    position = read_film_progress(tmp_path)
    assert position is not None
    assert (position.finished, position.ahead) == (1, 0)


def test_status_of_a_film_before_its_first_frame_is_finished(tmp_path: Path) -> None:
    record = {"digest": "0" * 64, "film": {"of": "zoom"}, "frames": 7, "status": "running"}
    display = FilmDisplay(cast(Any, Home(tmp_path)), 0, 7, quiet=True)
    assert run_summary(tmp_path, record, gone=True) == f"{tmp_path}: broken off, 0 of 7 frames finished"
    display.position.within = "octave 1 step 2/4"
    display._written_at = -1e9
    display.ahead(2)
    assert "frame 1/7 (+2 ahead) octave 1 step 2/4" in run_summary(tmp_path, record, gone=False)
    for damage in (None, "7", -1, 1 << 60):
        assert "frames" not in run_summary(tmp_path, record | {"frames": damage}, gone=True)
