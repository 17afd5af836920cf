"""Soft limits of detail near black and white, so that dreaming makes no new black and white.

The room of a pixel is the distance of its source from the end that its detail leads to. Detail moves the pixel as it is
while at least `shoulder` levels of room are left. Of detail that goes on by d, with at most that much room r left, the
pixel follows r * d / (shoulder + d): at first the share r / shoulder, and never the whole room. Detail that leads away from
an end is not changed.

The limit depends on source and detail alone, not on the steps that led there, and it has an inverse: so the detail is found
again from canvas and source. Were single steps limited instead, a pixel near black would go up by whole steps and down by
short ones, and a gradient that only wavers would lift all shadows. It takes the four operations alone, which round alike on
all machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array", bound=Any)

#: Levels that detail may approach and never pass. They are one level from the ends, because a picture of 8 bits rounds.
DARKEST, BRIGHTEST = 1.0, 254.0
#: Most detail beyond the free room, levels: more would have to be undone before a pixel moves again.
_MAX_EXCESS = 255.0
#: Samples of a strip: 200 kB of float32, so that what is computed on the way stays in the processor's cache.
_STRIP_SAMPLES = 50_000
#: Levels; keeps a quotient defined where there is no room.
_TINY = 1e-6


def limit_detail(source: Array, detail: Array, shoulder: float, arrays: ModuleType = np) -> Array:
    """Return the distance by which detail moves the pixels of a source.

    Args:
        source: Float32, 0..255, of any shape. Where it is beyond `DARKEST` or `BRIGHTEST`, nothing leads further.
        detail: Detail in levels, float32, any sign, of the same shape.
        shoulder: Room, in levels, from which on detail is limited; above 0.
        arrays: `numpy` or `jax.numpy`, for arrays of either.

    Returns:
        Float32 of the same shape.
    """
    room = _room(source, detail, shoulder, arrays)
    excess = arrays.maximum(abs(detail) - room.free, 0)
    distance = room.free + room.limited * (excess / (shoulder + excess))
    return arrays.where(excess > 0, arrays.copysign(distance, detail), detail)


def restore_detail(source: Array, distance: Array, shoulder: float, arrays: ModuleType = np) -> Array:
    """Return the detail that `limit_detail` limited to `distance`, up to 255 levels beyond the free room.

    Args and result are as there.
    """
    room = _room(source, distance, shoulder, arrays)
    used = arrays.maximum(abs(distance) - room.free, 0)
    most = _MAX_EXCESS / (shoulder + _MAX_EXCESS)
    share = arrays.minimum(used / arrays.maximum(room.limited, _TINY), most)
    detail = room.free + shoulder * (share / (1 - share))
    return arrays.where(used > 0, arrays.copysign(detail, distance), distance)


def limit_change(pixels: Array, source: Array, change: Array, shoulder: float, arrays: ModuleType = np) -> Array:
    """Return the change of pixels in a step, so that their detail stays limited.

    Args:
        pixels: The canvas, float32, 0..255, of any shape.
        source: The source, of the same shape and range.
        change: Intended change in levels, float32, any sign, of the same shape.
        shoulder: As for `limit_detail`.
        arrays: As for `limit_detail`.

    Returns:
        Float32 of the same shape; `change` itself wherever nothing is limited.
    """
    distance = pixels - source
    detail = restore_detail(source, distance, shoulder, arrays) + change
    new_distance = limit_detail(source, detail, shoulder, arrays)
    is_free = (abs(distance) <= _room(source, distance, shoulder, arrays).free) & (new_distance == detail)
    return arrays.where(is_free | (change == 0), change, new_distance - distance)


def row_strips(pixels: NDArray[np.float32]) -> Iterator[slice]:
    """Yield the rows of small strips of an array, in order; limits take several times a strip's memory."""
    rows = max(1, _STRIP_SAMPLES * len(pixels) // max(1, pixels.size))
    for start in range(0, len(pixels), rows):
        yield slice(start, start + rows)


class _Room(NamedTuple):
    """Room of every pixel, levels: the part where detail is free, and the part where it is limited."""

    free: Any
    limited: Any


def _room(source: Array, detail: Array, shoulder: float, arrays: ModuleType) -> _Room:
    """Return the room of the source's pixels on the side to which detail leads; none where they are beyond the end."""
    room = arrays.maximum(arrays.where(detail > 0, BRIGHTEST - source, source - DARKEST), 0)
    limited = arrays.minimum(room, shoulder)
    return _Room(room - limited, limited)
