"""Command `fetch run=URL`: copies a run from an object store to a directory; repeated, it copies only changes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from render.config.options import check_switches, split_words
from render.errors import UserError
from render.job.progress import say
from render.job.run_record import missing_record_message, read_run
from render.storage.local import LocalStorage, read_record_file
from render.storage.locking import lock_directory
from render.storage.objects import ObjectStorage
from render.storage.records import MalformedRecord, parse_record
from render.storage.storage import ObjectInfo
from render.storage.url import checked_url, last_name
from render.storage.user_paths import user_path
from render.system import interrupts
from render.system.machine import free_disk
from render.system.paths import file_sha256

#: File in the directory that lists the fetched objects: tag in the store, and size and time of the local file.
LEDGER = ".fetched.json"
#: Objects that only the run itself uses; they are not fetched.
_INNER = (".lease", ".clock-", ".probe-", "progress.json", "source/")
_CANVAS, _MANIFEST, _RECORD = "canvas/", "canvas/manifest.json", "run.json"
_AT_ONCE, _TOLD_EVERY_S = 8, 5.0

Say = Callable[[str], None]


def fetch_command(words: Sequence[str]) -> None:
    """Fetch a run, and print the paths of its pictures or of its directory.

    `words` are `run=URL [to=DIR] [pictures=true] [canvas=true] [overwrite=true] [quiet=true]`.
    """
    options = _options(words)
    url = checked_url(options["run"], "run")
    if url is None:
        raise UserError(f"run={options['run']} is on a disk already: fetch takes a URL, such as s3://bucket/dreams/poster")
    to = user_path(options["to"], "to") if options["to"] else Path("dreams") / str(last_name(url))
    flags = {key: options[key] == "true" for key in ("pictures", "canvas", "overwrite", "quiet")}
    quiet = flags.pop("quiet")
    interrupts.hold()
    say(*map(str, fetch_run(url, to, lambda line: say(line, quiet=quiet), **flags)), quiet=quiet)


def fetch_run(
    url: str, to: Path, told: Say, *, pictures: bool = False, canvas: bool = False, overwrite: bool = False
) -> list[Path]:
    """Fetch the run at a URL into a directory. Files that were fetched before and have not changed are skipped.

    Args:
        url: the run in the object store.
        to: the directory.
        told: called with a line about progress.
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
    objects = [facts for facts in storage.tree() if _is_wanted(facts.name, picture_names, pictures=pictures, canvas=canvas)]
    lock = lock_directory(to, "a run or another fetch", "to")
    try:
        ledger = _Ledger(to)
        missing = [facts for facts in objects if not ledger.has(facts)]
        for facts in missing:
            if (to / facts.name).exists() and not overwrite and not ledger.is_untouched(facts.name):
                _refuse_other(storage, facts, to)
        total = sum(facts.size for facts in missing)
        if total > free_disk(to):
            raise UserError(f"{to} has no room for {total / 1e6:,.0f} MB: choose another to=DIR, or pictures=true")
        _bring(storage, to, missing, ledger, told)
    finally:
        lock.release()
    return [to / name for name in picture_names if (to / name).exists()] or [to]


def _is_wanted(name: str, made: Sequence[str], *, pictures: bool, canvas: bool) -> bool:
    if name.startswith(_INNER) or (name.startswith(_CANVAS) and not canvas):
        return False
    return not pictures or name.partition("/")[0] in made


def _bring(storage: ObjectStorage, to: Path, missing: Sequence[ObjectInfo], ledger: _Ledger, told: Say) -> None:
    """Fetch objects: the manifest after the files it names, the record last, because it makes the directory a run."""
    total_bytes, done_bytes, last_report_s = sum(one.size for one in missing), 0, time.monotonic()

    def bring(one: ObjectInfo) -> ObjectInfo:
        interrupts.check()
        try:
            storage.fetch(one.name, to / one.name, one)
        except FileNotFoundError:
            raise UserError(
                f"{storage.place}/{one.name} went while it was read, as the run goes on: fetch it again"
            ) from None
        except OSError as error:
            raise UserError(f"{to / one.name} cannot be written ({error.strerror}): choose another to=DIR") from None
        return one

    waves: list[list[ObjectInfo]] = [[], [], []]
    for one in missing:
        waves[(one.name == _MANIFEST) + 2 * (one.name == _RECORD)].append(one)
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for wave in waves:
                for one in pool.map(bring, wave):
                    ledger.add(one)
                    done_bytes += one.size
                    if time.monotonic() - last_report_s > _TOLD_EVERY_S:
                        last_report_s = time.monotonic()
                        told(f"{done_bytes / 1e6:,.0f} of {total_bytes / 1e6:,.0f} MB")
    finally:
        ledger.save()


def _refuse_other(storage: ObjectStorage, one: ObjectInfo, to: Path) -> None:
    """Raise `UserError` if a local file that was not fetched, or has changed since, differs from the object."""
    path = to / one.name
    if path.is_file() and path.stat().st_size == one.size:
        copy = path.with_name(f".{path.name}.compared")
        try:
            storage.fetch(one.name, copy, one)
            if file_sha256(copy) == file_sha256(path):
                return
        finally:
            copy.unlink(missing_ok=True)
    raise UserError(
        f"{path} differs from {storage.place}/{one.name}: move it away, choose another to=DIR, or overwrite=true"
    )


class _Ledger:
    """Record of the objects that have been fetched to a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, Any] = {}
        # If the ledger is missing or damaged, everything is fetched again.
        with suppress(OSError, MalformedRecord):
            ledger = parse_record(read_record_file(directory / LEDGER))
            self._known = ledger if isinstance(ledger, dict) else {}

    def has(self, one: ObjectInfo) -> bool:
        """Return whether the local file is the current object of the store."""
        entry = self._known.get(one.name)
        return isinstance(entry, Mapping) and entry.get("tag") == one.tag and self.is_untouched(one.name)

    def is_untouched(self, name: str) -> bool:
        """Return whether the local file has not changed since it was fetched."""
        entry = self._known.get(name)
        return isinstance(entry, Mapping) and entry.get("here") == self._stamp(name)

    def add(self, one: ObjectInfo) -> None:
        """Record that an object has been fetched."""
        self._known[one.name] = {"tag": one.tag, "here": self._stamp(one.name)}

    def save(self) -> None:
        """Write the ledger to the directory, if possible."""
        with suppress(OSError):
            LocalStorage(self._directory).write(LEDGER, json.dumps(self._known).encode())

    def _stamp(self, name: str) -> list[int] | None:
        path = self._directory / name
        if not path.is_file():
            return None
        stat = path.stat()
        return [stat.st_size, stat.st_mtime_ns]


def _options(words: Sequence[str]) -> dict[str, str]:
    flags = ("pictures", "canvas", "overwrite", "quiet")
    options, unknown_words = split_words(words, {"run": "", "to": "", **dict.fromkeys(flags, "false")})
    if unknown_words:
        raise UserError(
            f"fetch does not know {unknown_words[0]!r}: give it run=URL, and perhaps to=DIR, pictures=true or canvas=true"
        )
    if not options["run"]:
        raise UserError("fetch needs a run in an object store: run=s3://bucket/dreams/poster")
    check_switches(options, flags)
    return options
