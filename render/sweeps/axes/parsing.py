"""Parsing of a sweep: a root config and words become axes and fixed words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from render.config.compose import BREED_FROM, FREE_KEYS, compose_root, fill_missing, groups_of, refuse_unknown, to_config
from render.config.root_kinds import Schema
from render.config.sweep_kinds import sweep_schema
from render.config.sweep_schema import SweepJob
from render.errors import UserError
from render.sweeps.axes.definition import POINT, SweepAxis, SweepDefinition, axis_index, key_of, names_value
from render.sweeps.axes.refusals import refuse_axis, refuse_shared
from render.sweeps.axes.section_axes import labelled_axis, section_axes
from render.sweeps.axes.values import values_of_word

#: Key of the favourites that a sweep is bred from.
FAVOURITES_KEY = "sweep.breed.favourites"
#: Keys of free text, which may be empty.
_TEXT_KEYS = ("output.title", "output.author")


def parse_sweep(root: str, words: Sequence[str]) -> SweepDefinition:
    """Return the sweep that a root config and the words on a command line define.

    A word replaces an axis of the root config that has the same key; a word with a single value removes it.

    Raises:
        UserError: For an unknown key, an axis that is empty, invalid or without effect on pictures, and for no axes.
    """
    if "," in root and not root.endswith((".yaml", ".yml")):
        raise UserError(f"conf={root}: conf cannot be an axis; sweep one config at a time")
    schema = sweep_schema(root, words)
    groups = groups_of(root, schema)
    word_axes, fixed_words = _split_words(list(map(_written_out, words)), groups, schema)
    composed = compose_root(schema, root, fixed_words)
    # A root config may leave mandatory values to the axes; points that lack them are refused.
    fill_missing(composed, schema)
    config = to_config(composed, root, schema)
    axes = {axis.key: axis for axis in section_axes(config, word_axes, groups, schema)}
    axes |= {key: axis for key, axis in word_axes.items() if axis is not None}
    definition = SweepDefinition(root, config, tuple(axes.values()), tuple(fixed_words), schema=schema)
    _check(definition)
    return definition


def has_axes(root: str, words: Sequence[str]) -> bool:
    """Return whether a word gives a key several values; raise `UserError` for a word that cannot be read."""
    schema = sweep_schema(root, words)
    word_axes, _ = _split_words(words, groups_of(root, schema), schema)
    return any(axis is not None for axis in word_axes.values())


def _written_out(word: str) -> str:
    """Return a word with `sweep.breed.favourites=` in place of its short form `from=`."""
    return f"{FAVOURITES_KEY}={word.removeprefix(BREED_FROM)}" if word.startswith(BREED_FROM) else word


def _split_words(
    words: Sequence[str], groups: Mapping[str, Sequence[str]], schema: Schema[SweepJob]
) -> tuple[dict[str, SweepAxis | None], list[str]]:
    """Return the axes that words define, by key, and the words that define none.

    A key with a single value has None for its axis.
    """
    word_axes: dict[str, SweepAxis | None] = {}
    fixed_words: list[str] = []
    for word in words:
        key = key_of(word)
        axis = _axis_of_word(word, key, groups, schema)
        # Insert again: the last word of a key decides its place among the axes.
        word_axes.pop(key, None)
        word_axes[key] = axis
        if axis is None:
            fixed_words.append(word)
        else:
            fixed_words = [fixed_word for fixed_word in fixed_words if key_of(fixed_word) != key]
    return word_axes, fixed_words


def _axis_of_word(word: str, key: str, groups: Mapping[str, Sequence[str]], schema: Schema[SweepJob]) -> SweepAxis | None:
    """Return the axis that a word defines; None for a word with a single value."""
    key_text, equals, text = word.partition("=")
    if not equals or key.startswith(FREE_KEYS):
        return None
    refuse_unknown(key, groups, schema)
    if not text.strip() and key not in _TEXT_KEYS:
        raise UserError(f"{word} has no value: give it one, or several with commas between them")
    if key == "sweep.first" and "=" in text and not re.search(r"""['"\\]""", text):
        raise UserError(f"{word}: Hydra reads = only in quotes: \"sweep.first=['step_size=2','seed=1']\"")
    values = values_of_word(key, text, groups)
    if values is None:
        return None
    if "@" in key_text:
        raise UserError(f"{word}: a group in a package of its own has one value; write {key}={text}")
    refuse_axis(key, groups, word, schema)
    return labelled_axis(key, values, word)


def _check(definition: SweepDefinition) -> None:
    """Raise `UserError` if a sweep cannot be rendered or laid out.

    It needs an axis; points may not share an output path; axes of rows, columns and `sweep.first` must exist.
    """
    axes, section = definition.axes, definition.config.sweep
    is_bred = section.breed.favourites is not None
    if is_bred and any(axis.key == POINT for axis in axes):
        raise UserError(f"sweep.points and {FAVOURITES_KEY} both list points: set one of them to null")
    if not axes and not is_bred:
        raise UserError("nothing to sweep: give a key several values, such as step_size=1,2,4 or image=photos/*.jpg")
    refuse_shared(definition.config.output)
    axes_text = f"there {'are' if len(axes) > 1 else 'is'} {', '.join(axis.key for axis in axes)}"
    rows, columns = (axis_index(axes, key) for key in (section.rows, section.columns))
    for key, axis_key, number in (("rows", section.rows, rows), ("columns", section.columns, columns)):
        # Ignore settings of the root config for an axis that words have removed.
        is_set = any(key_of(word) == f"sweep.{key}" for word in definition.fixed_words)
        if is_set and axis_key is not None and number is None:
            raise UserError(f"sweep.{key}={axis_key} is no axis: {axes_text}")
    if rows is not None and rows == columns:
        raise UserError(f"sweep.rows and sweep.columns are both {section.rows}: set one of them to null")
    for item in () if is_bred else section.first:
        if not any(names_value(item, axis, value) for axis in axes for value in axis.values):
            raise UserError(f"sweep.first has {item}, which is no value of an axis: {axes_text}")
