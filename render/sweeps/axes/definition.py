"""Definition of a sweep: the axes, their values, and the config that all points share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from render.config.root_kinds import SWEEP, Schema
from render.config.sweep_schema import SweepJob

#: Key of the axis that a list of points makes.
POINT = "point"


@dataclass(frozen=True)
class AxisValue:
    """One value of an axis.

    Attributes:
        label: Display name, unique on its axis.
        words: The `key=value` that set it, in Hydra's grammar.
    """

    label: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class SweepAxis:
    """Key with several values.

    Attributes:
        key: A dotted key, a config group, or `point` for a list of points.
        values: The values, in the order of the grid.
    """

    key: str
    values: tuple[AxisValue, ...]

    @property
    def name(self) -> str:
        """Short name of the axis: `terms` of `objective.terms`."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True)
class Lineage:
    """Origin of the points of a bred sweep.

    Attributes:
        generation: Number of times that the points have been bred, from 1.
        favourites: The file of favourites, as the user named it.
        digest: sha256 of the favourites and of what they share.
        settings: sha256 of everything else that the points depend on.
        parents: The `key=value` of each favourite.
        shared: The `key=value` that the favourites' sweep had for all points.
        ranges: (least, largest) of the numbers on the axes of that sweep, by key.
        origins: For each value of the axis of points the indices of its parents; a favourite that is kept has itself alone.
        notes: Lines for the user.
    """

    generation: int
    favourites: str
    digest: str
    settings: str
    parents: tuple[tuple[str, ...], ...]
    shared: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float]]
    origins: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepDefinition:
    """Sweep as its root config and its words define it.

    Attributes:
        root: Name or path of the root config.
        config: Config of the root config and the fixed words. Its keys that are axes have the root config's values.
        axes: The axes, outermost first.
        fixed_words: The words that hold for all points.
        lineage: Origin of the points of a bred sweep; None for any other.
        schema: Schema of the sweep: of pictures, or of films.
    """

    root: str
    config: SweepJob
    axes: tuple[SweepAxis, ...]
    fixed_words: tuple[str, ...]
    lineage: Lineage | None = None
    schema: Schema[SweepJob] = SWEEP

    def table_axes(self) -> tuple[int | None, int | None]:
        """Return the indices of the row and column axes: as configured, else the last two.

        A sweep with a single axis has no rows: the first index is None.
        """
        section = self.config.sweep
        rows, columns = (axis_index(self.axes, key) for key in (section.rows, section.columns))
        has_columns = columns is not None
        free_axes = [number for number in range(len(self.axes)) if number not in (rows, columns)]
        if columns is None and (rows is not None or len(free_axes) > 1) and free_axes:
            columns = free_axes.pop()
        if rows is None and free_axes and (has_columns or len(self.axes) > 1):
            rows = free_axes.pop()
        return rows, columns


def axis_names(axes: Sequence[SweepAxis]) -> list[str]:
    """Return the display name of each axis.

    It is the short name, or the whole key where two short names are equal.
    """
    names = [axis.name for axis in axes]
    return [axis.key if names.count(axis.name) > 1 else axis.name for axis in axes]


def axis_index(axes: Sequence[SweepAxis], key: str | None) -> int | None:
    """Return the index of the axis with this key or, failing that, this short name.

    Return None if there is no such axis.
    """
    for names in ([axis.key for axis in axes], [axis.name for axis in axes]):
        if key in names:
            return names.index(key)
    return None


def point_label(axes: Sequence[SweepAxis], value_indices: Sequence[int]) -> str:
    """Return the display name of a point from its values, such as `terms mixed4, step_size 2`."""
    labels = [axis.values[number].label for axis, number in zip(axes, value_indices, strict=True)]
    names = ["" if axis.key == POINT else f"{name} " for axis, name in zip(axes, axis_names(axes), strict=True)]
    return ", ".join(f"{name}{label}" for name, label in zip(names, labels, strict=True))


def names_value(item: str, axis: SweepAxis, value: AxisValue) -> bool:
    """Return whether an item of `sweep.first` means this value.

    An item is `key=value` with the value's label or its text.
    """
    key, _, text = item.partition("=")
    is_key = key in (axis.key, axis.name)
    return item in value.words or (is_key and (text == value.label or f"{axis.key}={text}" in value.words))


def key_of(word: str) -> str:
    """Return the key of `key=value`, without Hydra's prefixes and package."""
    return word.partition("=")[0].lstrip("+~").partition("@")[0]
