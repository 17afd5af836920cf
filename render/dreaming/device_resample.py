"""Resampling on a device, tile by tile, with the taps of `resample`: the programs of an octave change.

All tiles have one shape, whatever the octave and the blocks, and so have the windows that they are resampled from, up to a
few sizes. So a program is compiled once for a whole render, and every pixel of it is computed by the same instructions:
who owns a pixel does not change it. Tiles are cut to their place when they are written to a canvas.

Source, detail and canvas are (rows, columns, 3) float32; source and canvas 0..255, detail of any sign.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.dreaming.resample import AxisTaps
from render.dreaming.shoulder import limit_detail, restore_detail
from render.networks.platforms import platform

#: (rows, columns) px of a tile on accelerators, 25 MB, and on CPUs, which step there in tests.
_TILE, _CPU_TILE = (1024, 2048), (128, 256)
#: More inputs than outputs that a tile may need along an axis that does not shrink, px: taps reach beyond both ends.
_REACH = 8


def tile_shape() -> tuple[int, int]:
    """Return (rows, columns) px of the tiles in which this process' device resamples."""
    return _CPU_TILE if platform() == "cpu" else _TILE


def window_length(inputs: int, tile: int, steps: int) -> int:
    """Return the length of the window for so many inputs along an axis, px: one of a few.

    Args:
        inputs: Number of inputs that a tile needs.
        tile: Length of the tile.
        steps: Number of lengths between one power of two and the next.
    """
    length, power = max(1, inputs - _REACH), 8
    while power < length:
        power *= 2
    step = max(1, power // (2 * steps))
    return min(-(-length // step) * step, max(tile, length)) + _REACH


class TileTaps(NamedTuple):
    """Taps of a tile: for its rows and its columns, indices into a window, int32, and weights, float32.

    Each is (tile's length, taps).
    """

    row_indices: jax.Array | np.ndarray
    row_weights: jax.Array | np.ndarray
    column_indices: jax.Array | np.ndarray
    column_weights: jax.Array | np.ndarray

    @classmethod
    def of(cls, rows: AxisTaps, columns: AxisTaps, tile: tuple[int, int]) -> TileTaps:
        """Return the taps of a tile; where it has more pixels than `rows` and `columns`, the last one's repeat."""
        return cls(
            *_lengthened(rows, tile[0]),
            *_lengthened(columns, tile[1]),
        )

    @classmethod
    def of_itself(cls, tile: tuple[int, int]) -> TileTaps:
        """Return the taps of a tile that is its window's beginning."""
        rows, columns = ((np.arange(length, dtype=np.int32)[:, None], np.ones((length, 1), np.float32)) for length in tile)
        return cls(*rows, *columns)


def _lengthened(taps: AxisTaps, length: int) -> tuple[np.ndarray, np.ndarray]:
    missing = ((0, length - len(taps.indices)), (0, 0))
    return np.pad(taps.indices, missing, mode="edge"), np.pad(taps.weights, missing, mode="edge")


class Window(NamedTuple):
    """Pixels that a tile is resampled from, and its taps."""

    pixels: jax.Array | np.ndarray
    taps: TileTaps


def resampled(window: Window) -> jax.Array:
    """Return the tile that a window is resampled to, unclipped.

    An output is the sum over columns of weighted sums over rows, tap by tap, as in `resample.resample_window`. On GPUs and
    CPUs that is one loop, which reads the window and writes the tile. TPUs read single elements slowly and multiply
    matrices fast: there the taps of each axis are a matrix, most of it zeros.
    """
    return _by_products(window) if platform() == "tpu" else _by_taps(window)


def _by_taps(window: Window) -> jax.Array:
    pixels, taps = window
    total: jax.Array | None = None
    for across in range(taps.column_indices.shape[1]):
        columns = jnp.take(pixels, taps.column_indices[:, across], axis=1, mode="clip")
        column_total: jax.Array | None = None
        for down in range(taps.row_indices.shape[1]):
            rows = jnp.take(columns, taps.row_indices[:, down], axis=0, mode="clip")
            column_total = _plus(column_total, jnp.asarray(taps.row_weights)[:, down, None, None] * rows)
        assert column_total is not None, "an output has a tap"
        total = _plus(total, jnp.asarray(taps.column_weights)[None, :, across, None] * column_total)
    assert total is not None, "an output has a tap"
    return total


def _plus(total: jax.Array | None, summand: jax.Array) -> jax.Array:
    return summand if total is None else total + summand


def _by_products(window: Window) -> jax.Array:
    pixels, taps = window
    rows = _matrix(taps.row_indices, taps.row_weights, pixels.shape[0])
    columns = _matrix(taps.column_indices, taps.column_weights, pixels.shape[1])
    tall = jnp.einsum("ik,kjc->ijc", rows, pixels, precision=lax.Precision.HIGHEST)
    return jnp.einsum("jk,ikc->ijc", columns, tall, precision=lax.Precision.HIGHEST)


def _matrix(indices: jax.Array | np.ndarray, weights: jax.Array | np.ndarray, inputs: int) -> jax.Array:
    """Return the taps of an axis as a matrix, (outputs, inputs) float32."""
    hits = indices[:, :, None] == jnp.arange(inputs)
    return jnp.where(hits, weights[:, :, None], 0).sum(1)


@partial(jax.jit, static_argnames="shoulder")
def make_tile(source: Window, detail: Window | None = None, shoulder: float = 0.0) -> jax.Array:
    """Return a tile of a new octave: the source, 0..255, plus the detail of the octave before, limited or clipped.

    Args:
        source: Window of the source.
        detail: Window of the detail; None for the source alone.
        shoulder: Room in levels from which on detail is limited, static: see `shoulder.limit_detail`; 0 only clips.
    """
    pixels = jnp.clip(resampled(source), 0.0, 255.0)
    if detail is None:
        return pixels
    change = resampled(detail)
    if shoulder:
        # The limit uses each several times: in one loop with the taps, XLA would sum these as often.
        pixels, change = lax.optimization_barrier((pixels, change))
        change = limit_detail(pixels, change, shoulder, jnp)
    return jnp.clip(pixels + change, 0.0, 255.0)


@jax.jit
def cut_window(detail: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Return the pixels of a detail at some rows and columns, which are int32 and at least 0."""
    return jnp.take(jnp.take(detail, rows, axis=0, mode="clip"), columns, axis=1, mode="clip")


@jax.jit
def complete_window(pixels: jax.Array, others: jax.Array, own_rows: jax.Array, own_columns: jax.Array) -> jax.Array:
    """Return `pixels` where row and column are own, which are bool, and `others` elsewhere."""
    return jnp.where((own_rows[:, None] & own_columns)[..., None], pixels, others)


@partial(jax.jit, donate_argnames="canvas")
def write_tile(canvas: jax.Array, tile: jax.Array, place: jax.Array) -> jax.Array:
    """Return the canvas, which is donated, with the beginning of a tile written to it.

    `place` is (2, 2) int32: the first (row, column) of the canvas that the tile covers, and how many, all in the canvas.
    """
    return _merged(canvas, tile, place, lambda _, values: values)


@partial(jax.jit, donate_argnames="canvas", static_argnames="shoulder")
def subtract_tile(canvas: jax.Array, source: jax.Array, place: jax.Array, shoulder: float = 0.0) -> jax.Array:
    """Return the canvas, which is donated, with its detail in a tile: canvas minus source.

    Args:
        canvas: The canvas.
        source: Tile of the source.
        place: As for `write_tile`.
        shoulder: As for `make_tile`: the detail is the one that was limited.
    """

    def detail(pixels: jax.Array, source: jax.Array) -> jax.Array:
        distance = pixels - source
        return restore_detail(source, distance, shoulder, jnp) if shoulder else distance

    return _merged(canvas, source, place, detail)


def _merged(
    canvas: jax.Array, tile: jax.Array, place: jax.Array, merge: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Return the canvas with `merge` of its own pixels and the tile's where the tile is.

    What is read and written at once has a fixed size. Near the canvas' ends it begins before the tile.
    """
    shape = min(canvas.shape[0], tile.shape[0]), min(canvas.shape[1], tile.shape[1])
    start = jnp.minimum(place[0], np.asarray([canvas.shape[0] - shape[0], canvas.shape[1] - shape[1]], np.int32))
    shift = place[0] - start
    rows, columns = (jnp.arange(length, dtype=jnp.int32) - shift[axis] for axis, length in enumerate(shape))
    inside = ((rows >= 0) & (rows < place[1, 0]))[:, None] & ((columns >= 0) & (columns < place[1, 1]))
    values = jnp.take(jnp.take(tile, rows, axis=0, mode="clip"), columns, axis=1, mode="clip")
    corner = (start[0], start[1], 0)
    pixels = lax.dynamic_slice(canvas, corner, (*shape, 3))
    return lax.dynamic_update_slice(canvas, jnp.where(inside[..., None], merge(pixels, values), pixels), corner)
