"""File of a film: its format and place, what it is written from, and its copy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from render.config.film_schema import FilmJob
from render.errors import UserError
from render.export.picture_directory import replacing_directory
from render.film.film_copy import FILM_SHA256, FilmCopy
from render.film.film_directory import FilmDirectory
from render.film.film_draft import FilmDraft
from render.film.film_parts import FilmParts, segment_ranges
from render.film.video.animation import write_animation, write_numbered
from render.film.video.film_formats import FORMATS, VideoSettings, choose, format_of
from render.film.video.segment_joining import Sound, Timing, constant, join_segments
from render.storage.url import Place, checked_url, joined
from render.storage.user_paths import user_path
from render.system.paths import file_sha256

_DEFAULT_FORMAT = "mp4"


def format_name(job: FilmJob) -> str:
    """Return the name of a film's format, which may be unknown."""
    path = job.output.path
    return job.film.format or (None if path is None else format_of(path)) or _DEFAULT_FORMAT


def file_name(job: FilmJob) -> str:
    """Return the name of a film's file in its directory, or of its directory of pictures."""
    form = FORMATS[format_name(job)]
    return f"{job.name}-frames" if form.kind == "directory" else f"{job.name}.{form.suffixes[0]}"


def video_settings(job: FilmJob, draft: FilmDraft) -> VideoSettings:
    """Return the settings of a film's encoding; raise `UserError` for a format or codec that is not there."""
    film, path = job.film, job.output.path
    suffix_format = None if path is None else format_of(path)
    if path is not None and suffix_format is None and not (film.format or "").startswith("frames-"):
        suffixes = ", .".join(suffix for form in FORMATS.values() for suffix in form.suffixes)
        raise UserError(f"output.path={path}: must be a name that ends in .{suffixes}")
    name = format_name(job)
    if name in FORMATS and suffix_format not in (None, name) and FORMATS[name].suffixes:
        raise UserError(f"output.path={path} and film.format={name} disagree: drop one of them")
    return choose(
        name,
        film.codec,
        film.bits,
        draft.shape,
        quality=film.quality,
        rate=draft.rate,
        aspect=draft.aspect,
        variable=_is_variable(draft),
    )


def _is_variable(draft: FilmDraft) -> bool:
    """Return whether the frames are not shown equally long."""
    times = () if draft.timing is None else (*draft.timing.times, draft.timing.end)
    return len({later - earlier for earlier, later in pairwise(times)}) > 1


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
        return self.directory.path / file_name(self.job)

    @property
    def parts(self) -> FilmParts:
        """The encoded parts that the film is joined from."""
        return FilmParts(self.directory, self.settings)

    @property
    def removes_pictures(self) -> bool:
        """Whether pictures of frames are removed once a part of the film holds them."""
        return self.job.film.pictures == "auto" and self.settings.format.kind == "video"

    @property
    def copy(self) -> Place | None:
        """Path or URL of the copy that `output.path` asks for."""
        path = self.job.output.path
        if path is None:
            return None
        return checked_url(path, "output.path") or Path(os.path.realpath(user_path(path, "output.path")))

    def check(self) -> None:
        """Raise `UserError` if the film cannot be written from what there is, or its copy would replace something else."""
        self.parts.refuse_lost(self.directory.finished(), self.draft.frames)
        copy = self._copy()
        if copy is not None:
            copy.check()

    def _copy(self) -> FilmCopy | None:
        place = self.copy
        is_tree = self.settings.format.kind == "directory"
        return None if place is None else FilmCopy(place, self.path, self.directory, self.job, is_tree)

    def write(self, *, removes: bool = False) -> list[Place]:
        """Write the film from its parts and the pictures of frames, and its copy; return their places.

        Args:
            removes: True to remove the pictures of whole parts.

        Raises:
            UserError: A picture is gone, or the disk refuses.
        """
        frames, kind = self.draft.frames, self.settings.format.kind
        copy = self._copy()
        replaces = copy is not None and copy.may_replace()
        if kind == "directory":
            with replacing_directory(self.path, self.directory.digest) as place:
                for number, picture in enumerate(self.directory.pictures(0, frames)):
                    write_numbered(place, number, picture, self.settings)
        elif kind == "animation":
            write_animation(self.path, self.directory.pictures(0, frames), self.settings, self._timing(), overwrite=True)
        else:
            segments = [self.parts.encode(first, end, removes=removes) for first, end in segment_ranges(frames)]
            sound = self._sound() if self.settings.format.takes_sound else None
            join_segments(self.path, segments, self.settings, self._timing(), sound, overwrite=True)
        self.parts.remove_others(frames)
        own = self._stored()
        if copy is not None:
            copy.write(replaces=replaces)
        if self.path.is_file():
            self.directory.run.save(**{FILM_SHA256: file_sha256(self.path)})
        return [own] if copy is None else [copy.place, own]

    def _stored(self) -> Place:
        """Store the film where its directory is, and return its place there."""
        if self.directory.run.home.is_remote:
            from render.job.stored_copies import send_copy

            send_copy(self.path, str(joined(self.directory.place, self.path.name)))
        return joined(self.directory.place, self.path.name)

    def _timing(self) -> Timing:
        timing = self.draft.timing
        if timing is None:
            return constant(self.draft.rate, self.draft.frames)
        return Timing(timing.times, timing.unit, timing.end - timing.times[-1])

    def _sound(self) -> Sound | None:
        return None if self.draft.sound is None or not self.job.film.sound else Sound(self.draft.sound)
