"""Gradient ascent in a colour space whose axes are independent in natural images, as in Lucid.

A pixel is x = M z, where M is the square root of the covariance of natural images' colours. The columns of M are lightness,
and two chroma axes along which natural images vary less. Ascent moves z, so a gradient g of RGB becomes the move M M^T g:
chroma moves less than lightness, by as much as it varies less in photographs. Each pixel is computed on its own.

With a strength s below 1, the singular values of M are raised to the power s: colours move more, down to plain ascent at 0.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels

#: Square root of the covariance of colours in ImageNet (Lucid, `color_correlation_svd_sqrt` in optvis/param/color.py).
_COVARIANCE_ROOT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
#: M, (3, 3) float64: the root over the length of its longest column, so that lightness keeps its strength.
COLOUR_ROOT = _COVARIANCE_ROOT / np.linalg.norm(_COVARIANCE_ROOT, axis=0).max()


@cache
def mixing_matrix(strength: float) -> NDArray[np.float32]:
    """Return M M^T for a strength from 0 to 1, (3, 3) float32: the move of RGB for a gradient of RGB."""
    root = _root(strength)
    return (root @ root.T).astype(np.float32)


def decorrelate(gradient: Pixels, strength: float) -> Pixels:
    """Return the move of pixels, (rows, columns, 3) float32, for a gradient of RGB of that shape."""
    return apply_matrix(gradient, mixing_matrix(strength))


def to_axes(move: Pixels, strength: float) -> Pixels:
    """Return a move of RGB as moves along the three independent axes: (rows, columns, 3) float32."""
    return apply_matrix(move, axes_matrix(strength, inverse=True))


def from_axes(move: Pixels, strength: float) -> Pixels:
    """Return the inverse of `to_axes`; a move of 1 or -1 along each axis changes channels by 1 on average."""
    return apply_matrix(move, axes_matrix(strength))


def axes_matrix(strength: float, *, inverse: bool = False) -> NDArray[np.float32]:
    """Return the matrix of `from_axes`, (3, 3) float32, or with `inverse` that of `to_axes`."""
    root = _unit_root(strength)
    return (np.linalg.inv(root) if inverse else root).astype(np.float32)


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


def _root(strength: float) -> NDArray[np.float64]:
    """Return M with its singular values raised to the power of `strength`, (3, 3) float64; M itself for 1."""
    if strength == 1:
        return COLOUR_ROOT
    left, values, right = np.linalg.svd(COLOUR_ROOT)
    raised: NDArray[np.float64] = (left * values**strength) @ right
    return raised


@cache
def _unit_root(strength: float) -> NDArray[np.float64]:
    """Return M, scaled so that a move of 1 or -1 along each axis, such as Adam's, changes a channel by 1 on average."""
    root = _root(strength)
    scaled: NDArray[np.float64] = (
        root / np.abs([root @ np.array(signs) for signs in itertools.product((-1, 1), repeat=3)]).mean()
    )
    return scaled
