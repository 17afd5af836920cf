"""Command `film`: make a film, or plan one."""

from __future__ import annotations

from collections.abc import Sequence

from render.config.compose import FILM, load
from render.system import interrupts
from render.terminal.document import Document

# Modules that need JAX are imported by the functions, so that a wrong word is refused before.


def film_command(root: str, words: Sequence[str]) -> int:
    """Make the film of a config and print its place."""
    job = load(FILM, root, film_words(words))
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


def film_words(words: Sequence[str]) -> list[str]:
    """Return the words with `run=DIR` as the key that it stands for."""
    return [f"film.{word}" if word.startswith("run=") else word for word in words]
