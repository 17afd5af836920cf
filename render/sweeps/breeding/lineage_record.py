"""Lineage in `sweep.json`: the points of a bred sweep, from which a broken-off one goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from render.config.sweep_kinds import FILM_SWEEP
from render.errors import UserError
from render.storage.records import Sha256, WholeNumber, fits
from render.sweeps.axes.definition import POINT, SweepDefinition
from render.sweeps.axes.points_file import PointValues, point_values
from render.sweeps.axes.refusals import refuse_axis
from render.sweeps.monitor.sweep_record import read_sweep

#: Key of the lineage in `sweep.json`.
BREED = "breed"


class _RecordedPoint(TypedDict):
    words: list[str]
    parents: list[WholeNumber]


class RecordedLineage(TypedDict):
    """Lineage as `sweep.json` has it; words are checked like those of a file of points."""

    generation: WholeNumber
    favourites: str
    digest: Sha256
    settings: Sha256
    parents: list[list[str]]
    shared: list[str]
    ranges: dict[str, list[float]]
    points: list[_RecordedPoint]


def lineage_facts(definition: SweepDefinition) -> dict[str, Any]:
    """Return what `sweep.json` says of the origin of a sweep's points; nothing for a sweep that is not bred."""
    lineage = definition.lineage
    if lineage is None:
        return {}
    axis = next(axis for axis in definition.axes if axis.key == POINT)
    recorded: RecordedLineage = {
        "generation": lineage.generation,
        "favourites": lineage.favourites,
        "digest": lineage.digest,
        "settings": lineage.settings,
        "parents": [list(words) for words in lineage.parents],
        "shared": list(lineage.shared),
        "ranges": {key: list(pair) for key, pair in lineage.ranges.items()},
        "points": [
            {"words": list(value.words), "parents": list(parents)}
            for value, parents in zip(axis.values, lineage.origins, strict=True)
        ],
    }
    return {BREED: recorded}


def read_lineage(directory: Path) -> tuple[Mapping[str, Any], RecordedLineage | None]:
    """Return the record in a sweep's directory, empty if there is none, and the lineage in it, None if it has none."""
    record = read_sweep(directory)
    lineage = record.get(BREED)
    if not fits(lineage, RecordedLineage):
        return record, None
    return record, lineage


def recorded_values(words: Sequence[str], where: str, groups: Mapping[str, Sequence[str]]) -> PointValues:
    """Return the values of recorded words, which are checked like those of a file: somebody may have sent the record.

    Raises:
        UserError: A word could not stand in a file of points. The message begins with `where`.
    """
    texts = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"{where}: {word[:80]!r} is not key=value")
        refuse_axis(key, groups, where, FILM_SWEEP)
        texts[key] = text
    return point_values(texts, where, groups, FILM_SWEEP)
