"""Feature visualisation: gradient ascent from noise on a picture's spectrum, one compiled step for a whole layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from render.atlas.channel_picture import ChannelPicture, RemoteVisualiser
from render.atlas.spectrum import noise_spectrum, pixels_of
from render.atlas.transforms import STILL, draw_view, margin, seen
from render.errors import NumericalError
from render.networks.network import Network
from render.system import interrupts

if TYPE_CHECKING:
    from render.atlas.channel_recipe import ChannelRecipe


class Visualiser(RemoteVisualiser):
    """Visualiser of the channels of one layer. A picture depends only on the recipe and the channel."""

    def __init__(self, recipe: ChannelRecipe) -> None:
        self._recipe = recipe
        layer, neuron, size = recipe.layer, recipe.neuron, recipe.size
        self._margin = margin(recipe.transforms, size)
        side = self._side = size + 2 * self._margin
        self._optimizer = optimizer = optax.adam(recipe.rate)
        network = Network(recipe.loaded.architecture.truncated([layer]), recipe.loaded.parameters, waking_relu)
        graph, self._state = nnx.split(network)

        def activation(spectrum: jax.Array, state: nnx.State, channel: jax.Array, view: jax.Array) -> jax.Array:
            pixels = seen(pixels_of(spectrum, side), view, size)
            activations = nnx.merge(graph, state)(pixels, [layer])[layer]
            rows, columns = activations.shape[:2]
            # The channel is an argument, so that one executable serves the whole layer.
            return jnp.take(activations[rows // 2, columns // 2] if neuron else activations.mean((0, 1)), channel)

        def step(
            spectrum: jax.Array, moments: optax.OptState, state: nnx.State, channel: jax.Array, view: jax.Array
        ) -> tuple[jax.Array, optax.OptState, jax.Array, jax.Array]:
            value, gradient = jax.value_and_grad(activation)(spectrum, state, channel, view)
            # Adam descends.
            change, moments = optimizer.update(-gradient, moments)
            return spectrum + change, moments, value, jnp.abs(gradient).max()

        self._step = jax.jit(step)
        self._pixels = jax.jit(lambda spectrum: pixels_of(spectrum, side))

    def channel_picture(self, channel: int) -> ChannelPicture:
        """Return the picture of a channel. Raise `NumericalError` if an activation or its gradient is not finite."""
        recipe = self._recipe
        spectrum = jnp.asarray(noise_spectrum(recipe.seed, channel, self._side))
        moments = self._optimizer.init(spectrum)
        channel_index = np.int32(channel)
        steepest = 0.0
        # One more step before and after, with a still view and its update dropped, measures the activation.
        start = float(self._step(spectrum, moments, self._state, channel_index, STILL)[2])
        for step in range(recipe.steps):
            view = draw_view(recipe.transforms, recipe.seed, channel, step)
            spectrum, moments, value, gradient = self._step(spectrum, moments, self._state, channel_index, view)
            if not (math.isfinite(float(value)) and math.isfinite(float(gradient))):
                raise NumericalError(
                    f"the activation of {recipe.layer}:{channel} or its gradient is not finite at step {step + 1}"
                )
            steepest = max(steepest, float(gradient))
            interrupts.check()
        end = float(self._step(spectrum, moments, self._state, channel_index, STILL)[2])
        core = slice(self._margin, self._margin + recipe.size)
        pixels = np.asarray(self._pixels(spectrum))[core, core]
        return ChannelPicture(np.rint(pixels).astype(np.uint8), start, end, steepest > 0)


@jax.custom_vjp
def waking_relu(x: jax.Array) -> jax.Array:
    """Return ReLU of `x`, with an exact gradient unless that is zero everywhere.

    A channel that is silent everywhere on noise has no gradient to follow. So if the gradient of a whole layer is zero,
    gradients that would raise a value pass as if the value were above zero (Lucid's redirected ReLU).
    If a max pool follows, this applies to the values after the pool.
    """
    return jax.nn.relu(x)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.nn.relu(x), x > 0


def _backward(positive: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    exact = jnp.where(positive, gradient, 0)
    waking = jnp.where(positive | (gradient > 0), gradient, 0)
    return (jnp.where(jnp.any(exact != 0), exact, waking),)


waking_relu.defvjp(_forward, _backward)
