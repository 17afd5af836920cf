"""The directory of an atlas: its lock, its files, its log and its record `atlas.json`.

The record names every finished picture with its checksum. So the same command can go on where it stopped, and a file
that somebody else put there is never taken for one of the atlas.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from filelock import FileLock

from render.errors import UserError
from render.export.metadata import says_its_settings
from render.export.picture import write_whole
from render.job.copies import picture_sha256
from render.storage.local import read_record_file, refuse_links, remove_abandoned
from render.storage.locking import LOCK, lock_directory
from render.storage.records import InnerName, MalformedRecord, Matching, check_shape, parse_record
from render.system.logs import log_to, opening
from render.system.machine import nearest
from render.system.paths import file_sha256
from render.terminal.text import encoded

_RECORD, _LOG = "atlas.json", "render.log"
PAGE, CHANNELS, RUNGS = "index.html", "channels", "rungs"
#: Files and directories that atlases write.
_ATLAS_NAMES = (_LOG, PAGE, CHANNELS, RUNGS)
#: The names under which atlases write pictures.
_PictureName = Annotated[
    str, Matching(rf"{CHANNELS}/channel-[0-9]{{1,9}}\.png|{RUNGS}/source\.png|sheet(?:-[0-9]{{1,9}})?\.png")
]
_VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")


class _Picture(TypedDict):
    sha256: str


class _Required(TypedDict):
    digest: str
    settings: dict[str, Any]
    pictures: dict[_PictureName, _Picture]


class _AtlasRecord(_Required, total=False):
    """The fields of `atlas.json` that are checked when it is read."""

    status: str
    started: str
    resumed: list[str]
    rungs: dict[str, InnerName]


class AtlasDirectory:
    """The directory of one atlas.

    `settings` has dotted keys and holds everything that decides the pictures. With `fresh`, another atlas is replaced.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, fresh: bool) -> None:
        self.path = path
        self._settings = dict(settings)
        self._fresh = fresh
        self.digest = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()
        self.record: dict[str, Any] = {}

    @property
    def pictures(self) -> dict[str, dict[str, Any]]:
        """Recorded facts of every finished picture, by its name in the directory."""
        return self.record.get("pictures", {})

    def check(self) -> None:
        """Raise `UserError` if the atlas cannot write, or would replace files of others."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"output.dir={self.path} is a file: name a directory")
        refuse_links(self.path, *_ATLAS_NAMES, _RECORD, LOCK)
        old, damage = self._old_record(), self._damage()
        if damage and (self.path / LOCK).exists():
            self._check_without_record(damage)
        elif not old:
            foreign = [name for name in _ATLAS_NAMES if os.path.lexists(self.path / name)]
            foreign += sorted(path.name for path in self.path.glob("sheet*.png"))
            if foreign:
                raise UserError(f"{self.path} holds a {foreign[0]} that no atlas made: choose another output.dir")
        elif old["digest"] != self.digest and not self._fresh:
            raise UserError(
                f"{self.path} holds another atlas ({self._differences(old)}): choose another output.dir, or fresh=true to "
                "replace it"
            )
        for name, facts in old.get("pictures", {}).items():
            path = self.path / name
            refuse_links(self.path, name)
            if path.exists() and picture_sha256(path) != facts["sha256"]:
                raise UserError(f"{path} is not as the atlas left it: move it away")
        parent = nearest(self.path)
        if not (parent.is_dir() and os.access(parent, os.W_OK)):
            raise UserError(f"{self.path} cannot be written to: choose another output.dir")

    @contextmanager
    def opened(self, **facts: Any) -> Iterator[None]:
        """Lock the directory, attach the log, and write `facts` into the record.

        At the end, the record states how the atlas ended.
        """
        lock = self._lock()
        try:
            # Check again under the lock: another process may have written here in between.
            self.check()
            remove_abandoned(self.path)
            self._begin(facts)
            with log_to(self.path / _LOG, self.save):
                yield
                self.save(status="finished")
        finally:
            lock.release()

    def has(self, name: str) -> bool:
        """Return whether a picture is recorded as finished and its file exists."""
        return name in self.pictures and (self.path / name).exists()

    def add_picture(self, name: str, **facts: Any) -> None:
        """Record the picture that was just written to the directory as `name`."""
        self.save(pictures={**self.pictures, name: {"sha256": file_sha256(self.path / name), **facts}})

    def drop_pictures(self, *names: str) -> None:
        """Remove pictures that the atlas itself wrote."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        self.save(pictures={name: facts for name, facts in self.pictures.items() if name not in names})

    def write(self, name: str, text: str) -> None:
        """Write a text file of the atlas atomically."""
        write_whole(self.path / name, encoded(text))

    def save(self, **facts: Any) -> None:
        """Add `facts` to the record and write `atlas.json` atomically."""
        self.record |= facts
        self.write(_RECORD, json.dumps(self.record, indent=1) + "\n")

    def _begin(self, facts: Mapping[str, Any]) -> None:
        old = self._old_record()
        if old and (self._fresh or old["digest"] != self.digest):
            for name in old.get("pictures", {}):
                (self.path / name).unlink(missing_ok=True)
            for name in (_LOG, PAGE, _RECORD):
                (self.path / name).unlink(missing_ok=True)
            old = {}
        self.record = {
            **opening(old, _VERSIONED),
            "digest": self.digest,
            "settings": self._settings,
            "pictures": old.get("pictures", {}),
            **facts,
        }
        self.save()

    def _check_without_record(self, damage: str) -> None:
        """Check a directory whose record cannot be read.

        With `fresh`, pictures that this program wrote may be replaced, and no others.
        """
        if not self._fresh:
            raise UserError(
                f"{self.path / _RECORD} cannot be read ({damage}): fresh=true starts over, or choose another output.dir"
            )
        for path in [*self.path.glob(f"{CHANNELS}/*"), *self.path.glob("*.png")]:
            if not says_its_settings(path):
                raise UserError(f"{path} is no picture of this program: move it away")

    def _lock(self) -> FileLock:
        return lock_directory(self.path, "an atlas that is still being made")

    def _old_record(self) -> dict[str, Any]:
        """Return the record of the existing atlas; empty if there is none or it cannot be read."""
        try:
            return _read_record(self.path)
        except (OSError, MalformedRecord):
            return {}

    def _damage(self) -> str:
        """Return why the existing record cannot be read; empty if it can be, or if there is none."""
        try:
            _read_record(self.path)
        except FileNotFoundError:
            return ""
        except (OSError, MalformedRecord) as error:
            return getattr(error, "strerror", None) or str(error)
        return ""

    def _differences(self, old: Mapping[str, Any]) -> str:
        """Return text that lists the settings in which the existing atlas differs."""
        old_settings = old["settings"]
        keys = {
            key for key in self._settings.keys() | old_settings.keys() if self._settings.get(key) != old_settings.get(key)
        }
        return "differs in " + ", ".join(sorted(keys))


def _read_record(directory: Path) -> dict[str, Any]:
    record = parse_record(read_record_file(directory / _RECORD))
    check_shape(record, _AtlasRecord)
    assert isinstance(record, dict)
    return record
