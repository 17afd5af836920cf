"""Kinds of objective terms, each defined once; `KINDS` lists them.

All are tile-separable: see `render.dreaming.term_base`. Those that compare the canvas with another picture are defined in
`render.dreaming.picture_terms` and `render.dreaming.texture`. `Strongest` needs a sum over the whole source, computed in a
separate pass before the ascent, and `Texture` one over the whole canvas, before each step.

JAX is imported only where it computes: planning and the conductor work without it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from render.dreaming.picture_terms import Caricature, Guide
from render.dreaming.term_base import (
    Term,
    TrainedModel,
    Vector,
    channel_error,
    cosine_weighted,
    file_name,
    mean_vector,
    weighted_text,
)
from render.dreaming.texture import Texture
from render.errors import UserError
from render.networks.architecture import Architecture, Layer

if TYPE_CHECKING:
    import jax

MEASURES = ("square", "mean", "l1")


@dataclass(frozen=True)
class Energy(Term):
    """Mean over a layer, or some of its channels, of a measure of the activations.

    Attributes:
        channels: Indices of the channels; empty for all.
        measure: `square` (a^2), `mean` (a) or `l1` (|a|); None for `square` of a whole layer, as in the 2015 notebook, and
            `mean` of channels.
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
        """Key of the compiled kernel: the measure, the layer, and whether it is of some channels."""
        return f"{self._measure}({self.layer}{':' if self.channels else ''})"

    @property
    def _measure(self) -> str:
        return self.measure or ("mean" if self.channels else "square")

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Raise `UserError` if the layer does not have one of the channels."""
        for channel in self.channels:
            if not 0 <= channel < layer.channels:
                raise channel_error(layer, architecture, channel)

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:
        """Return the vector of the channels' mean, (channels,), or nothing for a whole layer."""
        if not self.channels:
            return ()
        return (mean_vector(self.channels, model.architecture.layer(self.layer).channels),)

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        """Return the sum over positions of the mean over channels of the measure."""
        import jax.numpy as jnp

        measure = {"square": jnp.square, "mean": lambda a: a, "l1": jnp.abs}[self._measure]
        measured = measure(activations)
        return (measured @ constants[0]).sum() if constants else measured.mean(-1).sum()

    def _config_keys(self) -> dict[str, Any]:
        channels = {"channels": list(self.channels)} if self.channels else {}
        measure = {"measure": self.measure} if self.measure else {}
        return {"layer": self.layer, **channels, **measure}

    def __str__(self) -> str:
        if self.measure:
            return super().__str__()
        return weighted_text(self.weight, self.layer + (":" + "+".join(map(str, self.channels)) if self.channels else ""))


@dataclass(frozen=True)
class _Linear(Term):
    """Term whose value at a position is a dot product with one vector, its only constant."""

    @property
    def structure(self) -> str:
        """Key of the compiled kernel, shared with an `Energy` of channels."""
        return f"mean({self.layer}:)"

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        """Return the sum over positions of the dot product."""
        return (activations @ constants[0]).sum()


@dataclass(frozen=True)
class Neuron(Term):
    """One channel at one place of the canvas.

    The term is the activation whose receptive field is centred nearest to that pixel. Where the canvas wraps, the
    activations at the pixel's copies count too, so that the field continues across the seam. A window holds an activation
    or does not.

    Attributes:
        channel: Index of the channel.
        at: Place in shares (x, y), 0..1, of width and height.
    """

    kind = "neuron"
    about = "one channel at one place: at: [x, y], each from 0 to 1"
    examples = ("{layer: mixed4, channels: 12, at: [0.5, 0.2]}",)

    channel: int
    at: tuple[float, float]

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Raise `UserError` if the layer does not have the channel."""
        if not 0 <= self.channel < layer.channels:
            raise channel_error(layer, architecture, self.channel)

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:
        """Return the vector that picks the channel, (channels,)."""
        return (mean_vector((self.channel,), model.architecture.layer(self.layer).channels),)

    @property
    def place(self) -> tuple[float, float] | None:
        """The place `at`."""
        return self.at

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:
        """Return the channel's sum over the rows and columns of `place` that the window holds."""
        import jax.numpy as jnp

        rows, columns = (
            (jnp.arange(size)[:, None] == numbers).any(-1)
            for size, numbers in zip(activations.shape[:2], place, strict=True)
        )
        return jnp.where(rows[:, None] & columns[None, :], activations @ constants[0], 0.0).sum()

    def _config_keys(self) -> dict[str, Any]:
        return {"layer": self.layer, "channels": self.channel, "at": list(self.at)}


@dataclass(frozen=True)
class Strongest(_Linear):
    """Mean of the `count` channels that the source excites most, or least if `weakest`.

    The channels are chosen by a statistic of the whole source at the octave's size. A separate pass before the octave's
    ascent computes it: every tile sums the activations whose receptive field is centred in it, and the conductor adds the
    sums in tile order.
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
        """Raise `UserError` if the layer has fewer channels."""
        if self.count > layer.channels:
            raise UserError(f"{layer.name} of {architecture.name} has {layer.channels} channels, not {self.count}")

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:
        """Return a placeholder for the vector of the chosen channels, (channels,)."""
        return (np.zeros(model.architecture.layer(self.layer).channels, np.float32),)

    def choose(self, sums: NDArray[np.float64]) -> tuple[int, ...]:
        """Return the `count` channels with the largest (or smallest) sums, in that order.

        Of equal channels the first comes first. Channels that never fire have no gradient to follow, so they are among the
        weakest only if there are too few others.

        Args:
            sums: (channels,) float64, sums of the activations over the whole source.
        """
        order = np.argsort(sums if self.weakest else -sums, kind="stable")
        if self.weakest:
            order = np.concatenate([order[sums[order] > 0], order[sums[order] <= 0]])
        return tuple(int(channel) for channel in order[: self.count])

    def _config_keys(self) -> dict[str, Any]:
        return {"layer": self.layer, "weakest" if self.weakest else "strongest": self.count}


@dataclass(frozen=True)
class Direction(Term):
    """Activations along a direction of the layer's space: the dot product with a unit vector.

    The value at a position with activation a is dot(a, v) * max(0.1, cos(a, v))^power, as in Lucid's `direction`: a higher
    power demands a closer match of the direction.

    Attributes:
        vector: The direction, one number for each channel; its length does not matter.
        power: Power of the cosine, 0 or more.
        named: The file that it was read from, or None.
    """

    kind = "direction"
    about = "a direction in the layer's space: direction: a .npy file or a list of numbers; power: how strictly"
    examples = ("{layer: mixed4, direction: eyes.npy, power: 1}",)

    vector: tuple[float, ...] = field(repr=False)
    power: float = 0.0
    named: str | None = field(default=None, compare=False)

    @property
    def structure(self) -> str:
        """Key of the compiled kernel: the layer and the power."""
        return f"direction({self.layer},{self.power!r})"

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Raise `UserError` unless the vector has one number for each channel."""
        if len(self.vector) != layer.channels:
            raise UserError(
                f"direction of {len(self.vector)} numbers for {layer.name} of {architecture.name}, which has "
                f"{layer.channels} channels: give one number for each"
            )

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:  # noqa: ARG002
        """Return the unit vector, (channels,)."""
        vector = np.asarray(self.vector, np.float64)
        # Divide by the largest number first, so that no square overflows or vanishes.
        vector /= np.abs(vector).max()
        return ((vector / np.linalg.norm(vector)).astype(np.float32),)

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        """Return the sum over positions of the dot product, weighted by the cosine."""
        return cosine_weighted(activations, activations @ constants[0], self.power, 1.0).sum()

    def _config_keys(self) -> dict[str, Any]:
        # A checksum stands for the numbers: hundreds of them would hide everything else.
        content = hashlib.sha256(np.asarray(self.vector, np.float64).tobytes()).hexdigest()[:12]
        named = file_name(self.named) if self.named else f"{len(self.vector)} numbers"
        return {"layer": self.layer, "direction": f"{named} ({content})", **({"power": self.power} if self.power else {})}


@dataclass(frozen=True)
class Class(_Linear):
    """Score of the network for a class, before softmax.

    The score is linear in the mean over positions of the last layer. So it is the mean over positions of a score at
    each one: the classifier applied convolutionally.

    Attributes:
        number: Index of the class.
        name: Its name, for messages.
    """

    kind = "class"
    about = "a class of a network that has a classifier: class: NAME or number; `make classes` lists the names"
    examples = (
        "class:goldfish",
        "{class: 543}",
    )

    number: int
    name: str = field(default="", compare=False)

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Accept the layer: the class was checked when the layer was resolved."""

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:
        """Return the classifier's weights of the class, (channels,).

        Raises:
            UserError: The weights have no classifier.
        """
        weights = model.parameters.get(f"{model.architecture.classifier}/weight")
        if weights is None:
            raise UserError(
                f"class {self.name or self.number}: the weights have no {model.architecture.classifier}; "
                "give weights that have one, or other terms"
            )
        return (np.asarray(weights[self.number], np.float32),)

    def _config_keys(self) -> dict[str, Any]:
        return {"class": self.number}

    def __str__(self) -> str:
        return weighted_text(self.weight, f"class:{self.number}")


KINDS: tuple[type[Term], ...] = (Energy, Neuron, Strongest, Direction, Class, Guide, Caricature, Texture)
