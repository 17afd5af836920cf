"""Pools of a network's nodes, with gradients written by hand, because XLA's own are slow on CPUs.

All take and return (1, rows, columns, channels) activations. They are the same functions as the plain operations, with the
same gradients except for the rounding order of float32 sums; `tests/networks/test_operations.py` compares them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from render.networks.array_ops import pad, wide
from render.networks.nodes import AvgPool, MaxPool, window_output
from render.networks.platforms import platform


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def max_pool(node: MaxPool, x: jax.Array) -> jax.Array:
    """Return the maximum of each window. Positions beyond the edge never win.

    Of equal values the first, row by row, gets the gradient.
    """
    return _max_and_winner(node, x)[0]


def winners(node: MaxPool, x: jax.Array) -> jax.Array:
    """Return the position of each maximum in its window, row by row from 0: uint8 or int32."""
    return _max_and_winner(node, x)[1]


def no_winner(node: MaxPool) -> jax.Array:
    """Return the number, of the type of `winners`, of a maximum whose gradient no input gets."""
    return jnp.asarray(node.size**2, _number_type(node))


def _max_and_winner(node: MaxPool, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the maxima and the position of each in its window, counted row by row."""
    sizes = [window_output(length, node, axis) for axis, length in enumerate(x.shape[1:3])]
    extents = [(size - 1) * node.stride + 1 for size in sizes]
    edges = [
        (node.padding, extent - 1 + node.size - length - node.padding)
        for extent, length in zip(extents, x.shape[1:3], strict=True)
    ]
    padded = pad(x, (0, 0), *edges, (0, 0), value=-np.inf)
    best, winner, number_type = None, None, _number_type(node)
    # On TPUs every strided slice is a copy: compare at all positions, and slice once.
    stride = 1 if platform() == "tpu" else node.stride
    for number, (row, column) in enumerate(_positions(node.size)):
        rows, columns = (slice(start, start + extent, stride) for start, extent in zip((row, column), extents, strict=True))
        value = padded[:, rows, columns]
        if best is None or winner is None:
            best, winner = value, jnp.zeros(value.shape, number_type)
        else:
            winner = jnp.where(value > best, number_type(number), winner)
            best = jnp.maximum(best, value)
    assert best is not None and winner is not None
    if stride == node.stride:
        return best, winner
    return best[:, :: node.stride, :: node.stride], winner[:, :: node.stride, :: node.stride]


def _number_type(node: MaxPool) -> type[jnp.uint8] | type[jnp.int32]:
    """Return the narrowest type for size * size + 1 position numbers.

    Positions are stored until the gradient pass.
    """
    return jnp.uint8 if node.size**2 < 256 else jnp.int32


def _max_pool_forward(node: MaxPool, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, tuple[int, ...]]]:
    best, winner = _max_and_winner(node, x)
    return best, (winner, x.shape)


def _max_pool_backward(node: MaxPool, residuals: tuple[jax.Array, tuple[int, ...]], g: jax.Array) -> tuple[jax.Array]:
    winner, shape = residuals
    return (max_pool_back(node, shape[1:3], winner, g),)


def max_pool_back(node: MaxPool, size: Sequence[int], winner: jax.Array, g: jax.Array) -> jax.Array:
    """Return the gradient of the input of a max pool.

    The gradient of each input is gathered from the windows that contain it.

    Args:
        node: The pool.
        size: (rows, columns) of the input.
        winner: Position of each maximum in its window, as from `winners`, or `no_winner`.
        g: Gradient of the output.
    """
    if platform() == "gpu":
        return _gather_dense(node, size, winner, g)
    return _gather_by_phase(node, size, winner, g)


def _gather_by_phase(node: MaxPool, size: Sequence[int], winner: jax.Array, g: jax.Array) -> jax.Array:
    """Return `max_pool_back`, computed together for inputs at the same position modulo the stride.

    Every pass is dense, and the results are interleaved.
    """
    shape = (1, *size, g.shape[3])
    stride, dtype = node.stride, g.dtype
    reach = (node.size - 1) // stride
    counts = [-(-(length + node.padding) // stride) for length in shape[1:3]]
    edges = [(reach, count - size) for count, size in zip(counts, g.shape[1:3], strict=True)]
    gradients = pad(wide(g), (0, 0), *edges, (0, 0))
    winners = pad(winner, (0, 0), *edges, (0, 0), value=node.size**2)

    def gathered(row: int, column: int) -> jax.Array:
        """Return the gradient of the inputs at an offset from a start, and whole strides on."""
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


def _gather_dense(node: MaxPool, size: Sequence[int], winner: jax.Array, g: jax.Array) -> jax.Array:
    """Return `max_pool_back`, computed for all inputs in one expression, which XLA fuses with what reads it on GPUs."""
    stride, reach = node.stride, (node.size - 1) // node.stride
    counts = [-(-(length + node.padding) // stride) for length in size]
    edges = [(reach, count - length) for count, length in zip(counts, g.shape[1:3], strict=True)]
    gradients = pad(g, (0, 0), *edges, (0, 0))
    winners = pad(winner, (0, 0), *edges, (0, 0), value=node.size**2)

    def inputs_of(x: jax.Array, tops: Sequence[int]) -> jax.Array:
        """Return, for each input, the value of the window that starts `tops` windows after the first."""
        rows, columns = (slice(top, top + count) for top, count in zip(tops, counts, strict=True))
        x = x[:, rows, None, columns, None]
        x = jnp.broadcast_to(x, (1, counts[0], stride, counts[1], stride, x.shape[5]))
        x = x.reshape(1, stride * counts[0], stride * counts[1], x.shape[5])
        return x[:, node.padding : node.padding + size[0], node.padding : node.padding + size[1]]

    total = zero = jnp.zeros((1, *size, g.shape[3]), wide(g).dtype)
    for before in np.ndindex(reach + 1, reach + 1):
        rows = _numbers(node, node.size, size[0], before[0])
        columns = _numbers(node, 1, size[1], before[1])
        number = (rows[:, None] + columns[None, :])[None, :, :, None]
        tops = [reach - count for count in before]
        is_winner = inputs_of(winners, tops).astype(jnp.int32) == number
        total = total + jnp.where(is_winner, wide(inputs_of(gradients, tops)), zero)
    return total.astype(g.dtype)


def _numbers(node: MaxPool, step: int, length: int, before: int) -> jax.Array:
    """Return `step` times the offset of each input in a window that contains it, along one axis, (length,) int32.

    The window is the one `before` windows before the last that contains the input. For an offset beyond that window it is
    more than `no_winner`: whatever is added to it, it is the number of no maximum.
    """
    offsets = (np.arange(length, dtype=np.int32) + node.padding) % node.stride + node.stride * before
    return jnp.asarray(np.where(offsets < node.size, step * offsets, node.size**2 + 1))


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def average_pool(x: jax.Array, node: AvgPool) -> jax.Array:
    """Return the mean over the positions of each window that lie inside the input.

    The size stays the same. `x` is (1, rows, columns, channels) float32.
    """
    rows, columns = neighbours(node, x.shape[1:3])
    return _sum_windows(node.size, x) / (rows[:, None] * columns[None, :])[None, :, :, None]


def average_pool_back(node: AvgPool, counts: Sequence[jax.Array], g: jax.Array) -> jax.Array:
    """Return the gradient of the input of `average_pool`, its transpose.

    Args:
        node: The pool.
        counts: Results of `neighbours` for the rows and the columns of `g`.
        g: Gradient of the output.
    """
    rows, columns = counts
    return _sum_windows(node.size, g / (rows[:, None] * columns[None, :])[None, :, :, None])


def neighbours(node: AvgPool, size: Sequence[int]) -> list[np.ndarray]:
    """Return how many rows lie in the window around each row, and the same for columns.

    Each is (length,) float32. NumPy counts them, because XLA would fold a sum of ones at compile time, which is slow for
    large windows.
    """
    return [_neighbours(length, node.size // 2) for length in size]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_windows(size: int, x: jax.Array) -> jax.Array:
    """Return the sum over the window around each position; it is its own transpose."""
    half = size // 2
    padded = pad(x, (0, 0), (half, half), (half, half), (0, 0))
    rows, columns = x.shape[1:3]
    total = jnp.zeros((), x.dtype)
    for row, column in _positions(size):
        total = total + padded[:, row : row + rows, column : column + columns]
    return total


_sum_windows.defvjp(lambda size, x: (_sum_windows(size, x), None), lambda size, _, g: (_sum_windows(size, g),))


def _positions(size: int) -> Iterator[tuple[int, int]]:
    """Return the (row, column) positions in a square window, row by row."""
    return ((row, column) for row in range(size) for column in range(size))


def _neighbours(length: int, half: int) -> np.ndarray:
    """Return how many of `length` positions lie within `half` of each: (length,) float32."""
    positions = np.arange(length)
    first, last = np.maximum(positions - half, 0), np.minimum(positions + half, length - 1)
    return (last - first + 1).astype(np.float32)
