"""Packages that tests need: what cannot be installed is a reason to skip, never a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import debian_packages
from tests.support.debian_packages import NotInstalled, install


@pytest.fixture
def apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stub of apt-get for a root without real packages; each of its calls adds a line to the file that is returned."""
    program, calls = tmp_path / "apt-get", tmp_path / "calls"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\n'
        'case "$*" in *missing*) echo "W: old" >&2; echo "E: Unable to locate package missing" >&2; exit 100 ;;\n'
        f"*present*) touch {tmp_path}/present; chmod +x {tmp_path}/present ;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(debian_packages, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(debian_packages, "_LOCK", tmp_path / "lock")
    return calls


def test_package_is_installed_once_and_starts_no_service(apt_get: Path) -> None:
    for _ in range(2):
        install(("present",), ("present",))
    update, installation = apt_get.read_text().splitlines()
    assert update.endswith(" update")
    assert installation.endswith(" install -y --no-install-recommends present")
    assert not (apt_get.parent / "policy-rc.d").exists()


def test_package_that_apt_does_not_install_is_a_reason(apt_get: Path) -> None:
    with pytest.raises(NotInstalled, match="missing cannot be installed: E: Unable to locate package missing"):
        install(("missing",), ("no-such-program",))


def test_apt_that_takes_too_long_is_a_reason(apt_get: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_packages, "_MAX_APT_S", 0.0)
    with pytest.raises(NotInstalled, match="apt-get install takes over 0 s"):
        install(("missing",), ("no-such-program",))


def test_system_that_is_read_only_is_a_reason(apt_get: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_packages, "_LOCK", apt_get / "nowhere")
    with pytest.raises(NotInstalled, match=r"missing cannot be installed: .*nowhere"):
        install(("missing",), ("no-such-program",))


def test_user_who_is_not_root_is_told_the_packages(apt_get: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotInstalled, match="missing \\(Debian packages\\) are not installed"):
        install(("missing",), ("no-such-program",))
