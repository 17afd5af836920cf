"""`make` commands of points: one of them again or larger, and favourites larger. A larger picture is a print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from render.config.command_words import film_command
from render.config.film_schema import FilmJob
from render.config.schema import Config
from render.sweeps.gallery.film_commands import favourites_as_films, larger_film_command
from render.sweeps.gallery.make_commands import FavouritePrints, favourites_as_prints, point_command, poster_command


def point_again(config: Config) -> str:
    """Return the `make ...` that makes a point's picture or film again."""
    return film_command(asdict(config)) if isinstance(config, FilmJob) else point_command(asdict(config))


def point_larger(config: Config, size: tuple[int, int]) -> str:
    """Return the `make ...` that makes a point larger; `size` is (rows, columns) px of its picture or frames."""
    return larger_film_command(config, size) if isinstance(config, FilmJob) else poster_command(config, size)


def favourites_larger(points: Sequence[tuple[Sequence[str], Config, tuple[int, int]]]) -> FavouritePrints:
    """Return command and file content that make each point larger; see `favourites_as_prints`."""
    films = [(words, config, size) for words, config, size in points if isinstance(config, FilmJob)]
    return favourites_as_films(films) if films else favourites_as_prints(points)
