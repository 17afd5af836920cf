"""Sweeps on real farms: rendered and skipped points, failures, and interrupts in the middle."""

from __future__ import annotations

import html
import json
import os
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from render.config.compose import load_config
from render.sweeps.gallery.exhibition import Exhibition, SweepProgress
from render.sweeps.gallery.gallery_page import write_gallery
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.event_log import EVENTS, Event, last_command, read_events
from render.sweeps.sweep import sweep_farm
from render.system.machine import cores
from render.viewer.live_run import LiveRun
from tests.conftest import INLINE, Finished, refusal
from tests.support.preloaded import Process, start_command

#: Points that take a fraction of a second.
SMALL = ("image=sample:chelsea", "output.width=96", "octaves.count=2", "octaves.steps=2", "sweep.dir=night")
LAYERS = "objective.terms=[mixed0],[mixed1]"


def start(directory: Path, *words: str) -> Process:
    """Start a sweep in a session of its own, so that its processes can be recognised."""
    return start_command("sweep", *words, cwd=directory, new_session=True)


def told(directory: Path, process: Process) -> Iterator[Event]:
    """Yield the events of the running command as they come, until it ends."""
    heard, begun = 0, time.time()
    while True:
        ended = process.poll() is not None
        events = [event for event in last_command(read_events(directory / EVENTS)) if event.time > begun]
        yield from events[heard:]
        heard = len(events)
        if ended:
            return
        time.sleep(0.02)


def done(process: Process, timeout: float = 240) -> Finished:
    """Wait for a command to end."""
    out, err = process.communicate(timeout=timeout)
    return Finished(process.returncode, out, err)


def kinds(directory: Path) -> list[str]:
    """Return the kinds of the last command's events of points, in order."""
    return [event.kind for event in last_command(read_events(directory / EVENTS)) if event.point is not None]


def pictures(directory: Path) -> dict[str, bytes]:
    """Return the pixels of every point's picture, by the name of its run directory."""
    return {path.parent.name: Image.open(path).tobytes() for path in sorted(directory.glob("points/*/*.png"))}


def record(directory: Path) -> dict:
    """Return the record of a sweep."""
    return json.loads((directory / "sweep.json").read_text())


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished grid of six points, rendered by a farm of two workers."""
    directory = tmp_path_factory.mktemp("sweep")
    finished = done(start(directory, *SMALL, LAYERS, "step_size=1,2,4", "farm.workers=2"))
    assert finished.code == 0, finished.err
    return directory


def test_a_grid_ends_in_pictures_a_sheet_and_a_page(night: Path):
    made = record(night / "night")
    assert made["status"] == "finished"
    assert [axis["values"] for axis in made["axes"]] == [["mixed0", "mixed1"], ["1", "2", "4"]]
    found = pictures(night / "night")
    assert len(found) == len(made["points"]) == 6
    assert len(set(found.values())) == 6, "each is another picture"
    assert sorted(kinds(night / "night")) == ["finished"] * 6 + ["started"] * 6
    with Image.open(night / "night" / "sheet.png") as sheet:
        assert min(sheet.size) > 2 * 96
    page = (night / "night" / "index.html").read_text()
    assert all(f"points/{name}/thumbnail.webp" in page for name in found)


def test_its_points_are_shown_by_the_page_and_not_by_the_viewer(night: Path):
    message = refusal(lambda: LiveRun(night / "night"))
    assert "index.html" in message
    assert "preview" in LiveRun(next((night / "night").glob("points/*"))).page()


def test_no_kernel_is_compiled_twice(night: Path):
    made = record(night / "night")
    assert made["kernels"] == 2
    # Those of earlier tests are in the cache on disk.
    assert 0 <= made["compiled"] <= 2
    assert made["workers"] == 2
    assert 2e8 < made["peak_bytes"] < 4e9


def test_a_point_is_the_picture_that_its_command_renders(night: Path, command, tmp_path: Path):
    page = (night / "night" / "index.html").read_text()
    said = next(
        line
        for line in html.unescape(page).split('"')
        if "mixed1" in line and "step_size=4" in line and "make render" in line
    )
    make, target, *words = shlex.split(said)
    assert (make, target) == ("make", "render")
    finished = command("render", *words, INLINE, "output.dir=again")
    assert finished.code == 0, finished.err
    (name,) = [name for name in pictures(night / "night") if name.startswith("mixed1-4-")]
    (again,) = (tmp_path / "again").glob("*.png")
    assert Image.open(again).tobytes() == pictures(night / "night")[name]


def test_the_same_command_renders_nothing_and_new_values_only_themselves(night: Path):
    before = {path: path.stat().st_mtime_ns for path in (night / "night").glob("points/*/*.png")}
    finished = done(start(night, *SMALL, LAYERS, "step_size=1,2,4", "farm.workers=2"))
    assert finished.code == 0, finished.err
    assert kinds(night / "night") == ["skipped"] * 6
    assert "6 of 6 points are done, 6 of them before" in finished.out
    finished = done(start(night, *SMALL, LAYERS, "step_size=2,3"))
    assert finished.code == 0, finished.err
    assert sorted(kinds(night / "night")) == ["finished"] * 2 + ["skipped"] * 2 + ["started"] * 2
    assert [point["at"] for point in record(night / "night")["points"]] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was there is untouched"
    assert len(pictures(night / "night")) == 8


class Killer:
    """Kill the worker that renders a point, so many times, each time during its work."""

    def __init__(self, directory: Path, process: Process, label: str, times: int) -> None:
        self.killed = 0
        self._directory, self._process, self._label, self._times = directory, process, label, times
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        for event in told(self._directory, self._process):
            if event.kind != "started" or self.killed == self._times:
                continue
            (point,) = [one for one in record(self._directory)["points"] if one["number"] == event.point]
            run = self._directory / point["directory"]
            if point["label"] == self._label:
                deadline = time.monotonic() + 60
                while not (run / "render.log").exists() or "step 2" not in (run / "render.log").read_text():
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                os.kill(int(event.facts["worker"].split()[1]), signal.SIGKILL)
                self.killed += 1

    def join(self) -> int:
        self._thread.join()
        return self.killed


#: A point whose dream takes some seconds, among others that do not.
STEPS = "octaves.steps=2,150"


@pytest.mark.slow
def test_bad_points_and_a_killed_worker_leave_the_others_alone(tmp_path: Path):
    words = (*SMALL[1:], "octaves.count=1", "objective.terms=[mixed0],[mixed99]", STEPS, "image=sample:chelsea,nix.png")
    process = start(tmp_path, *words)
    killer = Killer(tmp_path / "night", process, "terms mixed0, steps 150, image chelsea", 1)
    finished = done(process)
    assert killer.join() == 1
    assert finished.code == 1
    made = record(tmp_path / "night")
    failed = {one["point"]: one["reason"] for one in made["failures"]}
    assert made["status"] == "failed"
    assert len(failed) == 6
    assert "no layer 'mixed99'" in failed["terms mixed99, steps 2, image chelsea"]
    assert "nix.png" in failed["terms mixed0, steps 2, image nix"]
    assert Board.of(tmp_path / "night").counts.done == 2
    happened = last_command(read_events(tmp_path / "night" / EVENTS))
    (retried,) = [event for event in happened if event.kind == "retried"]
    assert "worker was lost" in retried.facts["reason"]
    # The list of failures comes last, each with its reason.
    assert finished.err.strip().splitlines()[-7].startswith("render: 6 of 8 points failed")
    assert all(any(line.strip().startswith(label) for line in finished.err.splitlines()[-6:]) for label in failed)
    # What is missing now is only what failed.
    Image.open(next((tmp_path / "night").glob("points/*/*.png"))).save(tmp_path / "nix.png")
    finished = done(start(tmp_path, *words))
    assert finished.code == 1
    assert sorted(kinds(tmp_path / "night")) == ["failed"] * 4 + ["finished"] * 2 + ["skipped"] * 2 + ["started"] * 2


@pytest.mark.slow
def test_a_point_that_is_the_end_of_every_worker_fails_and_the_next_are_rendered(tmp_path: Path):
    process = start(
        tmp_path, *SMALL, "octaves.count=1", "objective.terms=[mixed0]", "octaves.steps=2,150,3", "sweep.retries=1"
    )
    killer = Killer(tmp_path / "night", process, "steps 150", 2)
    finished = done(process)
    assert killer.join() == 2
    assert finished.code == 1
    assert Board.of(tmp_path / "night").counts.done == 2
    (failure,) = record(tmp_path / "night")["failures"]
    assert failure["point"] == "steps 150"
    assert "its worker was lost" in failure["reason"]


@pytest.mark.slow
def test_a_killed_driver_or_ctrl_c_costs_nothing_that_was_done(tmp_path: Path, night: Path):
    words = (*SMALL, LAYERS, "step_size=1,2,4", "farm.workers=2")
    for number in (signal.SIGKILL, signal.SIGINT):
        process = start(tmp_path, *words)
        for event in told(tmp_path / "night", process):
            if event.kind == "finished":
                break
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
        finished = done(process)
        if number == signal.SIGINT:
            assert finished.code == 130, finished.err
            assert "points are done: the same command goes on" in finished.err.strip().splitlines()[-1]
            assert record(tmp_path / "night")["status"] == "interrupted"
            assert not psutil.wait_procs(children, timeout=30)[1], "nothing is left running"
    finished = done(start(tmp_path, *words))
    assert finished.code == 0, finished.err
    assert kinds(tmp_path / "night").count("skipped") >= 2
    same = {name: pixels for name, pixels in pictures(night / "night").items() if "-3-" not in name}
    assert pictures(tmp_path / "night") == same


@pytest.mark.slow
def test_points_too_large_for_a_share_are_spread_over_all_workers(tmp_path: Path):
    words = (
        *SMALL[:-1],
        "output.width=192",
        "tiles.size=48",
        "octaves.count=1",
        "objective.terms=[mixed0]",
        "step_size=1,3",
    )
    for name, farm in (("alone", INLINE), ("all", "farm.workers=3")):
        finished = done(start(tmp_path, *words, farm, f"sweep.dir={name}"))
        assert finished.code == 0, finished.err
    said = {event.facts["worker"] for event in read_events(tmp_path / "all" / EVENTS) if event.kind == "started"}
    assert said == {"all 3 workers"}
    assert pictures(tmp_path / "all") == pictures(tmp_path / "alone")
    for run in (tmp_path / "all").glob("points/*/run.json"):
        assert len(json.loads(run.read_text())["workers"]) == 3


def test_the_scheduler_costs_less_than_20_ms_a_point(tmp_path: Path):
    words = ("image=sample:chelsea", "output.width=64", "octaves.count=1", "octaves.steps=1", "objective.terms=[mixed0]")
    finished = done(start(tmp_path, *words, "seed=range(0,60)", "farm.workers=1", "sweep.dir=night", "quiet=true"))
    assert finished.code == 0, finished.err
    assert finished.out == finished.err == ""
    events = [event for event in read_events(tmp_path / "night" / EVENTS) if event.point is not None]
    finishes = [event for event in events if event.kind == "finished"]
    assert len(finishes) == 60
    # From the second on: the first has the kernel compiled before it is rendered.
    wall = finishes[-1].time - finishes[0].time
    work = sum(event.facts["seconds"] for event in finishes[1:])
    assert (wall - work) / 59 < 0.02


@pytest.mark.parametrize("executor", ["ray", "inline"])
def test_weights_that_cannot_be_had_fail_their_points_alone(tmp_path: Path, executor: str):
    (tmp_path / "bad.npz").write_bytes(b"no weights")
    words = (*SMALL, "objective.terms=[mixed0]", "model.weights=null,bad.npz", f"farm.executor={executor}")
    finished = done(start(tmp_path, *words))
    assert finished.code == 1, finished.err
    assert Board.of(tmp_path / "night").counts.done == 1
    (failure,) = record(tmp_path / "night")["failures"]
    assert "bad.npz" in failure["reason"]


def test_what_cannot_be_a_sweep_is_refused_before_anything_is_written(tmp_path: Path, command):
    small = (*SMALL, INLINE)
    command("sweep", *small).refused("nothing to sweep")
    command("sweep", *small, "step_szie=1,2").refused("step_szie", "step_size")
    command("sweep", *small, "step_size=").refused("step_size")
    command("sweep", *small, "image=photos/*.jpg").refused("photos/*.jpg")
    command("sweep", *small, "step_size=1,1.0").refused("same")
    command("sweep", *small, "objective.terms=[mixed98],[mixed99]").refused("mixed98", "1 more of 2")
    command("sweep", *small, "objective.terms=[mixed0],[mixed99]", "sweep.strict=true").refused("mixed99")
    command("sweep", *small, "step_size=1,2", "output.path=a.png").refused("output.path")
    command("render", "-m", "conf=nix", "step_size=1,2").refused("nix")
    command("atlas", "-m", "layer=mixed4").refused("-m")
    assert not (tmp_path / "night").exists()
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "index.html").write_text("mine")
    command("sweep", *small, "step_size=1,2").refused("index.html", "sweep.dir")
    assert (tmp_path / "night" / "index.html").read_text() == "mine"


def test_a_grid_over_the_maximum_says_what_it_would_take(tmp_path: Path, command):
    refused = command("sweep", *SMALL, INLINE, "objective.terms=[mixed0]", "seed=range(0,100000)", "step_size=1,2,4")
    refused.refused("300,000 points", "sweep.max=500", "Mpx/s", "of disk", "raise sweep.max")
    assert not (tmp_path / "night").exists()


def test_a_page_that_cannot_be_written_for_a_while_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from render.errors import UserError
    from render.sweeps import sweep_reporter as module
    from render.sweeps.sweep import sweep

    written: list[Path] = []
    told: list[SweepProgress | None] = []

    def write(home: Path, exhibition: Exhibition) -> Path:
        written.append(home)
        told.append(exhibition.progress)
        if len(written) == 1:
            raise UserError("index.html cannot be written (No space left on device): free some space")
        return write_gallery(home, exhibition)

    monkeypatch.setattr(module, "_PAGE_EVERY_S", 0.0)
    monkeypatch.setattr(module, "write_gallery", write)
    monkeypatch.chdir(tmp_path)
    assert sweep("preview", [*SMALL, "objective.terms=[mixed0]", "seed=1,2", INLINE, "quiet=true"]) == 0
    assert len(written) > 1
    assert (tmp_path / "night" / "index.html").exists()
    # The page tells the progress from the beginning to the end.
    first, last = told[0], told[-1]
    assert first is not None
    assert last is not None
    assert (first.state, first.share < 0.5) == ("running", True)
    assert (last.state, last.share, last.running, last.seconds_left) == ("finished", 1.0, 0, 0.0)


def test_a_first_page_that_takes_long_makes_later_ones_no_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from render.sweeps import sweep_reporter as module
    from render.sweeps.sweep import sweep

    states: list[set[str]] = []

    def write(home: Path, exhibition: Exhibition) -> Path:
        if not states:
            # As configs are composed, on a machine that is busy.
            time.sleep(2)
        states.append({point.state for point in exhibition.points})
        return write_gallery(home, exhibition)

    monkeypatch.setattr(module, "_PAGE_EVERY_S", 0.0)
    monkeypatch.setattr(module, "write_gallery", write)
    monkeypatch.chdir(tmp_path)
    assert sweep("preview", [*SMALL, "objective.terms=[mixed0]", "seed=1,2", INLINE, "quiet=true"]) == 0
    assert (states[0], states[-1]) == ({"waiting"}, {"done"})
    assert len(states) > 2, "pages between the beginning and the end"


def test_a_point_whose_directory_is_not_its_own_says_what_to_do_about_it(tmp_path: Path, command):
    words = (*SMALL, "objective.terms=[mixed0]", "seed=1,2", INLINE)
    assert command("sweep", *words).code == 0
    (theirs,) = (tmp_path / "night" / "points").glob("1-*")
    (other,) = (tmp_path / "night" / "points").glob("2-*")
    shutil.rmtree(theirs)
    shutil.copytree(other, theirs)
    finished = command("sweep", *words)
    assert finished.code == 1
    assert f"move night/points/{theirs.name} away" in finished.err
    assert "output.dir" not in finished.err
    assert next(theirs.glob("*.png")).exists()


def test_a_sweep_in_this_process_does_one_point_after_the_other(tmp_path: Path):
    """For any configured number of workers: else the logs of runs would be mixed."""
    finished = done(start(tmp_path, *SMALL, "objective.terms=[mixed0]", "seed=1,2", INLINE, "farm.workers=2"))
    assert finished.code == 0, finished.err
    assert kinds(tmp_path / "night") == ["started", "finished"] * 2
    for log in (tmp_path / "night").glob("points/*/render.log"):
        assert log.read_text().count("rendering") == 1


def test_one_sweep_at_a_time_in_a_directory(tmp_path: Path, command):
    process = start(tmp_path, *SMALL, "objective.terms=[mixed0]", STEPS, INLINE)
    for event in told(tmp_path / "night", process):
        if event.kind == "started":
            break
    # On a busy machine it could end before the other has begun.
    process.send_signal(signal.SIGSTOP)
    command("sweep", *SMALL, "objective.terms=[mixed0]", STEPS, INLINE).refused("still going", "sweep.dir")
    process.send_signal(signal.SIGCONT)
    assert done(process).code == 0


def test_the_small_pictures_of_a_point_are_made_anew_where_they_are_gone(night: Path):
    lost = next((night / "night").glob("points/mixed0-1-*/thumbnail.webp"))
    picture = next(lost.parent.glob("*.png"))
    before = picture.read_bytes()
    lost.unlink()
    picture.unlink()
    finished = done(start(night, *SMALL, LAYERS, "step_size=1,2,4", INLINE))
    assert finished.code == 0, finished.err
    assert sorted(kinds(night / "night")) == ["finished"] + ["skipped"] * 5 + ["started"]
    assert lost.exists()
    assert picture.read_bytes() == before


def test_a_point_that_was_touched_up_gets_another_small_picture(tmp_path: Path, command):
    words = (*SMALL, "objective.terms=[mixed0]", "seed=1,2", INLINE)
    assert command("sweep", *words).code == 0
    touched, other = sorted((tmp_path / "night").glob("points/*/thumbnail.webp"))
    before, other_time = touched.read_bytes(), other.stat().st_mtime_ns
    assert command("touch", f"run={touched.parent}", "box=0,0,100%,100%", "to=source").code == 0
    assert command("sweep", *words).code == 0
    assert sorted(kinds(tmp_path / "night")) == ["finished", "skipped", "started"]
    assert touched.read_bytes() != before
    assert other.stat().st_mtime_ns == other_time


def test_what_breaks_inside_a_point_is_its_reason_and_not_the_end(tmp_path: Path):
    from render.config.schema import Config
    from render.errors import NumericalError, UrgentInterrupt, WorkersLost
    from render.sweeps.rendering.renderer import attempt_point

    def outcome(error: BaseException):
        def work() -> float:
            raise error

        return attempt_point(Config(), work)

    assert (outcome(NumericalError("flat")).status, outcome(NumericalError("flat")).may_retry) == ("failed", False)
    assert outcome(WorkersLost("gone")).may_retry
    strange = outcome(MemoryError())
    assert (strange.status, strange.may_retry, strange.reason) == ("failed", True, "MemoryError: no reason given")
    assert outcome(KeyboardInterrupt()).status == "interrupted"
    with pytest.raises(UrgentInterrupt):
        outcome(UrgentInterrupt())
    assert attempt_point(Config(), lambda: 2.5).megapixels == 2.5


def test_a_sweep_on_cpus_has_two_workers_unless_it_is_told() -> None:
    def workers(*words: str, points: int = 48) -> int | None:
        return sweep_farm(load_config("preview", words).farm, points).workers

    assert workers() == workers("farm.executor=ray") == (2 if cores() > 1 else None)
    assert workers(points=1) is None
    assert workers("farm.workers=3") == 3
    assert workers("farm.executor=inline") == 1
