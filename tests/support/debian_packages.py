"""Installation of Debian packages that tests need, where the tests run as root."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Programs of services are in the `sbin` directories, which are not on every PATH.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_POLICY = Path("/usr/sbin/policy-rc.d")
_LOCK = Path("/var/lock/pareidolia-tests-apt")
_MAX_APT_S = 300.0
#: A mirror that cannot be reached is given up after seconds, not minutes.
_OPTIONS = ("-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")


class NotInstalled(Exception):
    """A package is not here and cannot be installed; says why."""


def install(packages: Sequence[str], programs: Sequence[str]) -> None:
    """Install packages if one of their programs is missing. No service is started.

    Args:
        packages: Names of packages.
        programs: Programs that they have.

    Raises:
        NotInstalled: A program is missing, and its package cannot be installed.
    """
    if _has(programs):
        return
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotInstalled(f"{names} (Debian packages) are not installed: as root, with apt-get, tests do that")
    try:
        with _alone(), _no_services():
            if _has(programs):  # Another process has installed them meanwhile.
                return
            _apt_get("update")
            reason = _apt_get("install", "-y", "--no-install-recommends", *packages)
    except OSError as error:
        reason = str(error)
    if not _has(programs):
        raise NotInstalled(f"{names} cannot be installed: {reason}")


def _apt_get(*words: str) -> str:
    """Run apt-get; return the last line of its errors. Lists of packages that could not be updated may still do."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            ["apt-get", *_OPTIONS, *words],
            env=environment, capture_output=True, text=True, check=False, timeout=_MAX_APT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"apt-get {words[0]} takes over {_MAX_APT_S:.0f} s"
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def _has(programs: Sequence[str]) -> bool:
    return all(shutil.which(program) or shutil.which(program, path=SYSTEM_PATH) for program in programs)


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other tests from installing meanwhile: apt waits for no other that reads lists of packages."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_services() -> Iterator[None]:
    """Have Debian start no services of the packages that are installed; only their programs are wanted."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
