"""Copy of a run from an object store to a directory; repeated, it copies only changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.job.recorded_touches import TOUCHES
from render.job.run_record import missing_record_message, read_run
from render.storage.local import LocalStorage, read_record_file
from render.storage.locking import lock_directory
from render.storage.objects import ObjectStorage
from render.storage.records import MalformedRecord, parse_record
from render.storage.storage import ObjectInfo
from render.system import interrupts
from render.system.machine import free_disk
from render.system.paths import file_sha256

#: File in the directory that lists the fetched objects: tag in the store, and size and time of the local file.
LEDGER = ".fetched.json"
#: Objects that only the run itself uses; they are not fetched.
_INTERNAL = (".lease", ".clock-", ".probe-", "progress.json", "source/")
_TOUCHES = f"{TOUCHES}/"
_CANVAS, _MANIFEST, _RECORD = "canvas/", "canvas/manifest.json", "run.json"
#: Objects that are fetched at once, and seconds between two lines about progress.
_CONCURRENT_FETCHES, _LINE_EVERY_S = 8, 5.0

Say = Callable[[str], None]


def fetch_run(
    url: str, directory: Path, say: Say, *, pictures: bool = False, canvas: bool = False, overwrite: bool = False
) -> list[Path]:
    """Copy the run at a URL to a directory, without what an earlier fetch brought.

    Args:
        url: the run in the object store.
        directory: where to copy it.
        say: prints a line about progress.
        pictures: fetch only the pictures.
        canvas: fetch the canvas as well.
        overwrite: replace files that have changed since they were fetched, or were never fetched.

    Returns:
        The paths of the pictures, or the directory if there are none.

    Raises:
        UserError: if there is no run, no space, or a file that differs would be replaced without `overwrite`.
    """
    reading = read_run(url)
    record = reading.record
    if not record:
        raise UserError(missing_record_message(url, reading))
    storage = ObjectStorage(url, patient=True)
    picture_names = list(record.get("pictures", {}))
    objects = [
        facts for facts in storage.tree() if _is_included(facts.name, picture_names, pictures=pictures, canvas=canvas)
    ]
    lock = lock_directory(directory, "a run or another fetch", "to")
    try:
        ledger = Ledger(directory)
        missing = [facts for facts in objects if not ledger.has(facts)]
        for facts in missing:
            if (directory / facts.name).exists() and not overwrite and not ledger.is_untouched(facts.name):
                _refuse_other(storage, facts, directory)
        total = sum(facts.size for facts in missing)
        if total > free_disk(directory):
            raise UserError(f"{directory} has no room for {total / 1e6:,.0f} MB: choose another to=DIR, or pictures=true")
        _download(storage, directory, missing, ledger, say)
    finally:
        lock.release()
    return [directory / name for name in picture_names if (directory / name).exists()] or [directory]


def _is_included(name: str, picture_names: Sequence[str], *, pictures: bool, canvas: bool) -> bool:
    if name.startswith(_INTERNAL) or (name.startswith((_CANVAS, _TOUCHES)) and not canvas):
        return False
    return not pictures or name.partition("/")[0] in picture_names


def _download(storage: ObjectStorage, directory: Path, missing: Sequence[ObjectInfo], ledger: Ledger, say: Say) -> None:
    """Fetch objects in waves: the manifest after the files that it names, and the record last.

    The record makes the directory a run, so that an interrupted fetch leaves none.
    """
    total_bytes, done_bytes, last_report_s = sum(facts.size for facts in missing), 0, time.monotonic()
    waves: list[list[ObjectInfo]] = [[], [], []]
    for facts in missing:
        waves[(facts.name == _MANIFEST) + 2 * (facts.name == _RECORD)].append(facts)
    try:
        with ThreadPoolExecutor(_CONCURRENT_FETCHES) as pool:
            for wave in waves:
                for facts in pool.map(lambda facts: _fetch(storage, directory, facts), wave):
                    ledger.add(facts)
                    done_bytes += facts.size
                    if time.monotonic() - last_report_s > _LINE_EVERY_S:
                        last_report_s = time.monotonic()
                        say(f"{done_bytes / 1e6:,.0f} of {total_bytes / 1e6:,.0f} MB")
    finally:
        ledger.save()


def _fetch(storage: ObjectStorage, directory: Path, facts: ObjectInfo) -> ObjectInfo:
    """Fetch one object and return its facts."""
    interrupts.check()
    path = directory / facts.name
    try:
        storage.fetch(facts.name, path, facts)
    except FileNotFoundError:
        raise UserError(
            f"{storage.place}/{facts.name} went while it was read, as the run goes on: fetch it again"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another to=DIR") from None
    return facts


def _refuse_other(storage: ObjectStorage, facts: ObjectInfo, directory: Path) -> None:
    """Raise `UserError` if a local file that would be replaced differs from the object."""
    path = directory / facts.name
    if path.is_file() and path.stat().st_size == facts.size:
        copy = path.with_name(f".{path.name}.compared")
        try:
            storage.fetch(facts.name, copy, facts)
            if file_sha256(copy) == file_sha256(path):
                return
        finally:
            copy.unlink(missing_ok=True)
    raise UserError(
        f"{path} differs from {storage.place}/{facts.name}: move it away, choose another to=DIR, or overwrite=true"
    )


class Ledger:
    """Record of the objects that have been fetched to a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries: dict[str, Any] = {}
        # If the ledger is missing or damaged, everything is fetched again.
        with suppress(OSError, MalformedRecord):
            ledger = parse_record(read_record_file(directory / LEDGER))
            self._entries = ledger if isinstance(ledger, dict) else {}

    def has(self, facts: ObjectInfo) -> bool:
        """Return whether the local file is the current object of the store."""
        entry = self._entries.get(facts.name)
        return isinstance(entry, Mapping) and entry.get("tag") == facts.tag and self.is_untouched(facts.name)

    def is_untouched(self, name: str) -> bool:
        """Return whether the local file has not changed since it was fetched."""
        entry = self._entries.get(name)
        return isinstance(entry, Mapping) and entry.get("here") == self._stamp(name)

    def add(self, facts: ObjectInfo) -> None:
        """Record that an object has been fetched."""
        self._entries[facts.name] = {"tag": facts.tag, "here": self._stamp(facts.name)}

    def save(self) -> None:
        """Write the ledger to the directory, if possible."""
        with suppress(OSError):
            LocalStorage(self._directory).write(LEDGER, json.dumps(self._entries).encode())

    def _stamp(self, name: str) -> list[int] | None:
        path = self._directory / name
        if not path.is_file():
            return None
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]
