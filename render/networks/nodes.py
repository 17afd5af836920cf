"""Nodes of a network as data, and the arithmetic of their sizes: outputs from inputs, and inputs from outputs.

Nodes are small frozen dataclasses without arrays. `InceptionBlock` holds parallel branches whose outputs are concatenated.
Sizes are (rows, columns) of positions. Nothing here imports JAX.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Conv:
    """Convolution, bias and ReLU.

    Attributes:
        name: Name of the layer.
        features: Number of output channels.
        kernel: (rows, columns) of the kernel.
        stride: Step of the kernel along both axes, in inputs.
        padding: (rows, columns) of zeros, the same on both sides.
    """

    kind: ClassVar[str] = "conv"

    name: str
    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class MaxPool:
    """Square max pool.

    Attributes:
        name: Name of the layer.
        size: Side of the pool's window, in inputs.
        stride: Step of the window along both axes, in inputs.
        padding: Positions added on every side; they never win.
        ceil: If true, a last window that is only partly filled counts too, as in Caffe.
    """

    kind: ClassVar[str] = "maxpool"

    name: str
    size: int
    stride: int
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class AvgPool:
    """Average pool of stride 1 that keeps the size.

    A mean is over the positions of the window, `size` a side, that lie inside the input.
    """

    kind: ClassVar[str] = "avgpool"

    name: str
    size: int = 3


@dataclass(frozen=True)
class LocalResponseNorm:
    """Across-channel normalisation over `n` channels, x / (k + alpha/n * sum x^2)^beta.

    Source: Krizhevsky 2012, section 3.3.
    """

    kind: ClassVar[str] = "localresponsenorm"

    name: str
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class InceptionBlock:
    """Parallel branches over one input, concatenated along channels."""

    kind: ClassVar[str] = "block"

    name: str
    branches: tuple[tuple[Node, ...], ...]


Node = Conv | MaxPool | AvgPool | LocalResponseNorm | InceptionBlock


@dataclass(frozen=True)
class Preprocess:
    """Conversion of RGB pixels, 0..255, to the network's input: (pixel - mean) / scale.

    Attributes:
        mean: Mean of red, green and blue, in levels.
        scale: Divisor, in levels.
        order: Order of the network's input channels; BGR reverses them.
    """

    mean: tuple[float, float, float]
    scale: float
    order: Literal["RGB", "BGR"] = "RGB"


def window_output(length: int, node: Conv | MaxPool, axis: int) -> int:
    """Return the output length of a sliding-window layer along one axis.

    Args:
        length: Number of inputs along the axis.
        node: The layer.
        axis: 0 for rows, 1 for columns.

    Returns:
        The number of outputs. 0 or less means that the input is too small.
    """
    if isinstance(node, Conv):
        return (length + 2 * node.padding[axis] - node.kernel[axis]) // node.stride + 1
    reach = length + 2 * node.padding - node.size
    if not node.ceil:
        return reach // node.stride + 1
    count = -(-reach // node.stride) + 1
    # Caffe drops a last window that starts beyond the input and its leading padding.
    return count - 1 if (count - 1) * node.stride >= length + node.padding else count


def node_stride(node: Node) -> int:
    """Return the stride of a node, in its own inputs; it is the same along both axes."""
    match node:
        case Conv() | MaxPool():
            return node.stride
        case InceptionBlock():
            # All branches of a block have the same stride.
            return math.prod(map(node_stride, node.branches[0]))
    return 1


def output_size(node: Node, size: tuple[int, int], sizes: dict[str, tuple[int, int]] | None = None) -> tuple[int, int]:
    """Return (rows, columns) of a node's output.

    Args:
        node: The node.
        size: (rows, columns) of its input.
        sizes: If not None, receives the output size of this node and of all nodes inside it, by name.
    """
    if isinstance(node, Conv | MaxPool):
        size = (window_output(size[0], node, 0), window_output(size[1], node, 1))
    elif isinstance(node, InceptionBlock):
        branch_sizes = []
        for branch in node.branches:
            branch_size = size
            for child in branch:
                branch_size = output_size(child, branch_size, sizes)
            branch_sizes.append(branch_size)
        size = branch_sizes[-1]
    if sizes is not None:
        sizes[node.name] = size
    return size


def input_extent(
    node: Node, output_size: tuple[int, int], full_output: tuple[int, int], full_input: tuple[int, int]
) -> tuple[int, int]:
    """Return how many (rows, columns) of inputs a node needs for `output_size` outputs.

    If the outputs start at index i, the inputs start at i times the stride. They never end after the last input.

    Args:
        node: The node.
        output_size: (rows, columns) of the outputs needed.
        full_output: (rows, columns) of all outputs.
        full_input: (rows, columns) of all inputs.
    """
    stride = node_stride(node)
    rows, columns = (
        inputs - stride * (outputs - needed)
        for inputs, outputs, needed in zip(full_input, full_output, output_size, strict=True)
    )
    return rows, columns
