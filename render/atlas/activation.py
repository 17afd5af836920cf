"""Activation of a channel or a class in a picture, with a gradient that also wakes silent channels."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from render.dreaming.resample import resample_array
from render.networks.network import Network, separated
from render.networks.network_state import State
from render.networks.weights import Loaded


class ChannelActivation:
    """Activations of the channels of one layer, or of the classes if the layer is the classifier.

    Attributes:
        state: weights of the network, an argument of every compiled program.
    """

    def __init__(self, loaded: Loaded, layer: str, *, neuron: bool = False) -> None:
        """Build the network up to a layer.

        Args:
            loaded: the network.
            layer: name of the layer or of the classifier.
            neuron: True for the middle neuron of a channel instead of its mean.
        """
        architecture = loaded.architecture
        self._classifies = layer == architecture.classifier
        self._layer, self._neuron, self._side = layer, neuron, architecture.native_side
        network = Network(
            architecture if self._classifies else architecture.truncated([layer]), loaded.parameters, waking_relu
        )
        self.state, self._merged = separated(network)
        self._logits = jax.jit(lambda state, pixels: self._merged(state).logits(pixels))

    def __call__(self, state: State, pixels: jax.Array, channel: jax.Array) -> jax.Array:
        """Return the activation of a channel: its mean, or that of its middle neuron; of a class, its score before softmax.

        The channel is an argument, so that one executable serves the whole layer.

        Args:
            state: `self.state`.
            pixels: (rows, columns, 3) float32 RGB, 0..255.
            channel: index, int32.
        """
        network = self._merged(state)
        if self._classifies:
            return jnp.take(network.logits(pixels), channel)
        activations = network(pixels, [self._layer])[self._layer]
        rows, columns = activations.shape[:2]
        return jnp.take(activations[rows // 2, columns // 2] if self._neuron else activations.mean((0, 1)), channel)

    def scores(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the scores of all classes for whole square pictures; an empty list for a layer other than the classifier.

        Args:
            pictures: (side, side, 3) uint8 RGB each; they are resampled to the size that the network was trained on.

        Returns:
            (classes,) float32 each, before softmax.
        """
        if not self._classifies:
            return []
        side = self._side, self._side
        views = [np.clip(resample_array(picture.astype(np.float32), side), 0, 255) for picture in pictures]
        return [np.asarray(self._logits(self.state, view)) for view in views]


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
