"""`make` commands of a sweep of films: one of its points again, unchanged or larger, and its favourites as larger films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from render.config.command_words import differing_words, film_root, make_command
from render.config.film_schema import FilmJob
from render.config.schema import picture_height
from render.sweeps.gallery.make_commands import FAVOURITES, SIZE_KEYS, FavouritePrints

#: Width of a larger film, px.
LARGER_WIDTH = 1280


def larger_film_command(job: FilmJob, size: tuple[int, int]) -> str:
    """Return the `make film ...` that makes a point's film `LARGER_WIDTH` px wide; `size` is (rows, columns) px now."""
    settings = asdict(job)
    root = film_root(settings)
    words = differing_words(settings, root, aside=SIZE_KEYS)
    return make_command("film", [f"conf={root}", *words, *_size_words(job, size)])


def favourites_as_films(points: Sequence[tuple[Sequence[str], FilmJob, tuple[int, int]]]) -> FavouritePrints:
    """Return command and file content that make each point's film larger.

    The command has what all films share; the file has the words of each point, without its size.

    Args:
        points: For each point the `key=value` of its axes, its config and the (rows, columns) px of its frames.
    """
    if not points:
        return FavouritePrints("", ())
    root = film_root(asdict(points[0][1]))
    films = [[*differing_words(asdict(job), root, aside=SIZE_KEYS), *_size_words(job, size)] for _, job, size in points]
    axis_words = [[word for word in words if not word.startswith(SIZE_KEYS)] for words, _, _ in points]
    keys = {word.partition("=")[0] for words in axis_words for word in words}
    prefixes = tuple(start for key in keys for start in (f"{key}=", f"{key}."))
    common = [word for word in films[0] if not word.startswith(prefixes) and all(word in film for film in films)]
    own = [
        (*words, *(word for word in film if word not in common and not word.startswith(prefixes)))
        for words, film in zip(axis_words, films, strict=True)
    ]
    # The file may not have empty points.
    files = tuple(words or (f"film.of={points[0][1].film.of}",) for words in own)
    return FavouritePrints(make_command("sweep", [f"conf={root}", f"sweep.points={FAVOURITES}", *common]), files)


def _size_words(job: FilmJob, size: tuple[int, int]) -> list[str]:
    """Return the words that make a film `LARGER_WIDTH` px wide, with its aspect if its config sets the height."""
    rows, columns = size
    height = [] if picture_height(job.output) is None else [f"output.height={max(2, round(LARGER_WIDTH * rows / columns))}"]
    return [f"output.width={LARGER_WIDTH}", *height]
