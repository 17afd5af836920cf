"""Copy of a film at `output.path`: what it may replace there, and how it is written."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from render.config.film_schema import FilmJob
from render.errors import UserError
from render.export.picture_directory import refuse_foreign, replacing_directory
from render.film.film_directory import FilmDirectory
from render.job.run_record import read_record
from render.job.targets import probe_url, refuse_unwritable
from render.storage.local import replacing
from render.storage.opening import open_storage
from render.storage.url import Place, last_name
from render.storage.user_paths import is_same_file
from render.system.paths import file_sha256

#: Entries of a film's record: the sha256 of its file, and the identity of its copy in an object store, by its URL.
FILM_SHA256, FILM_COPY = "film_sha256", "film_copy"


@dataclass(frozen=True)
class FilmCopy:
    """Copy of a film.

    Attributes:
        place: Path or URL of the copy.
        film: The film in its directory: a file, or a directory of pictures.
        directory: Directory of the film.
        job: Config of the film.
        is_tree: True if the film is a directory of pictures.
    """

    place: Place
    film: Path
    directory: FilmDirectory
    job: FilmJob
    is_tree: bool

    def check(self) -> None:
        """Raise `UserError` if the copy cannot be written, or would replace something else; changes nothing."""
        if isinstance(self.place, str):
            self._check_url(self.place)
            return
        self._check_local(self.place)
        if os.path.lexists(self.place) and not self.may_replace():
            raise UserError(f"{self.place} exists: choose another output.path, or overwrite=true to replace it")

    def may_replace(self) -> bool:
        """Return whether what is at the place may be replaced: an earlier state of this film, or anything if asked."""
        return self.job.overwrite or self._is_this_film()

    def write(self, *, replaces: bool) -> None:
        """Write the copy.

        Args:
            replaces: Whether what is there may be replaced.

        Raises:
            UserError: Something is there by now, or the disk or the store refuses.
        """
        place = self.place
        try:
            if isinstance(place, str):
                from render.job.stored_copies import send_copy

                self.directory.run.save(**{FILM_COPY: {place: {"stored": send_copy(self.film, place)}}})
            elif self.is_tree:
                with replacing_directory(place, self.directory.digest) as target:
                    shutil.copytree(self.film, target, dirs_exist_ok=True)
            else:
                with self.film.open("rb") as source, replacing(place, keep=not replaces) as file:
                    shutil.copyfileobj(source, file)
        except FileExistsError:
            raise UserError(f"{place} exists by now and is left alone: the film is {self.film}") from None
        except OSError as error:
            raise UserError(f"{place} cannot be written ({error.strerror}): the film is {self.film}") from None

    def _check_local(self, place: Path) -> None:
        refuse_unwritable(place.parent)
        if place.is_dir() and not self.is_tree:
            raise UserError(f"output.path={place} is a directory: name a file")
        if self.is_tree and os.path.lexists(place):
            refuse_foreign(place)
        for key, name in (("image", self.job.image), ("model.weights", self.job.model.weights)):
            if is_same_file(name, place):
                raise UserError(f"output.path={place} is the {key} itself: choose another output.path")

    def _check_url(self, url: str) -> None:
        from render.job.stored_copies import check_url

        parent, _, name = url.rpartition("/")
        if "/" not in url.partition("://")[2] or not name:
            raise UserError(f"output.path={url} names a bucket: name an object in it, such as {url.rstrip('/')}/film.mp4")
        probe_url(parent)
        copies = read_record(self.directory.place).get(FILM_COPY)
        entry = copies.get(url) if isinstance(copies, dict) else None
        inputs = [("image", self.job.image), ("model.weights", self.job.model.weights)]
        check_url(url, entry if isinstance(entry, dict) else {}, inputs, overwrite=self.may_replace())

    def _is_this_film(self) -> bool:
        """Return whether the copy has the bytes of this film, or of what an earlier command recorded."""
        if isinstance(self.place, str):
            return self._is_stored(self.place)
        if self.is_tree or not self.place.is_file():
            return False
        sha256 = file_sha256(self.place)
        recorded = read_record(self.directory.place).get(FILM_SHA256)
        return sha256 == recorded or (self.film.is_file() and sha256 == file_sha256(self.film))

    def _is_stored(self, url: str) -> bool:
        """Return whether this film is at a URL, as a process sent it that was killed before it could record that."""
        storage, name = open_storage(url.rpartition("/")[0]), str(last_name(url))
        info = storage.info(name)
        if info is None or not self.film.is_file() or info.size != self.film.stat().st_size:
            return False
        with tempfile.TemporaryDirectory() as directory:
            stored = Path(directory) / "film"
            storage.fetch(name, stored, info)
            return file_sha256(stored) == file_sha256(self.film)
