"""Directory of a film: its record, lease and log, the pictures of finished frames, and the place of canvases.

With `film.pictures=keep` the pictures, lossless, stay: from them the film is encoded in any format without dreaming again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from render.config.film_schema import FilmConfig
from render.config.schema import Config
from render.errors import UserError
from render.film.film_state import FRAMES, FilmState, read_state, write_state
from render.job.run_directory import RunDirectory
from render.storage.local import refuse_links
from render.storage.opening import open_storage
from render.storage.url import Place, checked_url, joined
from render.storage.user_paths import user_path

#: Names in the directory: pictures of frames, canvases of frames, encoded parts of the film, shrunk copies of a canvas.
PICTURES, CANVASES, SEGMENTS, LEVELS = "frames", "canvases", "segments", "levels"
#: Record of the tile grids of frames, beside their canvases.
GRIDS = "grids.json"
#: Keys of a film that change no frame, or only how many there are.
_OTHER_KEYS = ("seconds", "format", "codec", "quality", "keep", "ahead_gb", "pictures", "sound", "damaged")
#: Keys of a picture's file that change no frame.
_OTHER_OUTPUT = ("quality", "compression", "title", "author", "panels", "profile", "intent", "dither")
_PICTURE_NAME = re.compile(r"\d{6,9}\.png")
_CANVAS_NAME = re.compile(r"\d{6,9}")
_LEVEL_NAME = re.compile(r"level-\d{2}")
_SEGMENT_DIRECTORY = re.compile(r"[0-9a-f]{8}")


def film_digest(
    config: Config, film: FilmConfig, rate: Fraction, identity: Mapping[str, str | None], frames: int | None = None
) -> str:
    """Return a sha256, in hex, that identifies the frames of a film, whatever its length and file.

    Args:
        config: Config of the first frame.
        film: The film's section.
        rate: Frames a second.
        identity: Facts that distinguish films with equal settings.
        frames: Number of frames, if the frames themselves depend on it, as in a loop.
    """
    settings, picture = asdict(film), config.picture_settings()
    for key in _OTHER_KEYS:
        del settings[key]
    for key in _OTHER_OUTPUT:
        picture["output"].pop(key, None)
    settings |= {"rate": str(rate), "run": film.run and film.run.rstrip("/").rpartition("/")[2]}
    return hashlib.sha256(json.dumps([picture, settings, dict(identity), frames], sort_keys=True).encode()).hexdigest()


def film_place(config: Config, digest: str) -> Place:
    """Return the directory of a film: `output.dir`, or one in `films/` named for the config and the digest."""
    if not config.output.dir:
        return Path("films") / f"{config.name}-{digest[:8]}"
    return checked_url(config.output.dir, "output.dir") or user_path(config.output.dir, "output.dir")


class FilmDirectory:
    """The directory of one film.

    Attributes:
        digest: Digest of the film: see `film_digest`.
        run: The directory as that of a run: its home, record, log and conflicts.
    """

    def __init__(self, config: Config, film: FilmConfig, identity: Mapping[str, str | None], digest: str) -> None:
        """Resolve the place; nothing is read or written.

        Args:
            config: Config of the first frame.
            film: The film's section.
            identity: Facts that distinguish films with equal settings.
            digest: Digest of the film.
        """
        self.digest = digest
        self._film, self._fresh = film, config.fresh
        output = replace(config.output, dir=str(film_place(config, digest)))
        self.run = RunDirectory(replace(config, output=output), identity, digest)

    @property
    def path(self) -> Path:
        """Directory on this machine."""
        return self.run.path

    @property
    def place(self) -> Place:
        """Directory or URL of the film."""
        return self.run.place

    @property
    def absolute_place(self) -> Place:
        """Directory, absolute, or URL: for workers."""
        return self.place.absolute() if isinstance(self.place, Path) else self.place

    def picture(self, number: int) -> Path:
        """Return the path of a frame's picture on this machine."""
        return self.path / PICTURES / f"{number:06}.png"

    def segments(self, settings_digest: str) -> Path:
        """Return the directory of the encoded parts of a film of some settings of encoding."""
        return self.path / SEGMENTS / settings_digest[:8]

    def finished(self) -> int:
        """Return the number of finished frames; 0 with `fresh`, or of another film."""
        if self._fresh:
            return 0
        state = read_state(self.place)
        return state.finished if state is not None and state.digest == self.digest else 0

    def check(self) -> None:
        """Raise `UserError` if the place holds something else, or cannot be written; changes nothing on disk."""
        if isinstance(self.place, Path):
            refuse_links(self.path, FRAMES, PICTURES, CANVASES, SEGMENTS, LEVELS)
        record = {} if self._fresh else self._recorded_film()
        if record and record.get("digest") != self.digest:
            raise UserError(
                f"{self.place} holds another film{self._differences(record)}: choose another output.dir, or fresh=true to "
                "replace it"
            )
        self.run.check()

    def _recorded_film(self) -> dict[str, Any]:
        """Return the digest and film section of the stored record; empty without a film."""
        from render.job.run_record import read_record

        record = read_record(self.place)
        film = record.get("film")
        return {"digest": record["digest"], "film": film} if isinstance(film, dict) else {}

    def _differences(self, record: Mapping[str, Any]) -> str:
        settings = asdict(self._film)
        keys = [f"film.{key}" for key in sorted(settings) if settings[key] != record["film"].get(key)]
        keys = [key for key in keys if key.removeprefix("film.") not in _OTHER_KEYS]
        return f" (differs in {', '.join(keys)})" if keys else ""

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the directory for this process; with `fresh`, remove the frames of an earlier film first."""
        with self.run.opened(begins=False):
            if self._fresh or (read_state(self.place) or FilmState(self.digest, 0, 0)).digest != self.digest:
                self._remove_film()
                self._fresh = False
            yield

    def _remove_film(self) -> None:
        """Remove what an earlier film wrote: the manifest first, then only files with names that films write."""
        storage = open_storage(self.place, patient=True)
        storage.remove(FRAMES)
        for name in storage.children(PICTURES):
            if _PICTURE_NAME.fullmatch(name):
                storage.remove(f"{PICTURES}/{name}")
                self.picture(int(name[:-4])).unlink(missing_ok=True)
        for name in storage.children(CANVASES):
            if _CANVAS_NAME.fullmatch(name):
                storage.remove_tree(f"{CANVASES}/{name}")
        storage.remove(f"{CANVASES}/{GRIDS}")
        self.remove_segments()
        self.remove_levels()

    def remove_levels(self) -> None:
        """Remove the shrunk copies of a canvas, which a flight only needs while frames are made."""
        directory = self.path / LEVELS
        if directory.is_dir() and not directory.is_symlink():
            for path in directory.iterdir():
                if _LEVEL_NAME.fullmatch(path.name) and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                directory.rmdir()

    def remove_pictures(self, first: int, end: int) -> None:
        """Remove the pictures of the frames from `first` to before `end`."""
        storage = open_storage(self.place, patient=True)
        for number in range(first, end):
            path = self.picture(number)
            if self.run.home.is_remote:
                storage.remove(path.relative_to(self.path).as_posix())
            path.unlink(missing_ok=True)

    def remove_segments(self, but: str = "") -> None:
        """Remove the encoded parts of all settings of encoding but those of one digest."""
        if self.run.home.is_remote:
            storage = open_storage(self.place, patient=True)
            for name in storage.children(SEGMENTS):
                if _SEGMENT_DIRECTORY.fullmatch(name) and name != but[:8]:
                    storage.remove_tree(f"{SEGMENTS}/{name}")
        directory = self.path / SEGMENTS
        if directory.is_dir() and not directory.is_symlink():
            for path in directory.iterdir():
                if _SEGMENT_DIRECTORY.fullmatch(path.name) and path.name != but[:8] and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)

    def store_frame(self, number: int, frames: int) -> None:
        """Store a frame's picture that has been written, and count the frame as finished.

        Raises:
            UserError: The disk or the store refuses.
        """
        try:
            if self.run.home.is_remote:
                name = self.picture(number).relative_to(self.path).as_posix()
                open_storage(self.place, patient=True).write_file(name, self.picture(number))
            write_state(self.place, FilmState(self.digest, number + 1, max(frames, number + 1)))
        except OSError as error:
            raise UserError(f"{joined(self.place, FRAMES)} cannot be written ({error.strerror}): free some space") from None

    def note_length(self, frames: int) -> None:
        """Write how many frames the film is to have."""
        write_state(self.place, FilmState(self.digest, min(self.finished(), frames), frames))

    def pictures(self, first: int, end: int) -> list[Path]:
        """Return the pictures of the frames from `first` to before `end`, fetched from a store if necessary.

        Raises:
            UserError: One is gone.
        """
        paths = [self.picture(number) for number in range(first, end)]
        for number, path in enumerate(paths, first):
            if self.run.home.is_remote and not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                open_storage(self.place, patient=True).fetch(path.relative_to(self.path).as_posix(), path)
            if not path.is_file():
                raise UserError(self.lost_picture(number))
        return paths

    def lost_picture(self, number: int) -> str:
        """Return the message for a frame whose picture is gone."""
        return f"{self.picture(number)}, the picture of frame {number}, is gone: restore it, or fresh=true starts over"
