"""Table of the kinds of films: the module of each value of `film.of`, imported when a film of it is drafted."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import cast

from render.config.film_schema import FilmJob
from render.config.schema import Config
from render.errors import UserError
from render.film.film_draft import FilmDraft
from render.storage.url import Place

#: Function that returns the directory of a film, by the config and the identity that its draft records.
PlaceOf = Callable[[Config, Mapping[str, str | None]], Place]
#: Function that drafts a film by its config. Makers whose dream names a run directory ask the second argument for it.
DraftFilm = Callable[[FilmJob, PlaceOf], FilmDraft]

#: Function of each kind of film, as "module:function" below `render.film`.
KINDS = {
    "zoom": "zoom_film:draft_zoom",
    "footage": "footage.dreamed_footage:draft_footage",
    "flight": "flight.flight_film:draft_flight",
    "steps": "flight.growth:draft_growth",
}


def draft_film(job: FilmJob, place_of: PlaceOf) -> FilmDraft:
    """Check a film, and return it; nothing is started or written.

    Args:
        job: Config of the film, validated.
        place_of: Returns the film's directory.

    Raises:
        UserError: The film cannot work.
    """
    module_name, _, name = KINDS[job.film.of].partition(":")
    try:
        module = importlib.import_module(f"render.film.{module_name}")
    except ModuleNotFoundError as error:
        if error.name is not None and f"render.film.{module_name}".startswith(error.name):
            raise UserError(f"film.of={job.film.of}: this version makes no such films") from None
        raise
    return cast(DraftFilm, getattr(module, name))(job, place_of)
