"""Operations of a network's nodes, with gradients written by hand where XLA's own are slow.

All take and return (1, rows, columns, channels) activations. The hand-written versions are the same functions as the plain
operations, with the same gradients except for the rounding of float32 sums; `tests/networks/test_operations.py` compares
them. On CPUs XLA uses its fast convolution only for some forms of an equal convolution, so the form is chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.networks.architecture import AvgPool, Conv, LocalResponseNorm, MaxPool, window_output

#: Most input channels for which a strided convolution is folded.
_FEW = 4


def convolve(x: jax.Array, kernel: jax.Array, node: Conv) -> jax.Array:
    """Return the convolution of `x` with `kernel` (rows, columns, in, out), without the bias."""
    if is_mix(node):
        return mix(x, kernel[0, 0])
    if jax.default_backend() == "cpu":
        if node.stride > 1 and x.shape[3] <= _FEW:
            return _convolve_folded(node, x, kernel)
        if node.padding == (0, 0):
            return _convolve_unpadded(node, x, kernel)
    return _convolve(node, x, kernel)


def convolve_back(node: Conv, size: tuple[int, int], kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Return the transpose of `convolve`: the gradient of an input of (rows, columns) `size`, from the output's, `g`."""
    if is_mix(node):
        return mix_back(g, kernel[0, 0])
    if jax.default_backend() == "cpu" and node.stride > 1 and kernel.shape[2] <= _FEW:
        return _folded_back(node, size, kernel, g)
    x = jax.ShapeDtypeStruct((1, *size, kernel.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: _convolve(node, x, kernel), x)(g)[0]


def is_mix(node: Conv) -> bool:
    """Return True if a convolution looks at one position only: 1x1, stride 1, no padding."""
    return node.kernel == (1, 1) and node.stride == 1 and node.padding == (0, 0)


def mix(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Return a 1x1 convolution: every position's channels times `weights` (in, out)."""
    return lax.dot_general(x, weights, (((3,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def mix_back(g: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the transpose of `mix`."""
    return lax.dot_general(g, weights, (((3,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)


def _convolve(node: Conv, x: jax.Array, kernel: jax.Array, below: int = 0) -> jax.Array:
    """Return the plain convolution, with `below` more rows of zeros at the bottom."""
    rows, columns = node.padding
    return _slide(x, kernel, node.stride, ((rows, rows + below), (columns, columns)))


def _slide(x: jax.Array, kernel: jax.Array, stride: int, padding: Sequence[tuple[int, int]]) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # With a float32 result type, JAX would compute the gradient's convolution in float32 too.
        precision=lax.Precision.HIGHEST,
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_unpadded(node: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution without padding. Compute one row too many: padding makes XLA up to 8 times faster on CPUs."""
    output_rows = window_output(x.shape[1], node, 0)
    return _convolve(node, x, kernel, below=node.stride)[:, :output_rows]


def _unpadded_forward(node: Conv, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_unpadded(node, x, kernel), (x, kernel)


def _unpadded_backward(node: Conv, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(partial(_convolve, node), *kept)[1](g)


_convolve_unpadded.defvjp(_unpadded_forward, _unpadded_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_folded(node: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return a strided convolution of few channels, computed as a convolution of stride 1 on a folded picture.

    Folding turns each square of `stride` px a side into one position with stride * stride times the channels. With three
    channels XLA's strided convolution hardly fills a vector.
    """
    stride, sizes = node.stride, [window_output(length, node, axis) for axis, length in enumerate(x.shape[1:3])]
    folded = _folded_kernel(stride, kernel)
    lengths = [size - 1 + reach for size, reach in zip(sizes, folded.shape, strict=False)]
    edges = [
        (before, stride * length - before - size)
        for before, length, size in zip(node.padding, lengths, x.shape[1:3], strict=True)
    ]
    padded = _pad(x, (0, 0), *edges, (0, 0))
    squares = padded.reshape(1, lengths[0], stride, lengths[1], stride * x.shape[3])
    positions = jnp.concatenate([squares[:, :, row] for row in range(stride)], axis=-1)
    # One row too many: see `_convolve_unpadded`.
    return _slide(positions, folded, 1, ((0, 1), (0, 0)))[:, : sizes[0]]


def _folded_kernel(stride: int, kernel: jax.Array) -> jax.Array:
    """Return a kernel folded for `_convolve_folded`, with zeros at the end.

    (rows, columns, in, out) becomes (rows / stride, columns / stride, stride * stride * in, out), sizes rounded up.
    """
    reach = [-(-length // stride) for length in kernel.shape[:2]]
    ends = [(0, stride * count - length) for count, length in zip(reach, kernel.shape, strict=False)]
    split = _pad(kernel, *ends, (0, 0), (0, 0)).reshape(reach[0], stride, reach[1], stride, *kernel.shape[2:])
    return split.transpose(0, 2, 1, 3, 4, 5).reshape(*reach, -1, kernel.shape[3])


def _folded_forward(node: Conv, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_folded(node, x, kernel), (x, kernel)


def _folded_backward(node: Conv, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    # The kernel's gradient is not used, so XLA never computes it.
    return _folded_back(node, x.shape[1:3], kernel, g), jax.vjp(partial(_convolve, node, x), kernel)[1](g)[0]


def _folded_back(node: Conv, size: Sequence[int], kernel: jax.Array, g: jax.Array) -> jax.Array:
    stride, channels = node.stride, kernel.shape[2]
    flipped_kernel = _folded_kernel(stride, kernel)[::-1, ::-1].transpose(0, 1, 3, 2)
    padding = [(reach - 1, reach - 1) for reach in flipped_kernel.shape[:2]]
    positions = _slide(g, flipped_kernel, 1, padding)
    rows, columns = positions.shape[1:3]
    width = stride * channels
    lines = [positions[..., row * width : (row + 1) * width].reshape(1, rows, columns * width) for row in range(stride)]
    full_gradient = jnp.stack(lines, axis=2).reshape(1, stride * rows, stride * columns, channels)
    # Inputs beyond the last window have no gradient.
    edges = [
        (-before, length + before - full_length)
        for before, length, full_length in zip(node.padding, size, full_gradient.shape[1:3], strict=True)
    ]
    return _pad(full_gradient, (0, 0), *edges, (0, 0))


_convolve_folded.defvjp(_folded_forward, _folded_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def max_pool(node: MaxPool, x: jax.Array) -> jax.Array:
    """Return the maximum of each window. Positions beyond the edge never win.

    Of equal values the first, row by row, gets the gradient.
    """
    return _max_and_winner(node, x)[0]


def winners(node: MaxPool, x: jax.Array) -> jax.Array:
    """Return the position of each maximum in its window, counted row by row."""
    return _max_and_winner(node, x)[1]


def _max_and_winner(node: MaxPool, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the maxima and the position of each in its window, counted row by row."""
    sizes = [window_output(length, node, axis) for axis, length in enumerate(x.shape[1:3])]
    spans = [(size - 1) * node.stride + 1 for size in sizes]
    edges = [
        (node.padding, span - 1 + node.size - length - node.padding)
        for span, length in zip(spans, x.shape[1:3], strict=True)
    ]
    padded = _pad(x, (0, 0), *edges, (0, 0), value=-np.inf)
    best, winner, number_type = None, None, _number_type(node)
    for number, (row, column) in enumerate(_positions(node.size)):
        rows, columns = (slice(start, start + span, node.stride) for start, span in zip((row, column), spans, strict=True))
        value = padded[:, rows, columns]
        if best is None or winner is None:
            best, winner = value, jnp.zeros(value.shape, number_type)
        else:
            winner = jnp.where(value > best, number_type(number), winner)
            best = jnp.maximum(best, value)
    assert best is not None and winner is not None
    return best, winner


def _number_type(node: MaxPool) -> type[jnp.uint8] | type[jnp.int32]:
    """Return the narrowest type for size * size + 1 position numbers, because positions are kept for the gradient."""
    return jnp.uint8 if node.size**2 < 256 else jnp.int32


def _max_pool_forward(node: MaxPool, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, tuple[int, ...]]]:
    best, winner = _max_and_winner(node, x)
    return best, (winner, x.shape)


def _max_pool_backward(node: MaxPool, kept: tuple[jax.Array, tuple[int, ...]], g: jax.Array) -> tuple[jax.Array]:
    winner, shape = kept
    return (max_pool_back(node, shape[1:3], winner, g),)


def max_pool_back(node: MaxPool, size: Sequence[int], winner: jax.Array, g: jax.Array) -> jax.Array:
    """Return the gradient of the input of a max pool.

    The gradient of each input is gathered from the windows that contain it. Inputs at the same position modulo the stride
    are computed together, so every pass is dense.

    Args:
        node: The pool.
        size: (rows, columns) of the input.
        winner: Position of each maximum in its window, as from `winners`.
        g: Gradient of the output.
    """
    shape = (1, *size, g.shape[3])
    stride, dtype = node.stride, g.dtype
    reach = (node.size - 1) // stride
    counts = [-(-(length + node.padding) // stride) for length in shape[1:3]]
    edges = [(reach, count - size) for count, size in zip(counts, g.shape[1:3], strict=True)]
    gradients = _pad(wide(g), (0, 0), *edges, (0, 0))
    winners = _pad(winner, (0, 0), *edges, (0, 0), value=node.size**2)

    def gathered(row: int, column: int) -> jax.Array:
        """Return the gradient of the inputs at `row`, `column` from a window's start, or whole strides further."""
        total = zero = jnp.zeros((1, *counts, shape[3]), gradients.dtype)
        for down in range(row, node.size, stride):
            for across in range(column, node.size, stride):
                tops = [reach - offset // stride for offset in (down, across)]
                rows, columns = (slice(top, top + count) for top, count in zip(tops, counts, strict=True))
                is_winner = winners[:, rows, columns] == down * node.size + across
                total = total + jnp.where(is_winner, gradients[:, rows, columns], zero)
        return total.astype(dtype)

    lines = [
        jnp.stack([gathered(row, column) for column in range(stride)], axis=3).reshape(
            1, counts[0], stride * counts[1], shape[3]
        )
        for row in range(stride)
    ]
    full_gradient = jnp.stack(lines, axis=2).reshape(1, stride * counts[0], stride * counts[1], shape[3])
    top, rows, columns = node.padding, shape[1], shape[2]
    return full_gradient[:, top : top + rows, top : top + columns]


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def average_pool(x: jax.Array, node: AvgPool) -> jax.Array:
    """Return the mean over the positions of each window that lie inside the input. The size stays the same."""
    rows, columns = neighbours(node, x.shape[1:3])
    return _sum_windows(node.size, x) / (rows[:, None] * columns[None, :])[None, :, :, None]


def average_pool_back(node: AvgPool, counts: Sequence[jax.Array], g: jax.Array) -> jax.Array:
    """Return the transpose of `average_pool`. `counts` are the results of `neighbours` for rows and columns."""
    rows, columns = counts
    return _sum_windows(node.size, g / (rows[:, None] * columns[None, :])[None, :, :, None])


def neighbours(node: AvgPool, size: Sequence[int]) -> list[np.ndarray]:
    """Return how many rows lie in the window around each row, and the same for columns, float32.

    NumPy counts them, because XLA would fold a sum of ones at compile time, which is slow for large windows.
    """
    return [_neighbours(length, node.size // 2) for length in size]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_windows(size: int, x: jax.Array) -> jax.Array:
    """Return the sum over the window around each position, zeros beyond the edge. It is its own transpose."""
    half = size // 2
    padded = _pad(x, (0, 0), (half, half), (half, half), (0, 0))
    rows, columns = x.shape[1:3]
    total = jnp.zeros((), x.dtype)
    for row, column in _positions(size):
        total = total + padded[:, row : row + rows, column : column + columns]
    return total


_sum_windows.defvjp(lambda size, x: (_sum_windows(size, x), None), lambda size, _, g: (_sum_windows(size, g),))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def local_response_norm(node: LocalResponseNorm, x: jax.Array) -> jax.Array:
    """Return the across-channel normalisation of `x`; see `LocalResponseNorm` for the formula."""
    return x * _power(_response(node, x), -node.beta)


def _response(node: LocalResponseNorm, x: jax.Array) -> jax.Array:
    return node.k + (node.alpha / node.n) * _sum_channels(node.n, x * x)


def _norm_forward(node: LocalResponseNorm, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return local_response_norm(node, x), x


def _norm_backward(node: LocalResponseNorm, x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    return (local_response_norm_back(node, x, g),)


def local_response_norm_back(node: LocalResponseNorm, x: jax.Array, g: jax.Array) -> jax.Array:
    """Return the gradient of the input `x` of `local_response_norm`."""
    response = _response(node, x)
    power = _power(response, -node.beta)
    shared = _sum_channels(node.n, g * x * power / response)
    return g * power - (2 * node.beta * node.alpha / node.n) * x * shared


local_response_norm.defvjp(_norm_forward, _norm_backward)


def _sum_channels(n: int, x: jax.Array) -> jax.Array:
    """Return the sum over the `n` channels around each channel, `n` odd. It is its own transpose."""
    half = n // 2
    if jax.default_backend() == "cpu":
        # XLA would fuse a sum of slices and compute everything before it `n` times.
        channel = np.arange(x.shape[3])
        band = jnp.asarray(np.abs(channel[:, None] - channel) <= half, x.dtype)
        return lax.dot(x.reshape(-1, x.shape[3]), band, precision=lax.Precision.HIGHEST).reshape(x.shape)
    padded = _pad(x, (0, 0), (0, 0), (0, 0), (half, half))
    total = jnp.zeros((), x.dtype)
    for first in range(n):
        total = total + padded[..., first : first + x.shape[3]]
    return total


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """Return positive numbers to a power. -0.75 uses square roots, which are much faster than a logarithm."""
    if exponent != -0.75:
        return x**exponent
    root = jnp.sqrt(x)
    return 1 / (root * jnp.sqrt(root))


def _pad(x: jax.Array, *edges: tuple[int, int], value: float = 0) -> jax.Array:
    """Return the array with (before, after) copies of `value` added along each axis. Negative numbers crop it."""
    return lax.pad(x, np.asarray(value, x.dtype), [(before, after, 0) for before, after in edges])


def _positions(size: int) -> Iterator[tuple[int, int]]:
    """Return the (row, column) positions in a square window, row by row."""
    return ((row, column) for row in range(size) for column in range(size))


def _neighbours(length: int, half: int) -> np.ndarray:
    """Return how many of `length` positions lie within `half` of each position, (length,) float32."""
    positions = np.arange(length)
    first, last = np.maximum(positions - half, 0), np.minimum(positions + half, length - 1)
    return (last - first + 1).astype(np.float32)


def wide(x: jax.Array) -> jax.Array:
    """Return the array in float32 if its type is narrower."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
