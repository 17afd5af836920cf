"""What the ascent makes more of: a sum of weighted terms on the activations of a network.

JAX is imported where it computes: whoever only plans or conducts does without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from render.dream.terms import Class, Strongest, Term
from render.dream.words import Materials, expand, parse_term
from render.errors import UserError
from render.geometry import Axis, Grid, Rect
from render.models.architecture import Architecture, Span

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class Objective:
    """A sum of terms."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose activations are needed, without repeats."""
        return tuple(dict.fromkeys(term.layer for term in self.terms))

    @property
    def structure(self) -> tuple[str, ...]:
        """Objectives of one structure share a compiled kernel."""
        return tuple(term.structure for term in self.terms)

    @property
    def needs_source(self) -> bool:
        """Whether the kernel needs the source's pixels under the window."""
        return any(term.needs_source for term in self.terms)

    @property
    def statistics(self) -> dict[int, Strongest]:
        """The terms that rest on a sum over the whole source, by number."""
        return {number: term for number, term in enumerate(self.terms) if isinstance(term, Strongest)}

    @property
    def looks_at_source(self) -> bool:
        """Whether whoever computes it needs the source at hand."""
        return self.needs_source or bool(self.statistics)

    def divisors(self, architecture: Architecture, extended: tuple[int, int]) -> tuple[float, ...]:
        """For each term its weight over the number of positions in the extended canvas of (rows, columns) px.

        Weights count relative to the largest: the ascent divides the gradient by its mean, so only ratios matter, and
        nobody's choice of unit should leave float32.
        """
        sizes = architecture.output_sizes(*extended)
        largest = max(abs(term.weight) for term in self.terms)

        def positions(term: Term) -> int:
            return 1 if term.places else sizes[term.layer][0] * sizes[term.layer][1]

        return tuple(term.weight / largest / positions(term) for term in self.terms)

    def support(self, architecture: Architecture, canvas: tuple[int, int]) -> float:
        """The share of a canvas of (rows, columns) px that the objective may change.

        All of it, but for neurons, whose gradient ends with their view: the mean gradient is taken over that.
        """
        area = 0.0
        for term in self.terms:
            if not term.places:
                return 1.0
            field = architecture.layer(term.layer).receptive_field
            area += min(field, canvas[0]) * min(field, canvas[1])
        return min(1.0, area / (canvas[0] * canvas[1]))

    def places(
        self, architecture: Architecture, grid: Grid, window: Rect, jitter: tuple[int, int]
    ) -> list[tuple[int, int]]:
        """For each term the row and column, among a window's activations, of the one it looks at; (-1, -1) for all."""
        if not any(term.places for term in self.terms):
            return [(-1, -1)] * len(self.terms)
        sizes = architecture.output_sizes(*grid.extended_shape)
        places = []
        for term in self.terms:
            if term.places is None:
                places.append((-1, -1))
                continue
            layer, (x, y) = architecture.layer(term.layer), term.places
            row = _nearest(grid.rows, layer.spans[0], sizes[term.layer][0], y, window.rows.start, jitter[0])
            column = _nearest(grid.columns, layer.spans[1], sizes[term.layer][1], x, window.columns.start, jitter[1])
            places.append((row, column))
        return places

    def total(
        self,
        activations: Mapping[str, jax.Array],
        divisors: jax.Array,
        constants: Sequence[tuple[jax.Array, ...]] | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """The window's share of the objective; shares of a partition of positions add up to the whole canvas' value.

        `constants` are those of each term, `places` (terms, 2) int32.
        """
        import jax.numpy as jnp

        given = constants if constants is not None else [()] * len(self.terms)
        where = places if places is not None else jnp.full((len(self.terms), 2), -1)
        shares = jnp.stack(
            [
                term.total(activations[term.layer], own, place)
                for term, own, place in zip(self.terms, given, where, strict=True)
            ]
        )
        return jnp.dot(shares, divisors)


@dataclass(frozen=True)
class Given:
    """What a kernel is told besides the pixels.

    `objective` is one of the kernel's, by number. For each of its terms `divisors` has its weight over the number of
    positions (see `Objective.divisors`), and `chosen` the channels of those that rest on a statistic, by their number.
    """

    objective: int
    divisors: tuple[float, ...]
    chosen: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def _nearest(axis: Axis, span: Span, count: int, share: float, start: int, jitter: int) -> int:
    """Which of `count` activations of the extended canvas is centred nearest to the pixel at `share` of the axis.

    Counted from a window that begins at `start`; outside of it where the window does not hold it.
    """
    pixel = min(int(share * axis.length), axis.length - 1)
    origin = -axis.fill - jitter
    # Of two that are as near the first.
    nearest = math.ceil((pixel - origin - (span.low + span.high) / 2) / span.stride - 0.5)
    return min(max(nearest, 0), count - 1) - (start - origin) // span.stride


def owned(span: Span, window: tuple[int, int], core: tuple[int, int]) -> Iterator[int]:
    """The activations of a window [start, stop) along one axis whose view is centred in the core [start, stop)."""
    middle = (span.low + span.high) // 2
    first = -(-(core[0] - window[0] - middle) // span.stride)
    while first * span.stride + middle + window[0] < core[1]:
        yield first
        first += 1


def resolve(terms: Sequence[object], architecture: Architecture, materials: Materials | None = None) -> Objective:
    """The objective that a config's terms mean on this network; `UserError` for unknown layers, channels or classes."""
    if not terms:
        raise UserError("objective.terms is empty: name at least one layer, such as objective.terms=[mixed4]")
    found: list[Term] = []
    for written in terms:
        term = parse_term(written, materials)
        if isinstance(term, Class):
            found.append(_on_classifier(term, architecture))
        else:
            found += expand(term, tuple(architecture.layers), architecture.name)
    for term in found:
        term.check(architecture.layer(term.layer), architecture)
    return Objective(tuple(found))


def _on_classifier(term: Class, architecture: Architecture) -> Term:
    if not architecture.classes:
        raise UserError(
            f"class {term.name or term.number!r}: {architecture.name} has no classifier; "
            "take model=googlenet or model=inception_v3_slim"
        )
    if not 0 <= term.number < architecture.classes:
        raise UserError(f"{architecture.name} has classes 0 to {architecture.classes - 1}, not {term.number}")
    return replace(term, layer=architecture.nodes[-1].name)
