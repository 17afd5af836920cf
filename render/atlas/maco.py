"""MACO: a picture's phases ascend, and its magnitudes stay those of photographs.

From Fel et al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization". A
picture whose every frequency is as strong as in photographs cannot turn into the high frequencies that excite a network
and show nothing. Each step sees random crops, with noise, and moves the phases by Nadam.

Where the authors keep a rate of 1 radian, the rate here falls, so that the phases of fine detail come to rest; and crops
stay large, because a class' score needs to see the whole of a thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from render.atlas.activation import ChannelActivation
from render.atlas.attention import opacity
from render.atlas.crops import cropped, draw_crops
from render.atlas.spectrum import natural_magnitudes, noise_phases, pixels_of_phases

if TYPE_CHECKING:
    from render.atlas.channel_recipe import ChannelRecipe

#: Nadam's epsilon. Gradients of phases are far smaller than those of pixels.
_EPSILON = 1e-12


class MacoState(NamedTuple):
    """Variables of one picture: its phases, Nadam's moments, and the sum of |gradient| at its pixels so far."""

    phases: Any
    moments: Any
    attention: Any


class MacoDraw(NamedTuple):
    """Random draws of a step: crops from `draw_crops`; the noise's seed, two uint32, and its standard deviation, 0..255."""

    crops: Any
    seed: Any
    noise: Any


class Maco:
    """Ascent of the phases of a picture with the magnitudes of photographs."""

    def __init__(self, recipe: ChannelRecipe, activation: ChannelActivation) -> None:
        self._recipe = recipe
        self._activation = activation
        self._magnitudes = natural_magnitudes(recipe.size)
        rate = optax.cosine_decay_schedule(recipe.maco.rate, recipe.steps, recipe.maco.decay)
        self._optimizer = optax.nadam(rate, eps=_EPSILON)
        whole = np.tile(np.asarray([0, 0, 1], np.float32), (recipe.maco.crops, 1))
        #: The drawing of a step that sees the whole picture, without noise.
        self.still = MacoDraw(whole, np.zeros(2, np.uint32), np.float32(0))

    def start(self, channel: int) -> MacoState:
        """Return the variables of a channel's picture before the first step."""
        phases = jnp.asarray(noise_phases(self._recipe.seed, channel, self._recipe.size))
        return MacoState(phases, self._optimizer.init(phases), jnp.zeros((self._recipe.size, self._recipe.size)))

    def draw(self, channel: int, step: int) -> MacoDraw:
        """Return the random crops and noise of a step."""
        settings, seed = self._recipe.maco, self._recipe.seed
        words = np.random.Philox(key=[seed, channel], counter=[0, 0, 1, step + 1]).random_raw(1).view(np.uint32)
        return MacoDraw(draw_crops(settings, seed, channel, step), words, np.float32(255 * settings.noise))

    def step(
        self, state: MacoState, weights: Any, channel: jax.Array, draw: MacoDraw
    ) -> tuple[MacoState, jax.Array, jax.Array]:
        """Return the variables after a step, the mean activation of the crops, and the largest |gradient|."""

        def activation(picture: jax.Array) -> jax.Array:
            view = self._recipe.maco.view
            views = jax.vmap(lambda crop: cropped(picture, crop, view))(draw.crops)
            views = views + draw.noise * jax.random.normal(
                jax.random.wrap_key_data(draw.seed, impl="threefry2x32"), views.shape
            )
            return jax.vmap(lambda pixels: self._activation(weights, pixels, channel))(views).mean()

        picture, pull_back = jax.vjp(self._picture, state.phases)
        value, pixel_gradient = jax.value_and_grad(activation)(picture)
        (gradient,) = pull_back(pixel_gradient)
        # Nadam descends.
        change, moments = self._optimizer.update(-gradient, state.moments)
        attention = state.attention + jnp.abs(pixel_gradient).sum(-1)
        return MacoState(state.phases + change, moments, attention), value, jnp.abs(gradient).max()

    def pixels(self, state: MacoState) -> jax.Array:
        """Return the picture, (size, size, 3) float32 RGB, 0..255."""
        return self._picture(state.phases)

    def mask(self, state: MacoState) -> NDArray[np.uint8] | None:
        """Return how far the network looked at each pixel, (size, size) uint8; None if masks are off."""
        return opacity(np.asarray(state.attention)) if self._recipe.maco.mask else None

    def _picture(self, phases: jax.Array) -> jax.Array:
        return pixels_of_phases(phases, self._magnitudes, self._recipe.maco.contrast)
