"""Directories of the program outside of a run, and the digest of a file."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path

import platformdirs

from render.system.reading import open_regular

#: Name of the program's directories and markers.
APPLICATION = "pareidolia"
#: Bytes of a file that are read at once to hash it.
_CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Return the sha256 of the content of a file, hex.

    Raises:
        OSError: The file cannot be read, is not a regular file, or is longer than its size, as some kernel files are.
    """
    digest = hashlib.sha256()
    with open_regular(path, sys.maxsize) as file:
        bytes_left = os.fstat(file.fileno()).st_size
        while chunk := file.read(_CHUNK_BYTES):
            bytes_left -= len(chunk)
            if bytes_left < 0:
                raise OSError(errno.EFBIG, "longer than it says", str(path))
            digest.update(chunk)
    return digest.hexdigest()


def cache_directory() -> Path:
    """Return the user's cache directory for converted weights and compiled kernels.

    XDG_CACHE_HOME is respected on all platforms.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / APPLICATION if base else Path(platformdirs.user_cache_dir(APPLICATION, appauthor=False))


def shipped_configs() -> Path:
    """Return the directory of root configs: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def shipped_orders() -> Path:
    """Return the directory of the orders of prints, which lies among the configs but is no group of them."""
    return shipped_configs() / "spec"


def shipped_clusters() -> Path:
    """Return the directory of launch files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "cluster" / "files"
    return installed if installed.is_dir() else package.parent / "cluster"
