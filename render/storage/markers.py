"""Which files of a directory are ours: a marker lies with them that lists all that were written.

A marker says which run's picture the directory is. What is not on its list, or not as it was written, is somebody else's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from render.paths import APPLICATION, file_sha256
from render.storage.local import read_record_file, write_durably
from render.storage.records import InnerName, MalformedRecord, WholeNumber, check_shape, parse_record

#: Its name in every directory that is a picture.
MARKER = f".{APPLICATION}.json"
#: One of these lies in every directory that is a picture: deep zoom, Zarr, panels.
_TELLING = ("dream.dzi", "zarr.json", "map.png")
#: Bytes up to which a file is known by its content, and not by its size alone: to read gigabytes again takes too long.
_HASHED_BYTES = 1 << 20


class WrittenFile(TypedDict):
    """A file as a marker lists it; `sha256` None for one that is known by its size alone."""

    size: WholeNumber
    sha256: str | None


class Marker(TypedDict):
    """What a marker says: the digest of the run, and the files by their names in the directory, with slashes."""

    run: str
    files: dict[InnerName, WrittenFile]


def mark(directory: Path, run: str) -> None:
    """Writes the marker of a directory that holds nothing but a picture of a run."""
    files = {
        path.relative_to(directory).as_posix(): WrittenFile(size=path.stat().st_size, sha256=_content_sha256(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MARKER
    }
    marker = Marker(run=run, files=files)
    write_durably(directory / MARKER, (json.dumps(marker, indent=0, sort_keys=True) + "\n").encode())


def foreign_entry(directory: Path) -> Path | None:
    """The first thing in a directory that no export left there as it is; None where all of it is a picture of ours.

    An empty directory has nothing of anybody's.
    """
    files = written_files(directory)
    if files is None:
        return min(directory.iterdir(), default=None)
    parents = {parent for name in files for parent in Path(name).parents}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_symlink():
            return path
        if path.is_dir():
            if name not in parents:
                return path
        elif name.as_posix() != MARKER and not _is_as_written(path, files.get(name.as_posix())):
            return path
    return None


def written_files(directory: Path) -> Mapping[str, WrittenFile] | None:
    """The files that a directory's marker lists; None where it has none that can be read."""
    try:
        return read_marker(read_record_file(directory / MARKER))["files"]
    except (OSError, MalformedRecord):
        return None


def read_marker(content: bytes) -> Marker:
    """What a marker's content says; raises `MalformedRecord`."""
    marker = parse_record(content)
    check_shape(marker, Marker)
    checked: Marker = marker
    return checked


def adopt(directory: Path, tree: str, run: str) -> None:
    """Gives a directory its marker that an older version wrote without one: `tree` is what a run's record knows of it."""
    if directory.is_dir() and written_files(directory) is None and is_picture(directory) and tree_sha256(directory) == tree:
        mark(directory, run)


def is_picture(directory: Path) -> bool:
    """Whether all of a directory is a picture by its marker, or it seems to be one that an older version wrote without."""
    if written_files(directory) is not None:
        return foreign_entry(directory) is None
    return any((directory / name).is_file() for name in _TELLING)


def tree_sha256(directory: Path) -> str:
    """Tells a directory from others: sha256, hex, over the names and sizes of all files in it, not over their content."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(directory)}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _is_as_written(path: Path, known: WrittenFile | None) -> bool:
    if known is None or not path.is_file() or path.stat().st_size != known["size"]:
        return False
    return known["sha256"] is None or known["sha256"] == file_sha256(path)


def _content_sha256(path: Path) -> str | None:
    return file_sha256(path) if path.stat().st_size <= _HASHED_BYTES else None
