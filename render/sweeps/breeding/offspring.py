"""Children of favourites: drawn, checked, and drawn again if they cannot be rendered or exist already."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from render.config.compose import PATH_KEYS
from render.config.hydra_text import name_text
from render.config.schema import Config
from render.errors import RenderError, UserError
from render.networks.architecture import Architecture
from render.networks.weights import MODELS
from render.sweeps.axes.definition import AxisValue, SweepDefinition
from render.sweeps.axes.points import PointFactory
from render.sweeps.axes.points_file import PointValues
from render.sweeps.axes.shorthands import TERMS
from render.sweeps.axes.values import plain_text, value_of_name, value_of_text
from render.sweeps.breeding.draws import Draws
from render.sweeps.breeding.genes import Gene
from render.sweeps.rendering.drafting import Drafter

#: Largest number of times that a child is drawn.
MAX_TRIES = 150
#: Groups and sections whose keys belong together: what one of them means depends on the others.
_LINKED = ("look", "model", "objective")


@dataclass(frozen=True)
class Parent:
    """Favourite with typed values.

    Attributes:
        values: Value by key.
        network: Name of its network.
    """

    values: Mapping[str, Any]
    network: str


@dataclass(frozen=True)
class Child:
    """New point: its values, and the numbers of its parents."""

    values: PointValues
    parents: tuple[int, ...]


class Nursery:
    """Check of points: each must be a job that can be planned, and unlike all points before it."""

    def __init__(self, definition: SweepDefinition) -> None:
        """Check points of a sweep whose axes, besides the points, are those of `definition`."""
        self._factory = PointFactory(definition)
        # Points are drafted without axes: what they are called does not matter yet.
        self._drafter = Drafter(replace(definition, axes=()), None, None)
        self._other_values = list(itertools.product(*(axis.values for axis in definition.axes)))
        #: Networks that a point may have: those of the favourites, whose weights are at hand; None for any.
        self.networks: frozenset[str] | None = None
        self._jobs: set[str] = set()
        self._words: set[tuple[str, ...]] = set()

    def choices_at_hand(self, group: str, choices: Sequence[str]) -> list[str]:
        """Return the choices of a group that lead to one of `networks`; a look may name another one."""
        others = self._other_values[0]
        points = [self._factory.point(0, (), (AxisValue("", (f"{group}={choice}",)), *others)) for choice in choices]
        return [choice for choice, point in zip(choices, points, strict=True) if self._has_network(point.config)]

    def _has_network(self, config: Config | None) -> bool:
        # A choice that makes no valid config by itself may do so with a point's other values.
        return self.networks is None or config is None or config.model.name in self.networks

    def admit(self, values: PointValues) -> tuple[Config | None, str]:
        """Admit a point if it can be rendered with all values of the other axes and is new.

        Returns:
            Its config with the first values of the other axes, or None; and why it is refused, empty if it is not new.
        """
        words = words_of(values)
        if tuple(sorted(words)) in self._words:
            return None, ""
        self._words.add(tuple(sorted(words)))
        digests, first_config = [], None
        for others in self._other_values:
            point = self._factory.point(0, (), (AxisValue("", words), *others))
            if point.config is None:
                return None, point.error
            if not self._has_network(point.config):
                return None, f"no favourite has the network {point.config.model.name}"
            try:
                digests.append(self._drafter.draft(point, "", point.config).job_digest)
            except RenderError as error:
                return None, str(error)
            first_config = first_config or point.config
        if self._jobs.intersection(digests):
            return None, ""
        self._jobs.update(digests)
        return first_config, ""


class Offspring:
    """Generator of children. Each child depends on seed, generation and its own number alone, and on earlier children."""

    def __init__(
        self, parents: Sequence[Parent], genes: Mapping[str, Gene], mutation: float, crossover: float, key: tuple[int, int]
    ) -> None:
        """Prepare children.

        Args:
            parents: The favourites.
            genes: The gene of each key.
            mutation: Share of the settings that change.
            crossover: Share of the children that have two parents.
            key: Seed and generation.
        """
        self._parents, self._genes, self._key = parents, genes, key
        self._mutation, self._crossover = mutation, crossover
        #: Why the last refused child cannot be rendered; empty if none was refused.
        self.last_refusal = ""

    def children(self, first: int, count: int, nursery: Nursery) -> Iterator[Child]:
        """Yield the children `first` to `first + count - 1`, fewer if there are no others within `MAX_TRIES` draws."""
        for number in range(first, first + count):
            child = next(filter(None, (self._drawn(number, attempt, nursery) for attempt in range(MAX_TRIES))), None)
            if child is None:
                return
            yield child

    def _drawn(self, number: int, attempt: int, nursery: Nursery) -> Child | None:
        """Return a child; None if it is refused."""
        draws = Draws(*self._key, number, attempt)
        # Each favourite has about as many children as any other.
        first = number % len(self._parents) if not attempt else draws.below(len(self._parents))
        parents: tuple[int, ...] = (first,)
        values = dict(self._parents[first].values)
        lead = self._parents[first]
        if len(self._parents) > 1 and draws.happens(self._crossover):
            second = (first + 1 + draws.below(len(self._parents) - 1)) % len(self._parents)
            parents = (first, second)
            values, lead = self._crossed(lead, self._parents[second], draws)
        values = self._mutated(values, lead, draws)
        try:
            point = {key: value_of(key, values[key]) for key in self._genes if key in values}
        except UserError as error:
            self.last_refusal = str(error)
            return None
        config, reason = nursery.admit(point)
        self.last_refusal = reason or self.last_refusal
        return Child(point, parents) if config is not None else None

    def _crossed(self, first: Parent, second: Parent, draws: Draws) -> tuple[dict[str, Any], Parent]:
        """Return the values of a child of two parents, and the parent that its network and objective are from."""
        lead, other = (first, second) if draws.happens(0.5) else (second, first)
        child: dict[str, Any] = {}
        for key in self._genes:
            both = [parent.values[key] for parent in (first, second) if key in parent.values]
            if _is_linked(key):
                if key in lead.values:
                    child[key] = lead.values[key]
                if key == TERMS and len(both) == 2 and lead.network == other.network:
                    child[key] = self._genes[key].crossed(both[0], both[1], draws)
            elif len(both) == 2:
                child[key] = self._genes[key].crossed(both[0], both[1], draws)
            elif both and draws.happens(0.5):
                child[key] = both[0]
        return child, lead

    def _mutated(self, values: Mapping[str, Any], lead: Parent, draws: Draws) -> dict[str, Any]:
        """Return the values with changes: each with the probability `mutation`, and at least one."""
        network = network_of(lead.network)
        changes = [key for key in values if draws.happens(self._mutation)]
        if not changes and self._mutation > 0 and values:
            changes = [draws.pick(list(values))]
        return {
            key: self._genes[key].changed(value, draws, network) if key in changes else value
            for key, value in values.items()
        }


def words_of(values: PointValues) -> tuple[str, ...]:
    """Return the `key=value` of a point."""
    return tuple(f"{key}={value.text}" for key, value in values.items())


def value_of(key: str, value: Any) -> Any:
    """Return a typed value as text that a word writes."""
    if key in PATH_KEYS:
        return value_of_name(key, value if isinstance(value, str) else name_text(value))
    return value_of_text(key, plain_text(key, value))


def network_of(name: str) -> Architecture | None:
    """Return the architecture of a network; None for an unknown name."""
    return MODELS[name].architecture if name in MODELS else None


def _is_linked(key: str) -> bool:
    return key.partition(".")[0] in _LINKED
