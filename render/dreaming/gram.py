"""Gram matrices of a layer: how they are added up over a picture, tile by tile, each position once. Without JAX.

A Gram matrix holds, for every two channels, the mean over positions of the product of their activations (Gatys, Ecker and
Bethge, Texture Synthesis Using Convolutional Neural Networks, 2015). It is symmetric, so its upper triangle travels. A
position belongs to the tile that has the pixel on which its receptive field is centred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from render.dreaming.exact_sums import ExactSums
from render.geometry.geometry import Axis, Grid, Interval, Rect, round_up
from render.networks.architecture import Layer, ReceptiveField


def measuring_grid(grid: Grid, layers: Sequence[Layer]) -> Grid:
    """Return the grid with windows just large enough for the activations centred in a tile.

    An activation sees half of its receptive field on either side, where a gradient needs a whole one.

    Args:
        grid: Grid for gradients, of which the halo may be smaller than exact.
        layers: Layers to measure.
    """
    rows, columns = (
        replace(axis, halo=min(axis.halo, _measuring_halo(axis.stride, [layer.axis_fields[side] for layer in layers])))
        for side, axis in enumerate((grid.rows, grid.columns))
    )
    return Grid(rows, columns)


def _measuring_halo(stride: int, fields: Sequence[ReceptiveField]) -> int:
    return round_up(max(field.size for field in fields) // 2 + 1, stride)


def centred_in(
    field: ReceptiveField, window: Interval, core: Interval, size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the activations of a window that are centred in a core, along one axis, and the pixels of their centres.

    Args:
        field: Receptive field of the layer along this axis.
        window: [start, stop) of the window, px.
        core: [start, stop) of the core, px.
        size: Number of the window's activations.

    Returns:
        Indices counted from the window's first activation, and pixels of the canvas.
    """
    pixels = window.start + (field.low + field.high) // 2 + field.stride * np.arange(size)
    indices = np.flatnonzero((pixels >= core.start) & (pixels < core.stop))
    return indices, pixels[indices]


def span_inside(axis: Axis, field: ReceptiveField, count: int, window_start: int, jitter: int) -> tuple[int, int]:
    """Return which of a window's activations are centred inside the canvas: (first, stop) along one axis.

    Where an axis wraps, all are: the extended canvas shows each position again on the other side, where it has the
    gradient of the pixels beyond the seam.

    Args:
        axis: The axis of the octave.
        field: Receptive field of the layer along this axis.
        count: Number of the layer's activations on the extended canvas.
        window_start: First px of the window.
        jitter: The step's shift of the network's grid, px.

    Returns:
        Indices counted from the window's first activation; they may lie outside of the window.
    """
    origin = -axis.fill - jitter
    first = (window_start - origin) // field.stride
    if axis.mode == "wrap":
        return -first, count - first
    inside, _ = centred_in(field, Interval(origin, origin + axis.extended), Interval(0, axis.length), count)
    return (int(inside[0]) - first, int(inside[-1]) + 1 - first) if inside.size else (0, 0)


def position_weights(
    layer: Layer, size: tuple[int, int], window: Rect, core: Rect, mask: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the weight of each of a window's activations in the sums of a core: (rows, columns) float32.

    It is 0 for those that are not centred in the core, and else 1 or the mask's value at the centre.

    Args:
        layer: The layer.
        size: (rows, columns) of its activations on the window.
        window: The window, px.
        core: The core, px.
        mask: (rows, columns) of the core, float32, 0..1; None for 1.
    """
    weights = np.zeros(size, np.float32)
    (rows, down), (columns, across) = (
        centred_in(field, outer, inner, count)
        for field, outer, inner, count in zip(layer.axis_fields, window, core, size, strict=True)
    )
    inside = 1.0 if mask is None else mask[np.ix_(down - core.rows.start, across - core.columns.start)]
    weights[np.ix_(rows, columns)] = inside
    return weights


def packed(products: NDArray[np.floating], weight: float) -> ExactSums:
    """Return sums of products with the sum of their positions' weights, to be added to others.

    Args:
        products: (channels, channels), the sum over positions of weight * product, symmetric.
        weight: Sum of the weights.

    Raises:
        ValueError: A sum is not finite.
    """
    upper = products[np.triu_indices(products.shape[0])].astype(np.float64)
    return ExactSums.of(np.append(upper, weight))


def packed_size(channels: int) -> int:
    """Return the number of sums that `packed` makes of a layer with `channels` channels."""
    return channels * (channels + 1) // 2 + 1


def unpacked(sums: ExactSums) -> tuple[NDArray[np.float64], float]:
    """Return the Gram matrix, (channels, channels) float64, and the sum of the positions' weights.

    The matrix is 0 if no position counts.
    """
    *upper, weight = sums.totals()
    channels = int((8 * len(upper) + 1) ** 0.5) // 2
    matrix = np.zeros((channels, channels))
    matrix[np.triu_indices(channels)] = upper
    matrix = matrix + np.triu(matrix, 1).T
    return (matrix / weight if weight > 0 else 0.0 * matrix), float(weight)
