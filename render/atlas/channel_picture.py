"""Picture of a channel, with its activations."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from render.farm.remote import remote


class ChannelPicture(NamedTuple):
    """A channel's picture, (size, size, 3) uint8 RGB.

    `start` and `end` are the channel's activation on the starting noise and on the picture: its mean over the channel, or
    that of one neuron. `found` is False if no step had a gradient to follow; the picture is then still noise.
    """

    pixels: np.ndarray
    start: float
    end: float
    found: bool


class RemoteVisualiser(Protocol):
    """Remote methods of a worker that draws the channels of one layer. Importing it needs no JAX."""

    @remote
    def channel_picture(self, channel: int, /) -> ChannelPicture:
        """Return the picture of a channel."""
