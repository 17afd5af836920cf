"""Dense optical flow between two frames, and how far it can be trusted.

The flow is OpenCV's DIS (Kroeger et al. 2016), down to single pixels. For a photo that was moved by known whole pixels its
mean error was 0.002 px, that of its preset `medium` 0.07 px, Farneback's 1.1 px. A dream goes through hundreds of frames,
and whatever the flow misses blurs it. DIS needs neither weights nor an accelerator.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.film.footage.opencv import settled_opencv

#: Picture of which a flow is measured: (rows, columns) uint8.
Grey = NDArray[np.uint8]
#: Displacements: (rows, columns, 2) float32 px, to the right and down.
Displacements = NDArray[np.float32]
#: A number for each pixel: (rows, columns) float32.
Field = NDArray[np.float32]

#: Shortest side that is measured; a smaller picture is taken to stand still, px.
MIN_SIDE_PX = 16
#: Share of the squared lengths of both flows by which their sum may differ from 0 (Sundaram et al. 2010).
_LENGTH_SHARE = 0.01
#: A flow whose squared gradient exceeds this share of its squared length plus `_BOUNDARY_FLOOR` is at a motion's boundary
#: (Ruder et al. 2016). The floor is that of a picture that turns by 6 degrees a frame, so a turn or zoom is no boundary.
_BOUNDARY_SHARE, _BOUNDARY_FLOOR = 0.01, 0.02
#: Largest difference of a pixel's grey to where it came from, levels: more is another thing, a shadow or a flash.
_MAX_GREY_CHANGE = 40.0
#: Weights of red, green and blue in grey: BT.709's.
_GREY_WEIGHTS = np.array([0.2126, 0.7152, 0.0722], np.float32)


class Motion(NamedTuple):
    """Motion between a frame and the one before it.

    Attributes:
        back: Where each pixel of the frame was in the one before, relative to the pixel.
        trust: 1 where a dream may be carried, 0 where not.
    """

    back: Displacements
    trust: Field


def grey(pixels: NDArray[Any]) -> Grey:
    """Return the grey picture of (rows, columns, 3) pixels, 0..255."""
    red, green, blue = (pixels[..., channel].astype(np.float32) * _GREY_WEIGHTS[channel] for channel in range(3))
    return np.clip(np.rint(red + green + blue), 0, 255).astype(np.uint8)


def measure_flow(frame: Grey, other: Grey) -> Displacements:
    """Return where each pixel of `frame` is found in `other`, relative to the pixel.

    The bytes are the same in every process: one thread, and none of OpenCV's code for particular processors.

    Args:
        frame: The frame.
        other: A frame of the same shape.
    """
    if min(frame.shape) < MIN_SIDE_PX:
        return np.zeros((*frame.shape, 2), np.float32)
    opencv = settled_opencv()
    # An instance is not safe to share among threads, and costs nothing.
    dis = opencv.DISOpticalFlow_create(opencv.DISOpticalFlow_PRESET_MEDIUM)
    dis.setFinestScale(0)
    flow = dis.calc(np.ascontiguousarray(frame), np.ascontiguousarray(other), None)
    # A picture without any contrast can leave numbers that are not finite.
    return np.nan_to_num(np.asarray(flow, np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def measure_motion(before: Grey, frame: Grey, tolerance: float) -> Motion:
    """Return the motion from the frame before to a frame.

    Args:
        before: The frame before.
        frame: The frame, of the same shape.
        tolerance: Largest disagreement of backward and forward flow where a dream is carried, px of these frames; fast
            motion may differ by a little more.
    """
    back, forth = measure_flow(frame, before), measure_flow(before, frame)
    is_same = np.abs(carried_grey(before, back) - frame) <= _MAX_GREY_CHANGE
    return Motion(back, (agreement(back, forth, tolerance) & ~boundaries(back) & is_same).astype(np.float32))


def carried_grey(before: Grey, back: Displacements) -> Field:
    """Return the frame before, moved along the flow to where the frame shows it: float32, 0..255."""
    return bilinear(before[..., None].astype(np.float32), *sources(back))[..., 0]


def agreement(back: Displacements, forth: Displacements, tolerance: float) -> NDArray[np.bool_]:
    """Return where following the backward flow and then the forward flow leads back to where it began.

    It does not where something was hidden in the frame before, nor at pixels that came in at an edge.

    Args:
        back: Flow from the frame to the one before.
        forth: Flow from the frame before to the frame.
        tolerance: Largest distance between the end and the beginning, px, without motion.
    """
    rows, columns = sources(back)
    returned = bilinear(forth, rows, columns)
    distance = _squared_length(back + returned)
    allowed = tolerance**2 + _LENGTH_SHARE * (_squared_length(back) + _squared_length(returned))
    height, width = back.shape[:2]
    inside = (rows >= -0.5) & (rows <= height - 0.5) & (columns >= -0.5) & (columns <= width - 0.5)
    return (distance <= allowed) & inside


def boundaries(flow: Displacements) -> NDArray[np.bool_]:
    """Return where a flow changes so fast that two things with motions of their own must meet there."""
    change = np.zeros(flow.shape[:2], np.float32)
    for axis in (0, 1):
        if flow.shape[axis] > 1:
            change += _squared_length(np.gradient(flow, axis=axis).astype(np.float32))
    return change > np.float32(_BOUNDARY_SHARE) * _squared_length(flow) + np.float32(_BOUNDARY_FLOOR)


def sources(back: Displacements) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (rows, columns) in the frame before where the pixels of a frame were."""
    rows = np.arange(back.shape[0], dtype=np.float64)[:, None] + back[..., 1]
    columns = np.arange(back.shape[1], dtype=np.float64)[None, :] + back[..., 0]
    return rows, columns


def bilinear(values: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return values between pixels: those of the nearest pixel beyond the edges.

    Args:
        values: (rows, columns, channels) float32.
        rows: Positions, px from the centre of the first pixel.
        columns: The same along the other axis, of the same shape.

    Returns:
        (*rows.shape, channels) float32.
    """
    height, width = values.shape[:2]
    rows, columns = np.clip(rows, 0.0, height - 1.0), np.clip(columns, 0.0, width - 1.0)
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, across = (rows - top).astype(np.float32)[..., None], (columns - left).astype(np.float32)[..., None]
    above = values[top, left] * (1 - across) + values[top, right] * across
    below = values[bottom, left] * (1 - across) + values[bottom, right] * across
    return above * (1 - down) + below * down


def _squared_length(vectors: Displacements) -> Field:
    return vectors[..., 0] * vectors[..., 0] + vectors[..., 1] * vectors[..., 1]
