"""Cuts: frames at which footage begins to show something else.

A frame is compared with the last one that showed anything, by the share of it that can be found there: in the same greys,
where backward and forward flow agree. Nothing can be carried where a cut is found, and little is lost where none is. Fast
motion is no cut, nor is a change of brightness, since both pictures are brought to one mean and contrast first. Between
unrelated photos the share was 0.0 to 0.21; for pans, turns, zooms, noise and dimming of one photo 0.49 and more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from render.film.footage.flow import Grey, agreement, carried_grey, measure_flow
from render.film.footage.opencv import settled_opencv

#: Longest side of the pictures that are compared, px.
THUMBNAIL_SIDE_PX = 128
#: Most frames after a frame that decide whether it begins a shot. The frames of a flash are fewer.
LOOKAHEAD = 6
#: Share of a frame that must be found in an earlier one for both to be of one shot.
_MIN_LIKENESS = 0.3
#: Standard deviation under which a picture shows nothing: black, white, or all in fog, levels.
_MIN_CONTRAST = 4.0
#: Mean and standard deviation of the pictures when they are compared, levels.
_MEAN, _CONTRAST = 128.0, 48.0
#: Largest disagreement of the flows, px of a thumbnail.
_TOLERANCE = 1.5
#: Largest difference of greys, as a share of `_CONTRAST`.
_MAX_DIFFERENCE = 0.5


class Thumbnail(NamedTuple):
    """Small picture of a frame.

    Attributes:
        pixels: (rows, columns) uint8, brought to one mean and contrast.
        is_flat: True if it shows nothing, so that it is like any other.
    """

    pixels: Grey
    is_flat: bool


def thumbnail(picture: Grey) -> Thumbnail:
    """Return the small picture of a frame."""
    height, width = picture.shape
    scale = min(1.0, THUMBNAIL_SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    opencv = settled_opencv()
    small = opencv.resize(picture, size, interpolation=opencv.INTER_AREA).astype(np.float32)
    contrast = float(small.std(dtype=np.float64))
    if contrast < _MIN_CONTRAST:
        return Thumbnail(np.full(small.shape, _MEAN, np.uint8), is_flat=True)
    levelled = (small - np.float32(small.mean(dtype=np.float64))) * np.float32(_CONTRAST / contrast) + np.float32(_MEAN)
    return Thumbnail(np.clip(np.rint(levelled), 0, 255).astype(np.uint8), is_flat=False)


def likeness(earlier: Thumbnail, later: Thumbnail) -> float:
    """Return the share of `later` that can be found in `earlier`, 0 to 1; 1 if either shows nothing."""
    if earlier.is_flat or later.is_flat:
        return 1.0
    back = measure_flow(later.pixels, earlier.pixels)
    forth = measure_flow(earlier.pixels, later.pixels)
    difference = np.abs(carried_grey(earlier.pixels, back) - later.pixels)
    return float((agreement(back, forth, _TOLERANCE) & (difference <= _MAX_DIFFERENCE * _CONTRAST)).mean())


def mark_cuts(thumbnails: Iterable[Thumbnail]) -> Iterator[bool]:
    """Yield for each frame, `LOOKAHEAD` frames later or at the end, whether a shot begins with it.

    A shot begins with a frame that is unlike those before it and like the one after it. A flash, after which the picture
    is as before, is no cut; a fade through black, or several quick changes in a row, are one at most. A slow dissolve is
    none, since its frames are like one another.

    Args:
        thumbnails: Thumbnails of all frames, in order.
    """
    stream = iter(thumbnails)
    upcoming = deque(islice(stream, LOOKAHEAD))
    reference: Thumbnail | None = None
    while upcoming:
        frame = upcoming.popleft()
        upcoming.extend(islice(stream, LOOKAHEAD - len(upcoming)))
        begins = False
        if reference is None or (reference.is_flat and not frame.is_flat):
            # The film begins here, or what it shows after black frames.
            begins = True
            reference = frame
        elif not frame.is_flat:
            if likeness(reference, frame) >= _MIN_LIKENESS:
                reference = frame
            elif _is_cut(reference, frame, upcoming):
                begins = True
                reference = frame
        yield begins


def _is_cut(reference: Thumbnail, frame: Thumbnail, upcoming: Iterable[Thumbnail]) -> bool:
    """Return True if a frame unlike `reference` is like the one after it, and no flash."""
    following = list(upcoming)
    if following and likeness(frame, following[0]) < _MIN_LIKENESS:
        return False
    return not any(not later.is_flat and likeness(reference, later) >= _MIN_LIKENESS for later in following)
