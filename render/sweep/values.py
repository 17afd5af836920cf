"""The values of an axis: from Hydra's multirun grammar, from lists in YAML and from file names to words and labels."""

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

from render.config.command_words import hydra_text, name_text
from render.config.compose import PATH_KEYS, is_hydras, parsed_word
from render.errors import UserError
from render.sweep.file_names import FILES, listed, matching, names_of, text_of

#: Values that an axis may have at most, so that a range without end is refused before it fills the memory.
MOST_VALUES = 100_000
_TERMS = "objective.terms"


@dataclass(frozen=True)
class Written:
    """A value as a word writes it (`key=TEXT`), and what it may be called, from short to long."""

    text: str
    names: tuple[str, ...]


def values_of_word(key: str, text: str, groups: Mapping[str, Sequence[str]]) -> list[Written] | None:
    """The values that `key=text` gives, as on Hydra's command line; None where it is one value alone.

    Raises `UserError` for what cannot be read or enumerated, and for a pattern that matches nothing.
    """
    if key in PATH_KEYS and not is_hydras(text):
        names = listed(key, text) if key in FILES else None
        return None if names is None else [of_name(key, name) for name in names]
    parsed = parsed_word(f"{key}={text}")
    if not parsed.is_sweep_override():
        return None
    return [_of_element(key, element) for element in _elements(key, text, parsed, groups)]


def values_of_config(key: str, given: object, groups: Mapping[str, Sequence[str]]) -> list[Written]:
    """The values that `sweep.axes` gives a key: a list of them, or text that means what it means on the command line."""
    if not isinstance(given, list):
        text = given if isinstance(given, str) else plain_text(key, given)
        if not text.strip():
            raise UserError(f"sweep.axes.{key} is empty: give it a list of values, or null for no axis")
        several = values_of_word(key, text, groups)
        return several if several is not None else [of_text(key, text)]
    values: list[Written] = []
    for one in given:
        if key in FILES and isinstance(one, str):
            values += [of_name(key, name) for name in matching(key, one)]
        else:
            values.append(of_text(key, plain_text(key, one)))
    return values


def of_text(key: str, text: str) -> Written:
    """A value as a word of its own writes it; raises `UserError` for text that Hydra cannot read."""
    if key in PATH_KEYS:
        return of_name(key, text)
    return _of_element(key, parsed_word(f"{key}={text}").value(), text)


def of_name(key: str, text: str) -> Written:
    """A file name or free text as a word writes it."""
    name = text_of(key, text)
    return Written(text, names_of(name) if key in FILES else (name,))


def plain_text(key: str, value: object) -> str:
    """A value from YAML as a word writes it."""
    if key in PATH_KEYS:
        return name_text(value)
    # Whole floats stay floats.
    return repr(value) if isinstance(value, float) else hydra_text(value)


def labels(values: Sequence[Written]) -> list[str]:
    """For each value the shortest of its names that no other has; after all names, the text, and numbers."""
    names = [[*(_printable(name) for name in value.names), _printable(value.text)] for value in values]
    names = [[name for name in several if name.strip()] or ["''"] for several in names]
    levels = [0] * len(values)
    while True:
        found = [several[level] for several, level in zip(names, levels, strict=True)]
        counts = Counter(found)
        longer = [
            number for number, label in enumerate(found) if counts[label] > 1 and levels[number] + 1 < len(names[number])
        ]
        if not longer:
            break
        for number in longer:
            levels[number] += 1
    seen: Counter[str] = Counter()
    for number, label in enumerate(found):
        seen[label] += 1
        if counts[label] > 1:
            found[number] = f"{label} ({seen[label]})"
    return found


def _elements(key: str, text: str, parsed: Override, groups: Mapping[str, Sequence[str]]) -> list[Any]:
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
            # Sums of steps such as 0.1 are off in the last digits.
            elements = (float(f"{one:.12g}") if isinstance(one, float) else one for one in sweep.range())
        else:
            assert isinstance(sweep, ChoiceSweep)
            elements = sweep.list
        found = list(islice(elements, MOST_VALUES + 1))
        if any(isinstance(one, Sweep) for one in found):
            raise ValueError("a choice among choices is read by nobody; write all values in one")
    except (HydraException, ValueError, ArithmeticError) as error:
        raise UserError(f"{key}={text}: {error}") from None
    if not found:
        raise UserError(f"{key}={text} has no values: give it at least one")
    if len(found) > MOST_VALUES:
        raise UserError(f"{key}={text} has more values than an axis may have ({MOST_VALUES:,}): give it fewer")
    if getattr(sweep, "shuffle", False):
        # The same order whenever the command is given.
        random.Random(0).shuffle(found)
    return found


def _of_element(key: str, element: Any, text: str | None = None) -> Written:
    if key in PATH_KEYS:
        return of_name(key, Transformer.str(element))
    written = Transformer.str(element) if text is None else text
    return Written(written, (_name(_bare(element), " + " if key == _TERMS else ", "),))


def _bare(element: Any) -> Any:
    """An element of Hydra's grammar without its quotes."""
    if isinstance(element, QuotedString):
        return element.text
    if isinstance(element, list):
        return [_bare(one) for one in element]
    if isinstance(element, dict):
        return {_bare(key): _bare(one) for key, one in element.items()}
    return element


def _name(value: Any, between: str) -> str:
    """A value for people to read: `mixed3 + 0.5*mixed5`, `1.5`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        joint = " | " if value and all(isinstance(one, list) for one in value) else between
        return joint.join(_name(one, between) for one in value) or "[]"
    if isinstance(value, dict):
        rest = {key: one for key, one in value.items() if key != "layer"}
        words = [f"{key}={_name(one, ', ')}" for key, one in rest.items()]
        return " ".join([str(value["layer"]), *words] if "layer" in value else words) or "{}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return hydra_text(value)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
