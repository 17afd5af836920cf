"""The axes of a sweep: keys that have several values. Hydra's multirun grammar, file names and lists become axes here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from render.config.compose import SWEEP, compose_root, fill_missing, groups_of, refuse_unknown, to_config
from render.config.schema import dotted
from render.config.sweep_schema import SweepJob
from render.errors import UserError
from render.models.architecture import Architecture
from render.models.weights import find_model
from render.sweep.refusals import refuse_axis, refuse_shared, refuse_twice
from render.sweep.shorthands import TERMS, channel_values, layer_values, point_names, read_points
from render.sweep.values import Written, labels, values_of_config, values_of_word

#: Free text may have no letter in it, too.
_TEXTS = ("output.title", "output.author")
#: The axis of a list of points.
POINT = "point"
_MODELS = ("model", "model.name")


@dataclass(frozen=True)
class Value:
    """One value of an axis: `label` is what people read, `words` are the `key=value` that set it, in Hydra's grammar."""

    label: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Axis:
    """A key that has several values: a dotted key, a config group, or `point` for a list of points."""

    key: str
    values: tuple[Value, ...]

    @property
    def name(self) -> str:
        """What the axis is called where there is little room: `terms` of `objective.terms`."""
        return self.key.rpartition(".")[2]


def axis_names(axes: Sequence[Axis]) -> list[str]:
    """What each axis is called: its name, or its whole key where two would be called the same."""
    names = [axis.name for axis in axes]
    return [axis.key if names.count(axis.name) > 1 else axis.name for axis in axes]


def point_label(axes: Sequence[Axis], at: Sequence[int]) -> str:
    """What people call the point with these numbers of values: `terms mixed4, step_size 2`."""
    named = zip(axis_names(axes), axes, at, strict=True)
    parts = [(axis.values[number].label, "" if axis.key == POINT else f"{name} ") for name, axis, number in named]
    return ", ".join(f"{name}{label}" for label, name in parts)


@dataclass(frozen=True)
class Found:
    """A sweep's words, read: the root config, the words that hold for all points, and the axes, outermost first.

    `job` is what the root config and the fixed words make; of its keys that are axes, it has what the root config says.
    """

    root: str
    job: SweepJob
    axes: tuple[Axis, ...]
    fixed: tuple[str, ...]

    def layout(self) -> tuple[int | None, int | None]:
        """Numbers of the axes that are rows and columns: as the config says, else the last two; none where there is one."""
        section = self.job.sweep
        rows, columns = (named_axis(self.axes, key) for key in (section.rows, section.columns))
        asked = columns is not None
        free = [number for number in range(len(self.axes)) if number not in (rows, columns)]
        if columns is None and (rows is not None or len(free) > 1) and free:
            columns = free.pop()
        if rows is None and free and (asked or len(self.axes) > 1):
            rows = free.pop()
        return rows, columns


def key_of(word: str) -> str:
    """The key of `key=value`, without Hydra's signs and package."""
    return word.partition("=")[0].lstrip("+~").partition("@")[0]


def named_axis(axes: Sequence[Axis], key: str | None) -> int | None:
    """The number of the axis with a key, or with a short name; None where there is none."""
    for names in ([axis.key for axis in axes], [axis.name for axis in axes]):
        if key in names:
            return names.index(key)
    return None


def holds(item: str, axis: Axis, value: Value) -> bool:
    """Whether an item of `sweep.first`, `key=value` with a value's label or its text, means this value of an axis."""
    key, _, text = item.partition("=")
    named = key in (axis.key, axis.name)
    return item in value.words or (named and (text == value.label or f"{axis.key}={text}" in value.words))


def find_axes(root: str, words: Sequence[str]) -> Found:
    """The axes that a root config and the words on a command line make.

    Words replace an axis of the root config that has the same key, and one value alone removes it. Raises `UserError` for
    unknown keys, for axes that are empty, mean nothing or decide no picture, and for no axis at all.
    """
    if "," in root and not root.endswith((".yaml", ".yml")):
        raise UserError(f"conf={root}: conf cannot be an axis; sweep one config at a time")
    groups = groups_of(root, SWEEP)
    asked: dict[str, Axis | None] = {}
    fixed: list[str] = []
    for word in words:
        key = key_of(word)
        axis = _axis_of_word(word, key, groups)
        asked.pop(key, None)
        asked[key] = axis
        if axis is None:
            fixed.append(word)
        else:
            fixed = [other for other in fixed if key_of(other) != key]
    composed = compose_root(SWEEP, root, fixed)
    # A root config may leave to the axes what has no usual value; points that lack it are refused.
    fill_missing(composed, SWEEP)
    job = to_config(composed, root, SWEEP)
    axes = {axis.key: axis for axis in _axes_of_config(job, asked, groups)}
    axes |= {key: axis for key, axis in asked.items() if axis is not None}
    found = Found(root, job, tuple(axes.values()), tuple(fixed))
    _check(found)
    return found


def _axis_of_word(word: str, key: str, groups: Mapping[str, Sequence[str]]) -> Axis | None:
    """The axis that a word makes; None for one that gives one value."""
    written, equals, text = word.partition("=")
    if not equals or key.startswith("sweep.axes."):
        return None
    refuse_unknown(key, groups, SWEEP)
    if not text.strip() and key not in _TEXTS:
        raise UserError(f"{word} has no value: give it one, or several with commas between them")
    if key == "sweep.first" and "=" in text and not re.search(r"""['"\\]""", text):
        raise UserError(f"{word}: Hydra reads = only in quotes: \"sweep.first=['step_size=2','seed=1']\"")
    several = values_of_word(key, text, groups)
    if several is None:
        return None
    if "@" in written:
        raise UserError(f"{word}: a group in a package of its own has one value; write {key}={text}")
    refuse_axis(key, groups, word)
    return _axis(key, several, word)


def _axis(key: str, values: Sequence[Written], where: str) -> Axis:
    """An axis of one key; `UserError` naming `where` it is written for one that is empty or says a value twice."""
    if not values:
        raise UserError(f"{where} has no values: give it at least one")
    refuse_twice([one.text for one in values], where)
    named = zip(labels(values), values, strict=True)
    return Axis(key, tuple(Value(label, (f"{key}={one.text}",)) for label, one in named))


def _axes_of_config(job: SweepJob, asked: Mapping[str, Axis | None], groups: Mapping[str, Sequence[str]]) -> Iterator[Axis]:
    """The axes of the `sweep` section, or what words replace them by."""
    section = job.sweep

    def is_asked(source: str) -> bool:
        return any(source == key or source.startswith(f"{key}.") for key in asked)

    points = [] if section.points is None else read_points(section.points, groups)
    pointed = {key for point in points for key in point}
    for key in pointed:
        refuse_axis(key, groups, f"sweep.points={section.points}")
        if key in asked:
            raise UserError(f"the points of {section.points} have {key} of their own: drop it here, or there")
    several = [*pointed, *(key for key, axis in asked.items() if axis is not None)]
    sources = list(_sources(job, several, groups))
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
        rivals = [other for other, its, _ in sources if its == key and other != source]
        rivals += ["sweep.points"] if key in pointed else []
        for rival in rivals:
            if is_asked(rival) == is_asked(source):
                raise UserError(f"{source} and {rival} both give {key} values: drop one of them")
        # What the command line says of the sweep stands before what its config says.
        if is_asked(source) or not rivals:
            yield _axis(key, make(), source)


#: Where an axis is written, its key, and what makes its values.
_Source = tuple[str, str, Callable[[], list[Written]]]


def _sources(job: SweepJob, others: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Iterator[_Source]:
    """All that the `sweep` section makes axes of; `others` are keys that words and points give several values."""
    section = job.sweep
    if not isinstance(section.axes, dict):
        raise UserError(f"sweep.axes={section.axes}: must be keys with their values, such as {{step_size: [1, 2]}}")
    given = {key: value for key, value in dotted(section.axes).items() if value is not None}

    def architecture() -> Architecture | None:
        several = any(key in _MODELS for key in (*given, *others))
        return None if several else find_model(job.model.name).architecture

    if section.layers is not None:
        yield "sweep.layers", TERMS, lambda: layer_values(section.layers, architecture())
    if section.channels is not None:
        channels = section.channels
        yield "sweep.channels", TERMS, lambda: channel_values(channels, architecture())
    for key, value in given.items():
        where = f"sweep.axes.{key}"
        refuse_axis(key, groups, where)
        yield where, key, partial(values_of_config, key, value, groups)


def _points_axis(points: Sequence[Mapping[str, Written]], path: str) -> Axis:
    words = [tuple(f"{key}={one.text}" for key, one in point.items()) for point in points]
    refuse_twice([" ".join(sorted(one)) for one in words], f"sweep.points={path}")
    names = labels([Written(" ".join(one), (name,)) for one, name in zip(words, point_names(points), strict=True)])
    return Axis(POINT, tuple(map(Value, names, words)))


def _check(found: Found) -> None:
    """Raises `UserError` for a sweep without axes, for places that points would share, and for axes that are none."""
    axes, section = found.axes, found.job.sweep
    if not axes:
        raise UserError("nothing to sweep: give a key several values, such as step_size=1,2,4 or image=photos/*.jpg")
    refuse_shared(found.job.output)
    are = f"there {'are' if len(axes) > 1 else 'is'} {', '.join(axis.key for axis in axes)}"
    rows, columns = (named_axis(axes, key) for key in (section.rows, section.columns))
    for key, named, number in (("rows", section.rows, rows), ("columns", section.columns, columns)):
        # What a root config says of an axis that words have taken away is not meant any more.
        asked = any(key_of(word) == f"sweep.{key}" for word in found.fixed)
        if asked and named is not None and number is None:
            raise UserError(f"sweep.{key}={named} is no axis: {are}")
    if rows is not None and rows == columns:
        raise UserError(f"sweep.rows and sweep.columns are both {section.rows}: set one of them to null")
    for item in section.first:
        if not any(holds(item, axis, value) for axis in axes for value in axis.values):
            raise UserError(f"sweep.first has {item}, which is no value of an axis: {are}")
