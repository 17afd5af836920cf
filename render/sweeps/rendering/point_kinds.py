"""Kinds of points: pictures and films. This is the only place that tells one from the other while points are rendered."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from render.config.film_schema import FilmJob
from render.config.schema import Config
from render.job.targets import targets
from render.sweeps.rendering.point_job import PointJob
from render.sweeps.rendering.source_cache import SourceCache
from render.sweeps.rendering.still_point import still_point
from render.sweeps.rendering.thumbnails import THUMBNAIL, shown_files

#: Formats of films that browsers play, and those that they show as pictures.
_PLAYED, _ANIMATED = ("mp4", "webm"), ("gif", "webp")


@dataclass(frozen=True)
class ShownFiles:
    """Files of a finished point, relative to the sweep's directory, with slashes; None for one that is missing.

    Attributes:
        picture: The finished picture or film.
        large: A version that a browser shows as a picture: the finished file itself if possible.
        thumbnail: A small picture that stands still.
        zoom: A page that shows the picture as deep zoom.
        motion: A small moving picture of a film.
        film: The film, if browsers play its format.
    """

    picture: str | None = None
    large: str | None = None
    thumbnail: str | None = None
    zoom: str | None = None
    motion: str | None = None
    film: str | None = None


def point_job(config: Config, sources: SourceCache) -> PointJob:
    """Check and plan the job of a point.

    Args:
        config: Config of a picture or a film, validated.
        sources: Opener of pictures.

    Raises:
        RenderError: The job cannot work.
    """
    if not isinstance(config, FilmJob):
        return still_point(config, sources)
    # Imported only for films: they need PyAV.
    from render.sweeps.rendering.film_point import film_point

    return film_point(config)


def point_files(config: Config, run_directory: Path, sweep_directory: Path) -> ShownFiles:
    """Return the files of a finished point."""
    if not isinstance(config, FilmJob):
        picture = targets(run_directory, config.name, config.output)[0].path
        return ShownFiles(*shown_files(run_directory, picture, sweep_directory))
    from render.film.film_file import file_name, format_name
    from render.sweeps.rendering.film_thumbnails import MOTION

    form, film = format_name(config), run_directory / file_name(config)

    def name(file: Path) -> str | None:
        return Path(os.path.relpath(file, sweep_directory)).as_posix() if file.exists() else None

    motion = name(run_directory / MOTION)
    return ShownFiles(
        picture=name(film),
        large=(name(film) if form in _ANIMATED else None) or motion,
        thumbnail=name(run_directory / THUMBNAIL),
        motion=motion,
        film=name(film) if form in _PLAYED else None,
    )
