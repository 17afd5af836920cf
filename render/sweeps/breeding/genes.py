"""Genes: for each key how its value changes, and how the values of two parents cross."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from render.config.compose import PATH_KEYS
from render.config.film_schema import FilmJob
from render.config.octave_settings import NORMALIZATIONS, OPTIMIZERS
from render.geometry.geometry import BOUNDARY_MODES
from render.networks.architecture import Architecture
from render.sweeps.axes.shorthands import TERMS
from render.sweeps.breeding.draws import Draws
from render.sweeps.breeding.ranges import NumberRange, ValueCheck, number_range
from render.sweeps.breeding.term_genes import changed_terms, crossed_terms

#: Words that a key may have, for keys that have no other values.
_CHOICES: Mapping[str, Sequence[Any]] = {
    "boundary.mode": tuple(BOUNDARY_MODES),
    "conditioning.normalize": NORMALIZATIONS,
    "optimizer.name": OPTIMIZERS,
}
#: Keys that pass from a parent to its child unchanged. Another network has other layers, and perhaps no weights here.
_UNCHANGED = ("model", "node", "name")
#: Number of seeds that a change draws from.
_SEEDS = 1 << 31
#: Share of the crosses of numbers that lie between those of the parents.
_BLENDED = 0.3


class Gene(Protocol):
    """One key's ways to change."""

    def changed(self, value: Any, draws: Draws, network: Architecture | None) -> Any:
        """Return another value, or the same one if there is no other."""

    def crossed(self, first: Any, second: Any, draws: Draws) -> Any:
        """Return a value that comes of those of two parents."""


@dataclass(frozen=True)
class ChoiceGene:
    """Gene of a value out of several."""

    choices: Sequence[Any]

    def changed(self, value: Any, draws: Draws, _network: Architecture | None) -> Any:
        """Return another choice."""
        others = [choice for choice in self.choices if choice != value]
        return draws.pick(others) if others else value

    def crossed(self, first: Any, second: Any, draws: Draws) -> Any:
        """Return the value of either parent."""
        return draws.pick((first, second))


@dataclass(frozen=True)
class SeedGene(ChoiceGene):
    """Gene of a seed, for which near values mean nothing."""

    def changed(self, _value: Any, draws: Draws, _network: Architecture | None) -> Any:
        """Return any seed."""
        return draws.below(_SEEDS)


@dataclass(frozen=True)
class NumberGene:
    """Gene of a number, or of a list of numbers with one for each octave.

    Attributes:
        numbers: Range of the numbers.
        spread: Size of a change, as a share of the range's width.
        others: Values of the favourites that are no numbers, such as null.
    """

    numbers: NumberRange
    spread: float
    others: Sequence[Any] = ()

    def changed(self, value: Any, draws: Draws, _network: Architecture | None) -> Any:
        """Return the number, or one number of the list, with a change."""
        if isinstance(value, list) and value:
            number = draws.below(len(value))
            return [*value[:number], self.changed(value[number], draws, None), *value[number + 1 :]]
        if not is_number(value):
            return ChoiceGene(self.others).changed(value, draws, None)
        return self.numbers.changed(value, draws, self.spread)

    def crossed(self, first: Any, second: Any, draws: Draws) -> Any:
        """Return the number of either parent, or one between."""
        if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
            return [self.crossed(*pair, draws) for pair in zip(first, second, strict=True)]
        if is_number(first) and is_number(second) and draws.happens(_BLENDED):
            return self.numbers.between(first, second, draws)
        return draws.pick((first, second))


class TermsGene:
    """Gene of objective terms."""

    def changed(self, value: Any, draws: Draws, network: Architecture | None) -> Any:
        """Return the terms with one change."""
        return changed_terms(value, draws, network)

    def crossed(self, first: Any, second: Any, draws: Draws) -> Any:
        """Return terms of both parents."""
        return crossed_terms(first, second, draws)


@dataclass(frozen=True)
class GeneSource:
    """Facts from which genes are made.

    Attributes:
        groups: The choices of each config group.
        spread: Size of a change.
        axis_ranges: (least, largest) on the axes of the favourites' sweep.
        limits: By key (least, largest) of a change's results, or the choices.
        check: Check of single values.
    """

    groups: Mapping[str, Sequence[str]]
    spread: float
    axis_ranges: Mapping[str, tuple[float, float]]
    limits: Mapping[str, Sequence[Any]]
    check: ValueCheck

    def gene(self, key: str, values: Sequence[Any]) -> Gene:
        """Return the gene of a key. `values` are those of the favourites that have it."""
        limits = self.limits.get(key)
        alternatives = list(dict.fromkeys(map(_Hashed, [*values])))
        known_values = [alternative.value for alternative in alternatives]
        if key.partition(".")[0] in _UNCHANGED:
            return ChoiceGene(())
        if key == TERMS:
            return TermsGene()
        numbers = [number for value in values for number in (value if isinstance(value, list) else [value])]
        numbers = [number for number in numbers if is_number(number)]
        if limits is not None and not (numbers and len(limits) == 2 and all(map(is_number, limits))):
            return ChoiceGene(limits)
        if key in self.groups:
            return ChoiceGene(self.groups[key])
        if key in _CHOICES:
            return ChoiceGene(_CHOICES[key])
        if key == "seed":
            return SeedGene(())
        if key not in PATH_KEYS and all(isinstance(value, bool) for value in values):
            return ChoiceGene((True, False))
        if numbers and key not in PATH_KEYS:
            others = [value for value in known_values if not is_number(value) and not isinstance(value, list)]
            return NumberGene(self._range(key, numbers, limits), self.spread, others)
        return ChoiceGene(known_values)

    def _range(self, key: str, numbers: Sequence[float], limits: Sequence[Any] | None) -> NumberRange:
        default = default_of(key)
        is_integer = all(isinstance(number, int) for number in numbers) and not isinstance(default, float)
        pair = (float(limits[0]), float(limits[1])) if limits is not None else None

        def accepts(number: float) -> bool:
            return self.check.accepts(key, number)

        return number_range(
            numbers, self.axis_ranges.get(key), pair, is_integer, _whole(accepts) if is_integer else accepts
        )


def is_number(value: object) -> bool:
    """Return whether a value is a number, and neither true nor false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def default_of(key: str) -> Any:
    """Return the schema's default of a dotted key; None for a section or a group."""
    value: Any = FilmJob()
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def _whole(accepts: Callable[[float], bool]) -> Callable[[float], bool]:
    return lambda number: accepts(int(number))


@dataclass(frozen=True)
class _Hashed:
    """Value of any kind, equal to others with the same text."""

    value: Any

    def __hash__(self) -> int:
        return hash(repr(self.value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and repr(self.value) == repr(other.value)
