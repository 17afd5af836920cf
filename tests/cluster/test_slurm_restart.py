"""Slurm jobs that are queued again, and signals at awkward times: the batch step is real, Slurm's answers are stubs."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from render.cluster import slurm_job
from render.cluster.cluster_files import find_cluster
from render.cluster.slurm_job import Allocation, BatchStep
from render.cluster.slurm_options import script_text
from render.cluster.slurm_restart import BeginningNote, words_of_restart
from render.cluster.slurm_time import limit_s, refuse_short_time
from render.commands.slurm_jobs import send_job
from render.config.compose import load_config
from render.system import beginning
from tests.conftest import INLINE, ROOT, refusal, rendered

SCRIPT = (ROOT / "cluster" / "slurm.sh").read_text()
WORDS = ["render", "conf=poster", "fresh=true", "seed=1"]


def note(directory: Path, restarts: int) -> BeginningNote:
    return BeginningNote(directory / "note", restarts)


def begin(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv(beginning.NOTE, str(path))
    beginning.note_beginning()


# Starting over


def test_job_starts_over_until_a_render_of_it_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(tmp_path, 0).open()
    assert words_of_restart(WORDS, note(tmp_path, 0)) == WORDS
    # Queued again before anything was rendered.
    note(tmp_path, 1).open()
    assert words_of_restart(WORDS, note(tmp_path, 1)) == WORDS
    begin(monkeypatch, tmp_path / "note")
    note(tmp_path, 2).open()
    assert words_of_restart(WORDS, note(tmp_path, 2)) == ["render", "conf=poster", "seed=1", "fresh=false"]
    # Another job of the same number, after Slurm was installed anew.
    note(tmp_path, 0).open()
    assert not note(tmp_path, 0).has_begun()


def test_job_whose_note_is_lost_goes_on_once_it_was_queued_again(tmp_path: Path) -> None:
    assert words_of_restart(WORDS, note(tmp_path, 1))[-1] == "fresh=false"
    assert words_of_restart(WORDS, note(tmp_path, 0)) == WORDS


def test_fresh_of_a_yaml_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "over.yaml").write_text("defaults: [job/default, _self_]\nname: over\nfresh: true\n")
    begun = note(tmp_path, 1)
    begun.path.write_text(beginning.BEGUN)
    monkeypatch.chdir(tmp_path)
    assert load_config("over.yaml", []).fresh
    assert not load_config("over.yaml", words_of_restart([], begun)).fresh


def test_render_notes_its_beginning_only_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(monkeypatch, tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    note(tmp_path, 0).open()
    monkeypatch.setenv(beginning.NOTE, str(tmp_path / "note"))
    words = ("image=noise", "output.width=96", "octaves.count=1", "octaves.steps=1", "objective.terms=[mixed0]", INLINE)
    rendered(tmp_path / "run", *words, "fresh=true")
    assert note(tmp_path, 0).has_begun()


def test_program_of_a_job_notes_it_beside_the_log_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Sequence[str]] = []
    is_queued = iter([True, False])

    def run(step: BatchStep) -> int:
        commands.append(step.command)
        assert (tmp_path / ".pareidolia-7.begun").is_file()
        begin(monkeypatch, step.note.path)
        step.may_go_on = next(is_queued)
        return 130

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm_job, "allocation", lambda _: Allocation("7", ("one",), 1, tmp_path, 1.0))
    monkeypatch.setattr(BatchStep, "run", run)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    slurm_job.main(WORDS[1:])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    slurm_job.main(WORDS[1:])
    assert commands == [WORDS, ["render", "conf=poster", "seed=1", "fresh=false"]]
    assert not (tmp_path / ".pareidolia-7.begun").exists()


# Signals


def batch_step(directory: Path, restarts: int = 0, **state: object) -> BatchStep:
    step = BatchStep(Allocation("7", ("one",), 1, directory, 1.0), WORDS, note(directory, restarts))
    for name, value in state.items():
        setattr(step, name, value)
    return step


def test_render_that_is_interrupted_while_it_is_imported_ends_as_interrupted(tmp_path: Path) -> None:
    """The signal comes as soon as the process is there, long before it is handled."""
    program = (
        "import time\nfor _ in range(5): time.sleep(0.1)\n"
        "from render.system import interrupts\ninterrupts.install()\ntime.sleep(60)"
    )
    step = batch_step(tmp_path, queue_again=True)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    assert step._child_code(SimpleNamespace(note=lambda *_: ()), ["-c", program], environment) == 130
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def leaving(
    monkeypatch: pytest.MonkeyPatch, step: BatchStep, codes: Mapping[str, int], state: str = "RUNNING"
) -> list[list[str]]:
    """Let a batch step leave while Slurm's commands end with codes; return the commands."""
    calls: list[list[str]] = []

    def output_of(command: list[str]) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, codes.get(command[1], 0), f"JobId=7 JobState={state} ", "no")

    monkeypatch.setattr(slurm_job, "output_of", output_of)
    assert step._leave() == 130
    return calls


@pytest.mark.parametrize(("code", "is_refused"), [(0, False), (-15, False), (-9, False), (1, True)])
def test_only_an_exit_code_of_scontrol_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: int, is_refused: bool
) -> None:
    step = batch_step(tmp_path, queue_again=True)
    assert leaving(monkeypatch, step, {"requeue": code})[-1] == ["scontrol", "requeue", "7"]
    assert ("Slurm does not queue job 7 again (no)" in capfd.readouterr().err) == is_refused
    assert step.may_go_on != is_refused


def test_note_outlives_a_job_that_slurm_queues_again_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = batch_step(tmp_path, queue_again=True)
    assert len(leaving(monkeypatch, step, {}, "PREEMPTED")) == 1
    assert step.may_go_on
    stopped = batch_step(tmp_path, queue_again=False)
    stopped.note.open()
    assert leaving(monkeypatch, stopped, {})[-1] == ["scancel", "7"]
    assert not stopped.may_go_on
    assert not stopped.note.path.exists()


def test_job_whose_time_is_up_again_and_again_before_it_renders_is_not_queued_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(tmp_path, 0).open()
    state = {"queue_again": True, "_is_time_up": True}
    assert leaving(monkeypatch, batch_step(tmp_path, 2, **state), {})[-1][1] == "requeue"
    line = refusal(lambda: leaving(monkeypatch, batch_step(tmp_path, 3, **state), {}))
    assert "job 7 is not queued again: its time was up 4 times before anything was rendered" in line
    # A preemption says nothing of the limit, and what has begun goes on.
    assert leaving(monkeypatch, batch_step(tmp_path, 9, queue_again=True), {})[-1][1] == "requeue"
    begin(monkeypatch, tmp_path / "note")
    assert leaving(monkeypatch, batch_step(tmp_path, 9, **state), {})[-1][1] == "requeue"


# Time limits, and words that cannot work


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("9", 540), ("9:30", 570), ("1:00:00", 3600), ("2-1", 176400), ("0-0:9", 540), ("1-0:0:5", 86405),
        ("0", None), ("infinite", None), ("soon", None), ("1-2-3", None), ("", None),
    ],
)  # fmt: skip
def test_time_limits_of_sbatch_are_read(text: str, seconds: int | None) -> None:
    assert limit_s(text) == seconds


def test_time_that_leaves_none_to_render_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SBATCH_TIMELIMIT", "SBATCH_SIGNAL"):
        monkeypatch.delenv(variable, raising=False)
    line = refusal(lambda: send_job(find_cluster("slurm"), "noise", ["output.dir=run", "sbatch.time=00:09:59"]))
    assert "sbatch.time=00:09:59 is too short" in line
    assert "use sbatch.time=10 or more, or set sbatch.signal=B:USR1@60" in line
    refuse_short_time(SCRIPT, {"time": "10"})
    refuse_short_time(SCRIPT, {})
    refuse_short_time(SCRIPT, {"time": "5", "signal": "B:USR1@60"})
    refuse_short_time(SCRIPT.replace("USR1@180", "USR1@60"), {"time": "8"})
    refuse_short_time(script_text(SCRIPT, {"signal": "x"}), {"time": "1"})
    assert "time=8 is too short" in refusal(lambda: refuse_short_time(SCRIPT.replace("04:00:00", "8"), {}))
    monkeypatch.setenv("SBATCH_TIMELIMIT", "7")
    assert "time=7 is too short" in refusal(lambda: refuse_short_time(SCRIPT, {}))


def test_render_in_one_process_is_refused_before_it_is_queued() -> None:
    line = refusal(lambda: send_job(find_cluster("slurm"), "noise", ["output.dir=run", INLINE]))
    assert line.startswith("farm.executor=inline uses no farm")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_status_of_a_slurm_cluster_needs_what_its_other_commands_need() -> None:
    def commands(*words: str) -> str:
        return subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    installs = "installing what clusters need"
    assert installs not in commands("status", "cluster=slurm", "VENV=absent")
    assert installs in commands("status", "cluster=k8s-gpu", "VENV=absent")
    assert "installing (once)" in commands("status", "run=x", "VENV=absent")
