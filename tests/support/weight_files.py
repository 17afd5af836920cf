"""Files of weights in the formats that others publish, written from parameters: ONNX, PyTorch and TensorFlow.

Protobuf messages are written here byte by byte, by a writer that shares nothing with the reader.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from render.networks.architecture import Architecture
from render.networks.nodes import AvgPool, Conv, InceptionBlock, LocalResponseNorm, MaxPool, Node

Parameters = Mapping[str, NDArray[np.float32]]
FLOAT, FLOAT16, DOUBLE, INT64 = 1, 10, 11, 7


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def whole(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def inside(number: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def single(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


# --- ONNX ---------------------------------------------------------------------------------------------------------------


def onnx_tensor(name: str, array: NDArray, store: str = "raw") -> bytes:
    """TensorProto with its values in `raw_data`, or in the field that is for their type."""
    kinds = {"<f4": FLOAT, "<f2": FLOAT16, "<f8": DOUBLE, "<i8": INT64}
    kind = kinds[array.dtype.newbyteorder("<").str]
    message = b"".join(whole(1, size) for size in array.shape) + whole(2, kind) + inside(8, name)
    if store == "raw":
        return message + inside(9, array.tobytes())
    if kind == FLOAT16:
        return message + inside(5, b"".join(map(varint, array.view(np.uint16).ravel().tolist())))
    return message + inside({FLOAT: 4, DOUBLE: 10, INT64: 7}[kind], array.tobytes())


def onnx_attribute(name: str, value: object) -> bytes:
    message = inside(1, name)
    match value:
        case bool() | int():
            return message + whole(3, int(value)) + whole(20, 2)
        case float():
            return message + single(2, value) + whole(20, 1)
        case bytes():
            return message + inside(5, value) + whole(20, 4)
        case _:
            return message + b"".join(whole(8, item) for item in value) + whole(20, 7)  # type: ignore[attr-defined]


@dataclass
class OnnxStyle:
    """Habits of an exporter.

    Attributes:
        name: Name of a parameter in the file.
        store: `raw`, or `typed` for the field of the type.
        dtype: Type of the arrays.
        ceil_by_padding: Pools that round up are written as padding at their end, as from Caffe2.
        constants: Parameters are outputs of `Constant`, not initializers.
        bias_by_add: Biases are added by an `Add`.
        classifier: `gemm` (classes, in), `gemm_transposed` (in, classes), `matmul`, or `conv`.
        branch_order: Order in which the branches of a block are computed and written.
        wrap: Puts an `Identity` behind every ReLU.
    """

    name: Callable[[str], str] = lambda name: name.replace("/weight", "_w_0").replace("/bias", "_b_0")
    store: str = "raw"
    dtype: str = "<f4"
    ceil_by_padding: bool = True
    constants: bool = False
    bias_by_add: bool = False
    classifier: str = "gemm"
    branch_order: Callable[[int], Iterable[int]] = range
    wrap: bool = False


@dataclass
class OnnxWriter:
    """Graph of an architecture in ONNX, in the style of an exporter.

    `change` may return other attributes for an operation of a layer: (layer, kind, attributes) -> attributes.
    """

    architecture: Architecture
    parameters: Parameters
    style: OnnxStyle = field(default_factory=OnnxStyle)
    change: Callable[[str, str, dict[str, object]], dict[str, object]] = lambda layer, kind, attributes: attributes
    nodes: list[bytes] = field(default_factory=list)
    initializers: list[bytes] = field(default_factory=list)
    count: int = 0

    def file(self) -> bytes:
        value = self.head(self.follow(self.architecture.nodes, "data_0"))
        graph = b"".join(inside(1, node) for node in self.nodes) + inside(2, "net")
        graph += b"".join(inside(5, tensor) for tensor in self.initializers)
        graph += inside(11, inside(1, "data_0")) + inside(12, inside(1, value))
        return whole(1, 3) + inside(2, "writer of the tests") + inside(7, graph) + inside(8, whole(2, 9))

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def operation(self, kind: str, inputs: Iterable[str], layer: str = "", **attributes: object) -> str:
        output = self.fresh()
        message = b"".join(inside(1, name) for name in inputs) + inside(2, output) + inside(3, layer) + inside(4, kind)
        changed = self.change(layer, kind, attributes)
        self.nodes.append(message + b"".join(inside(5, onnx_attribute(*item)) for item in changed.items()))
        return output

    def constant(self, name: str, array: NDArray) -> str:
        tensor = onnx_tensor(self.style.name(name), np.ascontiguousarray(array), self.style.store)
        if self.style.constants:
            return self.operation("Constant", [], value=tensor)
        self.initializers.append(tensor)
        return self.style.name(name)

    def parameter(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        array = self.parameters[name].astype(self.style.dtype)
        return self.constant(name, array if shape is None else array.reshape(shape))

    def follow(self, nodes: Iterable[Node], value: str) -> str:
        for node in nodes:
            value = self.node(node, value)
        return value

    def node(self, node: Node, value: str) -> str:
        match node:
            case Conv():
                return self.convolution(node, value)
            case MaxPool():
                ends = 1 if node.ceil and node.stride > 1 and self.style.ceil_by_padding else 0
                pads = [node.padding] * 2 + [node.padding + ends] * 2
                sizes: dict[str, object] = {"kernel_shape": [node.size] * 2, "strides": [node.stride] * 2, "pads": pads}
                if node.ceil and not self.style.ceil_by_padding:
                    sizes["ceil_mode"] = 1
                return self.operation("MaxPool", [value], node.name, **sizes)
            case AvgPool():
                pads = [node.size // 2] * 4
                return self.operation("AveragePool", [value], node.name, kernel_shape=[node.size] * 2, pads=pads)
            case LocalResponseNorm():
                numbers = {"alpha": node.alpha, "beta": node.beta, "bias": node.k}
                return self.operation("LRN", [value], node.name, size=node.n, **numbers)
            case InceptionBlock():
                ends_of = {
                    number: self.follow(node.branches[number], value)
                    for number in self.style.branch_order(len(node.branches))
                }
                return self.operation("Concat", [ends_of[number] for number in sorted(ends_of)], node.name, axis=1)

    def convolution(self, node: Conv, value: str) -> str:
        inputs = [value, self.parameter(f"{node.name}/weight")]
        has_norm = f"{node.name}/var" in self.parameters
        if not has_norm and not self.style.bias_by_add:
            inputs.append(self.parameter(f"{node.name}/bias"))
        value = self.operation(
            "Conv",
            inputs,
            node.name,
            kernel_shape=list(node.kernel),
            strides=[node.stride] * 2,
            pads=list(node.padding * 2),
        )
        if has_norm:
            gamma = np.ones(node.features, self.style.dtype)
            statistics = [self.parameter(f"{node.name}/{part}") for part in ("beta", "mean", "var")]
            value = self.operation(
                "BatchNormalization", [value, self.constant(f"{node.name}/gamma", gamma), *statistics], node.name,
                epsilon=1e-3,
            )  # fmt: skip
        elif self.style.bias_by_add:
            value = self.operation("Add", [value, self.parameter(f"{node.name}/bias", (node.features, 1, 1))], node.name)
        value = self.operation("Relu", [value], node.name)
        return self.operation("Identity", [value]) if self.style.wrap else value

    def head(self, value: str) -> str:
        architecture = self.architecture
        value = self.operation("GlobalAveragePool", [value])
        name = architecture.classifier
        if not architecture.classes or f"{name}/weight" not in self.parameters:
            return value
        weight = self.parameters[f"{name}/weight"].astype(self.style.dtype)
        value = self.operation("Dropout", [value])
        if self.style.classifier == "conv":
            inputs = [value, self.constant(f"{name}/weight", weight[:, :, None, None]), self.parameter(f"{name}/bias")]
            return self.operation("Softmax", [self.operation("Flatten", [self.operation("Conv", inputs, name)])])
        shape = np.array([1, weight.shape[1]], np.int64)
        self.initializers.append(onnx_tensor("OC2_DUMMY_1", shape))
        value = self.operation("Reshape", [value, "OC2_DUMMY_1"])
        if self.style.classifier == "matmul":
            value = self.operation("MatMul", [value, self.constant(f"{name}/weight", weight.T)], name)
            return self.operation("Softmax", [self.operation("Add", [value, self.parameter(f"{name}/bias")], name)])
        is_transposed = self.style.classifier == "gemm_transposed"
        inputs = [value, self.constant(f"{name}/weight", weight.T if is_transposed else weight)]
        value = self.operation("Gemm", [*inputs, self.parameter(f"{name}/bias")], name, transB=int(not is_transposed))
        return self.operation("Softmax", [value])


def onnx_file(architecture: Architecture, parameters: Parameters, style: OnnxStyle | None = None) -> bytes:
    """An ONNX model of a network."""
    return OnnxWriter(architecture, parameters, style or OnnxStyle()).file()


def chunks(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
