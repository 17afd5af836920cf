"""The kernel as TensorFlow users would write it: the same nodes, weights, pixels and objective, in a `tf.function`.

What pictures were first dreamed with in tutorials. Its convolutions are oneDNN's. It runs in an environment of its own,
which has neither JAX nor what else this program needs: TensorFlow wants older libraries than the tests do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from render.networks.architecture import Architecture
from render.networks.nodes import AvgPool, Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node, window_output


class TensorFlowKernel:
    """The gradient of the mean of squares of an architecture's last layer."""

    def __init__(self, architecture: Architecture, parameters: Mapping[str, np.ndarray]) -> None:
        """`parameters` as `render.networks.network.Network` takes them."""
        self._nodes = architecture.nodes
        self._preprocess = architecture.preprocess
        self._parameters = {
            name: tf.constant(parameters[name].transpose(2, 3, 1, 0) if parameters[name].ndim == 4 else parameters[name])
            for name in architecture.parameters()
        }
        self._gradient = tf.function(self._gradient_of, autograph=False)

    def __call__(self, window: np.ndarray) -> np.ndarray:
        """d(mean of squares)/d(pixel): (rows, columns, 3) float32. `window`: such RGB pixels, 0..255."""
        return self.differentiate(tf.constant(window)).numpy()

    def differentiate(self, pixels):
        """Return the same of a tensor, as a tensor."""
        return self._gradient(pixels)

    def _gradient_of(self, pixels):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            value = tf.reduce_mean(tf.square(self._run(self._nodes, self._enter(pixels))))
        return tape.gradient(value, pixels)

    def _enter(self, pixels):
        """Return the network's input, (1, rows, columns, channels)."""
        how = self._preprocess
        mean = tf.constant(how.mean[::-1] if how.order == "BGR" else how.mean, tf.float32)
        ordered = tf.reverse(pixels, [-1]) if how.order == "BGR" else pixels
        return ((ordered - mean) / how.scale)[None]

    def _run(self, nodes: Iterable[Node], x):
        for node in nodes:
            match node:
                case Conv():
                    weight, bias = (self._parameters[f"{node.name}/{kind}"] for kind in ("weight", "bias"))
                    x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, weight, node.stride, _padding(node)), bias))
                case MaxPool():
                    x = tf.nn.max_pool2d(_beyond(x, node), node.size, node.stride, "VALID")
                case AvgPool():
                    # Counts the pixels that are there.
                    x = tf.nn.avg_pool2d(x, node.size, 1, "SAME")
                case LocalResponseNorm():
                    x = tf.nn.local_response_normalization(x, node.n // 2, node.k, node.alpha / node.n, node.beta)
                case InceptionBlock():
                    x = tf.concat([self._run(branch, x) for branch in node.branches], -1)
        return x


def _padding(node: Conv) -> str | Sequence[Sequence[int]]:
    """Return a convolution's padding, by TensorFlow's name for it if there is one."""
    rows, columns = node.padding
    if (rows, columns) == (0, 0):
        return "VALID"
    if node.stride == 1 and (2 * rows + 1, 2 * columns + 1) == node.kernel:
        return "SAME"
    return [[0, 0], [rows, rows], [columns, columns], [0, 0]]


def _beyond(x, node: MaxPool):
    """Return a pool's input, padded as far as its windows reach with values that never win."""
    edges = [(0, 0)]
    for axis in (0, 1):
        length = x.shape[axis + 1]
        reach = (window_output(length, node, axis) - 1) * node.stride + node.size
        edges.append((node.padding, max(0, reach - length - node.padding)))
    edges.append((0, 0))
    return x if edges == [(0, 0)] * 4 else tf.pad(x, edges, constant_values=x.dtype.min)
