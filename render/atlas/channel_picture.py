"""Picture of a channel, with its activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from render.farm.remote import remote


class ChannelPicture(NamedTuple):
    """A channel's or a class' picture, (size, size, 3) uint8 RGB.

    `start` and `end` are the channel's activation on the starting noise and on the picture: its mean over the channel, or
    that of one neuron, or the score of a class. `has_gradient` is False if no step had a gradient to follow; the picture is
    then still noise. `mask`, (size, size) uint8, says how far the network looked at each pixel; None without masks. Of a
    class, `scores` are the network's scores of all classes for the starting noise and for the picture, (classes,) float32.
    """

    pixels: np.ndarray
    start: float
    end: float
    has_gradient: bool
    mask: np.ndarray | None = None
    scores: tuple[np.ndarray, ...] | None = None


class RemoteVisualiser(Protocol):
    """Remote methods of a worker that draws the channels of one layer. Importing it needs no JAX."""

    @remote
    def channel_pictures(self, channels: Sequence[int], batch: int, /) -> list[ChannelPicture]:
        """Return the pictures of channels, drawn `batch` at a time."""
