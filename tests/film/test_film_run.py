"""Films go on to the same frames and the same file, whatever killed them, and replace nothing of anybody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from render.film.film_state import FilmState, read_state, write_state
from tests.conftest import ROOT

WORDS = ("conf=zoom", "film.rate=10", "output.dir=film", "output.path=out.mp4", "quiet=true")


def film(directory: Path, *words: str, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the film command in a directory."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KILL_AT": str(kill_at)}
    return subprocess.run(
        [sys.executable, "-m", "tests.film.film_process", *WORDS, *words],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def finished_film(directory: Path, *words: str) -> bytes:
    """Make a film, and return the bytes of its file."""
    directory.mkdir(exist_ok=True)
    run = film(directory, *words)
    assert run.returncode == 0, run.stderr
    return (directory / "out.mp4").read_bytes()


def pictures(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "film" / "frames").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 9 frames, made at once."""
    directory = tmp_path_factory.mktemp("whole")
    finished_film(directory, "film.seconds=0.9")
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(1, 2, 3), (4, 11, 5), (13, 7), (26, 2), (32, 1), (33, 1)])
def test_a_film_killed_anywhere_goes_on_to_the_same_frames_and_file(
    kills: tuple[int, ...], whole: Path, tmp_path: Path
) -> None:
    ends = [film(tmp_path, "film.seconds=0.9", kill_at=place).returncode for place in kills]
    assert ends[0] == -9, "the film was not killed"
    assert set(ends) <= {-9, 0}
    assert finished_film(tmp_path, "film.seconds=0.9") == (whole / "out.mp4").read_bytes()
    assert pictures(tmp_path) == pictures(whole)


def test_a_film_made_longer_equals_one_made_long_at_once(whole: Path, tmp_path: Path) -> None:
    short = finished_film(tmp_path, "film.seconds=0.5")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "film" / "states").iterdir()}
    assert len(made) == 5
    assert finished_film(tmp_path, "film.seconds=0.9") == (whole / "out.mp4").read_bytes() != short
    assert all(path.stat().st_mtime_ns == time for path, time in made.items()), "a finished frame was made again"
    assert pictures(tmp_path) == pictures(whole)


def test_another_quality_is_encoded_from_the_frames_that_are_there(tmp_path: Path) -> None:
    first = finished_film(tmp_path, "film.seconds=0.5", "film.pictures=keep")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "film" / "states").iterdir()}
    assert len(pictures(tmp_path)) == 5
    # Without `keep`: pictures of a finished film are removed by no later encoding.
    assert finished_film(tmp_path, "film.seconds=0.5", "film.quality=50") != first
    assert len(pictures(tmp_path)) == 5
    assert finished_film(tmp_path, "film.seconds=0.5") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "film" / "states").iterdir()} == made


def test_a_file_of_the_users_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("mine")
    run = film(tmp_path, "film.seconds=0.5")
    assert run.returncode == 2
    assert "overwrite=true" in run.stderr
    assert (tmp_path / "out.mp4").read_text() == "mine"
    assert not (tmp_path / "film").exists()
    assert film(tmp_path, "film.seconds=0.5", "overwrite=true").returncode == 0


def test_another_film_in_the_directory_is_refused_and_replaced_only_when_asked(tmp_path: Path) -> None:
    finished_film(tmp_path, "film.seconds=0.5")
    before = pictures(tmp_path)
    run = film(tmp_path, "film.seconds=0.5", "film.zoom=2")
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "film.zoom" in run.stderr
    assert "fresh=true" in run.stderr
    assert pictures(tmp_path) == before
    (tmp_path / "film" / "frames" / "mine.txt").write_text("mine")
    assert film(tmp_path, "film.seconds=0.3", "film.zoom=2", "fresh=true").returncode == 0
    assert sorted(pictures(tmp_path)) == ["000000.png", "000001.png", "000002.png", "mine.txt"]


def test_a_lost_picture_is_named(tmp_path: Path) -> None:
    finished_film(tmp_path, "film.seconds=0.5", "film.pictures=keep")
    (tmp_path / "film" / "frames" / "000003.png").unlink()
    run = film(tmp_path, "film.seconds=0.5", "film.quality=50")
    assert run.returncode == 2
    assert "000003.png" in run.stderr


def parts(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "film" / "segments").glob("*/*"))


def test_pictures_stay_only_until_their_part_is_encoded(whole: Path, tmp_path: Path) -> None:
    assert sorted(pictures(whole)) == ["000008.png"]
    assert parts(whole) == ["000000-000004.mkv", "000004-000008.mkv", "000008-000009.mkv"]
    finished_film(tmp_path, "film.seconds=0.5")
    assert parts(tmp_path) == ["000000-000004.mkv", "000004-000005.mkv"]
    finished_film(tmp_path, "film.seconds=0.9")
    assert parts(tmp_path) == parts(whole), "the end of a shorter film stays"


def test_frames_that_are_only_encoded_are_never_encoded_again(tmp_path: Path) -> None:
    film_bytes = finished_film(tmp_path, "film.seconds=0.9")
    for words, remedy in (
        (["film.quality=50"], "film.pictures=keep"),
        (["film.format=gif", "output.path=out.gif"], "film.pictures=keep"),
        (["film.seconds=0.6"], "4 or 8 frames"),
    ):
        run = film(tmp_path, "film.seconds=0.9", *words)
        assert run.returncode == 2, words
        assert len(run.stderr.splitlines()) == 1, run.stderr
        assert remedy in run.stderr
    assert finished_film(tmp_path, "film.seconds=0.9") == film_bytes
    assert finished_film(tmp_path, "film.seconds=0.8", "overwrite=true") != film_bytes
    assert finished_film(tmp_path, "film.seconds=0.9", "overwrite=true") == film_bytes


def test_parts_of_other_encodings_are_removed_when_the_film_is_written(tmp_path: Path) -> None:
    finished_film(tmp_path, "film.seconds=0.5", "film.pictures=keep")
    (mine := tmp_path / "film" / "segments" / "mine").mkdir()
    assert len(parts(tmp_path)) == 2
    finished_film(tmp_path, "film.seconds=0.5", "film.pictures=keep", "film.quality=50")
    assert len(parts(tmp_path)) == 2
    assert mine.is_dir()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["film.rate=0"], "film.rate=0"),
        (["film.codec=vp9"], "h264"),
        (["film.keyframes=[{at: 2},{at: 1}]"], "film.keyframes[1].at=1"),
        (["output.path=out.png"], "output.path=out.png"),
        (["film.format=webm"], "disagree"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    run = film(tmp_path, *words)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert message in run.stderr
    assert not list(tmp_path.iterdir())


def test_a_manifest_that_is_not_whole_counts_no_frames(tmp_path: Path) -> None:
    state = FilmState("0" * 64, 3, 5)
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    path = tmp_path / "frames.json"
    stored = json.loads(path.read_text())
    for damage in ({"finished": 4}, {"finished": 6}, {"finished": -1}, {"version": 2}, {"sha256": "0" * 64}):
        path.write_text(json.dumps(stored | damage))
        assert read_state(tmp_path) is None, damage
    path.write_text("")
    assert read_state(tmp_path) is None
