"""Axes of a sweep: keys with several values, read from Hydra's multirun grammar, file names and lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from render.config.compose import SWEEP, compose_root, fill_missing, groups_of, refuse_unknown, to_config
from render.config.schema import dotted
from render.config.sweep_schema import SweepJob
from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.weights import find_model
from render.sweeps.refusals import refuse_axis, refuse_shared, refuse_twice
from render.sweeps.shorthands import TERMS, channel_values, layer_values, point_names, read_points
from render.sweeps.values import Written, labels, values_of_config, values_of_word

#: Keys of free text, which may be empty.
_TEXTS = ("output.title", "output.author")
#: Key of the axis that a list of points makes.
POINT = "point"
_MODELS = ("model", "model.name")


@dataclass(frozen=True)
class Value:
    """One value of an axis: `label` is for display, `words` are the `key=value` that set it, in Hydra's grammar."""

    label: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """Key with several values: a dotted key, a config group, or `point` for a list of points."""

    key: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """Short name of the axis: `terms` of `objective.terms`."""
        return self.key.rpartition(".")[2]


def axis_names(axes: Sequence[Axis]) -> list[str]:
    """Return the display name of each axis: its short name, or its whole key where two short names are equal."""
    names = [axis.name for axis in axes]
    return [axis.key if names.count(axis.name) > 1 else axis.name for axis in axes]


def point_label(axes: Sequence[Axis], at: Sequence[int]) -> str:
    """Return the display name of the point with the value indices `at`, such as `terms mixed4, step_size 2`."""
    axis_values = zip(axis_names(axes), axes, at, strict=True)
    parts = [(axis.values[number].label, "" if axis.key == POINT else f"{name} ") for name, axis, number in axis_values]
    return ", ".join(f"{name}{label}" for label, name in parts)


@dataclass(frozen=True)
class Found:
    """Parsed words of a sweep: the root config, the words that hold for all points, and the axes, outermost first.

    `job` is the config of the root config and the fixed words. Its keys that are axes have the values of the root config.
    """

    root: str
    job: SweepJob
    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]

    def layout(self) -> tuple[int | None, int | None]:
        """Return the indices of the row and column axes: as configured, else the last two; rows are None for one axis."""
        section = self.job.sweep
        rows, columns = (named_axis(self.axes, key) for key in (section.rows, section.columns))
        has_columns = columns is not None
        free = [number for number in range(len(self.axes)) if number not in (rows, columns)]
        if columns is None and (rows is not None or len(free) > 1) and free:
            columns = free.pop()
        if rows is None and free and (has_columns or len(self.axes) > 1):
            rows = free.pop()
        return rows, columns


def key_of(word: str) -> str:
    """Return the key of `key=value`, without Hydra's prefixes and package."""
    return word.partition("=")[0].lstrip("+~").partition("@")[0]


def named_axis(axes: Sequence[Axis], key: str | None) -> int | None:
    """Return the index of the axis with this key or, failing that, this short name; None where there is none."""
    for names in ([axis.key for axis in axes], [axis.name for axis in axes]):
        if key in names:
            return names.index(key)
    return None


def holds(item: str, axis: Axis, value: Value) -> bool:
    """Return whether an item of `sweep.first` means this value: `key=value` with the value's label or its text."""
    key, _, text = item.partition("=")
    is_key = key in (axis.key, axis.name)
    return item in value.words or (is_key and (text == value.label or f"{axis.key}={text}" in value.words))


def find_axes(root: str, words: Sequence[str]) -> Found:
    """Return the axes that a root config and the words on a command line define.

    A word replaces an axis of the root config that has the same key; a word with a single value removes it.

    Raises:
        UserError: For an unknown key, an axis that is empty, invalid or without effect on pictures, and for no axes.
    """
    if "," in root and not root.endswith((".yaml", ".yml")):
        raise UserError(f"conf={root}: conf cannot be an axis; sweep one config at a time")
    groups = groups_of(root, SWEEP)
    word_axes: dict[str, Axis | None] = {}
    fixed: list[str] = []
    for word in words:
        key = key_of(word)
        axis = _axis_of_word(word, key, groups)
        word_axes.pop(key, None)
        word_axes[key] = axis
        if axis is None:
            fixed.append(word)
        else:
            fixed = [fixed_word for fixed_word in fixed if key_of(fixed_word) != key]
    composed = compose_root(SWEEP, root, fixed)
    # A root config may leave mandatory values to the axes; points that lack them are refused.
    fill_missing(composed, SWEEP)
    job = to_config(composed, root, SWEEP)
    axes = {axis.key: axis for axis in _axes_of_config(job, word_axes, groups)}
    axes |= {key: axis for key, axis in word_axes.items() if axis is not None}
    sweep_axes = Found(root, job, tuple(axes.values()), tuple(fixed))
    _check(sweep_axes)
    return sweep_axes


def _axis_of_word(word: str, key: str, groups: Mapping[str, Sequence[str]]) -> Axis | None:
    """Return the axis that a word defines; None for a word with a single value."""
    key_text, equals, text = word.partition("=")
    if not equals or key.startswith("sweep.axes."):
        return None
    refuse_unknown(key, groups, SWEEP)
    if not text.strip() and key not in _TEXTS:
        raise UserError(f"{word} has no value: give it one, or several with commas between them")
    if key == "sweep.first" and "=" in text and not re.search(r"""['"\\]""", text):
        raise UserError(f"{word}: Hydra reads = only in quotes: \"sweep.first=['step_size=2','seed=1']\"")
    values = values_of_word(key, text, groups)
    if values is None:
        return None
    if "@" in key_text:
        raise UserError(f"{word}: a group in a package of its own has one value; write {key}={text}")
    refuse_axis(key, groups, word)
    return _axis(key, values, word)


def _axis(key: str, values: Sequence[Written], where: str) -> Axis:
    """Return an axis of one key. Raise `UserError`, which names `where`, if it is empty or repeats a value."""
    if not values:
        raise UserError(f"{where} has no values: give it at least one")
    refuse_twice([value.text for value in values], where)
    labelled_values = zip(labels(values), values, strict=True)
    return Axis(key, tuple(Value(label, (f"{key}={value.text}",)) for label, value in labelled_values))


def _axes_of_config(job: SweepJob, asked: Mapping[str, Axis | None], groups: Mapping[str, Sequence[str]]) -> Iterator[Axis]:
    """Yield the axes of the `sweep` section, or the axes of words that replace them."""
    section = job.sweep

    def is_asked(source: str) -> bool:
        return any(source == key or source.startswith(f"{key}.") for key in asked)

    points = [] if section.points is None else read_points(section.points, groups)
    point_keys = {key for point in points for key in point}
    for key in point_keys:
        refuse_axis(key, groups, f"sweep.points={section.points}")
        if key in asked:
            raise UserError(f"the points of {section.points} have {key} of their own: drop it here, or there")
    axis_keys = [*point_keys, *(key for key, axis in asked.items() if axis is not None)]
    sources = list(_sources(job, axis_keys, groups))
    if points:
        yield _points_axis(points, str(section.points))
    for source, key, make in sources:
        if key in asked:
            if is_asked(source):
                raise UserError(f"{source} and {key} both say what {key} is: drop one of them")
            axis = asked[key]
            if axis is not None:
                yield axis
            continue
        rivals = [rival_source for rival_source, source_key, _ in sources if source_key == key and rival_source != source]
        rivals += ["sweep.points"] if key in point_keys else []
        for rival in rivals:
            if is_asked(rival) == is_asked(source):
                raise UserError(f"{source} and {rival} both give {key} values: drop one of them")
        # The command line takes precedence over the config.
        if is_asked(source) or not rivals:
            yield _axis(key, make(), source)


#: Source of an axis: where it is written, its key, and a function that returns its values.
_Source = tuple[str, str, Callable[[], list[Written]]]


def _sources(job: SweepJob, others: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Iterator[_Source]:
    """Yield every source of an axis in the `sweep` section; `others` are keys with several values in words and points."""
    section = job.sweep
    if not isinstance(section.axes, dict):
        raise UserError(f"sweep.axes={section.axes}: must be keys with their values, such as {{step_size: [1, 2]}}")
    axis_values = {key: value for key, value in dotted(section.axes).items() if value is not None}

    def architecture() -> Architecture | None:
        several_models = any(key in _MODELS for key in (*axis_values, *others))
        return None if several_models else find_model(job.model.name).architecture

    if section.layers is not None:
        yield "sweep.layers", TERMS, lambda: layer_values(section.layers, architecture())
    if section.channels is not None:
        channels = section.channels
        yield "sweep.channels", TERMS, lambda: channel_values(channels, architecture())
    for key, value in axis_values.items():
        where = f"sweep.axes.{key}"
        refuse_axis(key, groups, where)
        yield where, key, partial(values_of_config, key, value, groups)


def _points_axis(points: Sequence[Mapping[str, Written]], path: str) -> Axis:
    words = [tuple(f"{key}={one.text}" for key, one in point.items()) for point in points]
    refuse_twice([" ".join(sorted(one)) for one in words], f"sweep.points={path}")
    names = labels([Written(" ".join(one), (name,)) for one, name in zip(words, point_names(points), strict=True)])
    return Axis(POINT, tuple(map(Value, names, words)))


def _check(found: Found) -> None:
    """Raise `UserError` if there are no axes, if points would share an output path, or if a named axis does not exist."""
    axes, section = found.axes, found.job.sweep
    if not axes:
        raise UserError("nothing to sweep: give a key several values, such as step_size=1,2,4 or image=photos/*.jpg")
    refuse_shared(found.job.output)
    axes_text = f"there {'are' if len(axes) > 1 else 'is'} {', '.join(axis.key for axis in axes)}"
    rows, columns = (named_axis(axes, key) for key in (section.rows, section.columns))
    for key, axis_key, number in (("rows", section.rows, rows), ("columns", section.columns, columns)):
        # Ignore settings of the root config for an axis that words have removed.
        is_set = any(key_of(word) == f"sweep.{key}" for word in found.fixed)
        if is_set and axis_key is not None and number is None:
            raise UserError(f"sweep.{key}={axis_key} is no axis: {axes_text}")
    if rows is not None and rows == columns:
        raise UserError(f"sweep.rows and sweep.columns are both {section.rows}: set one of them to null")
    for item in section.first:
        if not any(holds(item, axis, value) for axis in axes for value in axis.values):
            raise UserError(f"sweep.first has {item}, which is no value of an axis: {axes_text}")
