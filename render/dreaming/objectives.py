"""Objective of the ascent: a sum of weighted terms on the activations of a network.

JAX is imported only where it computes: planning and the conductor work without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from render.dreaming.gram import measuring_grid, span_inside
from render.dreaming.term_base import Term, Vector
from render.dreaming.term_syntax import Materials, expand, parse_terms
from render.dreaming.terms import Class, Strongest
from render.dreaming.texture import Texture
from render.errors import UserError
from render.geometry.geometry import MOST_TURNS, Axis, Grid, Rect
from render.networks.architecture import Architecture, ReceptiveField

if TYPE_CHECKING:
    import jax

#: Most copies of a pixel that the extended canvas can show along an axis: see `geometry.MOST_TURNS`.
MOST_COPIES = 2 * MOST_TURNS + 1


@dataclass(frozen=True)
class Objective:
    """Sum of terms: the function of the activations that the ascent makes larger."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        """Return the terms in their short form, joined by plus signs."""
        return " + ".join(map(str, self.terms))

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers whose activations are needed, without repeats."""
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
        """Terms that need a sum over the whole source, by number."""
        return {number: term for number, term in enumerate(self.terms) if isinstance(term, Strongest)}

    @property
    def textures(self) -> dict[int, Texture]:
        """Terms that need sums over the whole canvas before each step's gradient, by number."""
        return {number: term for number, term in enumerate(self.terms) if isinstance(term, Texture)}

    @property
    def measured_layers(self) -> tuple[str, ...]:
        """Layers of which the sums over the whole canvas are needed, without repeats."""
        return tuple(dict.fromkeys(term.layer for term in self.terms if term.needs_canvas_sums))

    def measuring_grid(self, architecture: Architecture, grid: Grid) -> Grid | None:
        """Return the grid in which the sums over the whole canvas are measured; None if none are needed.

        Args:
            architecture: The network.
            grid: Grid of the octave.
        """
        layers = [architecture.layer(name) for name in self.measured_layers]
        return measuring_grid(grid, layers) if layers else None

    @property
    def looks_at_source(self) -> bool:
        """True if the objective needs the source, in the kernel or for a statistic."""
        return self.needs_source or bool(self.statistics)

    def factors(self, architecture: Architecture, extended: tuple[int, int]) -> tuple[float, ...]:
        """Return for each term its weight over its number of positions in the extended canvas.

        Weights are relative to the largest: the ascent divides the gradient by its mean, so only ratios matter, and
        weights in any unit stay within float32.

        Args:
            architecture: The network.
            extended: (rows, columns) of the extended canvas, px.
        """
        sizes = architecture.output_sizes(*extended)
        largest = max(abs(term.weight) for term in self.terms)

        def positions(term: Term) -> int:
            """Return the number of positions that the term is the mean over; a texture's matrix is divided already."""
            return 1 if term.place or term.needs_canvas_sums else sizes[term.layer][0] * sizes[term.layer][1]

        return tuple(term.weight / largest / positions(term) for term in self.terms)

    def support(self, architecture: Architecture, canvas: tuple[int, int]) -> float:
        """Return the share of a canvas that the objective may change, 0..1.

        It is below 1 only for neurons, whose gradient is 0 outside their receptive field; the mean gradient is over this
        share.

        Args:
            architecture: The network.
            canvas: (rows, columns) of the canvas, px.
        """
        area = 0.0
        for term in self.terms:
            if not term.place:
                return 1.0
            side = architecture.layer(term.layer).receptive_field
            area += min(side, canvas[0]) * min(side, canvas[1])
        return min(1.0, area / (canvas[0] * canvas[1]))

    def places(self, architecture: Architecture, grid: Grid, window: Rect, jitter: tuple[int, int]) -> NDArray[np.int32]:
        """Return the rows and columns of a window's activations that terms look at, if they do not look at all.

        A neuron looks at one place. Where an axis wraps, the extended canvas repeats the place, and the term looks at every
        copy. A texture looks at the activations from the first to before the second.

        Args:
            architecture: The network.
            grid: The octave's tile grid.
            window: The window, in px of the extended canvas.
            jitter: The step's shift of the network's grid, (rows, columns) px.

        Returns:
            (terms, 2, `MOST_COPIES`) int32, counted from the window's first activation. Indices outside of the window's
                activations, -1 among them, stand for none.
        """
        places = np.full((len(self.terms), 2, MOST_COPIES), -1, np.int32)
        if not any(term.place or term.needs_canvas_sums for term in self.terms):
            return places
        sizes = architecture.output_sizes(*grid.extended_shape)
        for number, term in enumerate(self.terms):
            axis_fields = architecture.layer(term.layer).axis_fields
            axes = zip((grid.rows, grid.columns), axis_fields, sizes[term.layer], window, jitter, strict=True)
            for side, (axis, receptive_field, count, interval, shift) in enumerate(axes):
                if term.place:
                    share = term.place[1 - side]
                    copies = _nearest_activations(axis, receptive_field, count, share, interval.start, shift)
                    places[number, side, : len(copies)] = copies
                elif term.needs_canvas_sums:
                    places[number, side, :2] = span_inside(axis, receptive_field, count, interval.start, shift)
        return places

    def total(
        self,
        activations: Mapping[str, jax.Array],
        factors: jax.Array,
        constants: Sequence[tuple[jax.Array, ...]] | None = None,
        places: jax.Array | None = None,
    ) -> jax.Array:
        """Return the window's share of the objective.

        The shares of a partition of the positions add up to the value of the whole canvas.

        Args:
            activations: Those of each layer, (rows, columns, channels) float32.
            factors: (terms,) float32, results of `factors`.
            constants: Arrays of each term; None if no term has any.
            places: (terms, 2, `MOST_COPIES`) int32, result of `places`; None if no term looks at a place.

        Returns:
            A float32 scalar.
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
        return jnp.dot(shares, factors)


@dataclass(frozen=True)
class KernelInputs:
    """Inputs of a kernel besides the pixels, the same for all windows of an octave.

    Attributes:
        objective: Index of one of the kernel's objectives.
        factors: For each of its terms, the weight over the number of positions: see `Objective.factors`.
        chosen: Channels of the terms that need a statistic, by the term's number: see `Strongest.choose`.
        matrices: Matrices of the terms that need sums over the canvas, by the term's number, new in each step: see
            `Texture.ascent_matrix`.
    """

    objective: int
    factors: tuple[float, ...]
    chosen: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    matrices: Mapping[int, Vector] = field(default_factory=dict, compare=False, repr=False)


def _nearest_activations(
    axis: Axis, field: ReceptiveField, count: int, share: float, window_start: int, jitter: int
) -> list[int]:
    """Return the activations centred nearest to each copy of a pixel, along one axis.

    A pixel has copies only where the axis wraps.

    Args:
        axis: The axis of the octave.
        field: Receptive field of the layer along this axis.
        count: Number of the layer's activations on the extended canvas.
        share: Position of the pixel, as a share of the axis, 0..1.
        window_start: First px of the window.
        jitter: The step's shift, px.

    Returns:
        Indices counted from the window's first activation; they lie outside of the window if it does not hold them.
    """
    pixel = min(int(share * axis.length), axis.length - 1)
    origin = -axis.fill - jitter

    def nearest(position: int) -> int:
        """Return the activation centred nearest to a px, of two equally near ones the first."""
        return math.ceil((position - origin - (field.low + field.high) / 2) / field.stride - 0.5)

    first = (window_start - origin) // field.stride
    if axis.mode != "wrap":
        return [min(max(nearest(pixel), 0), count - 1) - first]
    turns = -(-axis.fill // axis.length)
    copies = [nearest(pixel + turn * axis.length) for turn in range(-turns, turns + 1)]
    return [copy - first for copy in copies if 0 <= copy < count]


def resolve(terms: Sequence[object], architecture: Architecture, materials: Materials | None = None) -> Objective:
    """Return the objective that a config's terms mean on this network.

    Args:
        terms: Texts or mappings: see `parse_terms`.
        architecture: The network.
        materials: Source of the classes, pictures and vectors that terms name; None if they name none.

    Raises:
        UserError: There is no term, or a layer, channel or class is unknown.
    """
    if not terms:
        raise UserError("objective.terms is empty: name at least one layer, such as objective.terms=[mixed4]")
    resolved: list[Term] = []
    for written in terms:
        for term in parse_terms(written, materials):
            if isinstance(term, Class):
                resolved.append(_on_classifier(term, architecture))
            else:
                resolved += expand(term, tuple(architecture.layers), architecture.name)
    for term in resolved:
        term.check(architecture.layer(term.layer), architecture)
    return Objective(tuple(resolved))


def _on_classifier(term: Class, architecture: Architecture) -> Term:
    """Return the term on the last layer; raise `UserError` if the network has no such class."""
    if not architecture.classes:
        raise UserError(
            f"class {term.name or term.number!r}: {architecture.name} has no classifier; "
            "take model=googlenet or model=inception_v3_slim"
        )
    if not 0 <= term.number < architecture.classes:
        raise UserError(f"{architecture.name} has classes 0 to {architecture.classes - 1}, not {term.number}")
    return replace(term, layer=architecture.nodes[-1].name)
