"""Favourites to breed from: a file of points, checked as a whole before anything is bred."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from render.config.compose import refuse_unknown, schema_keys
from render.config.sweep_kinds import FILM_SWEEP
from render.errors import UserError
from render.sweeps.axes.definition import SweepDefinition, key_of
from render.sweeps.axes.points_file import PointsDocument, PointValues, point_values, read_document
from render.sweeps.axes.refusals import refuse_axis
from render.system.version import __version__

#: Keys and sections that belong to the picture or film and not to how it is dreamed.
_PICTURE_KEYS = ("image", "seed", "source", "output", "boundary", "film")
#: Keys that say how wide or high a picture is, of which a config has one for each side.
_SIDES = tuple(tuple(f"output.{side}{unit}" for unit in ("", "_cm", "_in")) for side in ("width", "height"))


@dataclass(frozen=True)
class Favourites:
    """Favourites with what their sweep's points share.

    Attributes:
        where: Beginning of messages about the file.
        points: The favourites.
        shared: The settings that all have.
        ranges: (least, largest) of the numbers on the axes of their sweep, by key.
        generation: Number of times that they have been bred.
        version: Version of the program that wrote the file; empty if unknown.
        digest: sha256 of points and shared settings.
    """

    where: str
    points: tuple[PointValues, ...]
    shared: PointValues
    ranges: Mapping[str, tuple[float, float]]
    generation: int
    version: str
    digest: str

    def without(self, definition: SweepDefinition, groups: Mapping[str, Sequence[str]]) -> Favourites:
        """Return the favourites without the keys that fixed words and axes of a sweep set, each point once.

        Raises:
            UserError: Nothing is left that could differ.
        """
        typed_keys = [*map(key_of, definition.fixed_words), *(axis.key for axis in definition.axes)]
        shared = _left(self.shared, typed_keys)
        sections = {key.partition(".")[0] for key in schema_keys() if "." in key}
        if any(key in groups and key not in sections for key in typed_keys):
            # A group such as `look` has values for many keys: what the favourites' sweep had in their place gives way.
            shared = {key: value for key, value in shared.items() if key.partition(".")[0] in _PICTURE_KEYS}
        points = {json.dumps(_texts(point), sort_keys=True): point for point in (_left(p, typed_keys) for p in self.points)}
        if not any(points.values()) and not definition.config.sweep.breed.vary:
            raise UserError(f"{self.where}: the command sets all that its points do: leave a key to the favourites")
        return Favourites(
            self.where, tuple(points.values()), shared, self.ranges, self.generation, self.version, self.digest
        )


def read_favourites(path: str, groups: Mapping[str, Sequence[str]]) -> Favourites:
    """Read a file of favourites.

    Args:
        path: The file: what a gallery exports, or any file of points.
        groups: The choices of each config group.

    Raises:
        UserError: It cannot be read, is no file of favourites, or names keys or values that do not exist.
    """
    document = read_document(path, "from")
    entries = [document.shared, *document.points]
    _refuse_gone_keys(document, entries, groups)
    for entry in entries:
        for key in entry:
            refuse_axis(str(key), groups, document.where, FILM_SWEEP)
    points = [
        point_values(entry, f"{document.where}, point {number}", groups, FILM_SWEEP)
        for number, entry in enumerate(document.points, start=1)
    ]
    shared = point_values(document.shared, f"{document.where}, shared", groups, FILM_SWEEP)
    content = [sorted(map(json.dumps, map(_sorted_texts, points))), _sorted_texts(shared)]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Favourites(document.where, tuple(points), shared, document.ranges, document.generation, document.version, digest)


def version_note(favourites: Favourites) -> str:
    """Return a line about favourites of another version of the program; empty if they are of this one."""
    if favourites.version in ("", __version__):
        return ""
    return (
        f"{favourites.where} is of version {favourites.version} and this is {__version__}: dreamed again, the favourites "
        "may look different"
    )


def _refuse_gone_keys(
    document: PointsDocument, entries: Sequence[Mapping[Any, Any]], groups: Mapping[str, Sequence[str]]
) -> None:
    """Raise `UserError`, naming every key that does not exist, with the nearest that does."""
    hints: dict[str, str] = {}
    for key in (str(key) for entry in entries for key in entry):
        try:
            refuse_unknown(key, groups, FILM_SWEEP)
        except UserError as error:
            hints[key[:80]] = str(error).rpartition("': ")[2] if "did you mean" in str(error) else ""
    if hints:
        keys_text = ", ".join(f"{key} ({hint})" if hint else key for key, hint in hints.items())
        version_text = f"; the file is of version {document.version}, this is {__version__}" if document.version else ""
        raise UserError(f"{document.where} names keys that do not exist: {keys_text}{version_text}: rename or remove them")


def _left(values: PointValues, typed_keys: Sequence[str]) -> PointValues:
    """Return the values of the keys that no typed key sets."""
    return {key: value for key, value in values.items() if not any(_replaces(typed_key, key) for typed_key in typed_keys)}


def _replaces(typed_key: str, key: str) -> bool:
    """Return whether a word with `typed_key` leaves the value of `key` without effect."""
    same_side = any(typed_key in keys and key in keys for keys in _SIDES)
    # Terms take precedence over a preset.
    is_preset = key == "objective" and typed_key == "objective.terms"
    return key == typed_key or key.startswith(f"{typed_key}.") or same_side or is_preset


def _texts(point: PointValues) -> dict[str, str]:
    return {key: value.text for key, value in point.items()}


def _sorted_texts(point: PointValues) -> list[list[str]]:
    return sorted([key, value.text] for key, value in point.items())
