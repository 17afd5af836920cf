"""Draft of dreamed footage: the footage's facts, and the film that is made of it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from render.config.film_schema import FilmConfig, FilmJob
from render.config.film_validation import still_config
from render.config.schema import Config, SourceConfig
from render.errors import UserError
from render.film.dreamed.canvases import canvas_bytes
from render.film.dreamed.dreamed_film import DreamedFilm, dreamed_film
from render.film.dreamed.dreamed_frames import DreamedFrames, even_shape
from render.film.dreamed.film_farm import film_dreams
from render.film.film_draft import FilmNeeds, FilmSurroundings, FrameTimes
from render.film.footage.frame_inputs import flow_shape
from render.film.footage.shot_frames import MIN_AHEAD, opened_footage
from render.film.video.footage import Footage, open_footage
from render.job.resolve import resolve
from render.planning.plan import size_text
from render.source.photo import PhotoSource
from render.source.source import find_picture
from render.storage.url import Place
from render.system.machine import free_disk

#: Frames of footage that are held at once as float32: two that are compared, and two that are prepared.
_FRAMES_HELD = 4
#: Bytes for each pixel that a flow is measured on, of both directions and what they are compared by.
_FLOW_BYTES = 200
#: Bits of a channel that footage is read with, unless it has more.
_PLAIN_BITS = 8
#: Share of the free disk that frames ahead may take.
_FREE_SHARE = 0.25


@dataclass(frozen=True)
class FootageLevels:
    """Frames of footage in levels, 0..255, of all the bits that it has: see `Clip`."""

    footage: Footage

    @property
    def is_deep(self) -> bool:
        """True if frames are read with 16 bits a channel."""
        return self.footage.bits > _PLAIN_BITS or self.footage.hdr is not None

    def frames(self, first: int = 0) -> Iterator[NDArray[np.float32]]:
        """Yield the frames from `first` on: (rows, columns, 3) float32 sRGB, 0..255."""
        if not self.is_deep:
            yield from (picture.astype(np.float32) for picture in self.footage.frames(first))
            return
        for picture in self.footage.frames(first, 16):
            yield picture.astype(np.float32) / np.float32(257)


@dataclass(frozen=True)
class FootageFilm:
    """A `FilmDraft` of dreamed footage.

    Attributes:
        config: Config of the first frame.
        identity: Facts that distinguish films with equal settings.
        rate: Frames a second on average.
        frames: Number of frames.
        timing: Times of the frames, those of the footage.
        sound: File whose sound goes with the film; None for none.
        footage: The footage.
        film: The film, checked.
    """

    config: Config
    identity: Mapping[str, str | None]
    rate: Fraction
    frames: int
    timing: FrameTimes
    sound: Path | None
    footage: Footage
    film: DreamedFilm

    @property
    def aspect(self) -> Fraction:
        """Width of a pixel by its height: that of the footage's."""
        return self.footage.aspect

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px of every frame, both even."""
        return even_shape(self.film.sources.shape)

    @property
    def frames_ahead(self) -> int:
        """Most frames that several workers may dream ahead of their turn; 0 where shots are not told apart."""
        settings, directory = self.film.film, self.film.resolved.directory
        if not settings.flow.cuts:
            return 0
        disk = settings.ahead_gb * 1e9
        if not directory.home.is_remote:
            disk = min(disk, free_disk(directory.path) * _FREE_SHARE)
        return min(self.frames, int(disk // canvas_bytes(self.film.sources.shape)))

    def needs(self) -> FilmNeeds:
        """Return what making the frames needs: see `FilmDraft.needs`."""
        dreams = film_dreams(self.film)
        first, later = dreams.first, dreams.later
        source, shape = self.film.resolved.source, self.film.sources.shape
        assert isinstance(source, PhotoSource)
        rows, columns = flow_shape(source, shape, self.film.film.flow.scale)
        farm, ahead = self.film.resolved.farm, self.frames_ahead
        if ahead < MIN_AHEAD or (self.film.resolved.workers == 1 and farm.address is None):
            ahead = 0
        lanes = self.film.resolved.workers if ahead else 1
        ahead_bytes = ahead * canvas_bytes(shape)
        lines = [("footage", note) for note in self.footage.notes]
        if ahead:
            lines.append(("ahead", f"up to {ahead} frames of later shots, {size_text(ahead_bytes)} (film.ahead_gb)"))
        return FilmNeeds(
            memory_bytes=max(first.memory_bytes, later.memory_bytes)
            + lanes * (_FRAMES_HELD * source.nbytes + _FLOW_BYTES * rows * columns),
            # Beside the newest canvases, those that frames start from.
            canvas_bytes=first.disk_bytes
            + (self.film.film.keep + lanes) * later.disk_bytes
            + lanes * canvas_bytes(shape)
            + ahead_bytes,
            first_flops=first.flops,
            later_flops=later.flops,
            dreams=dreams,
            lines=lines,
        )

    @contextmanager
    def opened(self, surroundings: FilmSurroundings) -> Iterator[DreamedFrames]:
        """Yield the maker of the frames, with its farm."""
        for note in self.footage.notes:
            surroundings.tell(note)
        with opened_footage(FootageLevels(self.footage), self.film, surroundings, self.frames_ahead) as frames:
            yield frames


def draft_footage(job: FilmJob, place_of: Callable[[Config, Mapping[str, str | None]], Place]) -> FootageFilm:
    """Return checked dreamed footage: see `render.film.makers`.

    Raises:
        UserError: The file is no film, or the film cannot work.
    """
    film = job.film
    if film.rate is not None:
        raise UserError(f"film.rate={film.rate}: dreamed footage keeps the times of its frames: drop it")
    if film.loop:
        raise UserError("film.loop=true: footage ends where it ends: drop it")
    if job.image.startswith("sample:"):
        raise UserError(f"image={job.image} is a picture, and footage is dreamed of a film: set image=clip.mp4")
    path, digest = find_picture(job.image, "a film, such as image=clip.mp4")
    footage = open_footage(path, film.damaged)
    first_frame = next(FootageLevels(footage).frames(), None)
    if first_frame is None:
        raise UserError(f"image {job.image!r} has no frame that can be read: name another film")

    def opener(_image: str, _seed: int, source: SourceConfig) -> PhotoSource:
        """Return the first frame as the job's picture."""
        return PhotoSource(first_frame, digest, tuple(source.background))

    config = still_config(job)
    first = resolve(config, opener)
    timing = film_timing(footage, film)
    frames, rate = len(timing.times), footage.average_rate
    # The flow's bytes follow from the library that measures it.
    flow = f"DIS of OpenCV {importlib.metadata.version('opencv-python-headless')}"
    identity = {**first.directory.identity, **dreamed_film(job, first, rate, frames).identity, "flow": flow}
    if FootageLevels(footage).is_deep:
        # Earlier versions read it with 8 bits.
        identity["levels"] = "16 bits"
    place = place_of(first.config, identity)
    resolved = resolve(replace(config, output=replace(config.output, dir=str(place))), opener)
    return FootageFilm(
        config=first.config,
        identity=identity,
        rate=rate,
        frames=frames,
        timing=timing,
        sound=path if film.sound and footage.sounds else None,
        footage=footage,
        film=dreamed_film(job, resolved, rate, frames),
    )


def film_timing(footage: Footage, film: FilmConfig) -> FrameTimes:
    """Return the times of the film's frames: those of the footage's that begin before `film.seconds` are over."""
    times = footage.pts
    end = times[-1] + footage.last_duration
    if film.seconds is not None:
        # Its decimal notation counts, so that 0.1 s are exactly that.
        length = Fraction(str(film.seconds)) / footage.time_base
        frames = sum(time - times[0] < length for time in times)
        end = times[frames] if frames < len(times) else end
        times = times[:frames]
    return FrameTimes(times, footage.time_base, end)
