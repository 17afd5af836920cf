"""Parameters of a network from an ONNX graph, whose operations are compared with the architecture one by one.

Names differ between exporters, and branches of a block may hold equal shapes, so the graph itself says which array is
which. It is followed from its output back to the first convolution along the architecture's nodes; the order of a `Concat`
gives the branches. Kernels, strides, padding, pools and response norms must be the architecture's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from render.networks.architecture import Architecture
from render.networks.declared import Declared
from render.networks.nodes import AvgPool, Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node
from render.networks.onnx_file import OnnxGraph, OnnxNode, Tensor, constant_inputs, read_graph
from render.networks.parameters import BATCH_NORM_EPSILON

#: Operations that leave an array as it is, or only its type.
_PLAIN = ("Identity", "Dropout", "Cast")
#: Operations between the last block and an output, besides those that hold the classifier.
_HEAD = (
    *_PLAIN, "Relu", "Softmax", "LogSoftmax", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "AveragePool",
    "GlobalAveragePool", "ReduceMean",
)  # fmt: skip
#: Operations of a classifier.
_CLASSIFIERS = ("Gemm", "MatMul", "Conv")
#: Most outputs that are tried.
_MAX_OUTPUTS = 16
#: Relative difference of a response norm's numbers that rounding to float32 explains.
_ROUNDING = 1e-6
#: Usual endings of parameters' names, for graphs that cannot be followed.
_NAME_ENDINGS = {"weight": re.compile(r"(_w_0|[._/]weight|_w)$"), "bias": re.compile(r"(_b_0|[._/]bias|_b)$")}

#: Arrays of a file by name.
_Arrays = dict[str, NDArray | Declared]


class _Unlike(Exception):
    """The graph departs from the architecture and cannot be followed further; the message says where."""


@dataclass
class OnnxReading:
    """Parameters that were found in a graph.

    Attributes:
        arrays: LAYER/weight and LAYER/bias, or LAYER/{beta,mean,var} of a batch norm; the other constants of a graph that
            could not be followed to its start, under their own names.
        differences: What else of the graph is not as in the architecture, one text each.
    """

    arrays: _Arrays = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def read_parameters(path: Path, architectures: Sequence[Architecture]) -> tuple[OnnxReading, Architecture]:
    """Return what a file holds of a network, and the variant of its architecture that fits best.

    Args:
        path: The file.
        architectures: Variants of the architecture, the usual one first.

    Raises:
        UserError: The file is no ONNX model, or is damaged.
        ValueError: An array has more or fewer values than its shape says.
        OSError: The file cannot be read.
    """
    graph = read_graph(path)
    readings = [(_follow(graph, architecture), architecture) for architecture in architectures]
    return min(readings, key=lambda reading: len(reading[0].differences))


def _follow(graph: OnnxGraph, architecture: Architecture) -> OnnxReading:
    """Return what the graph holds of an architecture, from the output that leads to the most of it."""
    outputs = graph.outputs[:_MAX_OUTPUTS]
    walks = [_Walk(graph, architecture) for _ in outputs]
    for walk, output in zip(walks, outputs, strict=True):
        walk.run(output)
    if not walks:
        walks = [_Walk(graph, architecture)]
        walks[0].reading.differences.append("the graph has no output")
    best = max(walks, key=lambda walk: (walk.is_complete, len(walk.reading.arrays)))
    if not best.is_complete:
        best.add_the_rest()
    return best.reading


class _Walk:
    """One walk through a graph, from an output back to its start."""

    def __init__(self, graph: OnnxGraph, architecture: Architecture) -> None:
        self._graph = graph
        self._architecture = architecture
        self._used: set[str] = set()
        #: Operations that may still be passed: a cycle passes more than there are, for each of the network's nodes.
        self._steps = 4 * len(graph.nodes) + len(architecture.layers)
        self.reading = OnnxReading()
        self.is_complete = False

    def run(self, output: str) -> None:
        """Follow the graph from one of its outputs."""
        try:
            self._nodes(self._architecture.nodes, self._head(output), rectified=False)
            self.is_complete = True
        except _Unlike as unlike:
            self.reading.differences.append(str(unlike))

    def add_the_rest(self) -> None:
        """Add the constants that were not passed: those with a layer's name as its parameters, others as they are."""
        for tensor in constant_inputs(self._graph):
            if tensor.name in self._used or not tensor.shape or tensor.is_index:
                continue
            name = _layers_name(tensor.name, self._architecture.parameters())
            fits = name is not None and name not in self.reading.arrays
            rest = tensor.value if fits else Declared(tensor.shape, tensor.dtype)
            self.reading.arrays.setdefault(name if fits and name else tensor.name, rest)

    # --- the way back -----------------------------------------------------------------------------------------------

    def _producer(self, value: str, before: str) -> OnnxNode:
        """Return the operation that makes a value.

        Args:
            value: Name of the value.
            before: What was passed last, for the message.
        """
        self._steps -= 1
        if self._steps < 0:
            raise _Unlike("the graph runs in a circle")
        producer = self._graph.producers.get(value)
        if producer is None or not producer.inputs or producer.outputs[0] != value:
            raise _Unlike(f"the graph ends before {before}")
        return producer

    def _past(self, value: str, kinds: Sequence[str], before: str) -> str:
        """Return the value before any operations of these kinds."""
        while (producer := self._graph.producers.get(value)) is not None and producer.kind in kinds:
            value = self._producer(value, before).inputs[0]
        return value

    def _head(self, output: str) -> str:
        """Return the value of the last block, and read the classifier on the way."""
        value, last = output, "the output"
        offset: Tensor | None = None
        while (producer := self._producer(value, last)).kind != "Concat":
            if producer.kind == "Add":
                offset = self._constant(producer, 0) or self._constant(producer, 1)
            elif producer.kind in _CLASSIFIERS:
                self._classifier(producer, offset)
                offset = None
            elif producer.kind not in _HEAD:
                raise _Unlike(f"{producer.kind[:40]!r} stands before {last}, where the last block should")
            value = self._data_input(producer)
            last = producer.kind
        return value

    def _classifier(self, node: OnnxNode, offset: Tensor | None) -> None:
        """Read a classifier, whose weights are (classes, in).

        Args:
            node: The operation.
            offset: Constant that is added to its output, if any.
        """
        name, weight = self._architecture.classifier, self._constant(node, 1)
        if weight is None:
            raise _Unlike("the weights of the classifier are computed, not constant: a quantised file is not read")
        if not self._architecture.classes:
            # The network is dreamed without it.
            self._used |= {weight.name, *node.inputs[1:]}
            return
        if f"{name}/weight" in self.reading.arrays:
            raise _Unlike("two layers follow the last block, where the classifier alone should")
        array = self._array(weight)
        if isinstance(array, np.ndarray):
            array = array.reshape(array.shape[:2]) if array.ndim == 4 and array.shape[2:] == (1, 1) else array
            is_transposed = node.kind == "MatMul" or (node.kind == "Gemm" and not node.number("transB", 0))
            array = array.T if is_transposed else array
        self.reading.arrays[f"{name}/weight"] = array
        bias = offset or self._constant(node, 2)
        if bias is not None:
            self.reading.arrays[f"{name}/bias"] = _row(self._array(bias))
        self._compare(name, "alpha", node.number("alpha", 1.0), 1.0)
        self._compare(name, "beta", node.number("beta", 1.0), 1.0)

    def _nodes(self, nodes: Sequence[Node], value: str, *, rectified: bool) -> str:
        """Follow consecutive nodes of the architecture back from their output; return the value of their input."""
        for node in reversed(nodes):
            match node:
                case Conv():
                    value = self._convolution(node, value, rectified=rectified)
                case MaxPool():
                    value = self._pool(node, value)
                case AvgPool():
                    value = self._average(node, value)
                case LocalResponseNorm():
                    value = self._response_norm(node, value)
                case InceptionBlock():
                    value = self._block(node, value)
            rectified = False
        return value

    def _expect(self, kind: str, node: Node, value: str) -> OnnxNode:
        """Return the operation of a kind that makes a value, or stop where it is another."""
        producer = self._producer(self._past(value, _PLAIN, node.name), node.name)
        if producer.kind != kind:
            raise _Unlike(f"{producer.kind[:40]!r} stands where {node.name} has {kind}")
        return producer

    def _block(self, block: InceptionBlock, value: str) -> str:
        behind = self._past(value, (*_PLAIN, "Relu"), block.name)
        rectified = self._past(value, _PLAIN, block.name) != behind
        concat = self._expect("Concat", block, behind)
        if len(concat.inputs) != len(block.branches):
            raise _Unlike(f"{block.name} joins {len(concat.inputs)} branches, not {len(block.branches)}")
        starts = {
            self._past(self._nodes(branch, end, rectified=rectified), _PLAIN, block.name)
            for branch, end in zip(block.branches, concat.inputs, strict=True)
        }
        if len(starts) != 1:
            raise _Unlike(f"the branches of {block.name} begin at different values")
        self._compare(block.name, "axis", concat.number("axis", 1), 1)
        return starts.pop()

    def _convolution(self, node: Conv, value: str, *, rectified: bool) -> str:
        """Follow a convolution with its bias, batch norm and ReLU."""
        offset: Tensor | None = None
        while (producer := self._producer(value, node.name)).kind != "Conv":
            if producer.kind == "Relu":
                rectified = True
            elif producer.kind == "BatchNormalization":
                self._batch_norm(node, producer)
            elif producer.kind == "Add":
                offset = self._constant(producer, 0) or self._constant(producer, 1)
            elif producer.kind not in _PLAIN:
                raise _Unlike(f"{producer.kind[:40]!r} stands where {node.name} has Conv")
            value = self._data_input(producer)
        weight = self._constant(producer, 1)
        if weight is None:
            raise _Unlike(f"the weights of {node.name} are computed, not constant: a quantised file is not read")
        self.reading.arrays[f"{node.name}/weight"] = self._array(weight)
        bias = offset or self._constant(producer, 2)
        if bias is not None:
            self.reading.arrays[f"{node.name}/bias"] = _row(self._array(bias))
        if not rectified:
            self.reading.differences.append(f"{node.name} has no ReLU")
        self._compare(node.name, "strides", producer.integers("strides", (1, 1)), (node.stride,) * 2)
        self._compare(node.name, "pads", _padding(producer), node.padding * 2)
        self._compare(node.name, "dilations", producer.integers("dilations", (1, 1)), (1, 1))
        self._compare(node.name, "groups", producer.number("group", 1), 1)
        return producer.inputs[0]

    def _batch_norm(self, node: Conv, norm: OnnxNode) -> None:
        """Read the statistics of a batch norm without gamma, as the architecture has it."""
        parts = [self._constant(norm, position) for position in (1, 2, 3, 4)]
        if None in parts:
            raise _Unlike(f"the batch norm of {node.name} is computed, not constant")
        gamma, *statistics = [self._array(part) for part in parts if part is not None]
        for part, array in zip(("beta", "mean", "var"), statistics, strict=True):
            self.reading.arrays[f"{node.name}/{part}"] = array
        if isinstance(gamma, Declared) or not (gamma == 1).all():
            self.reading.differences.append(f"the batch norm of {node.name} has a gamma")
        self._compare(node.name, "epsilon", norm.number("epsilon", 1e-5), BATCH_NORM_EPSILON)

    def _pool(self, node: MaxPool, value: str) -> str:
        pool = self._expect("MaxPool", node, value)
        self._compare(node.name, "kernel", pool.integers("kernel_shape", ()), (node.size,) * 2)
        self._compare(node.name, "strides", pool.integers("strides", (1, 1)), (node.stride,) * 2)
        if node.stride == 1:
            self._compare(node.name, "pads", _padding(pool), (node.padding,) * 4)
        # With a stride, padding on one side stands for a last window that is only partly filled.
        return self._past(pool.inputs[0], ("Pad",), node.name)

    def _average(self, node: AvgPool, value: str) -> str:
        pool = self._expect("AveragePool", node, value)
        self._compare(node.name, "kernel", pool.integers("kernel_shape", ()), (node.size,) * 2)
        self._compare(node.name, "strides", pool.integers("strides", (1, 1)), (1, 1))
        self._compare(node.name, "pads", _padding(pool), (node.size // 2,) * 4)
        self._compare(node.name, "count_include_pad", pool.number("count_include_pad", 0), 0)
        return pool.inputs[0]

    def _response_norm(self, node: LocalResponseNorm, value: str) -> str:
        producer = self._producer(self._past(value, _PLAIN, node.name), node.name)
        if producer.kind == "Div":
            # PyTorch writes it as a quotient, whose divisor takes a dozen operations.
            self.reading.differences.append(f"{node.name} is written as a quotient, whose numbers are not read")
            return producer.inputs[0]
        norm = self._expect("LRN", node, value)
        self._compare(node.name, "size", norm.number("size", 0), node.n)
        for name, default, expected in (("alpha", 1e-4, node.alpha), ("beta", 0.75, node.beta), ("bias", 1.0, node.k)):
            self._compare(node.name, name, norm.number(name, default), expected)
        return norm.inputs[0]

    # --- constants --------------------------------------------------------------------------------------------------

    def _constant(self, node: OnnxNode, position: int) -> Tensor | None:
        """Return an input of an operation, perhaps behind an `Identity` or a `Cast`; None unless it is constant."""
        if position >= len(node.inputs):
            return None
        return self._graph.constants.get(self._past(node.inputs[position], ("Identity", "Cast"), node.kind))

    def _data_input(self, node: OnnxNode) -> str:
        """Return the input of an operation that is not constant: the first one of all that have several."""
        return next((name for name in node.inputs if name not in self._graph.constants), node.inputs[0])

    def _array(self, tensor: Tensor) -> NDArray | Declared:
        self._used.add(tensor.name)
        return tensor.value

    def _compare(self, layer: str, key: str, actual: float | tuple[int, ...], expected: float | tuple[int, ...]) -> None:
        """Add a difference unless an attribute is the expected one, up to rounding."""
        if isinstance(actual, tuple) or isinstance(expected, tuple):
            is_equal = actual == expected
        else:
            is_equal = abs(actual - expected) <= _ROUNDING * abs(expected)
        if not is_equal:
            self.reading.differences.append(f"{layer} has {key} {actual!s:.80}, not {expected}")


def _row(array: NDArray | Declared) -> NDArray | Declared:
    """Return a bias as (n,): an `Add` holds it as (n, 1, 1)."""
    return array if isinstance(array, Declared) else array.reshape(-1)


def _padding(node: OnnxNode) -> tuple[int, ...]:
    """Return the padding of a window as (top, left, bottom, right)."""
    return node.integers("pads", (0, 0, 0, 0))


def _layers_name(name: str, expected: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the parameter that a constant's name means, or None."""
    return next(_named(name, expected), None)


def _named(name: str, expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    for kind, ending in _NAME_ENDINGS.items():
        layer, count = ending.subn("", name)
        if count and f"{layer}/{kind}" in expected:
            yield f"{layer}/{kind}"
