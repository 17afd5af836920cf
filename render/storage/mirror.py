"""A run in an object store, with a directory in the cache of this machine for what must be files.

The store is authoritative, so another machine with an empty cache can resume the run. The local directory holds only the
log, and pictures that are being transferred.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from render.errors import StorageError, UserError
from render.storage.lease import Lease, is_held
from render.storage.local import write_durably
from render.storage.locking import LOCK, lock_directory
from render.storage.markers import MARKER, read_marker
from render.storage.objects import ObjectStorage
from render.storage.records import MalformedRecord
from render.storage.storage import Facts, inner_name
from render.storage.url import url_digest
from render.system import interrupts
from render.system.paths import cache_directory

#: Seconds between two uploads of progress.
_TOLD_EVERY_S = 10.0
#: Files of a directory that are transferred at once.
_AT_ONCE = 16
#: Name prefix of objects that test the permission to write, and seconds after which a left one may be removed.
_PROBE, _ABANDONED_S = ".probe-", 3600.0
#: One of these is sent last: its presence means that a picture directory is complete.
_TELLING = ("dream.dzi", "zarr.json", "map.png")


class Mirror:
    """A run at `url`, and `path`, its directory on this machine."""

    def __init__(self, url: str, holder: str = "a run that is still going", key: str = "output.dir") -> None:
        self.url = url
        self.path = cache_directory() / "runs" / url_digest(url)
        self._holder, self._key = holder, key
        self._quick = ObjectStorage(url)
        self._patient = ObjectStorage(url, patient=True)
        self._lock: FileLock | None = None
        self._lease: Lease | None = None
        self._told = 0.0

    def probe(self) -> None:
        """Raise `StorageError` if the store cannot be reached, has no such bucket, or refuses writes."""
        probe(self._quick)

    def children(self, prefix: str = "") -> list[str]:
        """Return the first parts of the names of all objects below a prefix, sorted."""
        return self._quick.children(prefix)

    def refuse_busy(self) -> None:
        """Raise `UserError` if another process holds the run."""
        if is_held(self._quick, wait=True):
            raise UserError(f"{self.url} belongs to {self._holder}: wait for it or choose another {self._key}")

    def take(self) -> None:
        """Take the local lock and the lease of the run for this process."""
        lock = lock_directory(self.path, self._holder, self._key, shown=self.url)
        try:
            # The quick client, so that the end of the lease thread is never long awaited.
            lease = Lease(self._quick, self._holder, self._key)
            lease.take()
        except BaseException:
            lock.release()
            raise
        self._lock, self._lease = lock, lease

    def release(self) -> None:
        """Release the lease and the local lock."""
        lease, lock, self._lease, self._lock = self._lease, self._lock, None, None
        if lease is not None:
            lease.release()
        if lock is not None:
            lock.release()

    def check(self) -> None:
        """Raise `Overtaken` if another process is known to have taken the run."""
        if self._lease is not None:
            self._lease.check()

    def confirm(self) -> None:
        """Check the lease before a write: see `Lease.confirm`."""
        if self._lease is not None:
            self._lease.confirm()

    def hurry(self) -> None:
        """Stop waiting for minutes for a store that does not answer: the run is ending, and has waited already."""
        self._patient = self._quick

    def load(self, name: str) -> bytes:
        """Return the content of an object; raise FileNotFoundError if there is none."""
        return self._quick.load(name)[0]

    def send(self, name: str) -> None:
        """Send a file of the directory if it exists; raise `Overtaken` if another process has taken the run."""
        self.confirm()
        path = self.path / name
        with suppress(FileNotFoundError):
            self._patient.write_file(name, path)

    def tell(self, name: str, data: bytes | None) -> None:
        """Send progress data, at most every `_TOLD_EVERY_S` seconds; ignore a store that does not answer.

        If `data` is None, remove the object.
        """
        if data is None:
            with suppress(StorageError):
                self._quick.remove(name)
        elif time.monotonic() - self._told >= _TOLD_EVERY_S:
            with suppress(StorageError):
                self._quick.write(name, data)
            self._told = time.monotonic()

    def drop(self, *names: str) -> None:
        """Remove the objects with these names, and all objects below them."""
        for name in names:
            self._patient.remove(name)
            self._patient.remove_tree(name)

    def fetch(self, name: str) -> bool:
        """Copy an object, or all objects below its name, into the directory; return False if there are none."""
        facts = self._patient.facts(name)
        if facts is not None:
            self._patient.fetch(name, self.path / name, facts)
            return True
        objects = list(self._patient.tree(name))
        for entry in objects:
            try:
                inner_name(entry.name)
            except ValueError:
                raise UserError(f"{self.url}/{name} holds {entry.name!r}, which no run put there: remove it") from None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(
                lambda entry: self._patient.fetch(f"{name}/{entry.name}", self.path / name / entry.name, entry), objects
            ):
                pass
        return bool(objects)

    def take_up_log(self, name: str) -> None:
        """Continue the log of the store, unless the local file is that log with more lines at its end.

        The local file is replaced if it lacks lines of another machine, and removed if the store has no log.
        """
        path = self.path / name
        try:
            content = self.load(name)
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return
        if not (path.is_file() and path.read_bytes().startswith(content)):
            write_durably(path, content)

    def send_picture(self, path: Path) -> dict[str, Any]:
        """Send a picture, a file or a directory; return its identity in the store, see `stored`."""
        return send_picture(self._patient, path.name, path)

    def knows_picture(self, name: str, told: Any) -> bool:
        """Return whether the store holds the picture with the identity `told`, which `send_picture` returned."""
        return isinstance(told, dict) and bool(told) and stored(self._quick, name, directory="files" in told) == told

    def has(self, name: str) -> bool:
        """Return whether an object has the name or is below it."""
        return self._quick.facts(name) is not None or next(self._quick.tree(name), None) is not None

    def clear(self, *kept: str) -> None:
        """Empty the directory on this machine, except for the lock and the names in `kept`."""
        if not self.path.is_dir():
            return
        for path in self.path.iterdir():
            if path.name not in (LOCK, *kept):
                self.remove_here(path.name)

    def remove_here(self, name: str) -> None:
        """Remove a file or a directory on this machine."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            # Safe: it is in the cache of the program, below the digest of the URL.
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def probe(storage: ObjectStorage) -> None:
    """Raise `StorageError` if a store cannot be reached, has no such bucket, or refuses reads or writes."""
    name = f"{_PROBE}{secrets.token_hex(4)}"
    # Without this, a signal would end the process at once and leave the probe object behind.
    interrupts.hold()
    next(storage.tree(), None)
    try:
        try:
            storage.write(name, b"")
        except BaseException:
            # Without an answer, it may have been written nevertheless.
            with suppress(StorageError):
                storage.remove(name)
            raise
        storage.remove(name)
    except StorageError as error:
        raise StorageError(f"it cannot be written to: {error}") from None
    with suppress(StorageError, FileNotFoundError):
        _remove_abandoned(storage)


def _remove_abandoned(storage: ObjectStorage) -> None:
    """Remove probe objects of killed processes: those older than `_ABANDONED_S`, so none that is in use."""
    for name in storage.children():
        facts = storage.facts(name) if re.fullmatch(rf"{re.escape(_PROBE)}[0-9a-f]{{8}}", name) else None
        if facts is not None and facts.size == 0:
            age = datetime.now(UTC) - storage.written(name)
            if age.total_seconds() > _ABANDONED_S:
                storage.remove(name)


def send_picture(storage: ObjectStorage, name: str, path: Path) -> dict[str, Any]:
    """Send a file or a directory, replacing all objects of its name, and return its identity as `stored` does."""
    if not path.is_dir():
        storage.remove_tree(name)
        return _told(storage.write_file(name, path))
    storage.remove(name)
    for file_name in _TELLING:
        storage.remove(f"{name}/{file_name}")
    storage.remove_tree(name)
    if (path / MARKER).is_file():
        # The marker goes first: after an interruption it identifies the objects as ours.
        storage.write_file(f"{name}/{MARKER}", path / MARKER)
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.name != MARKER)
    last_files = [one for one in files if one.relative_to(path).as_posix() in _TELLING]

    def send(one: Path) -> None:
        storage.write_file(f"{name}/{one.relative_to(path).as_posix()}", one)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(send, [one for one in files if one not in last_files]):
            pass
    for one in last_files:
        send(one)
    return stored(storage, name, directory=True)


def stored(storage: ObjectStorage, name: str, *, directory: bool) -> dict[str, Any]:
    """Return the identity of a stored picture without reading it; empty if there is none.

    A file has `size` (bytes) and `tag`; a directory has `files` (count) and `tag`, a sha256 over names, sizes and tags.
    """
    if not directory:
        facts = storage.facts(name)
        return {} if facts is None else _told(facts)
    digest, count = hashlib.sha256(), 0
    for entry in sorted(storage.tree(name), key=lambda entry: entry.name):
        digest.update(f"{entry.name}\0{entry.size}\0{entry.tag}\n".encode())
        count += 1
    return {"files": count, "tag": digest.hexdigest()} if count else {}


def foreign_object(storage: ObjectStorage, name: str) -> str | None:
    """Return the first object below a name that is not part of a picture by this program; None if there is none.

    The marker, which is sent before all other objects, lists the objects of the picture: see
    `render.export.picture_directory`.
    """
    try:
        files = read_marker(storage.load(f"{name}/{MARKER}")[0])["files"]
    except (FileNotFoundError, MalformedRecord):
        files = {}
    for entry in storage.tree(name):
        listed = files.get(entry.name)
        if not (files and entry.name == MARKER) and (listed is None or listed["size"] != entry.size):
            return entry.name
    return None


def _told(known: Facts) -> dict[str, Any]:
    return {"size": known.size, "tag": known.tag}
