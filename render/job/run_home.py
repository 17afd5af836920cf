"""Interface of a run's home: a local directory, or a URL in an object store.

Files are always written in a local directory first. A local home is that directory; a mirrored home has a copy of it in
this machine's cache, and what is written there counts only once it has been sent to the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from render.job.recorded_touches import TOUCHES
from render.job.run_record import CANVAS, RECORD
from render.job.targets import PREVIEWS
from render.storage.url import Place

#: Name of the log, and of the directory of the stored levels of a source that is larger than memory.
LOG, LEVELS = "render.log", "source"
#: Names that a run writes in its home, pictures excepted.
RUN_FILES = (RECORD, LOG, PREVIEWS, CANVAS, LEVELS, TOUCHES)
#: Name of a preview, for the removal of those of an earlier run.
PREVIEW_NAME = re.compile(r"octave-[1-9]\d*\.png")
#: Description of a process that holds a home, for messages.
HOLDER = "a run that is still going"


class RunHome(Protocol):
    """The place of one run's files, which one process at a time may write to.

    Names are those of files and pictures directly in the home. Failures of a store raise `StorageError`.
    """

    @property
    def path(self) -> Path:
        """Local directory in which files are written; it need not exist yet."""

    @property
    def place(self) -> Place:
        """The home itself: `path`, or the URL."""

    @property
    def levels(self) -> Place:
        """Place of the stored levels of a source that is larger than memory."""

    @property
    def is_remote(self) -> bool:
        """True if files in `path` must be sent, and pictures fetched before they are read."""

    def check_usable(self) -> None:
        """Raise `UserError` if no run can be written here.

        A local home is not changed; a store is probed.
        """

    def check_exportable(self) -> None:
        """Raise `UserError` if pictures of an existing run cannot be written here."""

    def existing(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that exist here."""

    def was_held(self) -> bool:
        """Return whether a run has ever held this home.

        It may have been killed before it wrote a record.
        """

    def refuse_busy(self) -> None:
        """Raise `UserError` if another process holds the home."""

    def hold(self) -> AbstractContextManager[None]:
        """Hold the home inside the context; raise `UserError` if another process holds it."""

    def working(self) -> AbstractContextManager[None]:
        """Prepare `path` for a run inside the context, and store the log at the end.

        What killed processes left is removed, and the log of an earlier run is there to be continued.
        """

    def check_held(self) -> None:
        """Raise `Overtaken` if another process is known to have taken the home. Sends no request."""

    def confirm_held(self) -> None:
        """Raise `Overtaken` if another process has taken the home.

        It may do so while a store is unreachable. Waits for the store if necessary.
        """

    def stop_retrying(self) -> None:
        """Wait seconds instead of minutes for a store from now on.

        The run is ending, and has waited already.
        """

    def store(self, *names: str) -> None:
        """Store files that have been written to `path`; ignore those that do not exist."""

    def store_progress(self, name: str, content: bytes | None) -> None:
        """Store progress for readers on other machines, if a store answers at once.

        None removes it.
        """

    def remove_run(self, *, has_record: bool) -> None:
        """Remove record, log and previews of a run that is not continued.

        Args:
            has_record: Whether the record can be read. Otherwise nothing proves that a run wrote it, and it is renamed.
        """

    def picture_place(self, name: str) -> Place:
        """Return the place of a picture."""

    def has(self, name: str) -> bool:
        """Return whether anything has this name."""

    def has_recorded_picture(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Return whether the picture of this name is the one in an entry of the record."""

    def check_replaceable(self, name: str, *, tree: bool) -> None:
        """Raise `UserError` if something that no run wrote would be lost with a changed picture.

        Args:
            name: Name of the picture.
            tree: Whether the picture that replaces it is a directory.
        """

    def adopt_picture(self, name: str, sha256: str, run: str) -> None:
        """Write the missing marker of a picture directory by an older version.

        See `render.storage.markers.adopt`.
        """

    def store_picture(self, name: str) -> dict[str, Any]:
        """Store a picture that has been written to `path`.

        Return further facts for its entry in the record.
        """

    def is_copied_by_storing(self, name: str, copy: Place) -> bool:
        """Return whether a picture is at the place of a copy as soon as it is stored."""

    def fetch_picture(self, name: str) -> None:
        """Make sure that a stored picture is in `path`."""

    def release_picture(self, name: str) -> None:
        """Free the disk of a picture in `path` that is stored elsewhere."""
