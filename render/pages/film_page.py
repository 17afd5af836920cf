"""HTML page of a film, from the template `film.html`, for the viewer's server."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from render.pages.templates import fill, script_json, table_rows


@dataclass(frozen=True)
class FilmFacts:
    """Facts about the film of a page.

    Attributes:
        title: Name of the film.
        shape: (rows, columns) px of the frames.
        rate: Frames a second.
        times: Time of every frame, s; None if they come at an even rate.
        facts: Pairs (name, value) about the film.
        settings: Pairs (key, value) of all its settings.
        has_source: True if the sources of its frames can be shown.
        is_loop: True if it plays again from the start.
        poll_ms: Interval at which the page asks for news, ms.
    """

    title: str
    shape: tuple[int, int]
    rate: float
    times: Sequence[float] | None
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    has_source: bool
    is_loop: bool
    poll_ms: int


def film_page(facts: FilmFacts) -> str:
    """Return the HTML of the page. Text is escaped, so `facts` cannot add markup or script."""
    rows, columns = facts.shape
    data = {
        "width": columns,
        "height": rows,
        "rate": facts.rate,
        "times": None if facts.times is None else list(facts.times),
        "hasSource": facts.has_source,
        "loop": facts.is_loop,
        "every": facts.poll_ms,
    }
    values = {
        "title": html.escape(facts.title),
        "facts": table_rows(facts.facts),
        "settings": table_rows(facts.settings),
        "data": script_json(data),
    }
    return fill(Path(__file__).with_name("film.html"), values)
