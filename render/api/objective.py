"""`render.Objective`: objectives that are added, weighted and turned around in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from render.dreaming.term_syntax import WEIGHT
from render.errors import UserError

#: Any term as text, whatever stands after its weight.
_WEIGHTED = re.compile(WEIGHT + r"(?P<term>.*)", re.DOTALL)


@dataclass(frozen=True, init=False, repr=False)
class ObjectiveExpression:
    """Sum of weighted terms to dream of, in Python `render.Objective`.

    `0.5 * render.Objective("mixed4:12") + render.Objective("mixed5") - "mixed3"` is one. It becomes
    `render.dreaming.objectives.Objective`, on a network, when something is dreamed.

    A term is what `objective.terms` of a config takes: text, such as `mixed4`, `mixed4:12+40-44` or `class:dumbbell`, or a
    mapping, such as `{"layer": "mixed4", "strongest": 5}`. `render objectives` lists all kinds. Layers and channels are
    looked up only when something is dreamed.
    """

    terms: tuple[Any, ...]

    def __init__(self, *terms: str | Mapping[str, Any]) -> None:
        """Make an objective of one term or more, each with its weight.

        Raises:
            UserError: For what is neither text nor a mapping.
        """
        for term in terms:
            if not isinstance(term, str | Mapping):
                raise UserError(f"objective term {term!r} is neither text nor a mapping with a `layer`")
        object.__setattr__(self, "terms", tuple(dict(term) if isinstance(term, Mapping) else term for term in terms))

    @classmethod
    def channel(cls, layer: str, channel: int) -> ObjectiveExpression:
        """Return the objective of a single channel of a layer, counted from 0."""
        return cls(f"{layer}:{channel}")

    def __add__(self, other: ObjectiveExpression | str) -> ObjectiveExpression:
        """Return the sum of two objectives."""
        return ObjectiveExpression(*self.terms, *as_objective(other).terms)

    def __repr__(self) -> str:
        """Return the Python code that makes the objective."""
        return f"render.Objective({', '.join(map(repr, self.terms))})"

    def __radd__(self, other: ObjectiveExpression | str) -> ObjectiveExpression:
        """Return the sum of a term and the objective."""
        return as_objective(other) + self

    def __sub__(self, other: ObjectiveExpression | str) -> ObjectiveExpression:
        """Return the sum with the other objective turned around."""
        return self + -as_objective(other)

    def __mul__(self, weight: float) -> ObjectiveExpression:
        """Return the objective with all weights multiplied."""
        return ObjectiveExpression(*(_times(term, float(weight)) for term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> ObjectiveExpression:
        """Return the objective turned around: less of what it was for."""
        return self * -1.0


def as_objective(value: ObjectiveExpression | str) -> ObjectiveExpression:
    """Return an objective as it is, or that of one term as text."""
    return value if isinstance(value, ObjectiveExpression) else ObjectiveExpression(value)


def _times(term: Any, weight: float) -> Any:
    if isinstance(term, Mapping):
        return {**term, "weight": weight * float(term.get("weight", 1))}
    match = _WEIGHTED.fullmatch(term)
    assert match is not None
    return f"{weight * float(match['weight'] or 1)!r}*{match['term'].strip()}"
