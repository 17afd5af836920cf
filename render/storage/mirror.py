"""A run in an object store: what must be files lies in this machine's cache, and is sent when it changes.

The store holds the truth. Another machine, whose cache knows nothing, goes on with the run; what is here is no more than
the log, and pictures on their way.
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

#: Seconds between two sendings of what only tells how far the run is.
_TOLD_EVERY_S = 10.0
#: Files of a directory that are on their way at once.
_AT_ONCE = 16
#: The names of objects that are written to see whether one may, and seconds after which none is needed any more.
_PROBE, _ABANDONED_S = ".probe-", 3600.0
#: One of these is sent last: where it is, a directory is whole.
_TELLING = ("dream.dzi", "zarr.json", "map.png")


class Mirror:
    """The run at `url` and its directory on this machine, `path`."""

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
        """Raises `StorageError` where the store cannot be reached, has no such bucket, or may not be written to."""
        probe(self._quick)

    def children(self, prefix: str = "") -> list[str]:
        """The first parts of the names of all that lies there, below a prefix."""
        return self._quick.children(prefix)

    def refuse_busy(self) -> None:
        """Raises `UserError` where another process holds the run."""
        if is_held(self._quick, wait=True):
            raise UserError(f"{self.url} belongs to {self._holder}: wait for it or choose another {self._key}")

    def take(self) -> None:
        """Holds the run for this process."""
        lock = lock_directory(self.path, self._holder, self._key, shown=self.url)
        try:
            # Refreshed soon again where the store does not answer: nobody waits long for its thread to end.
            lease = Lease(self._quick, self._holder, self._key)
            lease.take()
        except BaseException:
            lock.release()
            raise
        self._lock, self._lease = lock, lease

    def release(self) -> None:
        """Lets the run go."""
        lease, lock, self._lease, self._lock = self._lease, self._lock, None, None
        if lease is not None:
            lease.release()
        if lock is not None:
            lock.release()

    def check(self) -> None:
        """Raises `Overtaken` once another process has taken the run."""
        if self._lease is not None:
            self._lease.check()

    def confirm(self) -> None:
        """As `check`, for who is about to write: see `Lease.confirm`."""
        if self._lease is not None:
            self._lease.confirm()

    def hurry(self) -> None:
        """From now on a store that does not answer is not waited for: it has been, and this is the end."""
        self._patient = self._quick

    def load(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is no such object."""
        return self._quick.load(name)[0]

    def send(self, name: str) -> None:
        """Sends a file of the directory, where there is one. Raises `Overtaken` where the run is another's by now."""
        self.confirm()
        path = self.path / name
        with suppress(FileNotFoundError):
            self._patient.write_file(name, path)

    def tell(self, name: str, data: bytes | None) -> None:
        """Sends what only tells how far the run is: now and then, and not at all where the store does not answer.

        Without `data` it is removed.
        """
        if data is None:
            with suppress(StorageError):
                self._quick.remove(name)
        elif time.monotonic() - self._told >= _TOLD_EVERY_S:
            with suppress(StorageError):
                self._quick.write(name, data)
            self._told = time.monotonic()

    def drop(self, *names: str) -> None:
        """Removes objects, or all below a name."""
        for name in names:
            self._patient.remove(name)
            self._patient.remove_tree(name)

    def fetch(self, name: str) -> bool:
        """Brings an object, or all below its name, into the directory; False where there is none."""
        known = self._patient.facts(name)
        if known is not None:
            self._patient.fetch(name, self.path / name, known)
            return True
        found = list(self._patient.tree(name))
        for one in found:
            try:
                inner_name(one.name)
            except ValueError:
                raise UserError(f"{self.url}/{name} holds {one.name!r}, which no run put there: remove it") from None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(
                lambda one: self._patient.fetch(f"{name}/{one.name}", self.path / name / one.name, one), found
            ):
                pass
        return bool(found)

    def take_up_log(self, name: str) -> None:
        """Goes on with the log that is there: the one here may lack what another machine wrote, or be ahead by its end."""
        path = self.path / name
        try:
            there = self.load(name)
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return
        if not (path.is_file() and path.read_bytes().startswith(there)):
            write_durably(path, there)

    def send_picture(self, path: Path) -> dict[str, Any]:
        """Sends a picture, a file or a directory; returns what tells that it lies there."""
        return send_picture(self._patient, path.name, path)

    def knows_picture(self, name: str, told: Any) -> bool:
        """Whether the picture lies there as `send_picture` told."""
        return isinstance(told, dict) and bool(told) and stored(self._quick, name, directory="files" in told) == told

    def has(self, name: str) -> bool:
        """Whether an object has the name, or is below it."""
        return self._quick.facts(name) is not None or next(self._quick.tree(name), None) is not None

    def clear(self, *kept: str) -> None:
        """Empties the directory on this machine, but for the lock and what is kept."""
        if not self.path.is_dir():
            return
        for path in self.path.iterdir():
            if path.name not in (LOCK, *kept):
                self.remove_here(path.name)

    def remove_here(self, name: str) -> None:
        """Removes a file or a directory on this machine."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            # In the program's own cache, under the digest of the URL.
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def probe(storage: ObjectStorage) -> None:
    """Raises `StorageError` where a store cannot be reached, has no such bucket, or may not be read and written."""
    name = f"{_PROBE}{secrets.token_hex(4)}"
    # A signal that ended the process at once would leave what is written here behind.
    interrupts.hold()
    next(storage.tree(), None)
    try:
        try:
            storage.write(name, b"")
        except BaseException:
            # Where no answer came it may have been written all the same.
            with suppress(StorageError):
                storage.remove(name)
            raise
        storage.remove(name)
    except StorageError as error:
        raise StorageError(f"it cannot be written to: {error}") from None
    with suppress(StorageError, FileNotFoundError):
        _remove_abandoned(storage)


def _remove_abandoned(storage: ObjectStorage) -> None:
    """Removes what killed processes tried with; those of others that are trying now are younger."""
    for name in storage.children():
        facts = storage.facts(name) if re.fullmatch(rf"{re.escape(_PROBE)}[0-9a-f]{{8}}", name) else None
        if facts is not None and facts.size == 0:
            age = datetime.now(UTC) - storage.written(name)
            if age.total_seconds() > _ABANDONED_S:
                storage.remove(name)


def send_picture(storage: ObjectStorage, name: str, path: Path) -> dict[str, Any]:
    """Sends a file, or a directory in place of the one that has its name; returns what `stored` would."""
    if not path.is_dir():
        storage.remove_tree(name)
        return _told(storage.write_file(name, path))
    storage.remove(name)
    for telling in _TELLING:
        storage.remove(f"{name}/{telling}")
    storage.remove_tree(name)
    if (path / MARKER).is_file():
        # First of all: of what is cut off on its way, it says that it is ours.
        storage.write_file(f"{name}/{MARKER}", path / MARKER)
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.name != MARKER)
    last = [one for one in files if one.relative_to(path).as_posix() in _TELLING]

    def send(one: Path) -> None:
        storage.write_file(f"{name}/{one.relative_to(path).as_posix()}", one)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(send, [one for one in files if one not in last]):
            pass
    for one in last:
        send(one)
    return stored(storage, name, directory=True)


def stored(storage: ObjectStorage, name: str, *, directory: bool) -> dict[str, Any]:
    """What tells a stored picture from others, without reading it: size and tag; empty where there is none."""
    if not directory:
        known = storage.facts(name)
        return {} if known is None else _told(known)
    digest, count = hashlib.sha256(), 0
    for one in sorted(storage.tree(name), key=lambda one: one.name):
        digest.update(f"{one.name}\0{one.size}\0{one.tag}\n".encode())
        count += 1
    return {"files": count, "tag": digest.hexdigest()} if count else {}


def foreign_object(storage: ObjectStorage, name: str) -> str | None:
    """The first object below a name that is not of a picture that this program sent; None where all of them are.

    See `render.export.picture_directory`: which objects are, is said by the marker that was sent before all others.
    """
    try:
        files = read_marker(storage.load(f"{name}/{MARKER}")[0])["files"]
    except (FileNotFoundError, MalformedRecord):
        files = {}
    for found in storage.tree(name):
        known = files.get(found.name)
        if not (files and found.name == MARKER) and (known is None or known["size"] != found.size):
            return found.name
    return None


def _told(known: Facts) -> dict[str, Any]:
    return {"size": known.size, "tag": known.tag}
