"""Command `film`: make a film, or plan one."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.compose import is_film, load, root_configs
from render.config.film_schema import FilmJob
from render.config.formats import names_of
from render.config.root_kinds import FILM
from render.system import interrupts
from render.terminal.document import Document
from render.terminal.lines import print_lines

# Modules that need JAX are imported by the functions, so that a wrong word is refused before.

#: Words of a film without any: short and small enough that a first try can wait for it.
FIRST_FILM = ("film.seconds=3", "output.width=320")


def film_command(root: str, words: Sequence[str]) -> int:
    """Make the film of a config and print its place."""
    if not words and root == "zoom":
        words = FIRST_FILM
    job = load(FILM, root, film_words(words))
    _say_kind(job, root, words)
    from render.film.film_run import make_film
    from render.job.report import start_logging

    interrupts.hold()
    start_logging(quiet=job.quiet)
    make_film(job)
    return 0


def plan_film(root: str, words: Sequence[str], *, quiet: bool = False) -> Document:
    """Return the plan of the film of a config; with `quiet`, print nothing on the way."""
    job = load(FILM, root, film_words(words))
    from render.film.film_plan import film_plan
    from render.job.report import start_logging

    interrupts.hold()
    start_logging(quiet=job.quiet or quiet)
    return film_plan(job)


def _say_kind(job: FilmJob, root: str, words: Sequence[str]) -> None:
    """Say what the words leave open: that a picture is filmed as a zoom, or how long a first film is."""
    if job.quiet:
        return
    if words is FIRST_FILM:
        print_lines(f"a first film, short and small ({' '.join(FIRST_FILM)}); yours: make film image=me.jpg")
    elif not is_film(root, words):
        films = sorted(set(root_configs(FILM)) - set(root_configs()))
        print_lines(f"conf={root} is a picture, filmed as a zoom: films of their own are conf={names_of(films)}")


def film_words(words: Sequence[str]) -> list[str]:
    """Return the words with `run=DIR` as the key that it stands for."""
    return [f"film.{word}" if word.startswith("run=") else word for word in words]
