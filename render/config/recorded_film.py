"""Config of a film as its record has it, which may be anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from render.config.compose import to_config
from render.config.film_schema import FilmJob
from render.config.hydra_text import literals
from render.config.root_kinds import FILM
from render.errors import UserError


def recorded_film(record: Mapping[str, Any]) -> FilmJob:
    """Return the config in a film's record, checked; `${...}` in it is plain text. Raise `UserError` if it is invalid."""
    try:
        composed = OmegaConf.create(literals({**record["config"], "film": record["film"]}))
        assert isinstance(composed, DictConfig)
        return to_config(composed, "run.json", FILM)
    except (OmegaConfBaseException, TypeError, ValueError, ArithmeticError, AttributeError, LookupError):
        raise UserError("run.json: its film is none of this program") from None
