"""Soft limits of pixel changes, so that dreaming makes no new black and white.

The room of a pixel is its distance from the end that the change leads to. A change is applied as it is until the room is
smaller than the shoulder. From there on a change d leaves room * shoulder / (shoulder + d): at first it moves the pixel by
d * room / shoulder, and it never uses the whole room. The result grows with d, and has no kink. It needs no more than the
four operations, which round alike on all machines.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeVar

import numpy as np

Array = TypeVar("Array", bound=Any)

#: Levels that changes may approach and never pass. They are one level from the ends, because a picture of 8 bits rounds.
DARKEST, BRIGHTEST = 1.0, 254.0
#: Share of the room in which detail of an octave is limited when it is added to the source of the next.
_DETAIL_SHOULDER = 0.25
#: Levels; keeps the quotient defined where there is no room.
_TINY = 1e-6


def limit_change(pixels: Array, change: Array, shoulder: float, arrays: ModuleType = np) -> Array:
    """Return the change of pixels in a step, limited near black and white.

    A pixel that is already beyond `DARKEST` or `BRIGHTEST` goes no further, and may come back.

    Args:
        pixels: Float32, 0..255, of any shape.
        change: Intended change in levels, float32, any sign, of the same shape.
        shoulder: Distance from the ends at which the limit begins, levels, above 0.
        arrays: `numpy` or `jax.numpy`, for arrays of either.

    Returns:
        Float32 of the same shape.
    """
    room = _room(pixels, change, arrays)
    return _limited(change, room, arrays.minimum(room, shoulder), shoulder, arrays)


def limit_detail(source: Array, detail: Array) -> Array:
    """Return detail to be added to a source, limited near black and white.

    Detail comes from an octave whose steps were limited already, so it is kept as it is where it leaves a quarter of the
    source's room; otherwise it would shrink from octave to octave.

    Args:
        source: Float32, 0..255, of any shape.
        detail: Resampled detail in levels, float32, any sign, of the same shape.
    """
    room = _room(source, detail, np)
    shoulder = room * np.float32(_DETAIL_SHOULDER)
    return _limited(detail, room, shoulder, shoulder, np)


def _room(pixels: Array, change: Array, arrays: ModuleType) -> Array:
    """Return the distance of pixels from the end that the change leads to; 0 beyond it."""
    return arrays.maximum(arrays.where(change > 0, BRIGHTEST - pixels, pixels - DARKEST), 0)


def _limited(change: Array, room: Array, limited_room: Array, shoulder: Any, arrays: ModuleType) -> Array:
    """Return a change that is limited in the last part of the room.

    Args:
        change: Intended change.
        room: Room of every pixel.
        limited_room: The part of the room where the change is limited.
        shoulder: Divisor of the limit; `limited_room` or more.
        arrays: `numpy` or `jax.numpy`.
    """
    free_room = room - limited_room
    excess = arrays.maximum(abs(change) - free_room, 0)
    limited = free_room + limited_room * (excess / (shoulder + excess + _TINY))
    return arrays.where(excess > 0, arrays.copysign(limited, change), change)
