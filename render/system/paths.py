"""Where the program keeps things that outlive a run."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path

import platformdirs

from render.errors import UserError
from render.storage.reading import open_regular
from render.storage.url import checked_url

APPLICATION = "pareidolia"
#: Bytes of a file that are hashed at a time.
_HASHED = 1 << 20


def user_path(text: str, key: str) -> Path:
    """A path as the user wrote it, `~` expanded; `UserError` naming the config key where there can be no such path."""
    if checked_url(text, key) is not None:
        raise UserError(f"{key}={text}: this is kept on a disk alone: name a path")
    try:
        path = Path(text).expanduser()
        path.exists()
    except RuntimeError:
        raise UserError(f"{key}={text}: there is no such user") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a name that a file can have"
        raise UserError(f"{key}={text}: {reason}") from None
    return path


def is_same_file(text: str | None, path: Path) -> bool:
    """Whether a text, recorded by anybody, names the very file at a path; False where it can name none."""
    try:
        return bool(text) and Path(str(text)).expanduser().samefile(path)
    except (OSError, RuntimeError, ValueError):
        return False


def input_path(text: str, key: str) -> Path:
    """A file to be read, as the user wrote it: a path as `user_path` takes it, or what a URL in an object store names.

    The latter is brought into the user's cache when it is first asked for, and again when it has changed there. Raises
    `UserError` that names the config key.
    """
    url = checked_url(text, key)
    if url is None:
        return user_path(text, key)
    # Whoever reads from no object store does not wait for its client.
    from render.storage.inputs import brought

    return brought(url, key, cache_directory() / "inputs")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, hex.

    Raises OSError for what cannot be read, is no regular file, or goes on beyond its size, as some of the kernel's do.
    """
    digest = hashlib.sha256()
    with open_regular(path, sys.maxsize) as file:
        left = os.fstat(file.fileno()).st_size
        while chunk := file.read(_HASHED):
            left -= len(chunk)
            if left < 0:
                raise OSError(errno.EFBIG, "longer than it says", str(path))
            digest.update(chunk)
    return digest.hexdigest()


def cache_directory() -> Path:
    """The user's cache for converted weights and compiled kernels; XDG_CACHE_HOME is honoured on every platform."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / APPLICATION if base else Path(platformdirs.user_cache_dir(APPLICATION, appauthor=False))


def shipped_configs() -> Path:
    """The directory of root configs: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def shipped_clusters() -> Path:
    """The directory of launch files: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "cluster" / "files"
    return inside if inside.is_dir() else package.parent / "cluster"
