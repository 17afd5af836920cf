"""Pictures in an object store, each an object or a tree of objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from render.errors import UserError
from render.storage.markers import INDEX_FILES, MARKER, WrittenFile, read_marker
from render.storage.objects import ObjectStorage
from render.storage.records import MalformedRecord
from render.storage.storage import ObjectInfo, inner_name

T = TypeVar("T")
U = TypeVar("U")

#: Maximum number of objects that are transferred at once.
_MAX_TRANSFERS = 16


def send_picture(storage: ObjectStorage, name: str, path: Path) -> dict[str, Any]:
    """Send a file or a directory, replacing all objects of its name, and return its identity.

    See `stored_identity`.
    """
    if not path.is_dir():
        storage.remove_tree(name)
        return _file_identity(storage.write_file(name, path))
    storage.remove(name)
    for file_name in INDEX_FILES:
        storage.remove(f"{name}/{file_name}")
    storage.remove_tree(name)
    if (path / MARKER).is_file():
        # The marker goes first: after an interruption it identifies the objects as ours.
        storage.write_file(f"{name}/{MARKER}", path / MARKER)
    files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    # These go last: their presence means that the picture is complete.
    last_names = [file_name for file_name in files if file_name in INDEX_FILES]
    first_names = [file_name for file_name in files if file_name not in (MARKER, *last_names)]
    _in_parallel(lambda file_name: storage.write_file(f"{name}/{file_name}", files[file_name]), first_names)
    for file_name in last_names:
        storage.write_file(f"{name}/{file_name}", files[file_name])
    return stored_identity(storage, name, directory=True)


def fetch_picture(storage: ObjectStorage, name: str, path: Path) -> None:
    """Copy an object to the file `path`, or all objects below it into the directory `path`.

    Raises:
        UserError: An object below the name has a name that no file in a directory can have.
    """
    info = storage.info(name)
    if info is not None:
        storage.fetch(name, path, info)
        return
    entries = list(storage.tree(name))
    for entry in entries:
        try:
            inner_name(entry.name)
        except ValueError:
            raise UserError(f"{storage.place}/{name} holds {entry.name!r}, which no run put there: remove it") from None
    _in_parallel(lambda entry: storage.fetch(f"{name}/{entry.name}", path / entry.name, entry), entries)


def is_stored(storage: ObjectStorage, name: str, identity: Any) -> bool:
    """Return whether a picture of this identity is stored.

    `identity` may come from a record and be anything.
    """
    if not isinstance(identity, dict) or not identity:
        return False
    return stored_identity(storage, name, directory="files" in identity) == identity


def stored_identity(storage: ObjectStorage, name: str, *, directory: bool) -> dict[str, Any]:
    """Return the identity of a stored picture without reading it; empty if there is none.

    A file has `size` (bytes) and `tag`; a directory has `files` (count) and `tag`, a sha256 over names, sizes and tags.
    """
    if not directory:
        info = storage.info(name)
        return {} if info is None else _file_identity(info)
    digest, count = hashlib.sha256(), 0
    for entry in sorted(storage.tree(name), key=lambda entry: entry.name):
        digest.update(f"{entry.name}\0{entry.size}\0{entry.tag}\n".encode())
        count += 1
    return {"files": count, "tag": digest.hexdigest()} if count else {}


def exists(storage: ObjectStorage, name: str) -> bool:
    """Return whether an object has the name or is below it."""
    return storage.info(name) is not None or next(storage.tree(name), None) is not None


def foreign_object(storage: ObjectStorage, name: str) -> str | None:
    """Return the name of an object below `name` that is not as this program wrote it.

    None if there is none.

    The marker, which is sent before all other objects, lists the objects of the picture with size and checksum: see
    `render.export.picture_directory`. The content of objects is read only if names and sizes agree.
    """
    try:
        files = read_marker(storage.load(f"{name}/{MARKER}")[0])["files"]
    except (FileNotFoundError, MalformedRecord):
        files = {}
    listed: list[tuple[ObjectInfo, WrittenFile]] = []
    for entry in storage.tree(name):
        if files and entry.name == MARKER:
            continue
        file = files.get(entry.name)
        if file is None or file["size"] != entry.size:
            return entry.name
        listed.append((entry, file))

    def has_changed(pair: tuple[ObjectInfo, WrittenFile]) -> bool:
        entry, file = pair
        try:
            return storage.sha256(f"{name}/{entry.name}", entry) != file["sha256"]
        except FileNotFoundError:
            # It went after it was listed: there is nothing to lose.
            return False

    changed = _in_parallel(has_changed, listed)
    return next((entry.name for (entry, _), is_changed in zip(listed, changed, strict=True) if is_changed), None)


def _in_parallel(call: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """Return the results of a call for every item; the first exception is raised."""
    with ThreadPoolExecutor(_MAX_TRANSFERS) as pool:
        return list(pool.map(call, items))


def _file_identity(info: ObjectInfo) -> dict[str, Any]:
    return {"size": info.size, "tag": info.tag}
