"""What the ascent makes more of: weighted terms on the activations of layers.

Every term here is a mean over positions of something computed at each position, so it is *tile-separable*: the
gradient of the whole is the sum over windows, with the number of positions of the whole canvas as the divisor.

JAX is imported where it computes: whoever only plans or conducts does without.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from render.errors import UserError
from render.models.architecture import Architecture

if TYPE_CHECKING:
    import jax

_TERM = re.compile(
    r"\s*(?:(?P<weight>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*\*\s*)?(?P<layer>[^:*\s]+)\s*"
    r"(?::\s*(?P<channels>\d{1,9}(?:\s*[,+]\s*\d{1,9})*)\s*)?",
    re.ASCII,
)
_KEYS = ("layer", "channels", "weight")


@dataclass(frozen=True)
class Term:
    """`weight` times the mean square of a layer's activations, or the mean of some of its channels.

    Its text is what a config would say: `parse_term(str(term)) == term`.
    """

    layer: str
    channels: tuple[int, ...] = ()
    weight: float = 1.0

    def __str__(self) -> str:
        short = f"{self.weight:g}"
        weight = "" if self.weight == 1 else f"{short if float(short) == self.weight else repr(self.weight)}*"
        channels = ":" + "+".join(map(str, self.channels)) if self.channels else ""
        return f"{weight}{self.layer}{channels}"

    def total(self, activations: jax.Array) -> jax.Array:
        """Sum over positions of the term's value there, without its weight.

        `activations`: (rows, columns, channels) float32. Returns a float32 scalar.
        """
        import jax.numpy as jnp

        if self.channels:
            return activations[..., jnp.asarray(self.channels)].mean(-1).sum()
        return jnp.square(activations).mean(-1).sum()


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

    def divisors(self, architecture: Architecture, extended: tuple[int, int]) -> tuple[float, ...]:
        """For each term its weight over the number of positions in the extended canvas of (rows, columns) px.

        Weights count relative to the largest: the ascent divides the gradient by its mean, so only ratios matter, and
        nobody's choice of unit should leave float32.
        """
        sizes = architecture.output_sizes(*extended)
        largest = max(abs(term.weight) for term in self.terms)
        return tuple(term.weight / largest / (sizes[term.layer][0] * sizes[term.layer][1]) for term in self.terms)

    def total(self, activations: Mapping[str, jax.Array], divisors: jax.Array) -> jax.Array:
        """The window's share of the objective; shares of a partition of positions add up to the whole canvas' value."""
        import jax.numpy as jnp

        shares = jnp.stack([term.total(activations[term.layer]) for term in self.terms])
        return jnp.dot(shares, divisors)


def parse_term(written: object) -> Term:
    """A term from a config: a mapping with `layer`, `channels`, `weight`, or `[WEIGHT*]LAYER[:CHANNEL+CHANNEL...]`."""
    if isinstance(written, str):
        match = _TERM.fullmatch(written)
        if match is None:
            raise UserError(f"objective term {written!r} is not [WEIGHT*]LAYER[:CHANNEL+CHANNEL], such as 0.5*mixed4:12+40")
        channels = tuple(int(word) for word in re.findall(r"\d+", match["channels"] or ""))
        return _checked(Term(match["layer"], channels, _number(match["weight"] or 1, written)), written)
    if isinstance(written, Mapping):
        for key in written:
            if key not in _KEYS:
                near = difflib.get_close_matches(str(key), _KEYS, n=1)
                raise UserError(
                    f"objective term has an unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                )
        if not isinstance(written.get("layer"), str):
            raise UserError(f"objective term {dict(written)!r} needs a `layer`")
        return _checked(
            Term(written["layer"], _channels(written.get("channels")), _number(written.get("weight", 1), written)),
            written,
        )
    raise UserError(f"objective term {written!r} is neither text nor a mapping with a `layer`")


def _number(value: object, written: object) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"objective term {written!r}: weight {value!r} is not a number") from None


def _channels(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    whole = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
    if len(whole) < len(numbers):
        raise UserError(f"objective channels {value!r} must be whole numbers")
    if not whole:
        raise UserError("objective channels are empty: name at least one, or leave `channels` out for the whole layer")
    return tuple(whole)


def _checked(term: Term, written: object) -> Term:
    if term.weight == 0 or not math.isfinite(term.weight):
        raise UserError(f"objective term {written!r}: weight must be a finite number other than 0")
    if len(set(term.channels)) < len(term.channels):
        raise UserError(f"objective term {written!r} names a channel twice")
    return term


def resolve(terms: Sequence[object], architecture: Architecture) -> Objective:
    """The objective that a config's terms mean on this network; `UserError` for unknown layers or channels."""
    if not terms:
        raise UserError("objective.terms is empty: name at least one layer, such as objective.terms=[mixed4]")
    parsed = tuple(parse_term(term) for term in terms)
    for term in parsed:
        layer = architecture.layer(term.layer)
        for channel in term.channels:
            if not 0 <= channel < layer.channels:
                raise UserError(
                    f"{term.layer} of {architecture.name} has channels 0 to {layer.channels - 1}, not {channel}"
                )
    return Objective(parsed)
