"""Checks that refuse invalid sweeps, with messages of one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from render.config.compose import refuse_unknown, schema_keys
from render.config.formats import FORMATS
from render.config.root_kinds import FILM, SWEEP, Schema
from render.config.schema import OutputConfig, picture_format
from render.config.sweep_schema import SweepJob
from render.errors import UserError

#: Sections and keys that cannot be axes, since no picture or film depends on them.
_NEVER_AXES = (
    "farm",
    "checkpoint",
    "quiet",
    "log",
    "fresh",
    "overwrite",
    "hydra",
    "output.also",
    "film.keep",
    "film.ahead_gb",
    "film.pictures",
)
#: Keys of output paths.
_PATH_KEYS = ("output.dir", "output.path")


def refuse_axis(key: str, groups: Mapping[str, Sequence[str]], where: str, schema: Schema[SweepJob] = SWEEP) -> None:
    """Raise `UserError` for a key that is unknown to a sweep of this schema, or changes no picture.

    The message begins with `where`.
    """
    refuse_film_key(key, where, schema)
    if key == "conf":
        raise UserError(f"{where}: conf cannot be an axis; sweep one config at a time")
    section = key.partition(".")[0]
    if section == "sweep":
        raise UserError(f"{where}: {key} is of the sweep itself and has one value; a list is {key}=[A,B]")
    if section in _NEVER_AXES or key in _NEVER_AXES:
        kind = "film" if section == "film" else "picture"
        raise UserError(f"{where}: {key} cannot be an axis, for no {kind} depends on it; give it one value")
    if key == "output.format":
        raise UserError(f"{where}: {key} cannot be an axis; further formats of every picture are output.also=[dzi] or such")
    if key in _PATH_KEYS:
        raise UserError(f"{where}: {key} cannot be an axis: every point has a directory of its own, in sweep.dir")
    refuse_unknown(key, groups, schema)


def refuse_film_key(key: str, where: str, schema: Schema[SweepJob]) -> None:
    """Raise `UserError`, beginning with `where`, for a film's key in a sweep of pictures."""
    if schema is SWEEP and key in schema_keys(FILM) and key not in schema_keys(SWEEP):
        raise UserError(
            f"{where}: {key} is of films, and this is a sweep of pictures: add film.of=zoom, or name conf=zoom, footage or "
            "flight"
        )


def refuse_twice(texts: Sequence[str], where: str) -> None:
    """Raise `UserError` for a text that occurs more than once."""
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            raise UserError(f"{where} has {text} twice: drop one")
        seen.add(text)


def refuse_shared(output: OutputConfig) -> None:
    """Raise `UserError` for paths to which all points would write."""
    if output.dir is not None:
        raise UserError(f"output.dir={output.dir}: every point has a directory of its own; sweep.dir says where all are")
    if output.path is not None:
        raise UserError(f"output.path={output.path}: all points would write to it; sweep.dir says where their pictures are")
    shared_paths = [also for also in output.also if also not in FORMATS]
    if shared_paths:
        raise UserError(f"output.also has {shared_paths[0]}, to which all points would write: name formats, such as [dzi]")
    form = picture_format(output)
    if not FORMATS[form].is_read:
        raise UserError(
            f"output.format={form}: a gallery shows pictures, which this is not: set output.also=[{form}] instead"
        )
