"""Points of a sweep: every combination of its axes' values, each a validated config.

Hydra takes 60 ms to compose a config. So it composes one for each combination of group choices, and the values of keys are
set in copies of that, with the types of the schema. If values could depend on each other, Hydra composes every point.
"""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from render.config.compose import PATH_KEYS, compose_root, fill_missing, groups_of, load, schema_keys, to_config, type_error
from render.config.hydra_text import is_hydras, literal, parsed_word
from render.config.schema import Config
from render.config.sweep_kinds import check_point
from render.errors import UserError
from render.sweeps.axes.definition import AxisValue, SweepDefinition, key_of, names_value


@dataclass(frozen=True)
class GridPoint:
    """Combination of one value of each axis.

    Attributes:
        number: Its place in the grid, from 0.
        value_indices: The index of its value on each axis.
        words: The `key=value` of its values.
        config: Its checked config; None if it is invalid.
        error: Why it is invalid; empty if it has a config.
    """

    number: int
    value_indices: tuple[int, ...]
    words: tuple[str, ...]
    config: Config | None
    error: str = ""


#: Keys with their typed values, or the error of a refused value; None if Hydra must compose the point.
_ValuePatch = list[tuple[str, Any]] | str | None


def point_count(definition: SweepDefinition) -> int:
    """Return the number of points."""
    return math.prod(len(axis.values) for axis in definition.axes)


def expand(definition: SweepDefinition) -> Iterator[GridPoint]:
    """Yield every combination in order, the last axis fastest."""
    factory = PointFactory(definition)
    grid = itertools.product(*(range(len(axis.values)) for axis in definition.axes))
    for number, value_indices in enumerate(grid):
        values = [axis.values[index] for axis, index in zip(definition.axes, value_indices, strict=True)]
        yield factory.point(number, value_indices, values)


class PointFactory:
    """Factory of the points of a sweep, which composes one config for each combination of group choices."""

    def __init__(self, definition: SweepDefinition) -> None:
        self._definition = definition
        self._groups = groups_of(definition.root, definition.schema)
        self._bases: dict[tuple[str, ...], _BaseConfig] = {}

    def point(self, number: int, value_indices: tuple[int, ...], values: Sequence[AxisValue]) -> GridPoint:
        """Return the point of these values, with its checked config or the error that refuses it."""
        words = tuple(word for value in values for word in value.words)
        choices = tuple(word for word in words if key_of(word) in self._groups)
        if choices not in self._bases:
            self._bases[choices] = _BaseConfig(self._definition, choices)
        try:
            return GridPoint(number, value_indices, words, self._bases[choices].config(values, words))
        except UserError as error:
            return GridPoint(number, value_indices, words, None, str(error))


def rank(definition: SweepDefinition, point: GridPoint) -> int:
    """Return how many items of `sweep.first` a point satisfies.

    A higher rank is rendered earlier.
    """
    values = [(axis, axis.values[index]) for axis, index in zip(definition.axes, point.value_indices, strict=True)]
    first_items = definition.config.sweep.first
    return sum(any(names_value(item, axis, value) for axis, value in values) for item in first_items)


class _BaseConfig:
    """Config that Hydra composes for one combination of group choices.

    Configs of points are copies of it, patched with the values of other keys.
    """

    def __init__(self, definition: SweepDefinition, choices: tuple[str, ...]) -> None:
        self._definition, self._choices, self._schema = definition, choices, definition.schema
        self._patches: dict[AxisValue, _ValuePatch] = {}
        self._pickled: bytes | None = None
        self._error = ""
        try:
            composed = compose_root(self._schema, definition.root, [*definition.fixed_words, *choices])
        except UserError as error:
            self._error = str(error)
            return
        self._missing = fill_missing(composed, self._schema)
        # Leave configs to Hydra if a value could refer to another one, or makes an invalid config valid.
        with suppress(UserError):
            if "${" in str(OmegaConf.to_container(composed)):
                return
            self._pickled = pickle.dumps(to_config(composed, definition.root, self._schema).job())
            typed = OmegaConf.merge(OmegaConf.structured(self._schema.kind), composed)
            assert isinstance(typed, DictConfig)
            self._typed = typed

    def config(self, values: Sequence[AxisValue], words: tuple[str, ...]) -> Config:
        """Return the config of one point. Raise `UserError` if it is invalid."""
        if self._error:
            raise UserError(self._error)
        if self._pickled is None or not self._missing <= {key_of(word) for word in words}:
            return self._composed(words)
        config = pickle.loads(self._pickled)
        for value in values:
            if value not in self._patches:
                self._patches[value] = self._patch(value)
            patch = self._patches[value]
            if patch is None:
                return self._composed(words)
            if isinstance(patch, str):
                raise UserError(patch)
            for key, typed_value in patch:
                set_value(config, key, deepcopy(typed_value))
        return check_point(config)

    def _composed(self, words: tuple[str, ...]) -> Config:
        """Return the config that Hydra composes for a point."""
        return check_point(load(self._schema, self._definition.root, [*self._definition.fixed_words, *words]).job())

    def _patch(self, value: AxisValue) -> _ValuePatch:
        """Return the typed values that a value of an axis sets, apart from group choices."""
        patch = []
        for word in value.words:
            key, _, text = word.partition("=")
            if word in self._choices:
                continue
            is_plain = key in PATH_KEYS and not is_hydras(text)
            if key not in schema_keys(self._schema):
                return None
            try:
                parsed_value = literal(text) if is_plain else parsed_word(word).value()
                # Check the parsed value too: the word may have backslashes inside `${`.
                if "???" in text or ("${" in str(parsed_value) and not is_plain):
                    return None
                patch.append((key, _typed(self._typed, key, parsed_value)))
            except UserError as error:
                return str(error)
            except OmegaConfBaseException as error:
                return type_error(error, self._definition.root)
        return patch


def _typed(config: DictConfig, key: str, value: Any) -> Any:
    """Return the value with the schema's type for `key`; leave the config unchanged."""
    old_value = deepcopy(OmegaConf.select(config, key))
    try:
        OmegaConf.update(config, key, value, merge=True, force_add=True)
        new_value = OmegaConf.select(config, key)
        return OmegaConf.to_object(new_value) if OmegaConf.is_config(new_value) else new_value
    finally:
        OmegaConf.update(config, key, old_value, merge=False, force_add=True)


def set_value(config: Config, key: str, value: Any) -> None:
    """Set the field of a config that a dotted key names."""
    *sections, leaf = key.split(".")
    section_config: Any = config
    for section in sections:
        section_config = getattr(section_config, section)
    setattr(section_config, leaf, value)
