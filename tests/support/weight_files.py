"""Files of weights in the formats that others publish, written from parameters: ONNX, PyTorch and TensorFlow.

Protobuf messages are written here byte by byte, by a writer that shares nothing with the reader.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
        quotients: Response norms are quotients, as from PyTorch.
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
    quotients: bool = False


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
        kind = inside(2, inside(1, whole(1, FLOAT) + inside(2, b"")))
        graph += inside(11, inside(1, "data_0") + kind) + inside(12, inside(1, value) + kind)
        return whole(1, 7) + inside(2, "writer of the tests") + inside(7, graph) + inside(8, whole(2, 11))

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
                if self.style.quotients:
                    return self.operation("Div", [value, self.operation("Pow", [value])], node.name)
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


# --- PyTorch ------------------------------------------------------------------------------------------------------------

#: torchvision's names of InceptionV3's blocks and of the parts of a convolution.
TORCH_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
TORCH_PARTS = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}


def torch_names(raw: Parameters) -> dict[str, NDArray]:
    """A state dictionary as pytorch-fid has it, with gammas, counters and a classifier."""
    state: dict[str, NDArray] = {}
    for name, array in raw.items():
        layer, _, part = name.rpartition("/")
        block, _, branch = layer.partition("/")
        place = f"Mixed_{TORCH_BLOCKS[int(block[5:])]}.{branch}" if branch else f"C{layer[1:]}"
        state[f"{place}.{TORCH_PARTS[part]}"] = array
        if part == "beta":
            state[f"{place}.bn.weight"] = np.ones_like(array)
            state[f"{place}.bn.num_batches_tracked"] = np.zeros((), np.int64)
    return state | {"fc.weight": np.zeros((8, 2048), np.float32), "fc.bias": np.zeros(8, np.float32)}


def pickled_text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def pickled_number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def pickled_table(state: Mapping[str, NDArray], keys: Mapping[str, str]) -> bytes:
    """The pickle of a state dictionary, in the operations that PyTorch writes (protocol 2)."""
    out = b"\x80\x02ccollections\nOrderedDict\n)R("
    for name, array in state.items():
        kind = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}[array.dtype.str[1:]]
        strides = [int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim)]
        storage = b"(" + pickled_text("storage") + f"ctorch\n{kind}\n".encode() + pickled_text(keys[name])
        storage += pickled_text("cpu") + pickled_number(array.size) + b"tQ"
        shape = b"(" + b"".join(map(pickled_number, array.shape)) + b"t(" + b"".join(map(pickled_number, strides)) + b"t"
        out += pickled_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + pickled_number(0) + shape
        out += b"\x89ccollections\nOrderedDict\n)RtR"
    return out + b"u."


def torch_zip(state: Mapping[str, NDArray], path: Path) -> None:
    """A checkpoint as PyTorch has written it since 1.6."""
    keys = {name: str(number) for number, name in enumerate(state)}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled_table(state, keys))
        for name, array in state.items():
            archive.writestr(f"archive/data/{keys[name]}", array.tobytes())


def torch_legacy(state: Mapping[str, NDArray], path: Path) -> None:
    """A checkpoint of before PyTorch 1.6: storages lie in the order of their keys, which is that of addresses."""
    order = np.random.default_rng(0).permutation(len(state))
    keys = {name: str(94_000_000 + 16 * int(number)) for number, name in zip(order, state, strict=True)}
    with path.open("wb") as file:
        for preface in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(preface, file, 2)
        file.write(pickled_table(state, keys))
        pickle.dump(sorted(keys.values()), file, 2)
        for name in sorted(state, key=keys.__getitem__):
            file.write(struct.pack("<q", state[name].size) + state[name].tobytes())


# --- TensorFlow ---------------------------------------------------------------------------------------------------------

_35 = {
    "branch1x1": "conv", "branch5x5_1": "tower/conv", "branch5x5_2": "tower/conv_1", "branch3x3dbl_1": "tower_1/conv",
    "branch3x3dbl_2": "tower_1/conv_1", "branch3x3dbl_3": "tower_1/conv_2", "branch_pool": "tower_2/conv",
}  # fmt: skip
_17 = {
    "branch1x1": "conv", "branch7x7_1": "tower/conv", "branch7x7_2": "tower/conv_1", "branch7x7_3": "tower/conv_2",
    "branch7x7dbl_1": "tower_1/conv", "branch7x7dbl_2": "tower_1/conv_1", "branch7x7dbl_3": "tower_1/conv_2",
    "branch7x7dbl_4": "tower_1/conv_3", "branch7x7dbl_5": "tower_1/conv_4", "branch_pool": "tower_2/conv",
}  # fmt: skip
_8 = {
    "branch1x1": "conv", "branch3x3_1": "tower/conv", "branch3x3_2a": "tower/mixed/conv",
    "branch3x3_2b": "tower/mixed/conv_1", "branch3x3dbl_1": "tower_1/conv", "branch3x3dbl_2": "tower_1/conv_1",
    "branch3x3dbl_3a": "tower_1/mixed/conv", "branch3x3dbl_3b": "tower_1/mixed/conv_1", "branch_pool": "tower_2/conv",
}  # fmt: skip
#: Names in the graph of December 2015, as others that convert it list them: of each block's convolutions.
TENSORFLOW_BLOCKS = {
    **dict.fromkeys(("mixed0", "mixed1", "mixed2"), _35),
    "mixed3": {
        "branch3x3": "conv", "branch3x3dbl_1": "tower/conv", "branch3x3dbl_2": "tower/conv_1",
        "branch3x3dbl_3": "tower/conv_2",
    },
    **dict.fromkeys(("mixed4", "mixed5", "mixed6", "mixed7"), _17),
    "mixed8": {
        "branch3x3_1": "tower/conv", "branch3x3_2": "tower/conv_1", "branch7x7x3_1": "tower_1/conv",
        "branch7x7x3_2": "tower_1/conv_1", "branch7x7x3_3": "tower_1/conv_2", "branch7x7x3_4": "tower_1/conv_3",
    },
    **dict.fromkeys(("mixed9", "mixed10"), _8),
}  # fmt: skip
TENSORFLOW_STEM = ("conv2d_1a_3x3", "conv2d_2a_3x3", "conv2d_2b_3x3", "conv2d_3b_1x1", "conv2d_4a_3x3")
TENSORFLOW_PARTS = {
    "weight": "conv2d_params", "beta": "batchnorm/beta", "mean": "batchnorm/moving_mean",
    "var": "batchnorm/moving_variance",
}  # fmt: skip


def tensorflow_name(name: str) -> str:
    layer, _, part = name.rpartition("/")
    block, _, branch = layer.partition("/")
    if not branch:
        number = TENSORFLOW_STEM.index(layer)
        place = f"conv_{number}" if number else "conv"
    else:
        place = f"{'mixed' if block == 'mixed0' else f'mixed_{block[5:]}'}/{TENSORFLOW_BLOCKS[block][branch]}"
    return f"{place}/{TENSORFLOW_PARTS[part]}"


def tensorflow_graph(raw: Parameters) -> bytes:
    """A frozen graph with the constants of an InceptionV3."""
    nodes = [inside(1, inside(1, "DecodeJpeg/contents") + inside(2, "Placeholder"))]
    for name, values in raw.items():
        array = np.ascontiguousarray(values.transpose(2, 3, 1, 0) if values.ndim == 4 else values)
        shape = b"".join(inside(2, whole(1, size)) for size in array.shape)
        tensor = whole(1, 1) + inside(2, shape) + inside(4, array.tobytes())
        value = inside(5, inside(1, "value") + inside(2, inside(8, tensor)))
        kind = inside(5, inside(1, "dtype") + inside(2, whole(6, 1)))
        nodes.append(inside(1, inside(1, tensorflow_name(name)) + inside(2, "Const") + kind + value))
    return b"".join(nodes)
