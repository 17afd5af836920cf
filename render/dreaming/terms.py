"""Kinds of objective terms, each defined once.

A term is a weight times a mean over the positions of a layer (over one position, for a `Neuron`) of a value computed
from the activations there. All kinds are *tile-separable*: the gradient of the whole canvas is the sum over windows,
with the number of positions of the whole canvas as the divisor. A term that needs more than a window shows says so:
`Strongest` needs a sum over the whole source, computed in a separate pass before the ascent; `Caricature` needs the
source's pixels under the window; `Guide` needs the features of another picture, the same for every window.

JAX is imported only where it computes: planning and the conductor work without it.
"""

from __future__ import annotations

import hashlib
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
#: Function of pixels (rows, columns, 3) and a layer; returns the activations (rows, columns, channels) on the host.
Look = Callable[[Vector, str], Vector]

MEASURES = ("square", "mean", "l1")
#: Least value of a cosine, so that every position has a gradient; Lucid's `dot_compare` has the same floor.
_LEAST_COSINE = 0.1


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Data for a term's constants: the architecture, the trained parameters, and activations of any picture."""

    architecture: Architecture
    parameters: Mapping[str, Vector]
    look: Look


@dataclass(frozen=True)
class Term(ABC):
    """`weight` times a mean over positions of a layer."""

    layer: str
    weight: float = field(default=1.0, kw_only=True)

    #: Name of the kind in a config, and one line about what it amplifies.
    kind: ClassVar[str]
    about: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    #: True if the kernel needs the source's pixels under the window.
    needs_source: ClassVar[bool] = False

    @property
    def structure(self) -> str:
        """Key of the compiled kernel: terms of one structure differ only in numbers and share it."""
        return f"{self.kind}({self.layer})"

    @abstractmethod
    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Raise `UserError` if the term has no meaning on this layer."""

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:  # noqa: ARG002
        """Return the arrays that are passed to `total`, computed once for a job."""
        return ()

    @property
    def places(self) -> tuple[float, float] | None:
        """The place on the canvas that the term looks at, as shares (x, y) of width and height; None for everywhere."""
        return None

    @abstractmethod
    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:
        """Return the sum over positions of the term's value, without its weight: a float32 scalar.

        Args:
            activations: (rows, columns, channels) float32.
            constants: the arrays of `constants`.
            place: (2, n) int32, the rows and the columns of the activations at `places`; they may lie outside.
        """

    def mapping(self) -> dict[str, Any]:
        """Return the term as a config writes it."""
        return self._written() | ({"weight": self.weight} if self.weight != 1 else {})

    @abstractmethod
    def _written(self) -> dict[str, Any]:
        """Return the mapping without the weight."""

    def __str__(self) -> str:
        """Return the term in a config's short form; if it names no files, `parse_term(str(term)) == term`."""
        return json.dumps(self.mapping())


def _times(weight: float, what: str) -> str:
    short = f"{weight:g}"
    return what if weight == 1 else f"{short if float(short) == weight else repr(weight)}*{what}"


def file_name(path: str) -> str:
    """Return a file's name without its directories, so that moving files does not change what identifies a run."""
    return path.rpartition("/")[2]


def _outside(layer: Layer, architecture: Architecture, channel: int) -> UserError:
    return UserError(f"{layer.name} of {architecture.name} has channels 0 to {layer.channels - 1}, not {channel}")


def mean_of(channels: tuple[int, ...], of: int) -> Vector:
    """Return a vector of `of` numbers whose dot product with activations is the mean of some channels."""
    vector = np.zeros(of, np.float32)
    vector[list(channels)] = 1.0 / len(channels)
    return vector


@dataclass(frozen=True)
class Energy(Term):
    """Layer, or some of its channels: the mean of the squares, of the activations, or of their absolute values.

    `measure` is `square`, `mean` or `l1`; the default is `square` for a whole layer (as in the 2015 notebook) and
    `mean` for channels. Tile-separable.
    """

    kind = "energy"
    about = "all that a layer sees, or some of its channels (measure: square, mean, l1)"
    examples = (
        "0.5*mixed4",
        "mixed4:12+40-44",
        "/mixed[345]/",
        "{layer: mixed4, measure: mean}",
    )

    channels: tuple[int, ...] = ()
    measure: str | None = None

    @property
    def structure(self) -> str:
        return f"{self._measure}({self.layer}{':' if self.channels else ''})"

    @property
    def _measure(self) -> str:
        return self.measure or ("mean" if self.channels else "square")

    def check(self, layer: Layer, architecture: Architecture) -> None:
        for channel in self.channels:
            if not 0 <= channel < layer.channels:
                raise _outside(layer, architecture, channel)

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:
        if not self.channels:
            return ()
        return (mean_of(self.channels, evidence.architecture.layer(self.layer).channels),)

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        import jax.numpy as jnp

        measure = {"square": jnp.square, "mean": lambda a: a, "l1": jnp.abs}[self._measure]
        measured = measure(activations)
        return (measured @ constants[0]).sum() if constants else measured.mean(-1).sum()

    def _written(self) -> dict[str, Any]:
        channels = {"channels": list(self.channels)} if self.channels else {}
        measure = {"measure": self.measure} if self.measure else {}
        return {"layer": self.layer, **channels, **measure}

    def __str__(self) -> str:
        if self.measure:
            return super().__str__()
        return _times(self.weight, self.layer + (":" + "+".join(map(str, self.channels)) if self.channels else ""))


@dataclass(frozen=True)
class _Linear(Term):
    """Term whose value at a position is the dot product with one vector, like an `Energy` of channels."""

    @property
    def structure(self) -> str:
        return f"mean({self.layer}:)"

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        return (activations @ constants[0]).sum()


@dataclass(frozen=True)
class Neuron(Term):
    """One channel at one place of the canvas: `at` is the place in shares (x, y) of width and height.

    The term is the activation whose view is centred nearest to that pixel. Where the canvas wraps, the activations at
    the pixel's copies count too, so that a view continues across the seam. Tile-separable: a window holds an activation
    or does not.
    """

    kind = "neuron"
    about = "one channel at one place: at: [x, y], each from 0 to 1"
    examples = ("{layer: mixed4, channels: 12, at: [0.5, 0.2]}",)

    channel: int
    at: tuple[float, float]

    def check(self, layer: Layer, architecture: Architecture) -> None:
        if not 0 <= self.channel < layer.channels:
            raise _outside(layer, architecture, self.channel)

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:
        return (mean_of((self.channel,), evidence.architecture.layer(self.layer).channels),)

    @property
    def places(self) -> tuple[float, float] | None:
        return self.at

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        rows, columns = (
            (jnp.arange(size)[:, None] == numbers).any(-1)
            for size, numbers in zip(activations.shape[:2], place, strict=True)
        )
        return jnp.where(rows[:, None] & columns[None, :], activations @ constants[0], 0.0).sum()

    def _written(self) -> dict[str, Any]:
        return {"layer": self.layer, "channels": self.channel, "at": list(self.at)}


@dataclass(frozen=True)
class Strongest(_Linear):
    """Mean of the `count` channels that the source excites most, or least if `weakest`.

    The channels are chosen by a statistic of the whole source at the octave's size. A separate pass before the octave's
    ascent computes it: every tile sums the activations whose view is centred in it, and the conductor adds the sums in
    tile order. With the channels chosen, tile-separable.
    """

    kind = "strongest"
    about = "the channels that the source excites most (or weakest: least), chosen anew at each octave"
    examples = (
        "{layer: mixed4, strongest: 5}",
        "{layer: mixed4, weakest: 5}",
    )

    count: int
    weakest: bool = False

    def check(self, layer: Layer, architecture: Architecture) -> None:
        if self.count > layer.channels:
            raise UserError(f"{layer.name} of {architecture.name} has {layer.channels} channels, not {self.count}")

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:
        # Placeholder for the vector of the chosen channels.
        return (np.zeros(evidence.architecture.layer(self.layer).channels, np.float32),)

    def choose(self, sums: NDArray[np.float64]) -> tuple[int, ...]:
        """Return the `count` channels with the largest (or smallest) sums of activations, in that order.

        `sums` is (channels,), over the whole source. Of equal channels the first is taken. Channels that never fire
        have no gradient to follow, so they are among the weakest only if there are too few others.
        """
        order = np.argsort(sums if self.weakest else -sums, kind="stable")
        if self.weakest:
            order = np.concatenate([order[sums[order] > 0], order[sums[order] <= 0]])
        return tuple(int(channel) for channel in order[: self.count])

    def _written(self) -> dict[str, Any]:
        return {"layer": self.layer, "weakest" if self.weakest else "strongest": self.count}


@dataclass(frozen=True)
class Direction(Term):
    """Activations along a direction of the layer's space: the dot product with a vector of length 1.

    With `power` p the value is multiplied by the p-th power of the cosine between the two (at least 0.1), as in Lucid's
    `direction`: a higher power demands a closer match of the direction. Tile-separable.
    """

    kind = "direction"
    about = "a direction in the layer's space: direction: a .npy file or a list of numbers; power: how strictly"
    examples = ("{layer: mixed4, direction: eyes.npy, power: 1}",)

    vector: tuple[float, ...] = field(repr=False)
    power: float = 0.0
    named: str | None = field(default=None, compare=False)

    @property
    def structure(self) -> str:
        return f"direction({self.layer},{self.power!r})"

    def check(self, layer: Layer, architecture: Architecture) -> None:
        if len(self.vector) != layer.channels:
            raise UserError(
                f"direction of {len(self.vector)} numbers for {layer.name} of {architecture.name}, which has "
                f"{layer.channels} channels: give one number for each"
            )

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:  # noqa: ARG002
        vector = np.asarray(self.vector, np.float64)
        # Divide by the largest number first, so that no square overflows or vanishes.
        vector /= np.abs(vector).max()
        return ((vector / np.linalg.norm(vector)).astype(np.float32),)

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        return _aligned(activations, activations @ constants[0], self.power, 1.0).sum()

    def _written(self) -> dict[str, Any]:
        # A checksum stands for the numbers: hundreds of them would hide everything else.
        content = hashlib.sha256(np.asarray(self.vector, np.float64).tobytes()).hexdigest()[:12]
        named = file_name(self.named) if self.named else f"{len(self.vector)} numbers"
        return {"layer": self.layer, "direction": f"{named} ({content})", **({"power": self.power} if self.power else {})}


@dataclass(frozen=True)
class Class(_Linear):
    """Score of the network for a class, before softmax.

    The score is linear in the mean over positions of the last layer. So it is the mean over positions of a score at
    each one: the classifier applied convolutionally. Tile-separable.
    """

    kind = "class"
    about = "a class of a network that has a classifier: class: NAME or number"
    examples = (
        "class:goldfish",
        "{class: 543}",
    )

    number: int
    name: str = field(default="", compare=False)

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Accept the layer: the class was checked when the layer was resolved."""

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:
        weights = evidence.parameters.get(f"{evidence.architecture.classifier}/weight")
        if weights is None:
            raise UserError(
                f"class {self.name or self.number}: the weights have no {evidence.architecture.classifier}; "
                "give weights that have one, or other terms"
            )
        return (np.asarray(weights[self.number], np.float32),)

    def _written(self) -> dict[str, Any]:
        return {"class": self.number}

    def __str__(self) -> str:
        return _times(self.weight, f"class:{self.number}")


@dataclass(frozen=True)
class Guide(Term):
    """Features of another picture: at every position, the dot product with the guide's feature that matches it best.

    As in the 2015 notebook's guided dreams. The guide's features are the activations at all its positions. They are
    computed once for the whole picture and are the same for every window: tile-separable.
    """

    kind = "guide"
    about = "what another picture shows: guide: its path"
    examples = ("{layer: mixed4, guide: flower.jpg}",)

    image: str
    sha256: str
    pixels: Vector = field(compare=False, repr=False)

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:
        features = evidence.look(self.pixels, self.layer)
        return (np.ascontiguousarray(features.reshape(-1, features.shape[-1])),)

    def check(self, layer: Layer, architecture: Architecture) -> None:
        height, width = self.pixels.shape[:2]
        needed = architecture.truncated([layer.name]).smallest_input()
        if min(height, width) < needed:
            raise UserError(
                f"guide {self.image} is {width} x {height} px and {layer.name} of {architecture.name} needs {needed} px "
                "a side: take a larger picture or a shallower layer"
            )

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        matches = activations.reshape(-1, activations.shape[-1]) @ constants[0].T
        return matches.max(-1).sum()

    def _written(self) -> dict[str, Any]:
        return {"layer": self.layer, "guide": file_name(self.image)}


@dataclass(frozen=True)
class Caricature(Term):
    """Exaggeration of the source: the dot product with the source's own activation at each position.

    With `power` p the value is multiplied by the p-th power of the cosine between the two (at least 0.1). The source's
    activations under a window are computed from its pixels there, and equal those of the whole source: tile-separable.
    """

    kind = "caricature"
    about = "what the source itself shows there, exaggerated: caricature: true; power: how strictly"
    examples = ("{layer: mixed4, caricature: true}",)
    needs_source = True

    power: float = 1.0

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Accept any layer: each can be exaggerated."""

    @property
    def structure(self) -> str:
        return f"caricature({self.layer},{self.power!r})"

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        import jax.numpy as jnp

        # The source's activations come last.
        source_activations = constants[-1]
        dot = (activations * source_activations).sum(-1)
        return _aligned(activations, dot, self.power, jnp.sqrt(jnp.square(source_activations).sum(-1) + 1e-12)).sum()

    def _written(self) -> dict[str, Any]:
        return {"layer": self.layer, "caricature": True, **({"power": self.power} if self.power != 1 else {})}


def _aligned(activations: jax.Array, dot: jax.Array, power: float, length: jax.Array | float) -> jax.Array:
    """Return the dot product with a vector of `length`, times a power of the cosine."""
    import jax.numpy as jnp

    if power == 0:
        return dot
    cosine = dot / (jnp.sqrt(jnp.square(activations).sum(-1) + 1e-12) * length)
    return dot * jnp.maximum(_LEAST_COSINE, cosine) ** power


KINDS: tuple[type[Term], ...] = (Energy, Neuron, Strongest, Direction, Class, Guide, Caricature)
