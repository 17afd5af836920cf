"""Draft of dreamed footage: the footage's facts, and the film that is made of it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from render.config.film_schema import FilmConfig, FilmJob
from render.config.film_validation import still_config
from render.config.schema import Config, SourceConfig
from render.errors import UserError
from render.film.dreamed.dreamed_film import DreamedFilm, dreamed_film
from render.film.dreamed.dreamed_frames import DreamedFrames, even_shape
from render.film.dreamed.film_farm import film_dreams, frames_in
from render.film.film_draft import FilmNeeds, FilmSurroundings, FrameTimes
from render.film.footage.footage_frames import FootageFrames
from render.film.footage.frame_inputs import flow_shape
from render.film.video.footage import Footage, open_footage
from render.geometry.geometry import PIXEL_BYTES
from render.job.resolve import resolve
from render.source.photo import PhotoSource
from render.source.source import find_picture
from render.storage.url import Place

#: Frames of footage that are held at once as float32: two that are compared, and two that are prepared.
_FRAMES_HELD = 4
#: Bytes for each pixel that a flow is measured on, of both directions and what they are compared by.
_FLOW_BYTES = 200


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

    def needs(self) -> FilmNeeds:
        """Return what making the frames needs: see `FilmDraft.needs`."""
        dreams = film_dreams(self.film)
        first, later = dreams.first, dreams.later
        source, shape = self.film.resolved.source, self.film.sources.shape
        assert isinstance(source, PhotoSource)
        rows, columns = flow_shape(source, shape, self.film.film.flow.scale)
        return FilmNeeds(
            memory_bytes=max(first.memory_bytes, later.memory_bytes)
            + _FRAMES_HELD * source.nbytes
            + _FLOW_BYTES * rows * columns,
            # Beside the newest canvases, the one that a frame starts from.
            canvas_bytes=first.disk_bytes
            + (self.film.film.keep + 1) * later.disk_bytes
            + PIXEL_BYTES * shape[0] * shape[1],
            first_flops=first.flops,
            later_flops=later.flops,
            dreams=dreams,
            lines=[("footage", note) for note in self.footage.notes],
        )

    @contextmanager
    def opened(self, surroundings: FilmSurroundings) -> Iterator[DreamedFrames]:
        """Yield the maker of the frames, with its farm."""
        for note in self.footage.notes:
            surroundings.tell(note)
        with frames_in(self.film, surroundings, partial(FootageFrames, self.footage)) as frames:
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
    picture = next(footage.frames(), None)
    if picture is None:
        raise UserError(f"image {job.image!r} has no frame that can be read: name another film")
    first_frame = np.asarray(picture, np.float32)

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
