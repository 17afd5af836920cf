"""Ascent of a picture's whole spectrum, by Adam (Olah 2017, "Feature Visualization")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from render.atlas.activation import ChannelActivation
from render.atlas.spectrum import noise_spectrum, pixels_of
from render.atlas.transforms import STILL, draw_view, margin, seen

if TYPE_CHECKING:
    from render.atlas.channel_recipe import ChannelRecipe


class AscentState(NamedTuple):
    """Variables of one picture: its spectrum, and Adam's moments."""

    spectrum: Any
    moments: Any


class Ascent:
    """Gradient ascent from noise on a picture's spectrum; the view shifts, scales and turns at every step."""

    #: The drawing of a step at which nothing moves.
    still: NDArray[np.float32] = STILL

    def __init__(self, recipe: ChannelRecipe, activation: ChannelActivation) -> None:
        self._recipe = recipe
        self._activation = activation
        self._margin = margin(recipe.transforms, recipe.size)
        self._side = recipe.size + 2 * self._margin
        self._optimizer = optax.adam(recipe.rate)

    def start(self, channel: int) -> AscentState:
        """Return the variables of a channel's picture before the first step."""
        spectrum = jnp.asarray(noise_spectrum(self._recipe.seed, channel, self._side))
        return AscentState(spectrum, self._optimizer.init(spectrum))

    def draw(self, channel: int, step: int) -> NDArray[np.float32]:
        """Return the random view of a step."""
        return draw_view(self._recipe.transforms, self._recipe.seed, channel, step)

    def step(
        self, state: AscentState, weights: Any, channel: jax.Array, view: jax.Array
    ) -> tuple[AscentState, jax.Array, jax.Array]:
        """Return the variables after a step, the activation, and the largest |gradient|."""

        def activation(spectrum: jax.Array) -> jax.Array:
            return self._activation(weights, seen(pixels_of(spectrum, self._side), view, self._recipe.size), channel)

        value, gradient = jax.value_and_grad(activation)(state.spectrum)
        # Adam descends.
        change, moments = self._optimizer.update(-gradient, state.moments)
        return AscentState(state.spectrum + change, moments), value, jnp.abs(gradient).max()

    def pixels(self, state: AscentState) -> jax.Array:
        """Return the picture without its margin, (size, size, 3) float32 RGB, 0..255."""
        core = slice(self._margin, self._margin + self._recipe.size)
        return pixels_of(state.spectrum, self._side)[core, core]

    def mask(self, state: AscentState) -> None:
        """Return None: the whole picture is shown."""
