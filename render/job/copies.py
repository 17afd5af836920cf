"""Copies of pictures outside a run's directory, and what they may replace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from render.config.objective_files import named_files
from render.config.schema import Config
from render.errors import UserError
from render.export.metadata import says_its_settings
from render.export.picture_directory import refuse_foreign, replacing_directory
from render.storage.local import replacing
from render.storage.markers import adopt, is_picture, tree_sha256
from render.storage.url import Place
from render.storage.user_paths import is_same_file
from render.system.paths import file_sha256

#: Function that adds facts to a run's record.
SaveFacts = Callable[..., None]


class Copies:
    """The places outside the run directory that a job writes pictures to.

    What lies there is replaced only if `overwrite` asks for it and all of it is a picture, or if it is known to be a
    picture that a run in the same directory wrote.
    """

    def __init__(self, config: Config, run: str, record: Callable[[], Mapping[str, Any]], save: SaveFacts) -> None:
        """Remember how to read and extend the run's record.

        Args:
            config: The job's config.
            run: Digest of the run.
            record: Returns the current facts of the run's record.
            save: Adds facts to that record.
        """
        self._config = config
        self._run = run
        self._record = record
        self._save = save
        #: Checksums of pictures that runs in this directory made.
        self._written_sha256: set[str] = set()
        #: Entries of copies in object stores that an earlier record has, by URL.
        self._earlier_entries: dict[str, Any] = {}

    def learn(self, record: Mapping[str, Any]) -> None:
        """Remember the pictures and copies that a record lists."""
        self._written_sha256 |= {picture["sha256"] for picture in record.get("pictures", {}).values()}
        self._earlier_entries |= record.get("copies", {})

    @property
    def stored(self) -> dict[str, Any]:
        """Recorded entries of copies in object stores, by URL."""
        return {**self._earlier_entries, **self._record().get("copies", {})}

    def check(self, copy: Place, *, tree: bool) -> bool:
        """Return whether what lies at a copy's place may be replaced. Changes nothing.

        Args:
            copy: Path or URL of the copy.
            tree: True if the copy is a directory of files.

        Raises:
            UserError: The place is an input of the job, or holds something that no run wrote.
        """
        if isinstance(copy, str):
            self._check_url(copy)
            return True
        if not os.path.lexists(copy):
            return self._config.overwrite
        if copy.is_dir() and not tree:
            raise UserError(f"output.path={copy} is a directory: name a file")
        if not self._is_known_tree(copy) and (tree or not copy.is_file()):
            refuse_foreign(copy)
        for key, name in self._inputs():
            if is_same_file(name, copy):
                raise UserError(f"output.path={copy} is the {key} itself: choose another output.path")
        if not self._config.overwrite and not self._is_known(copy):
            raise UserError(f"{copy} exists: choose another output.path, or overwrite=true to replace it")
        return True

    def has(self, copy: Place, picture: Mapping[str, Any] | None) -> bool:
        """Return whether a copy equals the recorded picture.

        If so, the picture need not be fetched from a store to be copied again.
        """
        if picture is None:
            return False
        if isinstance(copy, str):
            from render.job.stored_copies import is_as_recorded

            entry = self.stored.get(copy, {})
            return entry.get("of") == picture["sha256"] and is_as_recorded(copy, entry)
        return copy.exists() and picture_sha256(copy) == picture["sha256"]

    def write(self, picture: Path, copy: Place) -> None:
        """Copy a picture, a file or a directory, to its place. The picture itself always stays.

        Raises:
            UserError: The place may not be replaced, or cannot be written.
        """
        if isinstance(copy, str):
            self._send(picture, copy)
            return
        replaceable = self.check(copy, tree=picture.is_dir())
        try:
            if picture.is_dir():
                for sha256 in self._written_sha256:
                    adopt(copy, sha256, self._run)
                with replacing_directory(copy, self._run) as directory:
                    shutil.copytree(picture, directory, dirs_exist_ok=True, symlinks=True)
                return
            with picture.open("rb") as file, replacing(copy, keep=not replaceable) as output:
                shutil.copyfileobj(file, output)
        except FileExistsError:
            raise UserError(f"{copy} exists by now and is left alone: the picture is {picture}") from None
        except OSError as error:
            raise UserError(f"{copy} cannot be written ({error.strerror}): the picture is {picture}") from None

    def _send(self, picture: Path, url: str) -> None:
        """Send a copy and record it."""
        from render.job.stored_copies import send_copy

        self._check_url(url)
        entries = self.stored
        if picture.is_dir():
            # If the run is killed now, only some of the files may be there.
            self._save(copies={**entries, url: {"of": "", "sending": True}})
        entry = {"of": picture_sha256(picture), "stored": send_copy(picture, url)}
        self._save(copies={**entries, url: entry})

    def _check_url(self, url: str) -> None:
        """Raise `UserError` if a URL is an input of the job, or its content must stay."""
        from render.job.stored_copies import check_url

        check_url(url, self.stored.get(url, {}), self._inputs(), overwrite=self._config.overwrite)

    def _is_known(self, copy: Path) -> bool:
        """Return whether a run in this directory wrote the copy.

        Both the record and the picture itself must say so.
        """
        if copy.is_dir():
            return self._is_known_tree(copy)
        # The record alone is not trusted: it may come from somebody else.
        return copy.is_file() and picture_sha256(copy) in self._written_sha256 and says_its_settings(copy)

    def _is_known_tree(self, copy: Path) -> bool:
        """Return whether a run in this directory wrote the copy, a directory, as it is now."""
        return copy.is_dir() and not copy.is_symlink() and tree_sha256(copy) in self._written_sha256 and is_picture(copy)

    def _inputs(self) -> Iterator[tuple[str, str | None]]:
        """Yield the inputs of the job: config key, then path or URL."""
        yield "image", self._config.image
        yield "model.weights", self._config.model.weights
        yield "model.labels", self._config.model.labels
        yield "output.match", self._config.output.match
        yield from named_files(asdict(self._config.objective))


def picture_sha256(path: Path) -> str:
    """Return the checksum of a picture, a file or a directory.

    Empty if it is neither or cannot be read.
    """
    try:
        return tree_sha256(path) if path.is_dir() else file_sha256(path)
    except OSError:
        return ""
