"""Convolutions of a network's nodes, and their gradients.

All take and return (1, rows, columns, channels) activations. On CPUs XLA uses its fast convolution only for some forms of
an equal convolution, so the form is chosen here. All forms are the same function, with the same gradient except for the
rounding order of float32 sums; `tests/networks/test_operations.py` compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.networks.array_ops import pad
from render.networks.nodes import Conv, window_output
from render.networks.platforms import platform

#: How float32 is multiplied: as it is; or on GPUs in TensorFloat-32, on TPUs in three bfloat16 passes, on CPUs as it is.
#: Both multiply bfloat16 as it is.
EXACT, REDUCED = lax.Precision.HIGHEST, lax.Precision.HIGH
#: Most input channels for which a strided convolution is folded.
_MAX_FOLDED_CHANNELS = 4


def stored_kernel(weight: np.ndarray) -> np.ndarray:
    """Return weights (out, in, rows, columns) in the order of axes that convolutions of this platform read.

    It is (out, rows, columns, in) on GPUs, where cuDNN reads it, and (rows, columns, in, out) elsewhere. In another order
    every call would transpose all weights.
    """
    return weight.transpose(["OIHW".index(axis) for axis in _kernel_layout()])


def mixing_weights(kernel: jax.Array) -> jax.Array:
    """Return the weights (in, out) of a 1x1 convolution."""
    return kernel[:, 0, 0].T if _kernel_layout() == "OHWI" else kernel[0, 0]


def _kernel_layout() -> str:
    return "OHWI" if platform() == "gpu" else "HWIO"


def convolve(x: jax.Array, kernel: jax.Array, node: Conv, precision: lax.Precision = EXACT) -> jax.Array:
    """Return the convolution of `x` with a kernel, without the bias.

    Args:
        x: (1, rows, columns, in).
        kernel: Weights from `stored_kernel`, of the type of `x`.
        node: Stride and padding.
        precision: `EXACT` or `REDUCED`.
    """
    if is_mix(node):
        return mix(x, mixing_weights(kernel), precision)
    if platform() == "cpu":
        if node.stride > 1 and x.shape[3] <= _MAX_FOLDED_CHANNELS:
            return _convolve_folded(node, x, kernel)
        if node.padding == (0, 0):
            return _convolve_unpadded(node, x, kernel)
    return _convolve(node, x, kernel, precision=precision)


def convolve_back(
    node: Conv, size: tuple[int, int], kernel: jax.Array, g: jax.Array, precision: lax.Precision = EXACT
) -> jax.Array:
    """Return the gradient of the input of `convolve`, its transpose.

    Args:
        node: The convolution.
        size: (rows, columns) of the input.
        kernel: Weights from `stored_kernel`.
        g: Gradient of the output.
        precision: `EXACT` or `REDUCED`.
    """
    if is_mix(node):
        return mix_back(g, mixing_weights(kernel), precision)
    in_channels = kernel.shape[_kernel_layout().index("I")]
    if platform() == "cpu" and node.stride > 1 and in_channels <= _MAX_FOLDED_CHANNELS:
        return _folded_back(node, size, kernel, g)
    x = jax.ShapeDtypeStruct((1, *size, in_channels), g.dtype)
    return jax.linear_transpose(lambda x: _convolve(node, x, kernel, precision=precision), x)(g)[0]


def is_mix(node: Conv) -> bool:
    """Return True if a convolution looks at one position only: 1x1, stride 1, no padding."""
    return node.kernel == (1, 1) and node.stride == 1 and node.padding == (0, 0)


def mix(x: jax.Array, weights: jax.Array, precision: lax.Precision = EXACT) -> jax.Array:
    """Return a 1x1 convolution: every position's channels times `weights` (in, out)."""
    return lax.dot_general(x, weights, (((3,), (0,)), ((), ())), precision=_of_dot(precision))


def mix_back(g: jax.Array, weights: jax.Array, precision: lax.Precision = EXACT) -> jax.Array:
    """Return the gradient of the input of `mix` from that of its output, its transpose."""
    return lax.dot_general(g, weights, (((3,), (1,)), ((), ())), precision=_of_dot(precision))


def _of_dot(precision: lax.Precision) -> lax.Precision | lax.DotAlgorithmPreset:
    """Return the precision of a matrix product that goes with that of a convolution.

    On GPUs XLA lets cuDNN's convolutions use TensorFloat-32 with `HIGH`, but multiplies matrices in float32 then.
    """
    return lax.DotAlgorithmPreset.TF32_TF32_F32 if precision == REDUCED and platform() == "gpu" else precision


def _convolve(node: Conv, x: jax.Array, kernel: jax.Array, below: int = 0, precision: lax.Precision = EXACT) -> jax.Array:
    """Return the plain convolution, with `below` more rows of zeros at the bottom."""
    rows, columns = node.padding
    return _slide(x, kernel, node.stride, ((rows, rows + below), (columns, columns)), precision)


def _slide(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: Sequence[tuple[int, int]],
    precision: lax.Precision = EXACT,
) -> jax.Array:
    """Return XLA's convolution of NHWC activations with a kernel as it is stored.

    `padding` is (before, after) of rows and of columns.
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", _kernel_layout(), "NHWC"),
        # With a float32 result type, JAX would compute the gradient's convolution in float32 too.
        precision=precision,
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_unpadded(node: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution without padding.

    Compute one row too many: padding makes XLA up to 8 times faster on CPUs.
    """
    output_rows = window_output(x.shape[1], node, 0)
    return _convolve(node, x, kernel, below=node.stride)[:, :output_rows]


def _unpadded_forward(node: Conv, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_unpadded(node, x, kernel), (x, kernel)


def _unpadded_backward(node: Conv, residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(partial(_convolve, node), *residuals)[1](g)


_convolve_unpadded.defvjp(_unpadded_forward, _unpadded_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_folded(node: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return a strided convolution of few channels, computed at stride 1 on a folded picture.

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
    padded = pad(x, (0, 0), *edges, (0, 0))
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
    split = pad(kernel, *ends, (0, 0), (0, 0)).reshape(reach[0], stride, reach[1], stride, *kernel.shape[2:])
    return split.transpose(0, 2, 1, 3, 4, 5).reshape(*reach, -1, kernel.shape[3])


def _folded_forward(node: Conv, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_folded(node, x, kernel), (x, kernel)


def _folded_backward(node: Conv, residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    # The kernel's gradient is not used, so XLA never computes it.
    return _folded_back(node, x.shape[1:3], kernel, g), jax.vjp(partial(_convolve, node, x), kernel)[1](g)[0]


def _folded_back(node: Conv, size: Sequence[int], kernel: jax.Array, g: jax.Array) -> jax.Array:
    """Return the gradient of the input of `_convolve_folded`, of (rows, columns) `size`."""
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
    return pad(full_gradient, (0, 0), *edges, (0, 0))


_convolve_folded.defvjp(_folded_forward, _folded_backward)
