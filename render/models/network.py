"""An `Architecture` as a Flax NNX module: parameters in, named activations out.

Padding is explicit everywhere: XLA's `SAME` pads odd and even sizes differently at stride 2, which would make tiles
disagree with the whole picture.

A network computes in float32 or, faster on accelerators, in bfloat16: pixels are brought to its range in float32, then what
convolutions and pools take and give has 8 bits of mantissa. What they add up on the way has 24: matrix units accumulate
products so, and where an operation would not, it is asked to. Activations leave in float32 either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from render.models.architecture import (
    Architecture,
    AvgPool,
    Block,
    Conv,
    LocalResponseNorm,
    MaxPool,
    Node,
    Preprocess,
    window_output,
)
from render.models.residuals import relu


class ConvParameters(nnx.Module):
    """Weights of one convolution: `kernel` (rows, columns, in, out) and `bias` (out,), the bias always float32."""

    def __init__(self, kernel: jax.Array, bias: jax.Array) -> None:
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias)


class Network(nnx.Module):
    """Runs the nodes of an architecture on one window.

    `parameters` holds, for every name in `architecture.parameters()`, a float32 array of that shape; names beyond those
    are ignored, so that a truncated architecture loads from the whole network's weights. `rectify` is what follows every
    convolution: a ReLU, whose gradient may be another. `precision` is `float32` or `bfloat16`.
    """

    def __init__(
        self,
        architecture: Architecture,
        parameters: Mapping[str, np.ndarray],
        rectify: Callable[[jax.Array], jax.Array] = relu,
        precision: str = "float32",
    ) -> None:
        self.architecture = architecture
        self._rectify = rectify
        #: What activations and weights are narrowed to; None leaves them as they are given.
        self._narrow = None if precision == "float32" else jnp.dtype(precision)
        self.convolutions = nnx.Dict(
            {
                layer.name: ConvParameters(
                    # OIHW, as weights are stored, to the HWIO that XLA's CPU and TPU backends prefer.
                    jax.device_put(
                        np.ascontiguousarray(parameters[f"{layer.name}/weight"].transpose(2, 3, 1, 0), self._narrow)
                    ),
                    jax.device_put(parameters[f"{layer.name}/bias"]),
                )
                for layer in architecture.layers.values()
                if isinstance(layer.node, Conv)
            }
        )
        if architecture.classes:
            self.classifier = ConvParameters(
                jax.device_put(np.ascontiguousarray(parameters[f"{architecture.classifier}/weight"].T)),
                jax.device_put(parameters[f"{architecture.classifier}/bias"]),
            )

    def __call__(self, pixels: jax.Array, layers: Iterable[str]) -> dict[str, jax.Array]:
        """Activations of the named layers.

        `pixels`: (height, width, 3) float32 RGB, 0..255. Each value is (rows, columns, channels) float32, after ReLU.
        """
        wanted = tuple(layers)
        found: dict[str, jax.Array] = {}
        x = preprocess(pixels, self.architecture.preprocess)[None]
        x = x if self._narrow is None else x.astype(self._narrow)
        self._run(self.architecture.nodes, x, wanted, found)
        # In the order asked for: the order of a set changes from process to process, and with it the compiled program.
        return {name: _wide(found[name][0]) for name in wanted}

    def logits(self, pixels: jax.Array) -> jax.Array:
        """Class scores (classes,) before softmax, from the mean of the last layer's activations."""
        last = self.architecture.nodes[-1].name
        pooled = self(pixels, [last])[last].mean((0, 1))
        return pooled @ self.classifier.kernel[...] + self.classifier.bias[...]

    def _run(self, nodes: Iterable[Node], x: jax.Array, wanted: tuple[str, ...], found: dict[str, jax.Array]) -> jax.Array:
        for node in nodes:
            match node:
                case Conv():
                    x = self._rectify(_convolve(x, self.convolutions[node.name], node))
                case MaxPool():
                    x = max_pool(x, node)
                case AvgPool():
                    x = average_pool(_wide(x), node).astype(x.dtype)
                case LocalResponseNorm():
                    x = local_response_norm(_wide(x), node).astype(x.dtype)
                case Block():
                    x = jnp.concatenate([self._run(branch, x, wanted, found) for branch in node.branches], axis=-1)
            if node.name in wanted:
                found[node.name] = x
        return x


def class_scores(network: Network, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`Network.logits` of each picture, (rows, columns, 3) float32 RGB 0..255: on the host, (classes,) float32."""
    # Merged inside, so that the weights are arguments of what is compiled and not constants in it.
    graph, state = nnx.split(network)
    scores = jax.jit(lambda state, pixels: nnx.merge(graph, state).logits(pixels))
    return [np.asarray(scores(state, picture)) for picture in pictures]


def preprocess(pixels: jax.Array, how: Preprocess) -> jax.Array:
    """RGB 0..255 to the network's input range; shape kept."""
    if how.order == "BGR":
        pixels = pixels[..., ::-1]
        return (pixels - jnp.asarray(how.mean[::-1], pixels.dtype)) / how.scale
    return (pixels - jnp.asarray(how.mean, pixels.dtype)) / how.scale


def _convolve(x: jax.Array, parameters: ConvParameters, node: Conv) -> jax.Array:
    rows, columns = node.padding
    y = lax.conv_general_dilated(
        x,
        parameters.kernel[...],
        window_strides=(node.stride, node.stride),
        padding=((rows, rows), (columns, columns)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        # Asked for a float32 result, JAX would have the gradient's convolution in float32 as well.
        precision=lax.Precision.HIGHEST,
    )
    return (_wide(y) + parameters.bias[...]).astype(x.dtype)


def _wide(x: jax.Array) -> jax.Array:
    """The array in float32, where it is narrower."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def max_pool(x: jax.Array, node: MaxPool) -> jax.Array:
    """Max over windows of (1, rows, columns, channels) activations; positions beyond the edge never win."""
    padding = [(0, 0)]
    for axis in (0, 1):
        length = x.shape[axis + 1]
        covered = (window_output(length, node, axis) - 1) * node.stride + node.size
        padding.append((node.padding, max(0, covered - length - node.padding)))
    padding.append((0, 0))
    window = (1, node.size, node.size, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, (1, node.stride, node.stride, 1), padding)


def average_pool(x: jax.Array, node: AvgPool) -> jax.Array:
    """Mean over the positions of each window that lie inside the input; size kept."""
    half = node.size // 2
    window, strides, padding = (1, node.size, node.size, 1), (1, 1, 1, 1), ((0, 0), (half, half), (half, half), (0, 0))
    total = lax.reduce_window(x, 0.0, lax.add, window, strides, padding)
    # Counted here, not by XLA: it would fold a reduce_window of ones at compile time, slowly for large windows.
    rows, columns = (_neighbours(length, half) for length in x.shape[1:3])
    return total / (rows[:, None] * columns[None, :])[None, :, :, None]


def _neighbours(length: int, half: int) -> np.ndarray:
    """For each of `length` positions, how many lie within `half` of it: (length,) float32."""
    positions = np.arange(length)
    first, last = np.maximum(positions - half, 0), np.minimum(positions + half, length - 1)
    return (last - first + 1).astype(np.float32)


def local_response_norm(x: jax.Array, node: LocalResponseNorm) -> jax.Array:
    """Each value over a power of its neighbouring channels' squares."""
    half = node.n // 2
    squares = lax.reduce_window(
        x * x, 0.0, lax.add, (1, 1, 1, node.n), (1, 1, 1, 1), ((0, 0), (0, 0), (0, 0), (half, half))
    )
    return x * (node.k + (node.alpha / node.n) * squares) ** -node.beta
