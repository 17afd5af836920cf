"""Networks as data: the effect of each layer on shapes, receptive fields and cost, without any arrays.

A network is a tuple of nodes applied in order. Everything the planner needs (stride, receptive field, parameters, FLOPs,
output sizes) is derived from these nodes, and `render.networks.network` runs the same nodes in JAX, so the two cannot
disagree. Nothing here imports JAX.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from render.errors import UserError
from render.networks.nodes import (
    AvgPool,
    Conv,
    InceptionBlock,
    LocalResponseNorm,
    MaxPool,
    Node,
    Preprocess,
    input_extent,
    output_size,
)


@dataclass(frozen=True)
class ReceptiveField:
    """Inputs that the outputs of a layer depend on, along one axis, in px of the picture.

    Output i depends on the inputs i * stride + low to i * stride + high, both included.
    """

    stride: int = 1
    low: int = 0
    high: int = 0

    @property
    def size(self) -> int:
        """Number of inputs that one output depends on, px."""
        return self.high - self.low + 1

    def max_outputs(self, length: int) -> int:
        """Return the largest number of outputs that depend on any of `length` consecutive inputs."""
        return (length - 1 + self.high - self.low) // self.stride + 1

    def after(self, kernel: int, stride: int, padding: int) -> ReceptiveField:
        """Return the receptive field after one more sliding-window layer.

        Args:
            kernel: Length of the window, in outputs of this layer.
            stride: Step of the window, in outputs of this layer.
            padding: Positions added before the first output of this layer.
        """
        return ReceptiveField(
            self.stride * stride,
            self.low - padding * self.stride,
            self.high + (kernel - 1 - padding) * self.stride,
        )

    def union(self, other: ReceptiveField) -> ReceptiveField:
        """Return the smallest receptive field that contains both.

        Raises:
            ValueError: The strides differ.
        """
        if self.stride != other.stride:
            raise ValueError(f"branches of one block differ in stride: {self.stride} and {other.stride}")
        return ReceptiveField(self.stride, min(self.low, other.low), max(self.high, other.high))


#: Receptive fields along rows and along columns.
AxisFields = tuple[ReceptiveField, ReceptiveField]


@dataclass(frozen=True)
class Layer:
    """Properties of a named layer, derived from the nodes.

    Attributes:
        name: Name of the layer.
        kind: Kind of its node, in one word for listings.
        channels: Number of output channels.
        in_channels: Number of input channels.
        axis_fields: Receptive fields along rows and along columns.
        node: Its node.
    """

    name: str
    kind: str
    channels: int
    in_channels: int
    axis_fields: AxisFields
    node: Node

    @property
    def stride(self) -> int:
        """Distance between the inputs of two neighbouring activations, px."""
        return max(field.stride for field in self.axis_fields)

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that one activation depends on, px."""
        return max(field.size for field in self.axis_fields)


def derive_layers(network: str, nodes: Iterable[Node], channels: int) -> dict[str, Layer]:
    """Return all layers of a network by name, in the order of computation.

    Args:
        network: Name of the network, for the error.
        nodes: Nodes of the network.
        channels: Number of channels of its input.

    Raises:
        ValueError: Two nodes share a name, or the branches of a block differ in stride.
    """
    layers: dict[str, Layer] = {}
    try:
        _add_layers(nodes, channels, (ReceptiveField(), ReceptiveField()), layers)
    except ValueError as error:
        raise ValueError(f"{network}: {error}") from None
    return layers


def _add_layers(
    nodes: Iterable[Node], channels: int, fields: AxisFields, layers: dict[str, Layer]
) -> tuple[int, AxisFields]:
    """Add the layers of consecutive nodes, and return channels and receptive fields of the last."""
    for node in nodes:
        in_channels = channels
        rows, columns = fields
        match node:
            case Conv():
                channels = node.features
                rows = rows.after(node.kernel[0], node.stride, node.padding[0])
                columns = columns.after(node.kernel[1], node.stride, node.padding[1])
            case MaxPool():
                rows = rows.after(node.size, node.stride, node.padding)
                columns = columns.after(node.size, node.stride, node.padding)
            case AvgPool():
                rows = rows.after(node.size, 1, node.size // 2)
                columns = columns.after(node.size, 1, node.size // 2)
            case LocalResponseNorm():
                pass
            case InceptionBlock():
                ends = [_add_layers(branch, channels, fields, layers) for branch in node.branches]
                channels = sum(branch_channels for branch_channels, _ in ends)
                rows, columns = ends[0][1]
                for _, (branch_rows, branch_columns) in ends[1:]:
                    rows, columns = rows.union(branch_rows), columns.union(branch_columns)
        fields = (rows, columns)
        if node.name in layers:
            raise ValueError(f"two layers are called {node.name!r}")
        layers[node.name] = Layer(node.name, node.kind, channels, in_channels, fields, node)
    return channels, fields


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
        return derive_layers(self.name, self.nodes, 3)

    def layer(self, name: str) -> Layer:
        """Return the layer called `name`.

        Raises:
            UserError: There is none; the message names similar ones.
        """
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
        """Return the shape of every parameter by name.

        Names are `LAYER/weight`, (out, in, rows, columns), or (classes, in) of the classifier, and `LAYER/bias`, (out,).
        """
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

        This covers every activation that depends on part of the core, wherever the core lies in the window, and never more
        activations than the layer has.

        Args:
            window: (rows, columns) of the window, px.
            core: (rows, columns) of the core, px.
        """
        sizes = self.output_sizes(*window)
        followed: dict[str, tuple[int, int]] = {}
        deeper: Node | None = None
        size = sizes[self.nodes[-1].name]
        node_count = len(self.nodes)
        for node, input_size in zip(reversed(self.nodes), reversed(self.input_sizes(*window)), strict=True):
            layer, full_size = self.layer(node.name), sizes[node.name]
            # Cropping the input of a pool or response norm takes longer than the few rows that it saves.
            is_worth_cropping = not isinstance(deeper, MaxPool | LocalResponseNorm)
            if is_worth_cropping and not any(map(_cannot_crop, self.nodes[:node_count])):
                rows, columns = layer.axis_fields
                size = (
                    min(rows.max_outputs(core[0]), full_size[0], size[0]),
                    min(columns.max_outputs(core[1]), full_size[1], size[1]),
                )
            needed_inputs = input_extent(node, size, full_size, input_size)
            output_size(node, needed_inputs, followed)
            size, deeper, node_count = needed_inputs, node, node_count - 1
        return followed

    def input_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (rows, columns) of each node's input, for a picture of `height` x `width` px."""
        sizes = self.output_sizes(height, width)
        return [(height, width), *(sizes[node.name] for node in self.nodes[:-1])]

    def gradient_flops(self, window: tuple[int, int], core: tuple[int, int]) -> int:
        """Return the floating-point operations for a window's activations and its core's gradient.

        Only convolutions count.

        Args:
            window: (rows, columns) of the window, px.
            core: (rows, columns) of the core, px.
        """
        followed = self.followed_sizes(window, core)
        return self.activation_flops(window) + self._convolution_flops(followed)

    def activation_flops(self, window: tuple[int, int]) -> int:
        """Return the floating-point operations for the activations of a window, of convolutions alone.

        Args:
            window: (rows, columns) of the window, px.
        """
        return self._convolution_flops(self.output_sizes(*window))

    def _convolution_flops(self, sizes: Mapping[str, tuple[int, int]]) -> int:
        """Return the operations of all convolutions, with the (rows, columns) of each layer's positions."""
        return sum(
            2 * math.prod(sizes[layer.name]) * layer.channels * layer.in_channels * math.prod(layer.node.kernel)
            for layer in self.layers.values()
            if isinstance(layer.node, Conv)
        )

    def activation_bytes(self, height: int, width: int) -> int:
        """Return the bytes of all float32 activations of one window of `height` x `width` px.

        This is a first estimate of the memory of a gradient pass.
        """
        sizes = self.output_sizes(height, width)
        return sum(4 * layer.channels * math.prod(sizes[layer.name]) for layer in self.layers.values())


def _cannot_crop(node: Node) -> bool:
    """Return True if cropping the backward pass could drop an input that touches the core.

    This happens if the kernel, less its padding and the missing part of a last window, is shorter than the stride. Such
    nodes are not cropped.
    """
    match node:
        case Conv():
            return any(size - pad < node.stride for size, pad in zip(node.kernel, node.padding, strict=True))
        case MaxPool():
            return node.size - node.padding - (node.stride - 1 if node.ceil else 0) < node.stride
        case InceptionBlock():
            return any(_cannot_crop(child) for branch in node.branches for child in branch)
    return False


def _flatten(node: Node) -> Iterator[Node]:
    """Yield the nodes inside a node, in the order of computation, then the node itself."""
    if isinstance(node, InceptionBlock):
        for branch in node.branches:
            for inner in branch:
                yield from _flatten(inner)
    yield node
