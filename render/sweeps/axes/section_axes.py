"""Axes of a config's `sweep` section: `axes`, `layers`, `channels` and a file of `points`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from render.config.root_kinds import SWEEP, Schema
from render.config.schema import dotted
from render.config.sweep_schema import SweepJob
from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.weights import find_model
from render.sweeps.axes.definition import POINT, AxisValue, SweepAxis
from render.sweeps.axes.points_file import document_points, read_document
from render.sweeps.axes.refusals import refuse_axis, refuse_twice
from render.sweeps.axes.shorthands import TERMS, channel_values, layer_values, point_names
from render.sweeps.axes.values import ValueText, labels, values_of_config

_MODEL_KEYS = ("model", "model.name")


@dataclass(frozen=True)
class _AxisSource:
    """Entry of the `sweep` section that gives a key values.

    Attributes:
        entry: Dotted name of the entry, for messages.
        key: The key that gets values.
        read_values: Returns the values; called only if no word replaces the axis.
    """

    entry: str
    key: str
    read_values: Callable[[], list[ValueText]]


def section_axes(
    config: SweepJob,
    word_axes: Mapping[str, SweepAxis | None],
    groups: Mapping[str, Sequence[str]],
    schema: Schema[SweepJob] = SWEEP,
) -> Iterator[SweepAxis]:
    """Yield the axes of the `sweep` section, or the axes of words that replace them.

    Args:
        config: The composed config.
        word_axes: For each key on the command line its axis; None for a single value.
        groups: The options of each config group.
        schema: Schema of the sweep.

    Raises:
        UserError: If two entries, or an entry and a word, give the same key values.
    """
    section = config.sweep

    def is_in_words(entry: str) -> bool:
        return any(entry == key or entry.startswith(f"{key}.") for key in word_axes)

    document = None if section.points is None else read_document(section.points, "sweep.points")
    points = [] if document is None else document_points(document, groups, schema)
    point_keys = {key for point in points for key in point}
    for key in point_keys:
        refuse_axis(key, groups, f"sweep.points={section.points}", schema)
        if key in word_axes:
            raise UserError(f"the points of {section.points} have {key} of their own: drop it here, or there")
    axis_keys = [*point_keys, *(key for key, axis in word_axes.items() if axis is not None)]
    sources = list(_sources(config, axis_keys, groups, schema))
    if document is not None:
        yield points_axis(points, document.where, document.names)
    for source in sources:
        entry, key = source.entry, source.key
        if key in word_axes:
            if is_in_words(entry):
                raise UserError(f"{entry} and {key} both say what {key} is: drop one of them")
            axis = word_axes[key]
            if axis is not None:
                yield axis
            continue
        rivals = [rival.entry for rival in sources if rival.key == key and rival.entry != entry]
        rivals += ["sweep.points"] if key in point_keys else []
        for rival_entry in rivals:
            if is_in_words(rival_entry) == is_in_words(entry):
                raise UserError(f"{entry} and {rival_entry} both give {key} values: drop one of them")
        # The command line takes precedence over the config.
        if is_in_words(entry) or not rivals:
            yield labelled_axis(key, source.read_values(), entry)


def labelled_axis(key: str, values: Sequence[ValueText], where: str) -> SweepAxis:
    """Return the axis of a key with labelled values.

    Raise `UserError`, naming `where`, if it is empty or repeats a value.
    """
    if not values:
        raise UserError(f"{where} has no values: give it at least one")
    refuse_twice([value.text for value in values], where)
    labelled_values = zip(labels(values), values, strict=True)
    return SweepAxis(key, tuple(AxisValue(label, (f"{key}={value.text}",)) for label, value in labelled_values))


def _sources(
    config: SweepJob, other_axis_keys: Sequence[str], groups: Mapping[str, Sequence[str]], schema: Schema[SweepJob]
) -> Iterator[_AxisSource]:
    """Yield each entry of the section that makes an axis.

    `other_axis_keys` are axes of words and points.
    """
    section = config.sweep
    if not isinstance(section.axes, dict):
        raise UserError(f"sweep.axes={section.axes}: must be keys with their values, such as {{step_size: [1, 2]}}")
    axis_values = {key: value for key, value in dotted(section.axes).items() if value is not None}

    def architecture() -> Architecture | None:
        has_several_models = any(key in _MODEL_KEYS for key in (*axis_values, *other_axis_keys))
        return None if has_several_models else find_model(config.model.name).architecture

    if section.layers is not None:
        yield _AxisSource("sweep.layers", TERMS, lambda: layer_values(section.layers, architecture()))
    if section.channels is not None:
        channels = section.channels
        yield _AxisSource("sweep.channels", TERMS, lambda: channel_values(channels, architecture()))
    for key, value in axis_values.items():
        entry = f"sweep.axes.{key}"
        refuse_axis(key, groups, entry, schema)
        yield _AxisSource(entry, key, partial(values_of_config, key, value, groups))


def points_axis(points: Sequence[Mapping[str, ValueText]], where: str, names: Sequence[str] = ()) -> SweepAxis:
    """Return the axis of listed points, one value for each point.

    `names` are the points' names; if empty, they follow from the values. Raise `UserError`, naming `where`, for points that
    are there twice.
    """
    words = [tuple(f"{key}={value.text}" for key, value in point.items()) for point in points]
    refuse_twice([" ".join(sorted(point_words)) for point_words in words], where)
    named_points = zip(words, names or point_names(points), strict=True)
    axis_labels = labels([ValueText(" ".join(point_words), (name,)) for point_words, name in named_points])
    return SweepAxis(POINT, tuple(map(AxisValue, axis_labels, words)))
