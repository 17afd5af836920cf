"""Base of all kinds of objective terms: what a term computes, and from which data.

A term is a weight times a mean over the positions of a layer (over one position, for a `Neuron`) of a value computed
from the activations there. All kinds are *tile-separable*: the gradient of the whole canvas is the sum over windows,
with the number of positions of the whole canvas as the divisor.

JAX is imported only where it computes: planning and the conductor work without it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.architecture import Architecture, Layer

if TYPE_CHECKING:
    import jax

Vector = NDArray[np.float32]

#: Least value of a cosine, so that every position has a gradient; Lucid's `dot_compare` has the same floor.
_MIN_COSINE = 0.1
#: Term under a root, so that the length of a vector of zeros has a gradient.
LENGTH_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """Trained network from which the constants of terms are computed.

    Attributes:
        architecture: The whole network, with its classifier if it has one.
        parameters: Its trained parameters by name.
        activations: Function of pixels, (rows, columns, 3) float32 RGB, 0..255, and the name of a layer; returns the
            activations there, (rows, columns, channels) float32, on the host.
    """

    architecture: Architecture
    parameters: Mapping[str, Vector]
    activations: Callable[[Vector, str], Vector]


@dataclass(frozen=True)
class Term(ABC):
    """`weight` times a mean over positions of a layer.

    Attributes:
        layer: Name of the layer.
        weight: Weight among the terms of the objective; below 0 the term is suppressed.
    """

    layer: str
    weight: float = field(default=1.0, kw_only=True)

    #: Name of the kind in listings and in a kernel's key, and one line about what it amplifies.
    kind: ClassVar[str]
    about: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    #: True if the kernel needs the source's pixels under the window.
    needs_source: ClassVar[bool] = False
    #: True if the gradient needs sums over the whole canvas, in a pass of their own before each step's gradient.
    needs_canvas_sums: ClassVar[bool] = False

    @property
    def structure(self) -> str:
        """Key of the compiled kernel: terms of one structure differ only in numbers and share it."""
        return f"{self.kind}({self.layer})"

    @abstractmethod
    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Check that the term has a meaning on its layer.

        Raises:
            UserError: It has none.
        """

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:  # noqa: ARG002
        """Return the arrays that `total` takes besides the activations, computed once for a job."""
        return ()

    @property
    def place(self) -> tuple[float, float] | None:
        """Place on the canvas that the term looks at, or None for everywhere.

        It is (x, y) in shares, 0..1, of width and height.
        """
        return None

    @abstractmethod
    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:
        """Return the sum over positions of the term's value, without its weight: a float32 scalar.

        Args:
            activations: (rows, columns, channels) float32.
            constants: The arrays of `constants`; if `needs_source`, then the source's activations of the same shape.
            place: (2, n) int32, rows and columns of the activations that the term looks at; they may lie outside: see
                `Objective.places`.
        """

    def mapping(self) -> dict[str, Any]:
        """Return the term as a config writes it."""
        return self._config_keys() | ({"weight": self.weight} if self.weight != 1 else {})

    @abstractmethod
    def _config_keys(self) -> dict[str, Any]:
        """Return the mapping without the weight."""

    def __str__(self) -> str:
        """Return the term in a config's short form.

        If it names no files, `parse_term(str(term)) == term`.
        """
        return json.dumps(self.mapping())


def weighted_text(weight: float, text: str) -> str:
    """Return a term's text with its weight before it; a weight of 1 is left out."""
    if weight == 1:
        return text
    short = f"{weight:g}"
    return f"{short if float(short) == weight else repr(weight)}*{text}"


def file_name(path: str) -> str:
    """Return a file's name without its directories.

    So moving files does not change what identifies a run.
    """
    return path.rpartition("/")[2]


def channel_error(layer: Layer, architecture: Architecture, channel: int) -> UserError:
    """Return the error for a channel that the layer does not have."""
    return UserError(f"{layer.name} of {architecture.name} has channels 0 to {layer.channels - 1}, not {channel}")


def mean_vector(channels: tuple[int, ...], count: int) -> Vector:
    """Return the vector whose dot product with activations is the mean of some channels.

    Args:
        channels: Indices of the channels, without repeats.
        count: Number of the layer's channels.

    Returns:
        (count,) float32.
    """
    vector = np.zeros(count, np.float32)
    vector[list(channels)] = 1.0 / len(channels)
    return vector


def cosine_weighted(activations: jax.Array, dot: jax.Array, power: float, length: jax.Array | float) -> jax.Array:
    """Return a dot product times a power of the cosine, at least 0.1: (rows, columns) float32.

    Args:
        activations: (rows, columns, channels) float32.
        dot: Dot products of the activations with some vectors, (rows, columns).
        power: Power of the cosine.
        length: Length of these vectors, (rows, columns) or a scalar.
    """
    import jax.numpy as jnp

    if power == 0:
        return dot
    cosine = dot / (jnp.sqrt(jnp.square(activations).sum(-1) + LENGTH_EPSILON) * length)
    return dot * jnp.maximum(_MIN_COSINE, cosine) ** power
