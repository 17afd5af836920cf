"""Large pages: who asks for them, and that a command which asks is still the same command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from render.system.large_pages import gains_large_pages
from tests.conftest import ROOT

#: Says what process it is and how it was started, then restarts, which it does once.
_PROCESS = """
import json, os, sys
from render.system.large_pages import restart_with_large_pages
print(json.dumps([os.getpid(), sys.argv[1:], os.environ.get("GLIBC_TUNABLES")]), flush=True)
restart_with_large_pages()
print(sys.stdin.read(), end="")
"""
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def environment(**variables: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}, **variables}


@pytest.mark.parametrize(
    ("setting", "variables", "gains"),
    [
        ("always [madvise] never\n", {}, True),
        ("[always] madvise never\n", {}, False),
        ("always madvise [never]\n", {}, False),
        ("always [madvise] never\n", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, False),
        ("always [madvise] never\n", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, False),
        (None, {}, False),
    ],
)
def test_only_a_process_that_gains_by_it_is_restarted(
    setting: str | None, variables: dict[str, str], gains: bool, tmp_path: Path
) -> None:
    path = tmp_path / "enabled"
    if setting is not None:
        path.write_text(setting)
    assert gains_large_pages(variables, path) is gains


@pytest.mark.skipif(not gains_large_pages({}, _SETTING), reason="this machine gives large pages to all or to none")
def test_a_restarted_process_is_the_same_one_with_large_pages() -> None:
    words = ["a b", "$HOME", "ä", ""]
    result = subprocess.run(
        [sys.executable, "-c", _PROCESS, *words], input="from the pipe", cwd=ROOT, env=environment(), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    first, second, rest = result.stdout.splitlines()
    (number, given, before), (same, again, after) = json.loads(first), json.loads(second)
    assert number == same and given == again == words and rest == "from the pipe"
    assert (before, after) == (None, "glibc.malloc.hugetlb=1")


@pytest.mark.skipif(not gains_large_pages({}, _SETTING), reason="this machine gives large pages to all or to none")
@pytest.mark.parametrize(("command", "starts"), [("render", 2), ("plan", 1)])
def test_commands_that_dream_are_restarted(command: str, starts: int, tmp_path: Path) -> None:
    """Python reads the file once in each start."""
    (tmp_path / "sitecustomize.py").write_text("import sys; print('started', file=sys.stderr)\n")
    words = [sys.executable, "-m", "render", command, "image=absent.jpg", f"output.dir={tmp_path / 'x'}"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    result = subprocess.run(words, cwd=ROOT, env=environment(PYTHONPATH=path), capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "absent.jpg" in result.stderr
    assert result.stderr.splitlines().count("started") == starts
