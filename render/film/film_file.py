"""File of a film: its format and place, the encoding of finished parts beside the making of others, and its copy."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from render.config.film_schema import FilmJob
from render.errors import UserError
from render.export.picture_directory import refuse_foreign, replacing_directory
from render.film.film_directory import FilmDirectory
from render.film.film_draft import FilmDraft
from render.film.video.animation import write_animation, write_numbered
from render.film.video.encoding import encode_segment
from render.film.video.formats import FORMATS, VideoSettings, choose, format_of
from render.film.video.joining import Sound, Timing, constant, join_segments
from render.job.targets import probe_url, refuse_unwritable
from render.storage.local import replacing
from render.storage.opening import open_storage
from render.storage.url import Place, checked_url, joined, last_name
from render.storage.user_paths import is_same_file, user_path
from render.system.paths import file_sha256

#: Frames of a part that is encoded by itself.
SEGMENT_FRAMES = 48
_DEFAULT_FORMAT = "mp4"


def video_settings(job: FilmJob, draft: FilmDraft) -> VideoSettings:
    """Return the settings of a film's encoding; raise `UserError` for a format or codec that is not there."""
    film, path = job.film, job.output.path
    suffix_format = None if path is None else format_of(path)
    if path is not None and suffix_format is None and not (film.format or "").startswith("frames-"):
        suffixes = ", .".join(suffix for form in FORMATS.values() for suffix in form.suffixes)
        raise UserError(f"output.path={path}: must be a name that ends in .{suffixes}")
    name = film.format or suffix_format or _DEFAULT_FORMAT
    if name in FORMATS and suffix_format not in (None, name) and FORMATS[name].suffixes:
        raise UserError(f"output.path={path} and film.format={name} disagree: drop one of them")
    return choose(name, film.codec, film.bits, draft.shape, quality=film.quality, rate=draft.rate)


@dataclass(frozen=True)
class FilmFile:
    """The file that a film becomes.

    Attributes:
        job: Config of the film.
        draft: The film.
        directory: Directory of the film.
        settings: Settings of the encoding.
    """

    job: FilmJob
    draft: FilmDraft
    directory: FilmDirectory
    settings: VideoSettings

    @property
    def path(self) -> Path:
        """The film in its directory: a file, or a directory of pictures."""
        form = self.settings.format
        ending = "-frames" if form.kind == "directory" else f".{form.suffixes[0]}"
        return self.directory.path / f"{self.job.name}{ending}"

    @property
    def copy(self) -> Place | None:
        """Path or URL of the copy that `output.path` asks for."""
        path = self.job.output.path
        if path is None:
            return None
        return checked_url(path, "output.path") or Path(os.path.realpath(user_path(path, "output.path")))

    def check(self) -> None:
        """Raise `UserError` if the copy's place cannot be written, or holds something that is not this film."""
        copy = self.copy
        if copy is None:
            return
        exists = self._exists_remotely(copy) if isinstance(copy, str) else os.path.lexists(copy)
        if isinstance(copy, Path):
            self._check_local(copy)
        if exists and not (self.job.overwrite or self._is_this_film(copy)):
            raise UserError(f"{copy} exists: choose another output.path, or overwrite=true to replace it")

    def _exists_remotely(self, url: str) -> bool:
        probe_url(url.rpartition("/")[0])
        return open_storage(url.rpartition("/")[0]).info(str(last_name(url))) is not None

    def _check_local(self, copy: Path) -> None:
        refuse_unwritable(copy.parent)
        is_tree = self.settings.format.kind == "directory"
        if copy.is_dir() and not is_tree:
            raise UserError(f"output.path={copy} is a directory: name a file")
        if is_tree and os.path.lexists(copy):
            refuse_foreign(copy)
        for key, name in (("image", self.job.image), ("model.weights", self.job.model.weights)):
            if is_same_file(name, copy):
                raise UserError(f"output.path={copy} is the {key} itself: choose another output.path")

    def _is_this_film(self, copy: Place) -> bool:
        """Return whether the copy has the bytes of the film in its directory, as an earlier command wrote both."""
        if isinstance(copy, str) or not copy.is_file() or not self.path.is_file():
            return False
        return file_sha256(copy) == file_sha256(self.path)

    def write(self) -> list[Place]:
        """Write the film from the pictures of all its frames, and its copy; return their places.

        Raises:
            UserError: A picture is gone, or the disk refuses.
        """
        pictures, kind = self.directory.pictures(self.draft.frames), self.settings.format.kind
        is_replaceable = self.job.overwrite or (self.copy is not None and self._is_this_film(self.copy))
        if kind == "directory":
            with replacing_directory(self.path, self.directory.digest) as place:
                for number, picture in enumerate(pictures):
                    write_numbered(place, number, picture, self.settings)
        elif kind == "animation":
            write_animation(self.path, pictures, self.settings, self._timing(), overwrite=True)
        else:
            encoder = SegmentEncoder(self)
            segments = [encoder.encode(first, last) for first, last in segment_ranges(self.draft.frames)]
            sound = self._sound() if self.settings.format.takes_sound else None
            join_segments(self.path, segments, self.settings, self._timing(), sound, overwrite=True)
        return self._placed(is_replaceable)

    def _placed(self, is_replaceable: bool) -> list[Place]:
        """Store the film where its directory is, and its copy; return the places, the user's first."""
        home, copy = self.directory.run.home, self.copy
        own = joined(self.directory.place, self.path.name)
        if home.is_remote and self.path.is_file():
            open_storage(self.directory.place, patient=True).write_file(self.path.name, self.path)
        if copy is None:
            return [own]
        try:
            if isinstance(copy, str):
                open_storage(copy.rpartition("/")[0], patient=True).write_file(str(last_name(copy)), self.path)
            elif self.path.is_dir():
                with replacing_directory(copy, self.directory.digest) as place:
                    shutil.copytree(self.path, place, dirs_exist_ok=True)
            else:
                with self.path.open("rb") as source, replacing(copy, keep=not is_replaceable) as target:
                    shutil.copyfileobj(source, target)
        except FileExistsError:
            raise UserError(f"{copy} exists by now and is left alone: the film is {self.path}") from None
        except OSError as error:
            raise UserError(f"{copy} cannot be written ({error.strerror}): the film is {self.path}") from None
        return [copy, own]

    def _timing(self) -> Timing:
        timing = self.draft.timing
        if timing is None:
            return constant(self.draft.rate, self.draft.frames)
        return Timing(timing.times, timing.unit, timing.end - timing.times[-1])

    def _sound(self) -> Sound | None:
        return None if self.draft.sound is None or not self.job.film.sound else Sound(self.draft.sound)

    @property
    def settings_digest(self) -> str:
        """Digest of the settings that decide the bytes of a part of the film."""
        settings = self.settings
        values = (
            settings.codec.name,
            settings.shape,
            settings.bits,
            str(settings.rate),
            settings.quality,
            str(settings.aspect),
        )
        return hashlib.sha256(repr(values).encode()).hexdigest()


def segment_ranges(frames: int) -> list[tuple[int, int]]:
    """Return the ranges of frames, (first, end), that are encoded by themselves."""
    return [(first, min(first + SEGMENT_FRAMES, frames)) for first in range(0, frames, SEGMENT_FRAMES)]


class SegmentEncoder:
    """Encoder of a film's parts, in a thread beside the maker. A part's file is complete if it is there."""

    def __init__(self, film_file: FilmFile) -> None:
        """Store the film; nothing is encoded yet."""
        self._file = film_file
        self._directory = film_file.directory.segments(film_file.settings_digest)
        self._thread = ThreadPoolExecutor(1, "encoder")
        self._running: list[Future[Path]] = []

    def encode(self, first: int, end: int) -> Path:
        """Return the part with the frames from `first` to before `end`; encode it if it is not there."""
        path = self._directory / f"{first:06}-{end:06}.mkv"
        if not path.is_file():
            pictures = [self._file.directory.picture(number) for number in range(first, end)]
            path.parent.mkdir(parents=True, exist_ok=True)
            encode_segment(path, read_pictures(pictures), self._file.settings, first)
        return path

    def frame_finished(self, number: int) -> None:
        """Encode the part that ends with a frame in the background, if it is a whole one; raise an earlier part's error."""
        for future in [future for future in self._running if future.done()]:
            self._running.remove(future)
            future.result()
        if self._file.settings.format.kind == "video" and (number + 1) % SEGMENT_FRAMES == 0:
            self._running.append(self._thread.submit(self.encode, number + 1 - SEGMENT_FRAMES, number + 1))

    def close(self, *, failed: bool) -> None:
        """Wait for the part in hand; drop those that wait if the film stops."""
        self._thread.shutdown(wait=True, cancel_futures=failed)
        if not failed:
            for future in self._running:
                future.result()


def read_pictures(paths: Sequence[Path]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the pixels of pictures, (rows, columns, 3) RGB, uint8 or uint16, one at a time.

    Raises:
        UserError: A picture is gone or damaged.
    """
    for path in paths:
        try:
            image = pyvips.Image.new_from_file(os.fspath(path), access="sequential", fail_on="error")
            yield np.ascontiguousarray(image.numpy()[:, :, :3])
        except pyvips.Error as error:
            reason = str(error).splitlines()[0].strip()
            raise UserError(f"{path} cannot be read ({reason}): restore it, or fresh=true starts over") from None
