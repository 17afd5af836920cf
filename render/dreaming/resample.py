"""Resampling of any rectangle of a picture, so that a block's pixels do not depend on who computes them.

Weights depend on global coordinates alone, and every output pixel is summed tap by tap in the same order, whatever
rectangle it is computed in: the parts are bit-identical to the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.geometry.geometry import AxisMode, Interval, Rect, whole
from render.geometry.source_window import SourceWindow, Span

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Pixels = NDArray[np.float32]

#: Function that reads a rectangle of the picture being resampled as (rows, columns, channels) float32.
ReadPixels = Callable[[Rect], Pixels]


class Samples(NamedTuple):
    """Picture that is resampled to the size of an octave: a reader of its samples, and the part that the octave shows."""

    read: ReadPixels
    window: SourceWindow


class ResamplingFilter(NamedTuple):
    """Weight of an input pixel by its signed distance from an output's centre, not normalised."""

    #: Distance from which on weights are 0, in pixels of the coarser picture.
    support: int
    #: Function of distances; returns weights of the same shape.
    weights: Callable[[NDArray[np.float64]], NDArray[np.float64]]


#: Lanczos-3, for pictures: sharp, and overshoots.
LANCZOS = ResamplingFilter(3, lambda distance: np.sinc(distance) * np.sinc(distance / 3))
#: Linear interpolation, for shares: never overshoots.
TENT = ResamplingFilter(1, lambda distance: 1.0 - np.abs(distance))


def taps(in_length: int, out_length: int, out: Interval, mode: AxisMode = "reflect") -> tuple[Interval, csr_array]:
    """Return `span_taps` of a whole axis, cut at its ends unless it wraps.

    Args:
        in_length: Number of inputs of the axis.
        out_length: Number of outputs of the axis.
        out: Outputs to compute.
        mode: Behaviour at the axis' ends.
    """
    return span_taps(Span.whole(in_length, mode), out_length, out)


def span_taps(
    span: Span, out_length: int, out: Interval, resampling: ResamplingFilter = LANCZOS
) -> tuple[Interval, csr_array]:
    """Return the input pixels that the outputs `out` need along one axis, and their weights.

    Output i has its centre at span.start + (i + 0.5) * span.extent / out_length - 0.5. When shrinking, the filter is
    widened by the scale (antialiasing). At the input's ends it is cut and renormalised, as Pillow and
    `jax.image.resize` do, unless `span.beyond` says that there are pixels beyond them: then nothing is cut, and inputs
    may lie outside of [0, span.length).

    Args:
        span: The part of the input that the axis shows.
        out_length: The number of outputs of the whole axis.
        out: The outputs to compute.
        resampling: The filter that weighs inputs.

    Returns:
        The interval of inputs, and a float32 matrix (out.size, inputs.size) whose rows sum to 1.
    """
    # Imported here because it is slow to import, and every process that starts imports this module.
    from scipy.sparse import csr_array

    scale = span.extent / out_length
    widening = max(scale, 1.0)
    centres = span.start + (np.arange(out.start, out.stop) + 0.5) * scale - 0.5
    reach = int(np.ceil(resampling.support * widening))
    firsts = np.floor(centres).astype(np.int64) - reach
    indices = firsts[:, None] + np.arange(2 * reach + 2)
    distance = (indices - centres[:, None]) / widening
    weights = np.where(np.abs(distance) < resampling.support, resampling.weights(distance), 0.0)
    if span.beyond == "cut":
        weights[(indices < 0) | (indices >= span.length)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    nonzero = weights != 0.0
    inputs = Interval(int(indices[nonzero].min()), int(indices[nonzero].max()) + 1)
    rows = np.broadcast_to(np.arange(out.size)[:, None], indices.shape)
    matrix = csr_array(
        (weights[nonzero].astype(np.float32), (rows[nonzero], indices[nonzero] - inputs.start)),
        shape=(out.size, inputs.size),
    )
    matrix.sort_indices()
    return inputs, matrix


class AxisTaps(NamedTuple):
    """Inputs and weights of outputs along one axis, with as many taps for every output.

    Attributes:
        inputs: The interval of inputs that the outputs need.
        indices: (outputs, taps) int32, counted from the first of `inputs`.
        weights: (outputs, taps) float32; 0 where an output has fewer taps.
    """

    inputs: Interval
    indices: NDArray[np.int32]
    weights: NDArray[np.float32]


def taps_per_output(span: Span, out_length: int) -> int:
    """Return the most taps that an output of an axis has: 6 unless the axis shrinks, 1 if it only shifts."""
    if span.shift(out_length) is not None:
        return 1
    return int(np.ceil(2 * LANCZOS.support * max(span.extent / out_length, 1.0)))


@lru_cache(maxsize=128)
def axis_taps(span: Span, out_length: int, out: Interval) -> AxisTaps:
    """Return the taps by which `resample_window` computes the outputs `out` of an axis, in its order.

    All tiles of a row share those of its rows, and all of a column those of its columns: the last ones are kept.

    Args:
        span: The part of the input that the axis shows.
        out_length: The number of outputs of the whole axis.
        out: The outputs to compute.
    """
    count, shift = taps_per_output(span, out_length), span.shift(out_length)
    if shift is not None:
        indices = np.arange(out.size, dtype=np.int32)[:, None]
        return AxisTaps(out.shifted(shift), indices, np.ones(indices.shape, np.float32))
    inputs, matrix = span_taps(span, out_length, out)
    lengths = np.diff(matrix.indptr)
    numbers = np.arange(count)
    present = numbers < lengths[:, None]
    # Missing taps repeat the first index, with weight 0.
    places = matrix.indptr[:-1, None] + np.where(present, numbers, 0)
    weights = np.where(present, matrix.data[places], np.float32(0))
    return AxisTaps(inputs, matrix.indices[places].astype(np.int32), weights)


def resample(
    read: ReadPixels,
    in_shape: tuple[int, int],
    out_shape: tuple[int, int],
    out: Rect,
    modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect"),
) -> Pixels:
    """Return a rectangle of a whole picture resampled by Lanczos: see `resample_window`.

    Args:
        read: Reader of the picture.
        in_shape: (rows, columns) of the picture, px.
        out_shape: (rows, columns) of the whole result, px.
        out: Rectangle of the result to compute.
        modes: Behaviour of rows and columns at the picture's ends.
    """
    return resample_window(read, SourceWindow.whole(in_shape, modes), out_shape, out)


def resample_window(
    read: ReadPixels,
    window: SourceWindow,
    out_shape: tuple[int, int],
    out: Rect,
    resampling: ResamplingFilter = LANCZOS,
) -> Pixels:
    """Return a rectangle of a window of a picture, resampled.

    Only the inputs that the rectangle depends on are read; they lie beyond the picture's ends only if the window says what
    is there.

    Args:
        read: Reader of the picture.
        window: Part of the picture that the whole result shows.
        out_shape: (rows, columns) of the whole result, px.
        out: Rectangle of the result to compute.
        resampling: The filter that weighs inputs.

    Returns:
        (*out.shape, channels) float32 in the input's value range; Lanczos may overshoot it.
    """
    down, across = window.rows.shift(out_shape[0]), window.columns.shift(out_shape[1])
    if down is not None and across is not None:
        return read(Rect(out.rows.shifted(down), out.columns.shifted(across)))
    in_rows, row_weights = span_taps(window.rows, out_shape[0], out.rows, resampling)
    in_columns, column_weights = span_taps(window.columns, out_shape[1], out.columns, resampling)
    pixels = read(Rect(in_rows, in_columns))
    channels = pixels.shape[2]
    tall = row_weights @ pixels.reshape(in_rows.size, -1)
    turned = tall.reshape(out.rows.size, in_columns.size, channels).transpose(1, 0, 2).reshape(in_columns.size, -1)
    wide = column_weights @ turned
    result = wide.reshape(out.columns.size, out.rows.size, channels).transpose(1, 0, 2)
    return np.ascontiguousarray(result, dtype=np.float32)


def resample_array(pixels: Pixels, out_shape: tuple[int, int]) -> Pixels:
    """Return a whole (rows, columns, channels) float32 picture resampled to `out_shape`."""
    return resample(
        lambda rect: pixels[rect.rows.start : rect.rows.stop, rect.columns.start : rect.columns.stop],
        (pixels.shape[0], pixels.shape[1]),
        out_shape,
        whole(*out_shape),
    )
