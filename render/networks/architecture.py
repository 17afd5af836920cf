"""Networks as data: the effect of each layer on shapes, receptive fields and cost, without any arrays.

A network is a tuple of nodes applied in order. Nodes are small frozen dataclasses; `Block` holds parallel branches whose
outputs are concatenated. Everything the planner needs (stride, receptive field, parameters, FLOPs, output sizes) is
derived from these nodes by one walk, and `render.networks.network` runs the same nodes in JAX, so the two cannot disagree.

Nothing here imports JAX.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from render.errors import UserError


@dataclass(frozen=True)
class Conv:
    """Convolution, bias and ReLU. `padding` is (rows, columns) of zeros, the same on both sides."""

    name: str
    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class MaxPool:
    """Square max-pool. With `ceil`, a last window that is only partly filled counts too, as in Caffe."""

    name: str
    size: int
    stride: int
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class AvgPool:
    """Average pool of stride 1 that keeps the size. It divides by the number of positions inside the input."""

    name: str
    size: int = 3


@dataclass(frozen=True)
class LocalResponseNorm:
    """Across-channel normalisation, x / (k + alpha/n * sum x^2)^beta over n channels (Krizhevsky 2012, section 3.3)."""

    name: str
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class Block:
    """Parallel branches over one input, concatenated along channels."""

    name: str
    branches: tuple[tuple[Node, ...], ...]


Node = Conv | MaxPool | AvgPool | LocalResponseNorm | Block


@dataclass(frozen=True)
class Preprocess:
    """Conversion of RGB pixels 0..255 to the network's input: (pixel - mean) / scale, channels reversed for BGR."""

    mean: tuple[float, float, float]
    scale: float
    order: Literal["RGB", "BGR"] = "RGB"


@dataclass(frozen=True)
class Span:
    """Receptive field along one axis: output i depends on inputs [i * stride + low, i * stride + high]."""

    stride: int = 1
    low: int = 0
    high: int = 0

    @property
    def receptive_field(self) -> int:
        return self.high - self.low + 1

    def touching(self, length: int) -> int:
        """Return the largest number of output indices that see any of `length` consecutive inputs."""
        return (length - 1 + self.high - self.low) // self.stride + 1

    def through(self, kernel: int, stride: int, padding: int) -> Span:
        """Return the span after one more sliding-window layer."""
        return Span(
            self.stride * stride,
            self.low - padding * self.stride,
            self.high + (kernel - 1 - padding) * self.stride,
        )

    def union(self, other: Span) -> Span:
        if self.stride != other.stride:
            raise ValueError(f"branches of one block differ in stride: {self.stride} and {other.stride}")
        return Span(self.stride, min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Layer:
    """Properties of a named layer, derived from the nodes. `spans` is one for rows and one for columns."""

    name: str
    kind: str
    channels: int
    in_channels: int
    spans: tuple[Span, Span]
    node: Node

    @property
    def stride(self) -> int:
        return max(span.stride for span in self.spans)

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that one activation depends on, px."""
        return max(span.receptive_field for span in self.spans)


def window_output(length: int, node: Conv | MaxPool, axis: int) -> int:
    """Return the output length of a sliding-window layer for `length` inputs.

    0 or less means that the input is too small. `axis` is 0 for rows and 1 for columns.
    """
    if isinstance(node, Conv):
        return (length + 2 * node.padding[axis] - node.kernel[axis]) // node.stride + 1
    span = length + 2 * node.padding - node.size
    if not node.ceil:
        return span // node.stride + 1
    count = -(-span // node.stride) + 1
    # Caffe drops a last window that starts beyond the input and its leading padding.
    return count - 1 if (count - 1) * node.stride >= length + node.padding else count


def node_stride(node: Node) -> int:
    """Return the stride of a node, in its own inputs. It is the same along both axes."""
    match node:
        case Conv() | MaxPool():
            return node.stride
        case Block():
            # All branches of a block have the same stride.
            return math.prod(map(node_stride, node.branches[0]))
    return 1


def inputs_of(node: Node, size: tuple[int, int], whole: tuple[int, int], given: tuple[int, int]) -> tuple[int, int]:
    """Return how many (rows, columns) of inputs a node needs for `size` outputs.

    If the outputs start at index i, the inputs start at i times the stride. They never end after the last input.

    Args:
        node: The node.
        size: (rows, columns) of the outputs needed.
        whole: (rows, columns) of all outputs.
        given: (rows, columns) of all inputs.
    """
    stride = node_stride(node)
    return given[0] - stride * (whole[0] - size[0]), given[1] - stride * (whole[1] - size[1])


def output_size(node: Node, size: tuple[int, int], sizes: dict[str, tuple[int, int]] | None = None) -> tuple[int, int]:
    """Return (rows, columns) of a node's output.

    Args:
        node: The node.
        size: (rows, columns) of its input.
        sizes: If given, receives the output size of this node and of all nodes inside it, by name.
    """
    if isinstance(node, Conv | MaxPool):
        size = (window_output(size[0], node, 0), window_output(size[1], node, 1))
    elif isinstance(node, Block):
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


@dataclass(frozen=True)
class Architecture:
    """Nodes of a network in order, its preprocessing and its classifier.

    Attributes:
        classes: Number of classes, 0 for a network without a classifier.
        classifier: Name of the classifier's parameters.
        native_side: Side of the square pictures that the classifier was trained on, px.
    """

    name: str
    nodes: tuple[Node, ...]
    preprocess: Preprocess
    classes: int = 0
    classifier: str = ""
    native_side: int = 0

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """All layers by name, in the order of computation."""
        layers: dict[str, Layer] = {}
        self._walk(self.nodes, 3, (Span(), Span()), layers)
        return layers

    def _walk(
        self, nodes: Iterable[Node], channels: int, spans: tuple[Span, Span], found: dict[str, Layer]
    ) -> tuple[int, tuple[Span, Span]]:
        for node in nodes:
            in_channels = channels
            rows, columns = spans
            match node:
                case Conv():
                    channels = node.features
                    rows = rows.through(node.kernel[0], node.stride, node.padding[0])
                    columns = columns.through(node.kernel[1], node.stride, node.padding[1])
                case MaxPool():
                    rows = rows.through(node.size, node.stride, node.padding)
                    columns = columns.through(node.size, node.stride, node.padding)
                case AvgPool():
                    rows = rows.through(node.size, 1, node.size // 2)
                    columns = columns.through(node.size, 1, node.size // 2)
                case LocalResponseNorm():
                    pass
                case Block():
                    ends = [self._walk(branch, channels, spans, found) for branch in node.branches]
                    channels = sum(end for end, _ in ends)
                    rows, columns = ends[0][1]
                    for _, (branch_rows, branch_columns) in ends[1:]:
                        rows, columns = rows.union(branch_rows), columns.union(branch_columns)
            spans = (rows, columns)
            if node.name in found:
                raise ValueError(f"{self.name}: two layers are called {node.name!r}")
            found[node.name] = Layer(node.name, type(node).__name__, channels, in_channels, spans, node)
        return channels, spans

    def layer(self, name: str) -> Layer:
        """Return the layer called `name`. Raise `UserError` with similar names if there is none."""
        try:
            return self.layers[name]
        except KeyError:
            close_matches = difflib.get_close_matches(name, self.layers, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(close_matches)}?" if close_matches else "`make models` lists the layers"
            raise UserError(f"{self.name} has no layer {name!r}: {hint}") from None

    def truncated(self, names: Iterable[str]) -> Architecture:
        """Return the network up to the deepest of the layers `names`, without its classifier."""
        remaining_names = {self.layer(name).name for name in names}
        prefix: list[Node] = []
        for node in self.nodes:
            if not remaining_names:
                break
            prefix.append(node)
            remaining_names -= {inner.name for inner in _flatten(node)}
        return replace(self, nodes=tuple(prefix), classes=0, classifier="")

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter: `LAYER/weight` (out, in, rows, columns) and `LAYER/bias` (out,)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.layers.values():
            if isinstance(layer.node, Conv):
                shapes[f"{layer.name}/weight"] = (layer.channels, layer.in_channels, *layer.node.kernel)
                shapes[f"{layer.name}/bias"] = (layer.channels,)
        if self.classes:
            shapes[f"{self.classifier}/weight"] = (self.classes, self.layers[self.nodes[-1].name].channels)
            shapes[f"{self.classifier}/bias"] = (self.classes,)
        return shapes

    def output_sizes(self, height: int, width: int) -> dict[str, tuple[int, int]]:
        """Return (rows, columns) of every layer's activations for an input of `height` x `width` px."""
        sizes: dict[str, tuple[int, int]] = {}
        size = (height, width)
        for node in self.nodes:
            size = output_size(node, size, sizes)
        return sizes

    def smallest_input(self) -> int:
        """Return the smallest side, px, for which every layer has at least one activation."""
        low, high = 1, max(layer.receptive_field for layer in self.layers.values()) + 1
        while low < high:
            middle = (low + high) // 2
            if all(min(size) >= 1 for size in self.output_sizes(middle, middle).values()):
                high = middle
            else:
                low = middle + 1
        return low

    def followed_sizes(self, window: tuple[int, int], core: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Return (rows, columns) of each layer's activations that the gradient of a core needs.

        This covers every activation that sees part of the core, wherever the core lies in the window, and never more
        activations than the layer has.
        """
        sizes = self.output_sizes(*window)
        followed: dict[str, tuple[int, int]] = {}
        deeper: Node | None = None
        size = sizes[self.nodes[-1].name]
        node_count = len(self.nodes)
        for node, input_size in zip(reversed(self.nodes), reversed(self.given_sizes(*window)), strict=True):
            layer, full_size = self.layer(node.name), sizes[node.name]
            # Cropping the input of a pool or response norm takes longer than the few rows that it saves.
            can_crop = not isinstance(deeper, MaxPool | LocalResponseNorm)
            if can_crop and not any(map(_reaches_short, self.nodes[:node_count])):
                size = (
                    min(layer.spans[0].touching(core[0]), full_size[0], size[0]),
                    min(layer.spans[1].touching(core[1]), full_size[1], size[1]),
                )
            needed_inputs = inputs_of(node, size, full_size, input_size)
            output_size(node, needed_inputs, followed)
            size, deeper, node_count = needed_inputs, node, node_count - 1
        return followed

    def given_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (rows, columns) of the input of each of `nodes`, for a picture of `height` x `width` px."""
        sizes = self.output_sizes(height, width)
        return [(height, width), *(sizes[node.name] for node in self.nodes[:-1])]

    def gradient_flops(self, window: tuple[int, int], core: tuple[int, int]) -> int:
        """Return the floating-point operations for a window's activations and its core's gradient, convolutions only."""
        sizes, followed = self.output_sizes(*window), self.followed_sizes(window, core)
        total = 0
        for layer in self.layers.values():
            if isinstance(layer.node, Conv):
                positions = math.prod(sizes[layer.name]) + math.prod(followed[layer.name])
                total += 2 * positions * layer.channels * layer.in_channels * math.prod(layer.node.kernel)
        return total

    def activation_bytes(self, height: int, width: int) -> int:
        """Return the bytes of all float32 activations of one window, a first estimate of a gradient pass's memory."""
        sizes = self.output_sizes(height, width)
        return sum(4 * layer.channels * math.prod(sizes[layer.name]) for layer in self.layers.values())


def _reaches_short(node: Node) -> bool:
    """Return True if cropping the backward pass at a node could drop an input that touches the core.

    This happens if the kernel, less its padding and the missing part of a last window, is shorter than the stride. Such
    nodes are not cropped.
    """
    match node:
        case Conv():
            return any(size - pad < node.stride for size, pad in zip(node.kernel, node.padding, strict=True))
        case MaxPool():
            return node.size - node.padding - (node.stride - 1 if node.ceil else 0) < node.stride
        case Block():
            return any(_reaches_short(child) for branch in node.branches for child in branch)
    return False


def _flatten(node: Node) -> Iterator[Node]:
    if isinstance(node, Block):
        for branch in node.branches:
            for inner in branch:
                yield from _flatten(inner)
    yield node
