"""Networks as data: what each layer does to shapes, receptive fields and cost, before any array exists.

A network is a tuple of nodes applied in order. Nodes are small frozen dataclasses; `Block` holds parallel branches whose
outputs are concatenated. Everything the planner needs (stride, receptive field, parameters, FLOPs, output sizes) is
derived from these nodes by one walk, and `render.models.network` runs the same nodes in JAX, so the two cannot disagree.

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
    """Convolution, bias and ReLU. Padding is explicit and symmetric: (rows, columns) of zeros on either side."""

    name: str
    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class MaxPool:
    """Square max-pool. `ceil` keeps a last, partly filled window, as Caffe does."""

    name: str
    size: int
    stride: int
    padding: int = 0
    ceil: bool = False


@dataclass(frozen=True)
class AvgPool:
    """3x3-style average pool of stride 1 that keeps the size and divides by the pixels really there, not by the padding."""

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
    """From RGB pixels 0..255 to the network's input: (pixel - mean) / scale, channels reversed if `order` is BGR."""

    mean: tuple[float, float, float]
    scale: float
    order: Literal["RGB", "BGR"] = "RGB"


@dataclass(frozen=True)
class Span:
    """What one output index sees along one axis: output i depends on input [i * stride + low, i * stride + high]."""

    stride: int = 1
    low: int = 0
    high: int = 0

    @property
    def receptive_field(self) -> int:
        return self.high - self.low + 1

    def touching(self, length: int) -> int:
        """How many indices see any of so many inputs in a row, at most."""
        return (length - 1 + self.high - self.low) // self.stride + 1

    def through(self, kernel: int, stride: int, padding: int) -> Span:
        """The span after a further sliding-window layer."""
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
    """One addressable layer, derived: its kind, output channels, spans per axis (rows, columns) and input channels."""

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
    """Output length of a sliding-window layer on `length` inputs; 0 or less means the input is too small."""
    if isinstance(node, Conv):
        return (length + 2 * node.padding[axis] - node.kernel[axis]) // node.stride + 1
    span = length + 2 * node.padding - node.size
    if not node.ceil:
        return span // node.stride + 1
    count = -(-span // node.stride) + 1
    # Caffe drops a last window that would start beyond the input and its leading padding.
    return count - 1 if (count - 1) * node.stride >= length + node.padding else count


def node_stride(node: Node) -> int:
    """How many inputs a node moves on from one output to the next, along either axis."""
    match node:
        case Conv() | MaxPool():
            return node.stride
        case Block():
            # Branches of one block agree.
            return math.prod(map(node_stride, node.branches[0]))
    return 1


def inputs_of(node: Node, size: tuple[int, int], whole: tuple[int, int], given: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of inputs of which a node makes `size` outputs, where of all it is `given` it makes `whole`.

    Wherever the outputs begin, inputs begin so many strides in, and never end after the last one given.
    """
    stride = node_stride(node)
    return given[0] - stride * (whole[0] - size[0]), given[1] - stride * (whole[1] - size[1])


def output_size(node: Node, size: tuple[int, int], sizes: dict[str, tuple[int, int]] | None = None) -> tuple[int, int]:
    """(rows, columns) of what a node makes of an input of such a size; `sizes` takes those of all nodes, by name."""
    if isinstance(node, Conv | MaxPool):
        size = (window_output(size[0], node, 0), window_output(size[1], node, 1))
    elif isinstance(node, Block):
        ends = []
        for branch in node.branches:
            inner = size
            for one in branch:
                inner = output_size(one, inner, sizes)
            ends.append(inner)
        size = ends[-1]
    if sizes is not None:
        sizes[node.name] = size
    return size


@dataclass(frozen=True)
class Architecture:
    """A network: its nodes in order, its preprocessing, and its classifier (number of classes, 0 for none).

    `native_side` is that of the squares, px, which the classifier was trained to tell apart.
    """

    name: str
    nodes: tuple[Node, ...]
    preprocess: Preprocess
    classes: int = 0
    classifier: str = ""
    native_side: int = 0

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Every addressable layer by name, in the order in which they are computed."""
        found: dict[str, Layer] = {}
        self._walk(self.nodes, 3, (Span(), Span()), found)
        return found

    def _walk(
        self, nodes: Iterable[Node], channels: int, spans: tuple[Span, Span], found: dict[str, Layer]
    ) -> tuple[int, tuple[Span, Span]]:
        for node in nodes:
            before = channels
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
            found[node.name] = Layer(node.name, type(node).__name__, channels, before, spans, node)
        return channels, spans

    def layer(self, name: str) -> Layer:
        """The layer called `name`; `UserError` with the nearest names where there is none."""
        try:
            return self.layers[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.layers, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "`make models` lists the layers"
            raise UserError(f"{self.name} has no layer {name!r}: {hint}") from None

    def truncated(self, names: Iterable[str]) -> Architecture:
        """The same network up to the deepest of the layers `names`, without its classifier."""
        wanted = {self.layer(name).name for name in names}
        kept: list[Node] = []
        for node in self.nodes:
            if not wanted:
                break
            kept.append(node)
            wanted -= {inner.name for inner in _flatten(node)}
        return replace(self, nodes=tuple(kept), classes=0, classifier="")

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter: `LAYER/weight` (out, in, rows, columns) and `LAYER/bias` (out,)."""
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
        """(rows, columns) of every layer's activations for an input of `height` x `width` px."""
        sizes: dict[str, tuple[int, int]] = {}
        size = (height, width)
        for node in self.nodes:
            size = output_size(node, size, sizes)
        return sizes

    def smallest_input(self) -> int:
        """The least side, in px, for which every layer has at least one activation."""
        low, high = 1, max(layer.receptive_field for layer in self.layers.values()) + 1
        while low < high:
            middle = (low + high) // 2
            if all(min(size) >= 1 for size in self.output_sizes(middle, middle).values()):
                high = middle
            else:
                low = middle + 1
        return low

    def followed_sizes(self, window: tuple[int, int], core: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """How many (rows, columns) of every layer's activations are followed from a window back to a core inside.

        At least those that see any of the core, wherever it lies, where a layer has as many.
        """
        sizes = self.output_sizes(*window)
        found: dict[str, tuple[int, int]] = {}
        deeper: Node | None = None
        size = sizes[self.nodes[-1].name]
        left = len(self.nodes)
        for node, given in zip(reversed(self.nodes), reversed(self.given_sizes(*window)), strict=True):
            layer, most = self.layer(node.name), sizes[node.name]
            # To cut what comes out of these once more takes longer than the few rows are worth.
            cut = not isinstance(deeper, MaxPool | LocalResponseNorm)
            if cut and not any(map(_reaches_short, self.nodes[:left])):
                size = (
                    min(layer.spans[0].touching(core[0]), most[0], size[0]),
                    min(layer.spans[1].touching(core[1]), most[1], size[1]),
                )
            inputs = inputs_of(node, size, most, given)
            output_size(node, inputs, found)
            size, deeper, left = inputs, node, left - 1
        return found

    def given_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """(rows, columns) of what each of `nodes` is given, for an input of `height` x `width` px."""
        sizes = self.output_sizes(height, width)
        return [(height, width), *(sizes[node.name] for node in self.nodes[:-1])]

    def gradient_flops(self, window: tuple[int, int], core: tuple[int, int]) -> int:
        """Floating-point operations, convolutions only, of a window's activations and the gradient of a core inside."""
        sizes, followed = self.output_sizes(*window), self.followed_sizes(window, core)
        total = 0
        for layer in self.layers.values():
            if isinstance(layer.node, Conv):
                positions = math.prod(sizes[layer.name]) + math.prod(followed[layer.name])
                total += 2 * positions * layer.channels * layer.in_channels * math.prod(layer.node.kernel)
        return total

    def activation_bytes(self, height: int, width: int) -> int:
        """Bytes of every float32 activation of one window: a first guess at what a gradient pass keeps."""
        sizes = self.output_sizes(height, width)
        return sum(4 * layer.channels * math.prod(sizes[layer.name]) for layer in self.layers.values())


def _reaches_short(node: Node) -> bool:
    """Whether an input that touches the core may lie outside of what followed outputs are followed to.

    So it may with kernels that reach less than a stride beyond their padding, or beyond what a last window lacks. Such a
    node is followed whole.
    """
    match node:
        case Conv():
            return any(size - pad < node.stride for size, pad in zip(node.kernel, node.padding, strict=True))
        case MaxPool():
            return node.size - node.padding - (node.stride - 1 if node.ceil else 0) < node.stride
        case Block():
            return any(_reaches_short(one) for branch in node.branches for one in branch)
    return False


def _flatten(node: Node) -> Iterator[Node]:
    if isinstance(node, Block):
        for branch in node.branches:
            for inner in branch:
                yield from _flatten(inner)
    yield node
