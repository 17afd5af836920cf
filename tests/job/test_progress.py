"""Tests of progress: the work that is done, and the estimate of the time left."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest

from render.config.schema import Config
from render.job import progress_file
from render.job.progress import BarDisplay, LineDisplay, WorkCount
from render.planning.plan import Plan
from render.terminal.console import PatientConsole
from tests.planning.test_plan import plan


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the clock of the test, in seconds, as a list of one number to add to."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def two_octaves(steps: int = 4) -> Plan:
    """Return a plan of a small octave whose one window is all core, and a large one whose windows are mostly halo."""
    config = Config()
    config.image, config.tiles.size = "noise", 1024
    config.output.width = config.output.height = 2048
    config.octaves.count, config.octaves.scale, config.octaves.steps = 2, 8.0, steps
    return plan(config)


def test_time_left_is_right_where_time_goes_by_arithmetic(clock: list[float]) -> None:
    """Pixels of the two octaves take different times, so an estimate by pixels would be wrong."""
    planned = two_octaves()
    coarse, fine = planned.octaves
    per_pixel = [octave.window_flops / (octave.step_window_pixels / octave.grid.tiles) for octave in planned.octaves]
    assert per_pixel[0] > 1.1 * per_pixel[1]
    count = WorkCount(planned)
    assert count.seconds_left is None
    whole = planned.flops / 1e9
    for octave in (coarse, fine):
        count.begin(octave, 0)
        for step in range(octave.steps):
            for _ in range(octave.grid.tiles):
                clock[0] += octave.window_flops / 1e9
                count.add(1)
                assert count.seconds_left == pytest.approx(100 + whole - clock[0], abs=1e-6 * whole)
            count.finish_step(step)
    assert (count.done_share, count.run_share, count.seconds_left) == (1.0, 1.0, 0.0)
    assert count.rate == pytest.approx(planned.window_pixels / 1e6 / whole)


def test_what_was_done_before_says_nothing_of_the_pace(clock: list[float]) -> None:
    planned = two_octaves()
    count = WorkCount(planned)
    fine = planned.octaves[1]
    count.begin(fine, 2)
    assert count.seconds_left is None
    assert count.run_share == 0 < count.done_share
    clock[0] += 10
    count.add(fine.grid.tiles)
    count.finish_step(2)
    assert count.seconds_left == pytest.approx(10)


def test_lines_say_where_it_stands(clock: list[float]) -> None:
    planned = two_octaves()
    console = PatientConsole(file=io.StringIO(), width=200)
    display = LineDisplay(planned, console)
    for octave in planned.octaves:
        display.octave_started(octave, 0)
        for step in range(octave.steps):
            clock[0] += 8
            display.tiles_done(octave.grid.tiles)
            display.step_done(step)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(" left" in line and "Mpx/s" in line for line in lines)
    assert "octave 1/2 256x256 step 4/4" in " ".join(lines)
    assert lines[-1].startswith("100 % octave 2/2 2048x2048 step 4/4 ")
    assert lines[-1].endswith(", about 0 s left")


def test_a_render_without_a_step_is_done(clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_file, "_WRITE_EVERY_S", 0.0)
    planned = two_octaves(steps=0)
    assert planned.flops == 0
    console = PatientConsole(file=io.StringIO(), width=200, force_terminal=True)
    displays = [BarDisplay(planned, console), LineDisplay(planned, console), progress_file.ProgressFile(tmp_path, planned)]
    for octave in planned.octaves:
        for display in displays:
            display.octave_started(octave, 0)
    progress = progress_file.read_progress(tmp_path)
    assert progress is not None
    assert (progress.share, progress.worked, progress.left) == (1.0, 0.0, None)
    for display in displays:
        display.close()


def test_a_tile_is_a_window_for_each_region(clock: list[float]) -> None:
    config = Config(image="noise")
    config.octaves.count, config.octaves.steps = 1, 2
    config.output.width = config.output.height = 256
    planned = plan(config)
    (octave,) = planned.octaves
    stage = replace(octave.stage, regions=octave.stage.regions * 2)
    octave = replace(octave, stage=stage)
    count = WorkCount(replace(planned, octaves=(octave,)))
    count.begin(octave, 0)
    for step in range(octave.steps):
        clock[0] += 5
        count.add(octave.grid.tiles)
        count.finish_step(step)
    assert (count.done_share, count.run_share, count.seconds_left) == (1.0, 1.0, 0.0)


def test_the_bar_says_how_long_the_rest_takes(clock: list[float]) -> None:
    planned = two_octaves()
    console = PatientConsole(file=io.StringIO(), width=200, force_terminal=True)
    bar = BarDisplay(planned, console)
    coarse, fine = planned.octaves
    bar.octave_started(coarse, coarse.steps)
    bar.octave_started(fine, 0)
    clock[0] += 3600
    bar.tiles_done(fine.grid.tiles)
    bar.step_done(0)
    bar.close()
    # Three steps of four are left, of an hour each.
    assert "ETA 3:00:00" in console.file.getvalue()  # type: ignore[attr-defined]
