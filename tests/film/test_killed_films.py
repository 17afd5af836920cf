"""Real films whose command is killed at random moments go on to the same file, on another number of workers, too."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY

WORDS = (
    "conf=zoom", *TINY, "output.width=48", "film.seconds=2.2", "film.octaves.steps=1", "output.dir=film",
    "output.path=film.mp4", "quiet=true",
)  # fmt: skip


def command(directory: Path, *words: str, kill_after: float | None = None) -> int:
    """Run the film's command, killed by SIGKILL after some seconds; return its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "render", "film", *WORDS, *words],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        return process.wait(kill_after or 300)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@pytest.mark.slow
def test_a_zoom_killed_at_random_moments_has_the_bytes_of_one_made_at_once(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    assert command(tmp_path / "whole") == 0
    moments = random.Random(22)
    ends = [command(tmp_path / "killed", kill_after=moments.uniform(3, 8)) for _ in range(4)]
    assert ends[0] == -9
    assert command(tmp_path / "killed", "farm.executor=ray", "farm.workers=2") == 0
    assert (tmp_path / "killed" / "film.mp4").read_bytes() == (tmp_path / "whole" / "film.mp4").read_bytes()
