"""Files of compiled programs: whole or not there, the user's own, bounded, and shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jax._src.lru_cache import LRUCache

from render.dreaming.compiled_code import _WatchedCache
from render.storage.program_files import ProgramFiles, StoredProgram

PROGRAM = StoredProgram({"kept": [0, 2], "form": "array"}, bytes(range(256)) * 40)
KEY = "5e" * 32
_WRITER = """
import sys
from pathlib import Path
from render.storage.program_files import ProgramFiles, StoredProgram
files = ProgramFiles(Path(sys.argv[1]), 400_000)
for turn in range(150):
    files.write("5e" * 32, StoredProgram({"turn": turn}, bytes([turn]) * (1000 * (turn + 1))))
"""


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_a_program_comes_back_as_it_was_written(tmp_path: Path) -> None:
    files = ProgramFiles(tmp_path / "programs")
    assert files.read(KEY) is None
    files.write(KEY, PROGRAM)
    assert files.read(KEY) == PROGRAM
    assert only_file(tmp_path / "programs").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "programs").stat().st_mode & 0o777 == 0o700


def test_a_damaged_file_is_ignored_wherever_the_damage_is_and_then_replaced(tmp_path: Path) -> None:
    files = ProgramFiles(tmp_path / "programs")
    files.write(KEY, PROGRAM)
    path = only_file(tmp_path / "programs")
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert files.read(KEY) is None, place
        path.write_bytes(content[:place])
        assert files.read(KEY) is None, place
    files.write(KEY, PROGRAM)
    assert files.read(KEY) == PROGRAM


def test_a_file_under_the_name_of_another_program_is_ignored(tmp_path: Path) -> None:
    files = ProgramFiles(tmp_path / "programs")
    files.write(KEY, PROGRAM)
    only_file(tmp_path / "programs").rename(tmp_path / "programs" / f"{'ab' * 32}.program")
    assert files.read("ab" * 32) is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners")
def test_what_others_may_have_written_is_not_read(tmp_path: Path) -> None:
    directory = tmp_path / "programs"
    files = ProgramFiles(directory)
    files.write(KEY, PROGRAM)
    path = only_file(directory)
    for changed, usual in ((path, 0o600), (directory, 0o700)):
        for others in (0o020, 0o002):
            changed.chmod(usual | others)
            assert files.read(KEY) is None
        changed.chmod(usual)
        assert files.read(KEY) == PROGRAM
    if os.geteuid() == 0:
        for changed in (path, directory):
            os.chown(changed, 12345, -1)
            assert files.read(KEY) is None
            os.chown(changed, 0, -1)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert files.read(KEY) is None
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    assert files.read(KEY) == PROGRAM
    directory.rename(tmp_path / "moved")
    directory.symlink_to(tmp_path / "moved")
    assert files.read(KEY) is None
    files.write("ab" * 32, PROGRAM)
    assert len(list((tmp_path / "moved").iterdir())) == 1


def test_where_nothing_can_be_written_nothing_is_and_what_is_there_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    impossible = ProgramFiles(tmp_path / "file" / "programs")
    impossible.write(KEY, PROGRAM)
    assert impossible.read(KEY) is None
    files = ProgramFiles(tmp_path / "programs")
    files.write(KEY, PROGRAM)

    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise PermissionError("read-only file system")

    for name in ("utime", "mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    files.write("ab" * 32, PROGRAM)
    assert files.read("ab" * 32) is None
    assert files.read(KEY) == PROGRAM


def test_the_programs_used_least_recently_go_where_there_are_too_many(tmp_path: Path) -> None:
    files = ProgramFiles(tmp_path / "programs", limit=30_000)
    keys = [f"{number:02x}" * 32 for number in range(12)]
    for age, key in enumerate(keys):
        files.write(key, StoredProgram({}, os.urandom(4000)))
        for other in keys[: age + 1]:
            path = tmp_path / "programs" / f"{other}.program"
            if path.exists() and other != keys[0]:
                os.utime(path, (1000 + keys.index(other),) * 2)
        assert files.read(keys[0]) is not None, "it is used all the time"
    sizes = [path.stat().st_size for path in (tmp_path / "programs").iterdir()]
    assert sum(sizes) <= 30_000
    assert [files.read(key) is not None for key in keys[-3:]] == [True] * 3
    assert files.read(keys[1]) is None
    files.write("ab" * 32, StoredProgram({}, os.urandom(40_000)))
    assert files.read("ab" * 32) is None


def test_processes_that_write_at_once_leave_whole_files(tmp_path: Path) -> None:
    directory = tmp_path / "programs"
    command = [sys.executable, "-c", _WRITER, str(directory)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    writers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    files, seen = ProgramFiles(directory), set()
    while any(writer.poll() is None for writer in writers):
        program = files.read(KEY)
        if program is not None:
            turn = program.facts["turn"]
            assert program.code == bytes([turn]) * (1000 * (turn + 1))
            seen.add(turn)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert files.read(KEY) is not None
    assert len(seen) > 1
    assert [path.suffix for path in directory.iterdir()] == [".program"]


def test_jaxs_own_cache_is_bounded_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    """A real cache of JAX's, watched as compilations have it watched."""
    directory = tmp_path / "kernels"
    # Three entries fit, and one more.
    cache = _WatchedCache(LRUCache(str(directory), max_size=-1), directory, 4_500)
    (directory / "notes.txt").write_text("of the user")
    names = [f"jit_{number}-{number:064x}" for number in range(5)]
    for number, name in enumerate(names[:4]):
        cache.put(name, bytes(1000))
        os.utime(directory / f"{name}-cache", (number, number))
    assert cache.get(names[0]) == bytes(1000)
    # The first write of a process looks at the size of all.
    _WatchedCache(LRUCache(str(directory), max_size=-1), directory, 4_500).put(names[4], bytes(1000))
    left = [name for name in names if (directory / f"{name}-cache").exists()]
    assert left == [names[0], names[3], names[4]]
    assert (directory / "notes.txt").exists()
