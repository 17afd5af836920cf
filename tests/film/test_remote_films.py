"""Films in object stores: killed, gone on with, and made longer; and copies of films there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from render.film.film_state import read_state
from render.storage.opening import open_storage
from tests.conftest import ROOT, TINY
from tests.support.s3 import Server, serving

WORDS = ("conf=zoom", *TINY, "output.width=48", "film.octaves.steps=1", "film.rate=10", "quiet=true")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


def film(directory: Path, *words: str, kill_at: int | None = None, place: str = "") -> subprocess.CompletedProcess[str]:
    """Run the film's command, killed by SIGKILL once some frames are finished at a place."""
    command = [sys.executable, "-m", "render", "film", *WORDS, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=directory, env=environment, stderr=subprocess.PIPE, text=True)
    while kill_at is not None and process.poll() is None:
        state = read_state(place)
        if state is not None and state.finished >= kill_at:
            process.kill()
        time.sleep(0.02)
    _, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, "", errors)


@pytest.mark.slow
def test_a_film_in_an_object_store_is_killed_gone_on_with_and_made_longer(server: Server, tmp_path: Path) -> None:
    bucket = server.make_bucket("films")
    place, copy = f"{bucket}/film", f"{bucket}/out.mp4"
    words = (f"output.dir={place}", f"output.path={copy}")
    assert film(tmp_path, *words, "film.seconds=0.6", kill_at=2, place=place).returncode == -9
    other = tmp_path / "other"
    other.mkdir()
    ended = film(other, *words, "film.seconds=0.6")
    assert ended.returncode == 0, ended.stderr
    short = open_storage(bucket).load("out.mp4")[0]
    # The same command again, and a longer film, replace the copy that the film itself is.
    assert film(other, *words, "film.seconds=0.6").returncode == 0
    longer = film(other, *words, "film.seconds=0.9")
    assert longer.returncode == 0, longer.stderr
    whole = tmp_path / "whole"
    whole.mkdir()
    assert film(whole, "output.dir=film", "output.path=short.mp4", "film.seconds=0.6").returncode == 0
    assert (whole / "short.mp4").read_bytes() == short
    assert film(whole, "output.dir=film", "output.path=long.mp4", "film.seconds=0.9").returncode == 0
    assert (whole / "long.mp4").read_bytes() == open_storage(bucket).load("out.mp4")[0]
    assert (whole / "long.mp4").read_bytes() == open_storage(place).load("zoom.mp4")[0]


@pytest.mark.slow
def test_what_others_have_at_a_url_is_refused_before_anything_starts(server: Server, tmp_path: Path) -> None:
    bucket = server.make_bucket("others")
    open_storage(bucket).write("out.mp4", b"mine")
    for words, message in (
        ([f"output.path={bucket}/out.mp4"], "out.mp4 exists"),
        (["output.path=s3://others"], "output.path=s3://others"),
        ([f"output.path={bucket}/none/../out.mp4"], "output.path"),
    ):
        ended = film(tmp_path, *words, "film.seconds=0.2")
        assert ended.returncode == 2, words
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        assert message in ended.stderr
    assert open_storage(bucket).load("out.mp4")[0] == b"mine"
    assert not list(tmp_path.iterdir())
