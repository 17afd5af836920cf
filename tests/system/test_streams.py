"""A terminal that goes: the render saves, or goes on, as whoever started it asked for."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from render.farm.checkpoint import Checkpoints
from tests.conftest import ROOT, TINY

WORDS = (*TINY, "octaves.steps=100", "checkpoint.every=1000", "output.dir=run")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""}


def exit_code_without_terminal(directory: Path, until: str, *, nohup: bool) -> int:
    """Start a render in a terminal, take the terminal away once its log says `until`, and return how it ends."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(directory)
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execve(sys.executable, [sys.executable, "-m", "render", *WORDS], ENVIRONMENT)
    log = directory / "run" / "render.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and until in log.read_text()):
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.02)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_connection_that_breaks_costs_nothing(tmp_path: Path) -> None:
    assert exit_code_without_terminal(tmp_path, "step 3:", nohup=False) == 130
    read = Checkpoints(tmp_path / "run" / "canvas").read()
    assert read is not None
    assert read[1][0].steps >= 3
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_nohup_goes_on_to_the_end_though_nobody_can_be_told(tmp_path: Path) -> None:
    assert exit_code_without_terminal(tmp_path, "step 3:", nohup=True) == 0
    assert (tmp_path / "run" / "preview.png").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("stop", [None, signal.SIGTERM])
def test_standard_error_that_cannot_be_written_ends_nothing(stop: signal.Signals | None, tmp_path: Path) -> None:
    """A full disk behind a log, or a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "render", *WORDS], cwd=tmp_path, env=ENVIRONMENT, stdout=writing, stderr=full
        )
        os.close(writing)
        log = tmp_path / "run" / "render.log"
        while stop and process.poll() is None and not (log.exists() and "step 3:" in log.read_text()):
            time.sleep(0.02)
        if stop:
            process.send_signal(stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=120)
    assert process.returncode == (130 if stop else 0)
    status = json.loads((tmp_path / "run" / "run.json").read_text())["status"]
    assert status == ("interrupted" if stop else "finished")


@pytest.mark.parametrize("words", [("objectives", "json=true"), ("models",), ("help",)], ids=" ".join)
def test_a_listing_that_cannot_be_written_whole_is_no_success(words: tuple[str, ...]) -> None:
    """Whoever reads the file later would take it for all there is."""
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "render", *words], env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == "render: standard output takes no more (No space left on device): what is there is not whole\n"


def test_what_native_code_prints_goes_to_the_log_and_not_to_the_terminal() -> None:
    program = (
        "import logging, os, sys, time\n"
        "from render.terminal import streams\n"
        "said = []\n"
        "class Hear(logging.Handler):\n"
        "    def emit(self, record): said.append(record.getMessage())\n"
        "logging.getLogger('render').addHandler(Hear()); logging.getLogger('render').setLevel('INFO')\n"
        "streams.outlast(); streams.divert_native()\n"
        "os.write(2, b'[E 1 2] core_worker.cc: words of C++\\n')\n"
        "print('words of ours', file=sys.stderr)\n"
        "end = time.monotonic() + 10\n"
        "while not said and time.monotonic() < end: time.sleep(0.01)\n"
        "print(said)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr == "words of ours\n"
    assert ended.stdout == "['native code says: [E 1 2] core_worker.cc: words of C++']\n"


@pytest.mark.parametrize(("words", "code"), [("classes words=fish", 0), ("helo", 2), ("status run=nowhere", 2)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(words: str, code: int, closed: str, tmp_path: Path) -> None:
    command = f'exec "$0" -m render {words} {closed}'
    finished = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == code
    assert "Traceback" not in finished.stderr
    assert list(tmp_path.iterdir()) == []
