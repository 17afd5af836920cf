"""Home of a run in a local directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from render.errors import UserError
from render.export.picture_directory import refuse_foreign, remove_replaced
from render.job.copies import picture_sha256
from render.job.progress_file import PROGRESS
from render.job.run_home import HOLDER, LEVELS, LOG, PREVIEW_NAME, RUN_FILES
from render.job.run_record import RECORD
from render.job.targets import PREVIEWS, is_writable
from render.storage.local import refuse_links, remove_abandoned
from render.storage.locking import LOCK, lock_directory
from render.storage.markers import adopt
from render.storage.url import Place

#: Name given to an unreadable record if a run starts over.
_UNREADABLE_RECORD = f"{RECORD}.unreadable"


class LocalHome:
    """A `RunHome` in a local directory, which is held by a locked file.

    What is written there is stored.
    """

    is_remote = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place: Place = path
        self.levels: Place = path.absolute() / LEVELS

    def check_usable(self) -> None:
        """Raise `UserError` if the path is a file, or if files would be written through links."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"output.dir={self.path} is a file: name a directory")
        refuse_links(self.path, *RUN_FILES, LOCK, PROGRESS)

    def check_exportable(self) -> None:
        """Raise `UserError` if files would be written through links, or the directory is read-only."""
        refuse_links(self.path, *RUN_FILES)
        if not is_writable(self.path):
            raise UserError(f"run={self.path} cannot be written to: output.path=FILE writes elsewhere")

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that exist in the directory."""
        return [name for name in names if self.has(name)]

    def was_held(self) -> bool:
        """Return whether the lock's file exists, which a run makes first."""
        return (self.path / LOCK).exists()

    def refuse_busy(self) -> None:
        """Raise `UserError` if another process holds the lock. Creates nothing."""
        if self.was_held():
            lock_directory(self.path, HOLDER).release()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Lock the directory inside the context."""
        lock = lock_directory(self.path, HOLDER)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Remove unfinished files of killed processes."""
        remove_abandoned(self.path)
        remove_replaced(self.path)
        yield

    def check_held(self) -> None:
        """Do nothing: a lock cannot be lost."""

    def confirm_held(self) -> None:
        """Do nothing: a lock cannot be lost."""

    def stop_retrying(self) -> None:
        """Do nothing: a disk is not waited for."""

    def store(self, *names: str) -> None:
        """Do nothing: what is in the directory is stored."""

    def store_progress(self, name: str, content: bytes | None) -> None:
        """Do nothing: the file is in the directory."""

    def remove_run(self, *, has_record: bool) -> None:
        """Remove previews, log and record.

        An unreadable record is renamed, and the log stays with it.
        """
        for preview in (self.path / PREVIEWS).glob("octave-*.png"):
            if PREVIEW_NAME.fullmatch(preview.name):
                preview.unlink()
        record = self.path / RECORD
        if has_record:
            (self.path / LOG).unlink(missing_ok=True)
            record.unlink(missing_ok=True)
        elif record.exists():
            record.replace(self.path / _UNREADABLE_RECORD)

    def picture_place(self, name: str) -> Path:
        """Return the path of a picture."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Return whether a file, a directory or a link has this name."""
        return os.path.lexists(self.path / name)

    def has_recorded_picture(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Return whether the picture has the recorded checksum."""
        picture = self.path / name
        return picture.exists() and picture_sha256(picture) == entry["sha256"]

    def check_replaceable(self, name: str, *, tree: bool) -> None:
        """Raise `UserError` if a directory has files that no export wrote; a file may be replaced."""
        if tree:
            refuse_foreign(self.path / name)

    def adopt_picture(self, name: str, sha256: str, run: str) -> None:
        """Write the missing marker of a picture by an older version, if it is as recorded."""
        adopt(self.path / name, sha256, run)

    def store_picture(self, name: str) -> dict[str, Any]:  # noqa: ARG002
        """Return no further facts: the picture is in the directory."""
        return {}

    def is_copied_by_storing(self, name: str, copy: Place) -> bool:  # noqa: ARG002
        """Return False.

        A copy is written even onto the picture itself, so that all checks of copies apply.
        """
        return False

    def fetch_picture(self, name: str) -> None:
        """Do nothing: the picture is in the directory."""

    def release_picture(self, name: str) -> None:
        """Do nothing: the picture stays in the directory."""
