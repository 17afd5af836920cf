"""Markers: files that list the files which this program wrote to a picture directory.

A marker names the run of the picture. Files that are not listed, or that have changed, belong to somebody else.
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

#: File name of the marker in every picture directory.
MARKER = f".{APPLICATION}.json"
#: Every complete picture directory has one of these files: deep zoom, Zarr, panels.
INDEX_FILES = ("dream.dzi", "zarr.json", "map.png")


class WrittenFile(TypedDict):
    """Entry of a file in a marker."""

    size: WholeNumber
    sha256: Sha256


class Marker(TypedDict):
    """Content of a marker.

    The digest of the run, and its files by their names in the directory, with slashes.
    """

    run: str
    files: dict[InnerName, WrittenFile]


def mark(directory: Path, run: str) -> None:
    """Write the marker of a directory that contains only a picture of a run."""
    files = {
        path.relative_to(directory).as_posix(): WrittenFile(size=path.stat().st_size, sha256=file_sha256(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MARKER
    }
    marker = Marker(run=run, files=files)
    write_durably(directory / MARKER, (json.dumps(marker, indent=0, sort_keys=True) + "\n").encode())


def foreign_entry(directory: Path) -> Path | None:
    """Return the first entry of a directory that no export wrote, or that has changed.

    None if there is none.

    An empty directory has no foreign entry.
    """
    files = written_files(directory)
    if files is None:
        return min(directory.iterdir(), default=None)
    # No walk here follows links: a listed name that leads through a link is foreign.
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
    """Remove the unchanged files that the marker lists, and then empty directories.

    Keep all other files.
    """
    files = written_files(directory) or {}
    for path in sorted(directory.rglob("*")):
        if _is_as_written(path, files.get(path.relative_to(directory).as_posix())):
            path.unlink()
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()
    # The marker goes last: if the process is killed before, it still identifies the remaining files.
    if [path.name for path in directory.iterdir()] == [MARKER]:
        (directory / MARKER).unlink()
    with suppress(OSError):
        directory.rmdir()


def written_files(directory: Path) -> Mapping[str, WrittenFile] | None:
    """Return the files that the marker of a directory lists; None if it has no readable marker."""
    try:
        return read_marker(read_record_file(directory / MARKER))["files"]
    except (OSError, MalformedRecord):
        return None


def read_marker(content: bytes) -> Marker:
    """Return the parsed content of a marker; raise `MalformedRecord` if it is invalid."""
    marker = parse_record(content)
    check_shape(marker, Marker)
    checked: Marker = marker
    return checked


def adopt(directory: Path, tree: str, run: str) -> None:
    """Write the missing marker of a picture by an older version, if it is as recorded.

    Args:
        directory: The picture directory.
        tree: Its `tree_sha256` in the record of the run.
        run: Digest of the run.
    """
    if directory.is_dir() and written_files(directory) is None and is_picture(directory) and tree_sha256(directory) == tree:
        mark(directory, run)


def is_picture(directory: Path) -> bool:
    """Return whether a directory is an unchanged picture of ours.

    Without a marker, return whether it looks like a picture of an older version.
    """
    if written_files(directory) is not None:
        return foreign_entry(directory) is None
    return any((directory / name).is_file() for name in INDEX_FILES)


def tree_sha256(directory: Path) -> str:
    """Return the sha256, hex, over names and content of all files except the marker."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            digest.update(f"{name}\0link\n".encode())
        elif path.is_file() and name != MARKER:
            digest.update(f"{name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _is_as_written(path: Path, written: WrittenFile | None) -> bool:
    """Return whether a path is a regular file with the listed content; False for links."""
    if written is None:
        return False
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size == written["size"] and file_sha256(path) == written["sha256"]
