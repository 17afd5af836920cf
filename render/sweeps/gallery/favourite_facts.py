"""Facts about a sweep that its file of favourites carries, so that points can be bred from the file alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from render.config.command_words import differing_words
from render.config.compose import PATH_KEYS
from render.config.film_schema import FilmJob
from render.config.hydra_text import name_text, parsed_word
from render.sweeps.axes.definition import POINT, SweepDefinition, axis_index, key_of

#: Root config of a bred sweep.
BREED_CONFIG = "breed"
#: Sections and keys that a bred sweep has of its own.
_BREED_KEYS = ("name", "node")


def shared_words(definition: SweepDefinition) -> tuple[str, ...]:
    """Return the `key=value` that all points of a sweep share, where it differs from the config of a bred sweep.

    Keys that an axis sets, and keys in a group that an axis chooses, are left out.
    """
    axis_keys = {key_of(word) for axis in definition.axes for value in axis.values for word in value.words}
    job = definition.config.job()
    words = differing_words(asdict(job), BREED_CONFIG, aside=(*_BREED_KEYS, "image", "film.of"))
    # The picture is always there, so that no later default takes its place, and the kind of film, which makes it films.
    kind = [f"film.of={job.film.of}"] if isinstance(job, FilmJob) else []
    words = [f"image={name_text(job.image)}", *kind, *words]
    return tuple(word for word in words if not any(_covers(key, key_of(word)) for key in axis_keys))


def axis_ranges(definition: SweepDefinition) -> dict[str, tuple[float, float]]:
    """Return (least, largest) of the numbers on each axis that has several, by key; for a bred sweep those of its file."""
    ranges = dict(definition.lineage.ranges) if definition.lineage else {}
    for axis in definition.axes:
        if axis.key == POINT or axis.key in PATH_KEYS:
            continue
        values = [parsed_word(word).value() for value in axis.values for word in value.words]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(set(numbers)) > 1:
            ranges[axis.key] = float(min(numbers)), float(max(numbers))
    return ranges


def point_origins(definition: SweepDefinition, value_indices: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the parents of each point, given by the indices of its values; none if the sweep is not bred."""
    axis = axis_index(definition.axes, POINT)
    if definition.lineage is None or axis is None:
        return [()] * len(value_indices)
    return [definition.lineage.origins[indices[axis]] for indices in value_indices]


def _covers(axis_key: str, key: str) -> bool:
    """Return whether an axis sets a key: itself, its section or its group."""
    return key == axis_key or key.startswith(f"{axis_key}.") or axis_key.startswith(f"{key}.")
