"""The kinds of things to make more of, each defined once.

A term is a weight times a mean over the positions of a layer (of one position, for a `Neuron`) of something computed from
the activations there. All kinds are *tile-separable*: the gradient of the whole canvas is the sum over windows, with the
number of positions of the whole canvas as the divisor. What needs to know more of the canvas than a window shows says
so: `Strongest` rests on a sum over the whole source, made in a pass of its own before the ascent; `Caricature` needs the
source's pixels under the window, and `Guide` the features of another picture, the same for every window.

JAX is imported where it computes: whoever only plans or conducts does without.
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
from render.models.architecture import Architecture, Layer

if TYPE_CHECKING:
    import jax

Vector = NDArray[np.float32]
#: Activations (rows, columns, channels) that a network has for pixels (rows, columns, 3) at a layer, on the host.
Look = Callable[[Vector, str], Vector]

MEASURES = ("square", "mean", "l1")
#: How little a cosine may count: Lucid's `dot_compare` has the same floor, so that no position is without a gradient.
_LEAST_COSINE = 0.1


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a term may look at where it is made ready for a kernel: the trained parameters, and activations of a picture."""

    architecture: Architecture
    parameters: Mapping[str, Vector]
    look: Look


@dataclass(frozen=True)
class Term(ABC):
    """`weight` times a mean over positions of a layer."""

    layer: str
    weight: float = field(default=1.0, kw_only=True)

    #: What a config calls it, and what it makes more of, in a line.
    kind: ClassVar[str]
    about: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    #: Whether the kernel needs the source's pixels under the window.
    needs_source: ClassVar[bool] = False

    @property
    def structure(self) -> str:
        """Terms of one structure differ in numbers only and share a compiled kernel."""
        return f"{self.kind}({self.layer})"

    @abstractmethod
    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Raises `UserError` where the term means nothing on this layer."""

    def constants(self, evidence: Evidence) -> tuple[Vector, ...]:  # noqa: ARG002
        """The arrays that `total` is given, made once for a job."""
        return ()

    @property
    def places(self) -> tuple[float, float] | None:
        """Where on the canvas the term looks, as shares (x, y) of its width and height; None for everywhere."""
        return None

    @abstractmethod
    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:
        """Sum over positions of the term's value there, without its weight: a float32 scalar.

        `activations`: (rows, columns, channels) float32. `place`: (2, n) int32, the rows and the columns of the activations
        that `places` means, which may lie outside.
        """

    def mapping(self) -> dict[str, Any]:
        """The term as a config writes it."""
        return self._written() | ({"weight": self.weight} if self.weight != 1 else {})

    @abstractmethod
    def _written(self) -> dict[str, Any]:
        """The same without its weight."""

    def __str__(self) -> str:
        """What a config would say, in short: for terms that name no files `parse_term(str(term)) == term`."""
        return json.dumps(self.mapping())


def _times(weight: float, what: str) -> str:
    short = f"{weight:g}"
    return what if weight == 1 else f"{short if float(short) == weight else repr(weight)}*{what}"


def file_name(path: str) -> str:
    """A file without its directories: what says which run it is must not change where files are moved."""
    return path.rpartition("/")[2]


def _outside(layer: Layer, architecture: Architecture, channel: int) -> UserError:
    return UserError(f"{layer.name} of {architecture.name} has channels 0 to {layer.channels - 1}, not {channel}")


def mean_of(channels: tuple[int, ...], of: int) -> Vector:
    """A vector whose dot product with activations is the mean of some channels."""
    vector = np.zeros(of, np.float32)
    vector[list(channels)] = 1.0 / len(channels)
    return vector


@dataclass(frozen=True)
class Energy(Term):
    """A layer, or some of its channels: the mean of squares, of activations as they are, or of their absolute values.

    `measure` is `square`, `mean` or `l1`; by itself `square` for a whole layer (as in the 2015 notebook) and `mean` for
    channels. Tile-separable.
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
    """A term whose value at a position is the dot product with one vector, as that of an `Energy` of channels is."""

    @property
    def structure(self) -> str:
        return f"mean({self.layer}:)"

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        return (activations @ constants[0]).sum()


@dataclass(frozen=True)
class Neuron(Term):
    """One channel at one place of the canvas: `at` gives it in shares (x, y) of width and height.

    The activation whose view is centred nearest to that pixel, and where the canvas wraps those of its repetitions, so that
    a view goes around the seam. Tile-separable: a window holds them or does not.
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
    """The mean of the `count` channels that the source excites most, or least where `weakest`.

    Which they are is a statistic of the whole source at the octave's size. It is made before the octave's ascent in a pass
    of its own: every tile sums the activations whose view is centred in it, the conductor adds the sums in tile order.
    With the channels chosen, tile-separable.
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
        # Holds the place of what is chosen.
        return (np.zeros(evidence.architecture.layer(self.layer).channels, np.float32),)

    def choose(self, sums: NDArray[np.float64]) -> tuple[int, ...]:
        """The channels, strongest (or weakest) first, of a layer whose activations over the source sum up so: (channels,).

        Of equals the first. Channels that never fire are never among the weakest, unless there are no others: nothing
        could be followed there.
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

    With `power` p, times the p-th power of the cosine between the two (at least 0.1), as Lucid's `direction` does: that
    asks for the direction and nothing else. Tile-separable.
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
        # The largest first, so that no square overflows or vanishes.
        vector /= np.abs(vector).max()
        return ((vector / np.linalg.norm(vector)).astype(np.float32),)

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        return _aligned(activations, activations @ constants[0], self.power, 1.0).sum()

    def _written(self) -> dict[str, Any]:
        # Hundreds of numbers would hide everything else: they are named by their checksum.
        content = hashlib.sha256(np.asarray(self.vector, np.float64).tobytes()).hexdigest()[:12]
        named = file_name(self.named) if self.named else f"{len(self.vector)} numbers"
        return {"layer": self.layer, "direction": f"{named} ({content})", **({"power": self.power} if self.power else {})}


@dataclass(frozen=True)
class Class(_Linear):
    """What the network would call by a name: its score for a class before softmax.

    The score is linear in the mean over positions of the last layer, so it is a mean over positions of a score at each:
    the classifier applied convolutionally. Tile-separable.
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
        """Whether there is such a class has been seen to where the layer was found."""

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

    As in the 2015 notebook's guided dreams. The guide's features are the activations at all its positions, computed once
    for the whole picture, the same for every window: tile-separable.
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
    """What the source already shows, exaggerated: the dot product with the source's own activation at each position.

    With `power` p, times the p-th power of the cosine between the two (at least 0.1). The source's activations are computed
    from its pixels under the window, which are those of the whole: tile-separable.
    """

    kind = "caricature"
    about = "what the source itself shows there, exaggerated: caricature: true; power: how strictly"
    examples = ("{layer: mixed4, caricature: true}",)
    needs_source = True

    power: float = 1.0

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Any layer can be exaggerated."""

    @property
    def structure(self) -> str:
        return f"caricature({self.layer},{self.power!r})"

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        import jax.numpy as jnp

        # The source's activations come last.
        model = constants[-1]
        dot = (activations * model).sum(-1)
        return _aligned(activations, dot, self.power, jnp.sqrt(jnp.square(model).sum(-1) + 1e-12)).sum()

    def _written(self) -> dict[str, Any]:
        return {"layer": self.layer, "caricature": True, **({"power": self.power} if self.power != 1 else {})}


def _aligned(activations: jax.Array, dot: jax.Array, power: float, length: jax.Array | float) -> jax.Array:
    """The dot product with a vector of that length, times a power of the cosine."""
    import jax.numpy as jnp

    if power == 0:
        return dot
    cosine = dot / (jnp.sqrt(jnp.square(activations).sum(-1) + 1e-12) * length)
    return dot * jnp.maximum(_LEAST_COSINE, cosine) ** power


KINDS: tuple[type[Term], ...] = (Energy, Neuron, Strongest, Direction, Class, Guide, Caricature)
