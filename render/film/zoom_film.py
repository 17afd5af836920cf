"""Draft of a zoom film: frames dreamed one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

from render.config.film_schema import FilmJob
from render.config.film_validation import still_config
from render.config.schema import Config, SourceConfig
from render.film.dreamed.dreamed_film import DreamedFilm, dreamed_film
from render.film.dreamed.dreamed_frames import DreamedFrames, even_shape
from render.film.dreamed.film_farm import film_dreams, frames_in
from render.film.film_draft import FilmNeeds, FilmSurroundings
from render.film.rate import frame_count, parse_rate
from render.job.resolve import resolve
from render.source.source import Source, open_source
from render.storage.url import Place

#: Length and rate of a zoom film that says neither, s and frames a second.
DEFAULT_SECONDS, DEFAULT_RATE = 10.0, Fraction(24)


@dataclass(frozen=True)
class ZoomFilm:
    """A `FilmDraft` of a zoom.

    Attributes:
        config: Config of the first frame.
        identity: Facts that distinguish films with equal settings.
        rate: Frames a second.
        frames: Number of frames.
        film: The film, checked.
    """

    config: Config
    identity: Mapping[str, str | None]
    rate: Fraction
    frames: int
    film: DreamedFilm
    timing: None = None
    sound: None = None
    aspect: Fraction = Fraction(1)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px of every frame, both even."""
        return even_shape(self.film.sources.shape)

    def needs(self) -> FilmNeeds:
        """Return what making the frames needs: see `FilmDraft.needs`."""
        dreams = film_dreams(self.film)
        first, later = dreams.first, dreams.later
        return FilmNeeds(
            memory_bytes=max(first.memory_bytes, later.memory_bytes),
            canvas_bytes=first.disk_bytes + (self.film.film.keep + 1) * later.disk_bytes,
            first_flops=first.flops,
            later_flops=later.flops,
            dreams=dreams,
        )

    def opened(self, surroundings: FilmSurroundings) -> AbstractContextManager[DreamedFrames]:
        """Return the maker of the frames, with its farm."""
        return frames_in(self.film, surroundings)


def zoom_length(job: FilmJob) -> tuple[Fraction, int]:
    """Return frames a second and the number of frames of a zoom film."""
    rate = DEFAULT_RATE if job.film.rate is None else parse_rate(job.film.rate)
    return rate, frame_count(DEFAULT_SECONDS if job.film.seconds is None else job.film.seconds, rate)


def draft_zoom(job: FilmJob, place_of: Callable[[Config, Mapping[str, str | None]], Place]) -> ZoomFilm:
    """Return a checked zoom film: see `render.film.makers`."""

    @cache
    def opened_once(image: str, seed: int) -> Source:
        return open_source(image, seed, job.source)

    def opener(image: str, seed: int, _source: SourceConfig) -> Source:
        return opened_once(image, seed)

    config = still_config(job)
    rate, frames = zoom_length(job)
    first = resolve(config, opener)
    identity = {**first.directory.identity, **dreamed_film(job, first, rate, frames).identity}
    place = place_of(first.config, identity)
    # Again, in the film's own directory, where the levels of a large picture lie.
    resolved = resolve(replace(config, output=replace(config.output, dir=str(place))), opener)
    return ZoomFilm(first.config, identity, rate, frames, dreamed_film(job, resolved, rate, frames))
