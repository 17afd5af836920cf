"""Display of a sweep: the live screen at any size, lines without a terminal, and `status run=DIR`."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from render.__main__ import make_overrides
from render.commands.status import status_command
from render.commands.table import COMMANDS, usage
from render.config.compose import load_config
from render.job import job as jobs
from render.job import progress_file
from render.job.progress import QuietDisplay
from render.job.progress_file import Progress
from render.job.run_record import read_record
from render.storage.locking import is_locked, lock_directory
from render.sweeps.monitor import screen as screens
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.board_report import add_failures
from render.sweeps.monitor.event_log import Event, EventLog
from render.sweeps.monitor.screen import Screen, board_view, counts_text, shortened
from render.sweeps.monitor.sweep_record import RecordedPoint
from render.terminal.console import PatientConsole
from render.terminal.document import Document
from render.viewer.live_run import LiveRun
from tests.conftest import ROOT, TINY, refusal
from tests.support.live_run import LiveJob, smooth
from tests.sweeps.test_board import BEGUN, event

NOW = BEGUN + 60


def board_of(running: int, failed: int, *, total: int | None = None, label: str = "mixed{} step_size=2") -> Board:
    """Return a board with running points, half of them with progress, failed points and older ones."""
    count = running + failed + 3 if total is None else total
    board = Board([RecordedPoint(n, label.format(n), 1.0 + n % 3, 2.0 + n % 3, f"points/{n}") for n in range(count)])
    board.apply(event("begun", 0, pid=7))
    for number in range(running + failed):
        board.apply(
            event("started", 1, number, worker=f"pid {number} on a-host-with-a-name-{number}", attempt=1 + number % 2)
        )
        if number >= running:
            board.apply(event("failed", 2, number, reason=f"reason {number}:\nthere is no such layer, " + "because " * 20))
        elif number % 2:
            board.set_progress(number, Progress(2, 5, 3, 10, share=0.3, worked=0.3, rate=0.5, left=1.4, time=NOW))
    board.apply(event("skipped", 0, count - 1))
    return board


def drawn(board: Board, width: int, height: int, *, tty: bool = True) -> list[str]:
    console = PatientConsole(file=io.StringIO(), width=width, force_terminal=tty, color_system=None, legacy_windows=False)
    console.print(board_view(board, "sweeps/layers-1a2b3c4d", NOW, width, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@given(
    st.integers(0, 70),
    st.integers(0, 40),
    st.integers(30, 200),
    st.integers(7, 80),
    st.sampled_from(["p{0}", "层{0} größe=2 "]),
)
def test_the_picture_fits_into_any_terminal(running: int, failed: int, width: int, height: int, label: str) -> None:
    lines = drawn(board_of(running, failed, label=label * 3), width, height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    assert f"1 of {running + failed + 3} done"[:20] in lines[2]


@pytest.mark.parametrize("width", [60, 100, 140])
def test_counts_points_failures_and_time_are_there_at_usual_widths(width: int) -> None:
    board = board_of(8, 2, total=48)
    for number in range(10, 20):
        board.apply(event("started", 3, number))
        board.apply(event("finished", 13, number, seconds=10, megapixels=1.0))
    text = "\n".join(drawn(board, width, 30))
    assert "11 of 48 done, 2 failed, 8 running, 27 queued" in text
    assert "Mpx/s, 1 min 0 s so far, about " in text
    assert "mixed1 step_size=2 (attempt 2)" in text
    assert "2/5 step 3/10" in text and " 30 %" in text
    assert "mixed9 step_size=2: reason 9: there is no" in text
    assert ("octave 2/5" in text) == (width >= 100)
    assert ("pid 1 on a-host" in text) == (width >= 140)


def test_two_thousand_points_and_64_workers_are_drawn_at_once() -> None:
    board = board_of(64, 300, total=2000)
    for number in range(400, 1600):
        board.apply(event("started", 3, number))
        board.apply(event("finished", 3 + number / 100, number, seconds=10, megapixels=1.0 + number % 7))
    lines = drawn(board, 120, 40)
    assert len(lines) == 40
    assert any("and " in line and " more" in line for line in lines)
    assert "failed (" in "\n".join(lines)
    begun = time.perf_counter()
    for _ in range(5):
        drawn(board, 120, 40)
    # Twice a second, beside the dispatching of points.
    assert (time.perf_counter() - begun) / 5 < 0.1


def test_a_failure_on_a_narrow_screen_says_why() -> None:
    """The point's long name is cut in the middle, so that the reason fits."""
    board = board_of(1, 1, label="image a-very-long-name-of-a-picture, objective mixed{0}, step_size 2")
    (line,) = [line for line in drawn(board, 60, 20) if ": reason 1" in line]
    assert line.startswith("  image a-ve") and "step_size 2: reason 1: there is" in line
    assert cell_len(line) <= 60
    (whole,) = [line for line in drawn(board, 300, 20) if ": reason 1" in line]
    assert "image a-very-long-name-of-a-picture, objective mixed1, step_size 2: reason 1" in whole


def test_every_failure_is_listed_last_with_its_whole_reason() -> None:
    board = board_of(2, 30)
    document = Document("sweep-status")
    add_failures(document, board)
    lines = document.lines(1000)
    assert lines[0] == "failed"
    assert len(lines) == 31
    assert (
        lines[-1] == f"  mixed31 step_size=2: reason 31: there is no such layer, {'because ' * 19}because (tried 2 times)"
    )
    assert " ".join(line.strip() for line in document.lines(60)[-4:]).endswith(lines[-1][-150:])
    nothing = Document("sweep-status")
    add_failures(nothing, board_of(2, 0))
    assert nothing.lines(80) == []


def test_labels_cannot_write_to_the_terminal() -> None:
    board = board_of(2, 0, label="[bold]{} \x1b[31m\x07\udcff")
    text = "\n".join(drawn(board, 100, 20))
    assert "\x1b[31m" not in text and "\x07" not in text
    assert r"[bold]1 \x1b[31m" in text
    text.encode()


@given(st.text(max_size=60), st.integers(1, 40))
def test_shortened_text_fits_and_keeps_both_ends(text: str, width: int) -> None:
    short = shortened(text, width)
    assert cell_len(short) <= max(1, width)
    if cell_len(text) <= width:
        assert short == text
    else:
        head, _, tail = short.partition("…") if "…" not in text else ("", "", "")
        assert text.startswith(head) and text.endswith(tail)


def test_without_a_terminal_there_is_a_line_now_and_then_and_one_for_each_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(screens, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: BEGUN + now[0]))
    console = PatientConsole(file=io.StringIO(), width=80, force_terminal=False)
    screen = Screen(
        Board([RecordedPoint(n, f"p{n}", 1.0, 2.0, f"points/{n}") for n in range(4)]), tmp_path, console=console
    )
    screen.update(event("begun", 0, pid=7))
    for tenth in range(400):
        now[0] = tenth / 10
        if tenth == 100:
            screen.update(event("started", 10, 0, attempt=1))
            screen.update(event("retried", 11, 0, reason="a worker was lost"))
            screen.update(event("started", 11, 0, attempt=2))
            screen.update(event("failed", 12, 0, reason="a worker was lost again"))
        screen.tick()
    screen.close()
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "failed, is tried again: p0: a worker was lost",
        "failed: p0: a worker was lost again (tried 2 times)",
        " 25 % 0 of 4 done, 1 failed, 3 queued; 25 s so far, time left not known yet",
    ]


def test_a_terminal_is_left_as_it_was_with_what_was_said(tmp_path: Path) -> None:
    console = PatientConsole(file=io.StringIO(), width=80, height=24, force_terminal=True)
    screen = Screen(board_of(3, 0), tmp_path, console=console)
    (tmp_path / "points" / "0").mkdir(parents=True)
    (tmp_path / "points" / "0" / "progress.json").write_text(
        json.dumps(asdict(Progress(4, 5, 7, 9, share=0.8, worked=0.8, rate=1, left=5, time=NOW)))
    )
    screen.tick()
    screen.say("something happened")
    screen.tick()
    screen.close()
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "4/5 step 7/9" in written
    # Shown and said, and then every line of the picture is wiped out and the cursor is back.
    assert "something happened" in written
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert written.rstrip("\n").endswith("\x1b[2K")


def test_a_quiet_screen_says_nothing(tmp_path: Path) -> None:
    console = PatientConsole(file=io.StringIO(), force_terminal=True)
    screen = Screen(board_of(3, 0), tmp_path, quiet=True, console=console)
    screen.update(event("failed", 9, 0, reason="x"))
    screen.tick()
    screen.say("something")
    screen.close()
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    assert screen.board.counts.failed == 1


def test_asking_who_holds_a_directory_changes_nothing(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    lock = lock_directory(tmp_path, "a test")
    assert is_locked(tmp_path) and is_locked(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)
    lock_directory(tmp_path, "a test").release()


class SweepOnDisk:
    """The files and the lock of a sweep of some points."""

    def __init__(self, directory: Path, count: int = 4) -> None:
        self.directory = directory
        self.count = count
        self.lock = lock_directory(directory, "a test")
        self.says("running")
        self.log = EventLog(directory / "events.jsonl")
        self.tell("begun", pid=os.getpid(), points=count)

    def says(self, status: str) -> None:
        points = [
            {"number": n, "at": [n], "label": f"mixed{n}", "directory": f"points/{n}", "megapixels": 1.0, "teraflops": 0.1}
            for n in range(self.count)
        ]
        facts = {"status": status, "pid": os.getpid(), "command": "make sweep conf=layers", "points": points}
        temporary = self.directory / ".partial"
        temporary.write_text(json.dumps(facts))
        temporary.replace(self.directory / "sweep.json")

    def tell(self, kind: str, point: int | None = None, **facts: object) -> None:
        self.log.append(Event(kind, time.time(), point, facts))  # type: ignore[arg-type]

    def finish(self, status: str = "finished") -> None:
        self.tell("ended", status=status, seconds=3)
        self.says(status)
        self.lock.release()


def test_status_of_a_sweep_under_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = SweepOnDisk(tmp_path / "sweep")
    sweep.tell("skipped", 0)
    sweep.tell("started", 1, worker="pid 9", attempt=1)
    assert status_command([f"run={sweep.directory}"]) == 0
    out = capsys.readouterr().out
    assert "1 of 4 done, 1 running, 2 queued (1 done before)" in out
    assert "mixed1" in out and "gone" not in out
    sweep.tell("failed", 1, reason="image=x.jpg: there is no such file " + "and more " * 30)
    assert status_command([f"run={sweep.directory}"]) == 1
    out = capsys.readouterr().out
    heading = out.splitlines().index("failed")
    assert out.splitlines()[heading + 1].startswith("  mixed1: image=x.jpg: there is no such file and more")
    sweep.finish("failed")
    assert status_command([f"run={sweep.directory}"]) == 1
    out = capsys.readouterr().out
    # The others were never tried.
    assert "failed after " in out and "goes on with it" in out


def test_status_of_a_sweep_whose_process_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = SweepOnDisk(tmp_path / "sweep")
    sweep.tell("started", 1, worker="pid 9", attempt=1)
    sweep.lock.release()
    assert status_command([f"run={sweep.directory}"]) == 1
    out = capsys.readouterr().out
    assert "0 of 4 done, 4 queued" in out and "broken off after" in out
    last = out.splitlines()[-1]
    assert (
        last
        == f"the process that ran it (pid {os.getpid()}) is gone: the same command goes on with it: make sweep conf=layers"
    )
    # Watching what nobody works on ends at once.
    assert status_command([f"run={sweep.directory}", "watch=true"]) == 1


def test_status_of_sweeps_that_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for status, code, text in (
        ("finished", 0, ""),
        ("interrupted", 0, "goes on with it"),
        ("stopped", 1, "goes on with it"),
    ):
        sweep = SweepOnDisk(tmp_path / status, count=1)
        sweep.tell("started", 0, worker="pid 9", attempt=1)
        if status == "finished":
            sweep.tell("finished", 0, seconds=2.0, megapixels=1.0)
        sweep.finish(status)
        assert status_command([f"run={sweep.directory}"]) == code
        out = capsys.readouterr().out
        assert f"{status} after" in out and text in out


def test_a_watched_sweep_is_shown_until_it_ends(tmp_path: Path) -> None:
    sweep = SweepOnDisk(tmp_path / "sweep")
    sweep.tell("started", 0, worker="pid 9", attempt=1)
    watching = subprocess.Popen(
        [sys.executable, "-m", "render", "status", f"run={sweep.directory}", "watch=true"],
        cwd=ROOT,
        env={**os.environ, "RENDER_OVERRIDES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    sweep.tell("failed", 0, reason="no such layer")
    assert watching.stdout.readline() == "failed: mixed0: no such layer\n"
    for number in range(1, 4):
        sweep.tell("started", number, worker="pid 9", attempt=1)
        sweep.tell("finished", number, seconds=0.1, megapixels=1.0)
    assert watching.poll() is None
    sweep.finish("failed")
    out, err = watching.communicate(timeout=20)
    assert (watching.returncode, err) == (1, "")
    assert "3 of 4 done, 1 failed" in out
    assert out.splitlines()[-1] == "  mixed0: no such layer"


def test_status_of_a_run_under_way_and_broken_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = LiveJob(tmp_path / "run", (40, 50), (60, 75))
    lock = lock_directory(run.directory, "a test")
    assert status_command([f"run={run.directory}"]) == 0
    assert "running, no step is done yet" in capsys.readouterr().out
    run.save(0, 2, smooth(40, 50))
    assert status_command([f"run={run.directory}"]) == 0
    assert "running, octave 1 of 2, step 2 of 3 (checkpoint of " in capsys.readouterr().out
    (run.directory / "progress.json").write_text(
        json.dumps(asdict(Progress(2, 2, 1, 3, share=0.6, worked=0.6, rate=0.5, left=8.2, time=1)))
    )
    assert status_command([f"run={run.directory}"]) == 0
    assert "running, octave 2 of 2, step 1 of 3, 60 %, 0.50 Mpx/s, about 8 s left" in capsys.readouterr().out
    lock.release()
    assert status_command([f"run={run.directory}"]) == 1
    out = capsys.readouterr().out
    assert "broken off, octave 1 of 2, step 2 of 3 (checkpoint of " in out
    assert "goes on from its last checkpoint" in out
    run.record["error"] = "no space left"
    run.says("failed")
    assert status_command([f"run={run.directory}", "watch=true"]) == 1
    assert "reason   no space left" in capsys.readouterr().out


def test_what_a_render_records_is_understood_by_status_and_viewer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    with jobs.prepared(jobs.draft(load_config("preview", [*TINY, f"output.dir={directory}", "quiet=true"]))) as job:
        jobs.render(job)
    capsys.readouterr()
    assert status_command([f"run={directory}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{directory}: finished"
    assert lines[1].startswith("  dream    sample:chelsea -> 96 x 64 px, inception_v3 mixed0")
    assert lines[-1] == f"  picture  {directory / 'preview.png'}"
    record = read_record(directory)
    (directory / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    assert status_command([f"run={directory}"]) == 0
    assert "interrupted, octave 1 of 1, step 1 of 1" in capsys.readouterr().out
    assert LiveRun(directory).status()["words"] == "interrupted after octave 1 of 1, step 1 of 1"


def test_a_run_says_where_it_is_between_its_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without a sweep: its state is read from its directory."""
    directory, seen = tmp_path / "run", []

    class Asking(QuietDisplay):
        def step_done(self, step: int) -> None:
            assert status_command([f"run={directory}"]) == 0
            seen.append(capsys.readouterr().out.splitlines()[0])

    monkeypatch.setattr(progress_file, "_WRITE_EVERY_S", 0.0)
    monkeypatch.setattr(jobs, "make_display", lambda *_, **__: Asking())
    config = load_config("preview", [*TINY, "octaves.steps=2", f"output.dir={directory}"])
    with jobs.prepared(jobs.draft(config)) as job:
        jobs.render(job)
    assert [line.rpartition(" Mpx/s")[0].rpartition(" %")[0] for line in seen] == [
        f"{directory}: running, octave 1 of 1, step {at} of 2, {share}" for at, share in ((0, 50), (1, 100))
    ]
    assert not (directory / "progress.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs the directory of a sweep or a run"),
        (["run=nowhere"], "run=nowhere: there is no such directory"),
        (["run={}"], "neither a sweep's directory nor a run's"),
        (["run={}", "watch=yes"], "watch=yes: must be true or false"),
        (["run={}", "color=red"], "does not know 'color=red'"),
        (["run=~nobody-of-that-name/x"], "there is no such user"),
    ],
)
def test_bad_words_are_refused_in_a_line(words: list[str], message: str, tmp_path: Path) -> None:
    assert message in refusal(lambda: status_command([word.format(tmp_path) for word in words]))


def test_status_is_a_command_with_exit_codes(command, tmp_path: Path) -> None:
    command("status", "run=nowhere").refused("run=nowhere")
    sweep = SweepOnDisk(tmp_path / "sweep", count=1)
    sweep.finish()
    finished = command("status", "run=sweep")
    assert (finished.code, finished.err) == (0, "")
    assert "finished after" in finished.out
    assert "status" in COMMANDS and "\n  status " in usage(200)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_hands_the_words_on(tmp_path: Path) -> None:
    interpreter = tmp_path / "venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text('#!/bin/sh\nprintf "%s\\n" "$*" "$RENDER_OVERRIDES"\nexit 1\n')
    interpreter.chmod(0o755)
    installed = tmp_path / "venv" / "installed"
    installed.touch()
    process = subprocess.run(
        ["make", "-o", str(installed), f"VENV={tmp_path / 'venv'}", "status", "run=my sweep", "watch=true"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in ("RENDER_OVERRIDES", "MAKEFLAGS", "MAKELEVEL")},
        capture_output=True,
        text=True,
    )
    call, overrides = process.stdout.splitlines()
    assert call == "-m render status"
    assert {"run=my sweep", "watch=true"} <= set(make_overrides(overrides))
    assert process.returncode != 0


def test_one_skipped_point_is_counted_among_those_done() -> None:
    assert counts_text(board_of(0, 0, total=3)) == "1 of 3 done, 2 queued (1 done before)"
