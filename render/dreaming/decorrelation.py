"""Gradient ascent in a colour space whose axes are independent in natural images, as in Lucid.

A pixel is x = M z, where M is the square root of the covariance of natural images' colours. The columns of M are lightness,
and two chroma axes along which natural images vary less. Ascent moves z, so a gradient g of RGB becomes the move M M^T g:
chroma moves less than lightness, by as much as it varies less in photographs. Each pixel is computed on its own.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels

#: Square root of the covariance of colours in ImageNet (Lucid, `color_correlation_svd_sqrt` in optvis/param/color.py).
_COVARIANCE_ROOT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
#: M: the root over the length of its longest column, so that lightness keeps its strength.
_ROOT = _COVARIANCE_ROOT / np.linalg.norm(_COVARIANCE_ROOT, axis=0).max()

#: M M^T, the move of RGB for a gradient of RGB.
DECORRELATION = (_ROOT @ _ROOT.T).astype(np.float32)

#: Mean change of a channel for a move of 1 or -1 along each axis: optimizers such as Adam make moves of about 1.
_UNIT_CHANGE = float(np.abs([_ROOT @ np.array(signs) for signs in itertools.product((-1, 1), repeat=3)]).mean())
_FROM_AXES = _ROOT / _UNIT_CHANGE
_TO_AXES = np.linalg.inv(_FROM_AXES)


def decorrelate(gradient: Pixels) -> Pixels:
    """Return the move of pixels, (rows, columns, 3) float32, for a gradient of RGB of that shape."""
    return apply_matrix(gradient, DECORRELATION)


def to_axes(move: Pixels) -> Pixels:
    """Return a move of RGB as moves along the three independent axes: (rows, columns, 3) float32."""
    return apply_matrix(move, _TO_AXES.astype(np.float32))


def from_axes(move: Pixels) -> Pixels:
    """Return the inverse of `to_axes`; a move of 1 or -1 along each axis changes channels by 1 on average."""
    return apply_matrix(move, _FROM_AXES.astype(np.float32))


def apply_matrix(pixels: Pixels, matrix: NDArray[np.float32]) -> Pixels:
    """Return matrix @ pixel for every pixel: (rows, columns, 3) float32.

    Terms are added in a fixed order, whatever the shape, so that parts are bit-identical to the whole.

    Args:
        pixels: (rows, columns, 3) float32.
        matrix: (3, 3) float32.
    """
    mixed = np.empty(pixels.shape, np.float32)
    for channel, weights in enumerate(matrix):
        mixed[..., channel] = pixels[..., 0] * weights[0] + pixels[..., 1] * weights[1] + pixels[..., 2] * weights[2]
    return mixed
