"""The private directory of a Ray of our own: in any temporary directory, whatever lies there already."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from render.farm.ray import session_directory as session
from render.farm.ray.session_directory import open_session, remove_stale, takes_sockets
from tests.conftest import ROOT, refusal


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory with a long name, blanks and letters beyond ASCII."""
    directory = tmp_path / ("with blanks ü " + "x" * 120)
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as place:
        monkeypatch.setattr(session, "_short_places", lambda: [Path("/nonexistent"), Path(place)])
        yield Path(place)


def gone() -> int:
    """Return the number of a process that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_a_long_name_with_blanks_gets_a_short_private_link_and_leaves_nothing(temporary: Path, short: Path) -> None:
    opened = open_session()
    assert opened.home.parent == temporary
    assert opened.root.is_relative_to(short)
    assert takes_sockets(opened.root)
    (opened.root / "log").write_text("x")
    assert (opened.home / "ray" / "log").read_text() == "x"
    for directory in (opened.home, opened.root.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    opened.close()
    assert list(temporary.iterdir()) == list(short.iterdir()) == []


@pytest.mark.parametrize("length", range(1, 60, 7))
def test_every_length_of_a_name_takes_sockets(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of 20 to 40 characters depended on the number of digits of the process."""
    with tempfile.TemporaryDirectory(prefix="x" * length, dir="/tmp") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        opened = open_session()
        assert takes_sockets(opened.root)
        assert len(os.fsencode(f"{opened.root}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")) <= 107
        opened.close()
        assert list(Path(place).iterdir()) == []


def test_stale_sessions_go_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = gone()
    monkeypatch.setattr(session, "_MIN_STALE_AGE_S", 0.0)
    expected = {
        f"dream-{number}-held",
        "dream-x-y",
        f"dream-{number}",
        f"dream-{os.getpid()}-mine",
        "dream-99999999999999-x",
    }
    for name in {*expected, f"dream-{number}-stale", "dream-1-reused"}:
        (tmp_path / name).mkdir()
    # Another process has that number by now, and yet nobody has the lock.
    (tmp_path / "dream-1-reused" / ".lock").touch()
    (tmp_path / f"dream-{number}-stale" / ".lock").touch()
    # Nothing says whose an empty directory is.
    (tmp_path / f"dream-{number}-summer").mkdir()
    (tmp_path / f"dream-{number}-dangling").symlink_to("/nonexistent")
    (tmp_path / f"dream-{number}-file").write_text("a file of the user's")
    (tmp_path / f"dream-{number}-photos").mkdir()
    (tmp_path / f"dream-{number}-photos" / "me.jpg").write_text("a picture of the user's")
    (tmp_path / f"dream-{number}-link").symlink_to(tmp_path)
    expected |= {f"dream-{number}-{name}" for name in ("dangling", "file", "link", "photos", "summer")}
    with FileLock(tmp_path / f"dream-{number}-held" / ".lock"):
        remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_many_starts_at_once_beside_stale_sessions_all_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    number = gone()
    for name in range(40):
        (tmp_path / f"dream-{number}-{name}" / "ray").mkdir(parents=True)
        (tmp_path / f"dream-{number}-{name}" / "ray" / "socket").touch()
        (tmp_path / f"dream-{number}-{name}" / ".lock").touch()
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: open_session(), range(16)))
    assert len({opened_session.home for opened_session in opened}) == 16
    assert all(opened_session.root.is_dir() for opened_session in opened)
    for opened_session in opened:
        opened_session.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_directory_that_can_be_written_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert "set TMPDIR" in refusal(open_session)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(session, "takes_sockets", lambda _root: False)
    assert "Ray's sockets" in refusal(open_session)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_goes_with_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import os; from render.farm.ray.session_directory import open_session; open_session(); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    killed = subprocess.Popen([sys.executable, "-c", program], env=environment)
    assert killed.wait() == -9
    assert not psutil.pid_exists(killed.pid)
    assert len(list(tmp_path.glob("dream-*"))) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = open_session()
    assert [opened.home] == list(tmp_path.glob("dream-*"))
    opened.close()
