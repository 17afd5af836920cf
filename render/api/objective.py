"""Objectives that are added, weighted and turned around in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from render.dreaming.term_syntax import WEIGHT
from render.errors import UserError

#: Any term as text, whatever stands after its weight.
_WEIGHTED = re.compile(WEIGHT + r"(?P<term>.*)", re.DOTALL)


@dataclass(frozen=True, init=False)
class Objective:
    """A sum of weighted terms to dream of: `0.5 * Objective("mixed4:12") + Objective("mixed5") - Objective("mixed3")`.

    A term is what `objective.terms` of a config takes: text, such as `mixed4`, `mixed4:12+40-44` or `class:dumbbell`, or a
    mapping, such as `{"layer": "mixed4", "strongest": 5}`. `render objectives` lists all kinds. A network is asked about
    layers and channels only when something is dreamed.
    """

    terms: tuple[Any, ...]

    def __init__(self, *terms: str | Mapping[str, Any]) -> None:
        """Make an objective of one term or more; raises `UserError` for what is neither text nor a mapping."""
        for term in terms:
            if not isinstance(term, str | Mapping):
                raise UserError(f"objective term {term!r} is neither text nor a mapping with a `layer`")
        object.__setattr__(self, "terms", tuple(dict(term) if isinstance(term, Mapping) else term for term in terms))

    @classmethod
    def channel(cls, layer: str, channel: int) -> Objective:
        """Return the objective of a single channel of a layer, counted from 0."""
        return cls(f"{layer}:{channel}")

    def __add__(self, other: Objective | str) -> Objective:
        """Return the sum of two objectives."""
        return Objective(*self.terms, *as_objective(other).terms)

    def __radd__(self, other: Objective | str) -> Objective:
        return as_objective(other) + self

    def __sub__(self, other: Objective | str) -> Objective:
        return self + -as_objective(other)

    def __mul__(self, weight: float) -> Objective:
        """Return the objective with all weights multiplied."""
        return Objective(*(_times(term, float(weight)) for term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        """Return the objective of less of the same."""
        return self * -1.0


def as_objective(value: Objective | str) -> Objective:
    """Return an objective as it is, or that of one term as text."""
    return value if isinstance(value, Objective) else Objective(value)


def _times(term: Any, weight: float) -> Any:
    if isinstance(term, Mapping):
        return {**term, "weight": weight * float(term.get("weight", 1))}
    match = _WEIGHTED.fullmatch(term)
    assert match is not None
    return f"{weight * float(match['weight'] or 1)!r}*{match['term'].strip()}"
