"""Where the program keeps things that outlive a run."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path

import platformdirs

from render.system.reading import open_regular

APPLICATION = "pareidolia"
#: Bytes of a file that are hashed at a time.
_HASHED = 1 << 20


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
