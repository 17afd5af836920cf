"""Films in object stores: killed, gone on with, and made longer; and copies of films there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from render.__main__ import main
from render.film.film_state import read_state
from render.storage.opening import open_storage
from tests.conftest import ROOT, TINY
from tests.support.s3 import Server, serving

WORDS = ("conf=zoom", *TINY, "output.width=48", "film.octaves.steps=1", "film.rate=10", "quiet=true")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


def killed(directory: Path, place: str, finished: int, *words: str) -> int:
    """Run the film's command, killed by SIGKILL once some frames are finished at a place; return its exit code."""
    command = [sys.executable, "-m", "render", "film", *WORDS, *words]
    process = subprocess.Popen(command, cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while process.poll() is None:
        state = read_state(place)
        if state is not None and state.finished >= finished:
            process.kill()
        time.sleep(0.02)
    return process.wait()


def film(*words: str) -> int:
    """Run the film's command in this process and directory; return its exit code."""
    return main(["film", *WORDS, *words])


@pytest.mark.slow
def test_a_film_in_an_object_store_is_killed_gone_on_with_and_made_longer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket = server.make_bucket("films")
    place, copy = f"{bucket}/film", f"{bucket}/out.mp4"
    words = (f"output.dir={place}", f"output.path={copy}")
    assert killed(tmp_path, place, 2, *words, "film.seconds=0.6") == -9
    assert film(*words, "film.seconds=0.6") == 0
    short = open_storage(bucket).load("out.mp4")[0]
    # The same command again, and a longer film, replace the copy that the film itself is.
    assert film(*words, "film.seconds=0.6") == 0
    assert film(*words, "film.seconds=0.9") == 0
    assert film("output.dir=whole", "output.path=short.mp4", "film.seconds=0.6") == 0
    assert (tmp_path / "short.mp4").read_bytes() == short
    assert film("output.dir=whole", "output.path=long.mp4", "film.seconds=0.9") == 0
    long = (tmp_path / "long.mp4").read_bytes()
    assert long == open_storage(bucket).load("out.mp4")[0]
    assert long == open_storage(place).load("zoom.mp4")[0]


def test_what_others_have_at_a_url_is_refused_before_anything_starts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket = server.make_bucket("others")
    open_storage(bucket).write("out.mp4", b"mine")
    for path, message in (
        (f"{bucket}/out.mp4", "out.mp4 exists"),
        ("s3://others", "output.path=s3://others"),
        (f"{bucket}/none/../out.mp4", "output.path"),
    ):
        assert film(f"output.path={path}", "film.seconds=0.2") == 2, path
        errors = capsys.readouterr().err
        assert len(errors.splitlines()) == 1, errors
        assert message in errors
    assert open_storage(bucket).load("out.mp4")[0] == b"mine"
    assert not list(tmp_path.iterdir())
