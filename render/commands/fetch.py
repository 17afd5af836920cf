"""`fetch run=URL`: brings a run from an object store into a directory; run again it goes on, or brings what has changed."""

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
from render.job.run_record import read_run, without_record
from render.storage.local import LocalStorage, read_record_file
from render.storage.locking import lock_directory
from render.storage.objects import ObjectStorage
from render.storage.records import MalformedRecord, parse_record
from render.storage.storage import Facts
from render.storage.url import checked_url, last_name
from render.storage.user_paths import user_path
from render.system import interrupts
from render.system.machine import free_disk
from render.system.paths import file_sha256

#: In the directory: what was brought, with its tag in the store and how the file was left here.
LEDGER = ".fetched.json"
#: What is of use to nobody but the run itself.
_INNER = (".lease", ".clock-", ".probe-", "progress.json", "source/")
_CANVAS, _MANIFEST, _RECORD = "canvas/", "canvas/manifest.json", "run.json"
_AT_ONCE, _TOLD_EVERY_S = 8, 5.0

Say = Callable[[str], None]


def fetch_command(words: Sequence[str]) -> None:
    """`fetch run=URL [to=DIR] [pictures=true] [canvas=true] [overwrite=true]`: prints where the run or its pictures are."""
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
    """Brings the run at a URL, all but its canvas, to a directory; returns where its pictures are, or else the directory.

    With `pictures` nothing but those, with `canvas` that as well. What is here and was brought before is not brought again.
    Raises `UserError` where a file would be replaced that is not as it was brought, unless `overwrite` allows it.
    """
    reading = read_run(url)
    record = reading.record
    if not record:
        raise UserError(without_record(url, reading))
    storage = ObjectStorage(url, patient=True)
    made = list(record.get("pictures", {}))
    found = [one for one in storage.tree() if _is_wanted(one.name, made, pictures=pictures, canvas=canvas)]
    lock = lock_directory(to, "a run or another fetch", "to")
    try:
        ledger = _Ledger(to)
        missing = [one for one in found if not ledger.has(one)]
        for one in missing:
            if (to / one.name).exists() and not overwrite and not ledger.is_untouched(one.name):
                _refuse_other(storage, one, to)
        total = sum(one.size for one in missing)
        if total > free_disk(to):
            raise UserError(f"{to} has no room for {total / 1e6:,.0f} MB: choose another to=DIR, or pictures=true")
        _bring(storage, to, missing, ledger, told)
    finally:
        lock.release()
    return [to / name for name in made if (to / name).exists()] or [to]


def _is_wanted(name: str, made: Sequence[str], *, pictures: bool, canvas: bool) -> bool:
    if name.startswith(_INNER) or (name.startswith(_CANVAS) and not canvas):
        return False
    return not pictures or name.partition("/")[0] in made


def _bring(storage: ObjectStorage, to: Path, missing: Sequence[Facts], ledger: _Ledger, told: Say) -> None:
    """The manifest after what it names, and last of all the record: with it the directory is a run."""
    total, done, last = sum(one.size for one in missing), 0, time.monotonic()

    def bring(one: Facts) -> Facts:
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

    waves: list[list[Facts]] = [[], [], []]
    for one in missing:
        waves[(one.name == _MANIFEST) + 2 * (one.name == _RECORD)].append(one)
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for wave in waves:
                for one in pool.map(bring, wave):
                    ledger.add(one)
                    done += one.size
                    if time.monotonic() - last > _TOLD_EVERY_S:
                        last = time.monotonic()
                        told(f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
    finally:
        ledger.save()


def _refuse_other(storage: ObjectStorage, one: Facts, to: Path) -> None:
    """Raises `UserError` where the file here, of which nothing is known, is not the object."""
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
    """What has been brought to a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, Any] = {}
        # Without one, or with one that is damaged, everything is brought again.
        with suppress(OSError, MalformedRecord):
            known = parse_record(read_record_file(directory / LEDGER))
            self._known = known if isinstance(known, dict) else {}

    def has(self, one: Facts) -> bool:
        """Whether the object is here as it lies in the store."""
        known = self._known.get(one.name)
        return isinstance(known, Mapping) and known.get("tag") == one.tag and self.is_untouched(one.name)

    def is_untouched(self, name: str) -> bool:
        """Whether the file here is as it was left."""
        known = self._known.get(name)
        return isinstance(known, Mapping) and known.get("here") == self._stamp(name)

    def add(self, one: Facts) -> None:
        """Says that an object has been brought."""
        self._known[one.name] = {"tag": one.tag, "here": self._stamp(one.name)}

    def save(self) -> None:
        """Keeps it for the next time."""
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
    options, others = split_words(words, {"run": "", "to": "", **dict.fromkeys(flags, "false")})
    if others:
        raise UserError(
            f"fetch does not know {others[0]!r}: give it run=URL, and perhaps to=DIR, pictures=true or canvas=true"
        )
    if not options["run"]:
        raise UserError("fetch needs a run in an object store: run=s3://bucket/dreams/poster")
    check_switches(options, flags)
    return options
