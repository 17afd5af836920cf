"""Which files of a directory are ours: a marker lies with them that lists all that were written.

A marker says which run's picture the directory is. What is not on its list, or not as it was written, is somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from render.storage.local import read_record_file, write_durably
from render.storage.records import InnerName, MalformedRecord, Sha256, WholeNumber, check_shape, parse_record
from render.system.paths import APPLICATION, file_sha256

#: Its name in every directory that is a picture.
MARKER = f".{APPLICATION}.json"
#: One of these lies in every directory that is a picture: deep zoom, Zarr, panels.
_TELLING = ("dream.dzi", "zarr.json", "map.png")


class WrittenFile(TypedDict):
    """A file as a marker lists it."""

    size: WholeNumber
    sha256: Sha256


class Marker(TypedDict):
    """What a marker says: the digest of the run, and the files by their names in the directory, with slashes."""

    run: str
    files: dict[InnerName, WrittenFile]


def mark(directory: Path, run: str) -> None:
    """Writes the marker of a directory that holds nothing but a picture of a run."""
    files = {
        path.relative_to(directory).as_posix(): WrittenFile(size=path.stat().st_size, sha256=file_sha256(path))
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
    # No walk here follows a link: what a name on the list leads to by one is somebody else's.
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


def remove_written(directory: Path) -> None:
    """Removes a picture file by file, as its marker lists them, and what is empty then; all that differs stays."""
    files = written_files(directory) or {}
    for path in sorted(directory.rglob("*")):
        if _is_as_written(path, files.get(path.relative_to(directory).as_posix())):
            path.unlink()
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()
    # Last: were the process killed before, it still says whose the rest is.
    if [path.name for path in directory.iterdir()] == [MARKER]:
        (directory / MARKER).unlink()
    with suppress(OSError):
        directory.rmdir()


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
    """Tells a directory from others: sha256, hex, over the names and the content of all files in it but its marker."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            digest.update(f"{name}\0link\n".encode())
        elif path.is_file() and name != MARKER:
            digest.update(f"{name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _is_as_written(path: Path, known: WrittenFile | None) -> bool:
    """Whether a path is a file with the listed content; a link is not, wherever it leads."""
    if known is None:
        return False
    facts = path.lstat()
    return stat.S_ISREG(facts.st_mode) and facts.st_size == known["size"] and file_sha256(path) == known["sha256"]
