"""The picture of a channel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ChannelPicture(NamedTuple):
    """A channel's picture, (size, size, 3) uint8 RGB.

    `start` and `end` are what the network makes of the noise and of the picture: the channel's activation, its mean or
    that of one neuron. `found` is whether any step had a gradient to follow: without one the picture is still noise.
    """

    pixels: np.ndarray
    start: float
    end: float
    found: bool
