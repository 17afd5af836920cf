"""Objective of the ascent: a sum of weighted terms on the activations of a network.

JAX is imported only where it computes: planning and the conductor work without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from render.dreaming.term_syntax import Materials, expand, parse_term
from render.dreaming.terms import Class, Strongest, Term
from render.errors import UserError
from render.geometry.geometry import MOST_TURNS, Axis, Grid, Rect
from render.networks.architecture import Architecture, Span

if TYPE_CHECKING:
    import jax

#: Most copies of a pixel that the extended canvas can show along an axis: see `geometry.MOST_TURNS`.
MOST_COPIES = 2 * MOST_TURNS + 1


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
        """Key of the compiled kernel: objectives of one structure share it."""
        return tuple(term.structure for term in self.terms)

    @property
    def needs_source(self) -> bool:
        """True if the kernel needs the source's pixels under the window."""
        return any(term.needs_source for term in self.terms)

    @property
    def statistics(self) -> dict[int, Strongest]:
        """The terms that need a sum over the whole source, by number."""
        return {number: term for number, term in enumerate(self.terms) if isinstance(term, Strongest)}

    @property
    def looks_at_source(self) -> bool:
        """True if the objective needs the source, in the kernel or for a statistic."""
        return self.needs_source or bool(self.statistics)

    def divisors(self, architecture: Architecture, extended: tuple[int, int]) -> tuple[float, ...]:
        """Return for each term its weight over the number of positions in the extended canvas of (rows, columns) px.

        Weights are relative to the largest: the ascent divides the gradient by its mean, so only ratios matter, and
        weights in any unit stay within float32.
        """
        sizes = architecture.output_sizes(*extended)
        largest = max(abs(term.weight) for term in self.terms)

        def positions(term: Term) -> int:
            return 1 if term.places else sizes[term.layer][0] * sizes[term.layer][1]

        return tuple(term.weight / largest / positions(term) for term in self.terms)

    def support(self, architecture: Architecture, canvas: tuple[int, int]) -> float:
        """Return the share of a canvas of (rows, columns) px that the objective may change.

        It is below 1 only for neurons, whose gradient is 0 outside their view; the mean gradient is taken over this
        share.
        """
        area = 0.0
        for term in self.terms:
            if not term.places:
                return 1.0
            field = architecture.layer(term.layer).receptive_field
            area += min(field, canvas[0]) * min(field, canvas[1])
        return min(1.0, area / (canvas[0] * canvas[1]))

    def places(self, architecture: Architecture, grid: Grid, window: Rect, jitter: tuple[int, int]) -> NDArray[np.int32]:
        """Return the rows and columns of a window's activations that terms look at: (terms, 2, `MOST_COPIES`) int32.

        -1 stands for none. Where an axis wraps, the extended canvas repeats the place, and the term looks at every
        copy.
        """
        places = np.full((len(self.terms), 2, MOST_COPIES), -1, np.int32)
        if not any(term.places for term in self.terms):
            return places
        sizes = architecture.output_sizes(*grid.extended_shape)
        for number, term in enumerate(self.terms):
            if term.places is None:
                continue
            layer, shares = architecture.layer(term.layer), term.places[::-1]
            sides = zip((grid.rows, grid.columns), layer.spans, sizes[term.layer], shares, window, jitter, strict=True)
            for side, (axis, span, count, share, part, shift) in enumerate(sides):
                copies = _nearest(axis, span, count, share, part.start, shift)
                places[number, side, : len(copies)] = copies
        return places

    def total(
        self,
        activations: Mapping[str, jax.Array],
        divisors: jax.Array,
        constants: Sequence[tuple[jax.Array, ...]] | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Return the window's share of the objective.

        The shares of a partition of the positions add up to the value of the whole canvas.

        Args:
            activations: those of each layer.
            divisors: one for each term, see `divisors`.
            constants: those of each term.
            places: the result of the method `places`.
        """
        import jax.numpy as jnp

        term_constants = constants if constants is not None else [()] * len(self.terms)
        term_places = places if places is not None else jnp.full((len(self.terms), 2, MOST_COPIES), -1)
        shares = jnp.stack(
            [
                term.total(activations[term.layer], arrays, place)
                for term, arrays, place in zip(self.terms, term_constants, term_places, strict=True)
            ]
        )
        return jnp.dot(shares, divisors)


@dataclass(frozen=True)
class Given:
    """Input of a kernel besides the pixels.

    `objective` is the number of one of the kernel's objectives. `divisors` has for each of its terms the weight over
    the number of positions (see `Objective.divisors`); `chosen` has the channels of the terms that need a statistic, by
    term number.
    """

    objective: int
    divisors: tuple[float, ...]
    chosen: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def _nearest(axis: Axis, span: Span, count: int, share: float, start: int, jitter: int) -> list[int]:
    """Return the activations centred nearest to the pixel at `share` of the axis, one for each copy of the pixel.

    A pixel has copies only where the axis wraps. The indices are counted from a window that begins at `start`, and lie
    outside of it if the window does not hold the activation. `count` is the number of activations of the extended
    canvas.
    """
    pixel = min(int(share * axis.length), axis.length - 1)
    origin = -axis.fill - jitter

    def nearest(to: int) -> int:
        # If two are equally near, take the first.
        return math.ceil((to - origin - (span.low + span.high) / 2) / span.stride - 0.5)

    first = (start - origin) // span.stride
    if axis.mode != "wrap":
        return [min(max(nearest(pixel), 0), count - 1) - first]
    turns = -(-axis.fill // axis.length)
    copies = [nearest(pixel + turn * axis.length) for turn in range(-turns, turns + 1)]
    return [copy - first for copy in copies if 0 <= copy < count]


def owned(span: Span, window: tuple[int, int], core: tuple[int, int]) -> Iterator[int]:
    """Yield the activations of a window [start, stop) along one axis that are centred in the core [start, stop)."""
    middle = (span.low + span.high) // 2
    first = -(-(core[0] - window[0] - middle) // span.stride)
    while first * span.stride + middle + window[0] < core[1]:
        yield first
        first += 1


def resolve(terms: Sequence[object], architecture: Architecture, materials: Materials | None = None) -> Objective:
    """Return the objective that a config's terms mean on this network.

    Raises:
        UserError: a layer, channel or class is unknown.
    """
    if not terms:
        raise UserError("objective.terms is empty: name at least one layer, such as objective.terms=[mixed4]")
    resolved: list[Term] = []
    for written in terms:
        term = parse_term(written, materials)
        if isinstance(term, Class):
            resolved.append(_on_classifier(term, architecture))
        else:
            resolved += expand(term, tuple(architecture.layers), architecture.name)
    for term in resolved:
        term.check(architecture.layer(term.layer), architecture)
    return Objective(tuple(resolved))


def _on_classifier(term: Class, architecture: Architecture) -> Term:
    if not architecture.classes:
        raise UserError(
            f"class {term.name or term.number!r}: {architecture.name} has no classifier; "
            "take model=googlenet or model=inception_v3_slim"
        )
    if not 0 <= term.number < architecture.classes:
        raise UserError(f"{architecture.name} has classes 0 to {architecture.classes - 1}, not {term.number}")
    return replace(term, layer=architecture.nodes[-1].name)
