"""Pictures that are many files: a directory of them is complete or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from render.export.picture import temporary_name, unwritable

#: One of these lies in every directory that is a picture: deep zoom, Zarr, panels.
_TELLING = ("dream.dzi", "zarr.json", "map.png")


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """A directory that takes the name `path`, and the place of one that has it, when complete; else nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    old = path.with_name(f"{temporary.name}-old")
    try:
        temporary.mkdir()
        yield temporary
        os.sync()
        if os.path.lexists(path):
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        if os.path.lexists(old) and not os.path.lexists(path):
            old.rename(path)
        raise unwritable(path, error, "a directory") from None
    finally:
        for rest in (temporary, old):
            with suppress(OSError):
                shutil.rmtree(rest)


def is_picture(directory: Path) -> bool:
    """Whether a directory is empty or holds what an export left: nothing else may be replaced, even when asked for."""
    return not any(directory.iterdir()) or any((directory / name).is_file() for name in _TELLING)


def tree_sha256(directory: Path) -> str:
    """Tells a directory from others: sha256, hex, over the names and sizes of all files in it, not over their content."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(directory)}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()
