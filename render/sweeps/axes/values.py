"""Values of an axis, as words and labels, from Hydra's grammar, YAML lists and file names."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Sweep,
    Transformer,
)
from hydra.errors import HydraException

from render.config.compose import PATH_KEYS
from render.config.hydra_text import hydra_text, is_hydras, name_text, parsed_word
from render.errors import UserError
from render.sweeps.axes.file_names import FILE_KEYS, display_names, listed_names, matching_files, unquoted_name

#: Largest number of values of an axis, so that an endless range is refused before it fills the memory.
MAX_AXIS_VALUES = 100_000
_TERMS = "objective.terms"


@dataclass(frozen=True)
class ValueText:
    """Value of an axis as text.

    Attributes:
        text: The value as a word writes it, `key=TEXT`.
        names: Its possible display names, from short to long.
    """

    text: str
    names: tuple[str, ...]


def values_of_word(key: str, text: str, groups: Mapping[str, Sequence[str]]) -> list[ValueText] | None:
    """Return the values that `key=text` gives, as on Hydra's command line.

    Return None for a single value.

    Raises:
        UserError: For text that cannot be parsed or enumerated, and for a pattern that matches nothing.
    """
    if key in PATH_KEYS and not is_hydras(text):
        names = listed_names(key, text) if key in FILE_KEYS else None
        return None if names is None else [value_of_name(key, name) for name in names]
    parsed = parsed_word(f"{key}={text}")
    if not parsed.is_sweep_override():
        return None
    return [_of_element(key, element) for element in _elements(key, text, parsed, groups)]


def values_of_config(key: str, entry: object, groups: Mapping[str, Sequence[str]]) -> list[ValueText]:
    """Return the values that `sweep.axes` gives a key.

    The entry is a list, or text with the syntax of the command line.
    """
    if not isinstance(entry, list):
        text = entry if isinstance(entry, str) else plain_text(key, entry)
        if not text.strip():
            raise UserError(f"sweep.axes.{key} is empty: give it a list of values, or null for no axis")
        word_values = values_of_word(key, text, groups)
        return word_values if word_values is not None else [value_of_text(key, text)]
    values: list[ValueText] = []
    for item in entry:
        if key in FILE_KEYS and isinstance(item, str):
            values += [value_of_name(key, name) for name in matching_files(key, item)]
        else:
            values.append(value_of_text(key, plain_text(key, item)))
    return values


def value_of_text(key: str, text: str) -> ValueText:
    """Return the value that a single word writes.

    Raise `UserError` for text that Hydra cannot parse.
    """
    if key in PATH_KEYS:
        return value_of_name(key, text)
    return _of_element(key, parsed_word(f"{key}={text}").value(), text)


def value_of_name(key: str, text: str) -> ValueText:
    """Return a file name or free text as a word writes it."""
    name = unquoted_name(key, text)
    return ValueText(text, display_names(name) if key in FILE_KEYS else (name,))


def plain_text(key: str, value: object) -> str:
    """Return a value from YAML as a word writes it."""
    if key in PATH_KEYS:
        return name_text(value)
    # Whole floats stay floats.
    return repr(value) if isinstance(value, float) else hydra_text(value)


def labels(values: Sequence[ValueText]) -> list[str]:
    """Return for each value its shortest unique name.

    A value without a unique name gets its text, numbered if necessary.
    """
    names = [[*(_printable(name) for name in value.names), _printable(value.text)] for value in values]
    names = [[name for name in value_names if name.strip()] or ["''"] for value_names in names]
    levels = [0] * len(values)
    while True:
        chosen = [value_names[level] for value_names, level in zip(names, levels, strict=True)]
        counts = Counter(chosen)
        ambiguous = [
            number for number, label in enumerate(chosen) if counts[label] > 1 and levels[number] + 1 < len(names[number])
        ]
        if not ambiguous:
            break
        for number in ambiguous:
            levels[number] += 1
    numbering: Counter[str] = Counter()
    for number, label in enumerate(chosen):
        numbering[label] += 1
        if counts[label] > 1:
            chosen[number] = f"{label} ({numbering[label]})"
    return chosen


def _elements(key: str, text: str, parsed: Override, groups: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return the elements of a choice, range or glob of Hydra's grammar.

    Raise `UserError` if they cannot be enumerated.
    """
    sweep: Any = parsed.value()
    elements: Iterable[Any]
    if isinstance(sweep, IntervalSweep):
        raise UserError(f"{key}={text}: an interval has endlessly many values; write range(START,STOP,STEP)")
    try:
        if isinstance(sweep, Glob):
            if key not in groups:
                raise UserError(f"{key}={text}: glob is for groups ({', '.join(groups)}); write the values")
            elements = sweep.filter(list(groups[key]))
        elif isinstance(sweep, RangeSweep):
            # Round: sums of steps such as 0.1 are inexact in the last digits.
            elements = (float(f"{element:.12g}") if isinstance(element, float) else element for element in sweep.range())
        else:
            assert isinstance(sweep, ChoiceSweep)
            elements = sweep.list
        values = list(islice(elements, MAX_AXIS_VALUES + 1))
        if any(isinstance(element, Sweep) for element in values):
            raise ValueError("a choice inside a choice is not supported; write all values in one")
    except (HydraException, ValueError, ArithmeticError) as error:
        raise UserError(f"{key}={text}: {error}") from None
    if not values:
        raise UserError(f"{key}={text} has no values: give it at least one")
    if len(values) > MAX_AXIS_VALUES:
        raise UserError(f"{key}={text} has more values than an axis may have ({MAX_AXIS_VALUES:,}): give it fewer")
    if getattr(sweep, "shuffle", False):
        # Use a fixed seed, so that the same command gives the same order.
        random.Random(0).shuffle(values)
    return values


def _of_element(key: str, element: Any, text: str | None = None) -> ValueText:
    """Return the value of an element of Hydra's grammar.

    `text` is its spelling, by default Hydra's own.
    """
    if key in PATH_KEYS:
        return value_of_name(key, Transformer.str(element))
    value_text = Transformer.str(element) if text is None else text
    return ValueText(value_text, (_display_name(unquoted(element), " + " if key == _TERMS else ", "),))


def unquoted(element: Any) -> Any:
    """Return an element of Hydra's grammar without its quotes."""
    if isinstance(element, QuotedString):
        return element.text
    if isinstance(element, list):
        return [unquoted(item) for item in element]
    if isinstance(element, dict):
        return {unquoted(key): unquoted(item) for key, item in element.items()}
    return element


def _display_name(value: Any, separator: str) -> str:
    """Return the display text of a value: `mixed3 + 0.5*mixed5`, `1.5`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        joint = " | " if value and all(isinstance(item, list) for item in value) else separator
        return joint.join(_display_name(item, separator) for item in value) or "[]"
    if isinstance(value, dict):
        fields = {key: item for key, item in value.items() if key != "layer"}
        words = [f"{key}={_display_name(item, ', ')}" for key, item in fields.items()]
        return " ".join([str(value["layer"]), *words] if "layer" in value else words) or "{}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return hydra_text(value)


def _printable(text: str) -> str:
    """Return text with spaces for characters that cannot be printed."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
