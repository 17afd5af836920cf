"""Commands in forks of one process: they are those of a Python that is started for each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from render.system.accelerators import has_nvidia_gpu
from tests.conftest import TINY
from tests.support.preloaded import ENVIRONMENT, PRELOADED, Preloaded, start_command


@pytest.mark.parametrize(
    ("words", "code"), [((*TINY, "output.dir=run"), 0), (("render", "image=nowhere.png"), 2)], ids=["render", "refused"]
)
def test_a_command_is_what_it_is_in_a_python_of_its_own(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """Exit code, output, errors and picture; and the process is another for each."""
    places = [tmp_path / name for name in ("started", "forked", "again")]
    for place in places:
        place.mkdir()
    command = [sys.executable, "-m", "render", *words, "quiet=true"]
    started = subprocess.run(command, cwd=places[0], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    forked = [PRELOADED.run([*words, "quiet=true"], place, ENVIRONMENT, 600) for place in places[1:]]
    assert started.returncode == code, started.stderr
    for finished in forked:
        assert (finished.returncode, finished.stdout, finished.stderr) == (code, started.stdout, started.stderr)
    contents = [[path.read_bytes() for path in sorted(place.rglob("*.png"))] for place in places]
    assert contents[0] == contents[1] == contents[2]
    assert bool(contents[0]) == (code == 0)


def test_a_command_has_the_environment_that_is_given(tmp_path: Path) -> None:
    """The words of RENDER_OVERRIDES are those of the command, and nothing stays for the next."""
    refused = PRELOADED.run(["plan"], tmp_path, {**ENVIRONMENT, "RENDER_OVERRIDES": "seed=many"}, 600)
    assert (refused.returncode, "seed" in refused.stderr) == (2, True)
    assert PRELOADED.run(["help"], tmp_path, ENVIRONMENT, 600).returncode == 0


def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(subprocess.TimeoutExpired):
        PRELOADED.run([*TINY, "octaves.steps=1000000", "output.dir=run"], tmp_path, ENVIRONMENT, 1)
    deadline = time.monotonic() + 60
    while PRELOADED.processes:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not list(tmp_path.rglob("*.png"))


def test_a_command_runs_in_a_session_of_its_own_until_a_signal_ends_it(tmp_path: Path) -> None:
    process = start_command(*TINY, "octaves.steps=100000", "output.dir=run", cwd=tmp_path, new_session=True)
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.communicate(timeout=60) == process.communicate() == ("", "")
    assert process.poll() == process.wait() == process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["PYTHONIOENCODING", "JAX_DEBUG_NANS", "XLA_FLAGS", "LC_ALL"])
def test_what_is_read_when_a_process_starts_needs_a_process_that_starts(name: str) -> None:
    assert PRELOADED.suits({**ENVIRONMENT, "XDG_CACHE_HOME": "/elsewhere"}) == (not has_nvidia_gpu())
    assert not PRELOADED.suits({**ENVIRONMENT, name: "another"})


def test_an_error_before_the_first_command_is_told(tmp_path: Path) -> None:
    broken = Preloaded({**ENVIRONMENT, "PYTHONPATH": str(tmp_path)})
    (tmp_path / "jax.py").write_text("raise ImportError('no such luck')")
    with pytest.raises(ChildProcessError, match="no such luck"):
        broken.run(["help"], tmp_path, ENVIRONMENT, 600)


def test_threads_may_look_at_a_command_and_wait_for_it(tmp_path: Path) -> None:
    running = PRELOADED.start(["help"], tmp_path, ENVIRONMENT)
    codes: list[int | None] = []

    def look() -> None:
        while (code := running.poll()) is None:
            pass
        codes.append(code)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert running.wait(60) == 0
    for thread in threads:
        thread.join(60)
    assert codes == [0] * 4
    running.close()
