"""Kinds of objective terms that compare the canvas with another picture.

`Caricature` needs the source's pixels under the window; `Guide` needs the features of another picture, the same for every
window. JAX is imported only where it computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from render.dreaming.term_base import LENGTH_EPSILON, Term, TrainedModel, Vector, cosine_weighted, file_name
from render.errors import UserError
from render.networks.architecture import Architecture, Layer

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class Guide(Term):
    """Features of another picture: the dot product with the best matching one.

    As in the 2015 notebook's guided dreams. The guide's features are the activations at all its positions. They are
    computed once for the whole picture and are the same for every window.

    Attributes:
        image: Path of the picture.
        sha256: Checksum of its file.
        pixels: (rows, columns, 3) float32 RGB, 0..255.
    """

    kind = "guide"
    about = "what another picture shows: guide: its path"
    examples = ("{layer: mixed4, guide: flower.jpg}",)

    image: str
    sha256: str
    pixels: Vector = field(compare=False, repr=False)

    def constants(self, model: TrainedModel) -> tuple[Vector, ...]:
        """Return the guide's features, (positions, channels)."""
        features = model.activations(self.pixels, self.layer)
        return (np.ascontiguousarray(features.reshape(-1, features.shape[-1])),)

    def check(self, layer: Layer, architecture: Architecture) -> None:
        """Raise `UserError` if the guide is too small for the layer."""
        height, width = self.pixels.shape[:2]
        needed = architecture.truncated([layer.name]).smallest_input()
        if min(height, width) < needed:
            raise UserError(
                f"guide {self.image} is {width} x {height} px and {layer.name} of {architecture.name} needs {needed} px "
                "a side: take a larger picture or a shallower layer"
            )

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        """Return the sum over positions of the largest dot product with a feature."""
        matches = activations.reshape(-1, activations.shape[-1]) @ constants[0].T
        return matches.max(-1).sum()

    def _config_keys(self) -> dict[str, Any]:
        return {"layer": self.layer, "guide": file_name(self.image)}


@dataclass(frozen=True)
class Caricature(Term):
    """Exaggeration of the source: the dot product with its own activation at each position.

    The value for activations a of the canvas and b of the source is dot(a, b) * max(0.1, cos(a, b))^power. The source's
    activations under a window are computed from its pixels there, and equal those of the whole source.

    Attributes:
        power: Power of the cosine, 0 or more.
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
        """Key of the compiled kernel: the layer and the power."""
        return f"caricature({self.layer},{self.power!r})"

    def total(self, activations: jax.Array, constants: tuple[jax.Array, ...], place: jax.Array) -> jax.Array:  # noqa: ARG002
        """Return the sum over positions of the dot product, weighted by the cosine."""
        import jax.numpy as jnp

        # The source's activations come last.
        source_activations = constants[-1]
        dot = (activations * source_activations).sum(-1)
        return cosine_weighted(
            activations, dot, self.power, jnp.sqrt(jnp.square(source_activations).sum(-1) + LENGTH_EPSILON)
        ).sum()

    def _config_keys(self) -> dict[str, Any]:
        return {"layer": self.layer, "caricature": True, **({"power": self.power} if self.power != 1 else {})}
