"""Real films whose command is killed at random moments go on to the same file, on another number of workers, too."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from render.film.film_state import read_state
from tests.conftest import ROOT, TINY

WORDS = (
    "conf=zoom", *TINY, "output.width=48", "film.seconds=2.2", "film.octaves.steps=1", "output.dir=film",
    "output.path=film.mp4", "quiet=true",
)  # fmt: skip


def command(directory: Path, *words: str, kill_at: int | None = None) -> int:
    """Run the film's command, killed by SIGKILL once some frames are finished; return its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "render", "film", *WORDS, *words],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while kill_at is not None and process.poll() is None:
        state = read_state(directory / "film") if (directory / "film").exists() else None
        if state is not None and state.finished >= kill_at:
            process.kill()
        time.sleep(0.005)
    return process.wait(300)


@pytest.mark.slow
def test_a_zoom_killed_at_random_moments_has_the_bytes_of_one_made_at_once(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    assert command(tmp_path / "whole") == 0
    frames = sorted(random.Random(22).sample(range(1, 50), 4))
    assert [command(tmp_path / "killed", kill_at=count) for count in frames] == [-9] * 4
    assert command(tmp_path / "killed", "farm.executor=ray", "farm.workers=2") == 0
    assert (tmp_path / "killed" / "film.mp4").read_bytes() == (tmp_path / "whole" / "film.mp4").read_bytes()
