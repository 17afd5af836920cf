"""Home of a run in an object store, with a local directory for what must be files.

The store is authoritative, so another machine with an empty cache can resume the run. The local directory holds only the
log, and pictures that are being transferred.

Import this module late, because the client of object stores is slow to import.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from render.errors import StorageError, UserError
from render.job.progress_file import PROGRESS
from render.job.run_home import HOLDER, LEVELS, LOG, PREVIEW_NAME
from render.job.run_record import RECORD
from render.job.targets import PREVIEWS
from render.storage import stored_pictures
from render.storage.lease import Lease, is_held
from render.storage.local import write_durably
from render.storage.locking import LOCK, lock_directory
from render.storage.objects import ObjectStorage
from render.storage.url import Place, url_digest
from render.storage.write_probe import probe
from render.system.paths import cache_directory

#: Config key that names the home, for messages.
_KEY = "output.dir"
#: Minimum seconds between two uploads of progress.
_PROGRESS_EVERY_S = 10.0


class MirroredHome:
    """A `RunHome` at a URL, which is held by a lease.

    On this machine, `path` is held by a locked file, too.
    """

    is_remote = True

    def __init__(self, url: str) -> None:
        self._url = url
        self.path = cache_directory() / "runs" / url_digest(url)
        self.place: Place = url
        self.levels: Place = f"{url}/{LEVELS}"
        # One client for questions, which a user waits for, and one for the work of hours.
        self._quick = ObjectStorage(url)
        self._patient = ObjectStorage(url, patient=True)
        self._lease: Lease | None = None
        #: Time of the last upload of progress, by `time.monotonic`.
        self._progress_stored_at = 0.0

    def check_usable(self) -> None:
        """Raise `StorageError` if the store is unreachable, has no such bucket, or refuses writes."""
        probe(self._quick)

    def check_exportable(self) -> None:
        """Do nothing: the first write says what is wrong."""

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that objects have, or that objects lie below."""
        stored_names = set(self._quick.children())
        return [name for name in names if name in stored_names]

    def was_held(self) -> bool:
        """Return whether there is a log: the lease goes with its holder."""
        return self._quick.info(LOG) is not None

    def refuse_busy(self) -> None:
        """Raise `UserError` if another process holds the lease.

        Waits until it is known whether its holder is alive.
        """
        if is_held(self._quick, wait=True):
            raise UserError(f"{self._url} belongs to {HOLDER}: wait for it or choose another {_KEY}")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the local lock and the lease inside the context."""
        lock = lock_directory(self.path, HOLDER, _KEY, shown=self._url)
        try:
            # The quick client, so that the end of the lease's thread is never long awaited.
            lease = Lease(self._quick, HOLDER, _KEY)
            lease.take()
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None
                lease.release()
        finally:
            lock.release()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Empty the local directory, fetch the log of the store, and send it at the end."""
        self._empty_local()
        self._continue_log()
        try:
            yield
        finally:
            # If the store no longer answers, the user must see the original error.
            with suppress(StorageError):
                self.store(LOG)

    def check_held(self) -> None:
        """Raise `Overtaken` if the lease is known to be lost."""
        if self._lease is not None:
            self._lease.check()

    def confirm_held(self) -> None:
        """Check the lease before a write: see `Lease.confirm`."""
        if self._lease is not None:
            self._lease.confirm()

    def stop_retrying(self) -> None:
        """Use the client that gives up soon from now on."""
        self._patient = self._quick

    def store(self, *names: str) -> None:
        """Send files of the local directory, those that exist.

        Raises:
            Overtaken: Another process has the run.
        """
        for name in names:
            self.confirm_held()
            with suppress(FileNotFoundError):
                self._patient.write_file(name, self.path / name)

    def store_progress(self, name: str, content: bytes | None) -> None:
        """Send progress, at most every `_PROGRESS_EVERY_S` seconds.

        Ignore a store that does not answer.
        """
        if content is None:
            with suppress(StorageError):
                self._quick.remove(name)
        elif time.monotonic() - self._progress_stored_at >= _PROGRESS_EVERY_S:
            with suppress(StorageError):
                self._quick.write(name, content)
            self._progress_stored_at = time.monotonic()

    def remove_run(self, *, has_record: bool) -> None:  # noqa: ARG002
        """Remove the objects of record, log, progress and previews.

        `working` empties the local directory.
        """
        previews = [f"{PREVIEWS}/{name}" for name in self._quick.children(PREVIEWS) if PREVIEW_NAME.fullmatch(name)]
        for name in (RECORD, LOG, PROGRESS, *previews):
            self._patient.remove(name)

    def picture_place(self, name: str) -> str:
        """Return the URL of a picture."""
        return f"{self._url}/{name}"

    def has(self, name: str) -> bool:
        """Return whether an object has the name or is below it."""
        return stored_pictures.exists(self._quick, name)

    def has_recorded_picture(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Return whether the stored picture has the recorded identity, or was sent in part."""
        return bool(entry.get("sending")) or stored_pictures.is_stored(self._quick, name, entry.get("stored"))

    def check_replaceable(self, name: str, *, tree: bool) -> None:  # noqa: ARG002
        """Raise `UserError` if objects below the name are not as a run sent them.

        They would be removed.
        """
        foreign_name = stored_pictures.foreign_object(self._quick, name)
        if foreign_name is not None:
            raise UserError(
                f"{self.picture_place(name)} holds {foreign_name}, which is not as a run wrote it and is never replaced: "
                "move it away, or choose another output.dir"
            )

    def adopt_picture(self, name: str, sha256: str, run: str) -> None:
        """Do nothing: a stored picture is known by the identity in the record, not by its marker."""

    def store_picture(self, name: str) -> dict[str, Any]:
        """Send a picture, and return its identity in the store as `stored`."""
        return {"stored": stored_pictures.send_picture(self._patient, name, self.path / name)}

    def is_copied_by_storing(self, name: str, copy: Place) -> bool:
        """Return whether the copy's URL is that of the stored picture."""
        return copy == self.picture_place(name)

    def fetch_picture(self, name: str) -> None:
        """Fetch a picture unless it is in the local directory."""
        if not (self.path / name).exists():
            stored_pictures.fetch_picture(self._patient, name, self.path / name)

    def release_picture(self, name: str) -> None:
        """Remove a file or a directory from the local directory."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            # Safe: it is in the cache of the program, below the digest of the URL.
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def _empty_local(self) -> None:
        """Remove everything in the local directory except for the lock and the log."""
        if self.path.is_dir():
            for path in self.path.iterdir():
                if path.name not in (LOCK, LOG):
                    self.release_picture(path.name)

    def _continue_log(self) -> None:
        """Take the log of the store, unless the local file is that log with more lines at its end.

        The local file is replaced if it lacks lines of another machine, and removed if the store has no log.
        """
        path = self.path / LOG
        try:
            content = self._quick.load(LOG)[0]
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return
        if not (path.is_file() and path.read_bytes().startswith(content)):
            write_durably(path, content)
