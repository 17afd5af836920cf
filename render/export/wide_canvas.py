"""A canvas with the colours that its source has beyond sRGB, and the colour space in which such a canvas is written.

Dreaming sees and changes sRGB. What sRGB cut off from the source is added to the canvas again when a picture in a wider
space is made: in full where dreaming left a channel, or moved it towards the end at which it was cut off, and less the
further dreaming moved it away. A channel's limits are so the source's value and the other end of sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from render.canvas.image import CanvasPixels
from render.dreaming.decorrelation import apply_matrix
from render.dreaming.resample import Pixels
from render.geometry.geometry import Rect
from render.source.colour_space import Chromaticities, ColourSpace, extended_light, gamma_curve
from render.source.matrix_profile import matrix_profile, read_matrix_profile
from render.source.wide_source import OpenedWideSource

_WHITE = 255.0
#: Distance to the other end of sRGB, in levels, from which on it is a way that dreaming can go.
_MIN_ROOM = 1e-3
#: Primaries and white of ROMM RGB (ISO 22028-2), which surround the colours of all surfaces.
_ROMM: Chromaticities = (0.3457, 0.3585, 0.734699, 0.265301, 0.159597, 0.840403, 0.036598, 0.000105)
#: Exponent of its curve here: a multiple of 1/256, as profiles store it.
_GAMMA = 563 / 256
#: Entries of a curve's table.
_TABLE_LENGTH = 1 << 16


@dataclass(frozen=True)
class WideCanvas:
    """A canvas in extended sRGB; it is read like the canvas itself.

    Attributes:
        canvas: The canvas, 0..255.
        opened: Its source.
    """

    canvas: CanvasPixels
    opened: OpenedWideSource

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) px."""
        return self.canvas.shape

    @property
    def rect(self) -> Rect:
        """Rectangle of the whole canvas."""
        return self.canvas.rect

    def read(self, rect: Rect) -> Pixels:
        """Return a rectangle: (rows, columns, 3) float32 in extended sRGB, 0..255 within sRGB."""
        pixels = self.canvas.read(rect)
        beyond = self.opened.beyond(self.shape, rect)
        if not beyond.any():
            return pixels
        return pixels + beyond * _shares(pixels, self.opened.source.at(self.shape, rect), beyond)


def _shares(pixels: Pixels, source: Pixels, beyond: Pixels) -> Pixels:
    """Return the share, 0..1, of `beyond` that a canvas keeps where the source had `source`."""
    detail, is_below = pixels - source, beyond < 0
    # The way that dreaming has gone to the other end of sRGB.
    room = np.where(is_below, np.float32(_WHITE) - source, source)
    distance = np.where(is_below, detail, -detail)
    gone = np.divide(distance, room, out=np.zeros_like(distance), where=room > _MIN_ROOM)
    return np.float32(1) - np.clip(gone, np.float32(0), np.float32(1))


@dataclass(frozen=True)
class WorkingSpace:
    """A space of RGB to which extended sRGB is converted exactly; what lies beyond it is clipped.

    Attributes:
        profile: Its ICC profile.
        space: Its primaries and curves.
    """

    profile: bytes
    space: ColourSpace

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return (rows, columns, 3) float32 values of this space, 0..255, for extended sRGB."""
        light = extended_light(pixels / np.float32(_WHITE))
        if self.space.matrix is not None:
            light = apply_matrix(light, np.linalg.inv(self.space.matrix).astype(np.float32))
        values = np.empty_like(light)
        for channel in range(3):
            table = _light_table(self.space, channel)
            values[..., channel] = np.interp(light[..., channel], table, np.linspace(0.0, _WHITE, len(table)))
        return values


@lru_cache(maxsize=8)
def _light_table(space: ColourSpace, channel: int) -> NDArray[np.float64]:
    """Return the linear light of evenly spaced values of a channel, in ascending order."""
    return np.maximum.accumulate(space.light(np.linspace(0.0, 1.0, _TABLE_LENGTH), channel))


def working_space(profile: bytes | None) -> WorkingSpace:
    """Return the space in which an extended canvas is written for a profile; None for no certain one.

    It is that of the profile, if primaries and curves describe it. Otherwise it is one that surrounds the colours of all
    surfaces, from which a colour engine converts; its profile is written into no picture.
    """
    space = None if profile is None else read_matrix_profile(profile)
    if profile is not None and space is not None:
        return WorkingSpace(profile, space)
    return WorkingSpace(matrix_profile("working space", _ROMM, _GAMMA), ColourSpace("ROMM", (gamma_curve(_GAMMA),), _ROMM))
