"""Reader of ONNX files as plain graphs: nodes, constants and outputs. It does not need ONNX and runs nothing.

Field numbers are those of onnx.proto: ModelProto.graph = 7; GraphProto: node = 1, initializer = 5, output = 12; NodeProto:
input = 1, output = 2, op_type = 4, attribute = 5; AttributeProto: name = 1, f = 2, i = 3, t = 5, ints = 8; TensorProto:
dims = 1, data_type = 2, float_data = 4, int32_data = 5, name = 8, raw_data = 9, double_data = 10, external_data = 13,
data_location = 14. Graphs inside of nodes are not entered.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.declared import MAX_FILE_BYTES, MAX_PARTS, Declared
from render.networks.protobuf import DAMAGED, Budget, fields, integers, joined, messages, signed, text
from render.system.reading import read_regular

_GRAPH, _NODE, _INITIALIZER, _OUTPUT = 7, 1, 5, 12
#: TensorProto.data_type of real numbers, and the names of other types for messages.
_FLOAT, _FLOAT16, _DOUBLE = 1, 10, 11
_REAL = {_FLOAT: "<f4", _FLOAT16: "<f2", _DOUBLE: "<f8"}
_OTHER = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 16: "bfloat16"}
#: Those of them that are shapes, positions and conditions.
_INDICES = (6, 7, 9)
#: TensorProto.data_location of values in another file.
_EXTERNAL = 1
#: Most axes of an array.
_MAX_AXES = 32


@dataclass(frozen=True)
class Tensor:
    """Constant of a graph, whose values are read on demand.

    Attributes:
        name: Its name.
        shape: Sizes of its axes.
        kind: TensorProto.data_type.
        parts: Bytes of its value fields, by field number.
        is_external: True if the values are in another file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    parts: dict[int, list[memoryview]]
    is_external: bool

    @property
    def dtype(self) -> str:
        """Name of the type, for messages."""
        if self.is_external:
            return "values in another file"
        return np.dtype(_REAL[self.kind]).name if self.kind in _REAL else _OTHER.get(self.kind, f"type {self.kind}")

    @property
    def is_index(self) -> bool:
        """True for shapes, positions and conditions, which are no weights."""
        return self.kind in _INDICES

    @cached_property
    def value(self) -> NDArray | Declared:
        """Array of real numbers, float16, float32 or float64; its declaration if it holds anything else.

        Raises:
            ValueError: There are more or fewer values than the shape says.
        """
        if self.kind not in _REAL or self.is_external:
            return Declared(self.shape, self.dtype)
        values = self._values(np.dtype(_REAL[self.kind]))
        if math.prod(self.shape) != values.size:
            raise ValueError(f"{self.name[:80]!r} of shape {self.shape} holds {values.size:,} values")
        return values.reshape(self.shape)

    def _values(self, dtype: np.dtype) -> NDArray:
        """Return the values in one row, from the raw bytes or from the field for the type."""
        if 9 in self.parts:
            return joined([np.frombuffer(part, dtype) for part in self.parts[9]], dtype.str)
        if self.kind == _FLOAT16:
            return joined([_half_floats(part) for part in self.parts.get(5, [])], dtype.str)
        number = 4 if self.kind == _FLOAT else 10
        return joined([np.frombuffer(part, dtype) for part in self.parts.get(number, [])], dtype.str)


@dataclass(frozen=True)
class OnnxNode:
    """Operation of a graph.

    Attributes:
        kind: Its operator, such as `Conv`.
        inputs: Names of the values that it takes.
        outputs: Names of the values that it makes.
        numbers: Its attributes that are numbers or rows of whole numbers, by name.
        tensors: Its attributes that are constants, by name.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: dict[str, float | tuple[int, ...]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return an attribute that is a row of whole numbers."""
        value = self.numbers.get(name, default)
        return value if isinstance(value, tuple) else default

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is one number."""
        value = self.numbers.get(name, default)
        return default if isinstance(value, tuple) else value


@dataclass(frozen=True)
class OnnxGraph:
    """Graph of an ONNX file.

    Attributes:
        nodes: Its operations, in file order.
        constants: Its constants by name: initializers, and outputs of `Constant`.
        outputs: Names of the graph's outputs.
        producers: The operation that makes a value, by the value's name.
    """

    nodes: tuple[OnnxNode, ...]
    constants: dict[str, Tensor]
    outputs: tuple[str, ...]
    producers: dict[str, OnnxNode]


def read_graph(path: Path) -> OnnxGraph:
    """Return the graph of an ONNX file.

    Raises:
        UserError: The file is no ONNX model, or is damaged.
        OSError: It cannot be read.
    """
    try:
        budget = Budget()
        graphs = list(messages(memoryview(read_regular(path, MAX_FILE_BYTES)), _GRAPH, budget))
        if len(graphs) != 1:
            raise ValueError("it holds no graph" if not graphs else f"it holds {len(graphs)} graphs")
        graph = _graph(graphs[0], budget)
    except (*DAMAGED, struct.error) as error:
        raise UserError(f"{path.name} is not an ONNX model, or is cut short: {error}") from None
    if any(tensor.is_external for tensor in graph.constants.values()):
        raise UserError(f"{path.name} keeps its values in another file, which is not read: save the model as one file")
    return graph


def _graph(message: memoryview, budget: Budget) -> OnnxGraph:
    nodes: list[OnnxNode] = []
    constants: dict[str, Tensor] = {}
    outputs: list[str] = []
    for number, value in fields(message, budget):
        if not isinstance(value, memoryview):
            continue
        if number == _NODE:
            nodes.append(_node(value, budget))
        elif number == _INITIALIZER:
            tensor = _tensor(value, budget)
            if tensor.name in constants:
                raise ValueError(f"it holds {tensor.name[:80]!r} twice")
            constants[tensor.name] = tensor
        elif number == _OUTPUT:
            outputs += [text(name) for name in messages(value, 1, budget)]
        if max(len(nodes), len(constants), len(outputs)) > MAX_PARTS:
            raise ValueError(f"it holds more than {MAX_PARTS:,} parts: no network here has so many")
    producers: dict[str, OnnxNode] = {}
    for node in nodes:
        for name in filter(None, node.outputs):
            if name in producers or name in constants:
                raise ValueError(f"it makes {name[:80]!r} twice")
            producers[name] = node
        if node.kind == "Constant" and node.outputs and "value" in node.tensors:
            constants[node.outputs[0]] = node.tensors["value"]
    return OnnxGraph(tuple(nodes), constants, tuple(outputs), producers)


def _node(message: memoryview, budget: Budget) -> OnnxNode:
    inputs: list[str] = []
    outputs: list[str] = []
    kind = ""
    numbers: dict[str, float | tuple[int, ...]] = {}
    tensors: dict[str, Tensor] = {}
    for number, value in fields(message, budget):
        if number == 1:
            inputs.append(text(value))
        elif number == 2:
            outputs.append(text(value))
        elif number == 4:
            kind = text(value)
        elif number == 5 and isinstance(value, memoryview):
            name, attribute = _attribute(value, budget)
            if isinstance(attribute, Tensor):
                tensors[name] = attribute
            elif attribute is not None:
                numbers[name] = attribute
    return OnnxNode(kind, tuple(inputs), tuple(outputs), numbers, tensors)


def _attribute(message: memoryview, budget: Budget) -> tuple[str, float | tuple[int, ...] | Tensor | None]:
    """Return the name and value of an attribute; None for texts, graphs and other values that are not used."""
    name = ""
    attribute: float | tuple[int, ...] | Tensor | None = None
    whole: list[int] = []
    for number, value in fields(message, budget):
        if number == 1:
            name = text(value)
        elif number == 2 and isinstance(value, memoryview):
            attribute = float(struct.unpack("<f", value)[0])
        elif number == 3 and isinstance(value, int):
            attribute = signed(value)
        elif number == 5 and isinstance(value, memoryview):
            attribute = _tensor(value, budget)
        elif number == 8:
            whole += map(signed, integers(value, budget))
    return name, tuple(whole) if whole else attribute


def _tensor(message: memoryview, budget: Budget) -> Tensor:
    name, kind, is_external = "", 0, False
    shape: list[int] = []
    parts: dict[int, list[memoryview]] = {}
    for number, value in fields(message, budget):
        if number == 1:
            shape += map(signed, integers(value, budget))
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = text(value)
        elif number == 13 or (number == 14 and value == _EXTERNAL):
            is_external = True
        elif number in (4, 5, 9, 10) and isinstance(value, memoryview):
            parts.setdefault(number, []).append(value)
    if len(shape) > _MAX_AXES or min(shape, default=0) < 0:
        raise ValueError(f"{name[:80]!r} has the shape {tuple(shape[:_MAX_AXES])}")
    return Tensor(name, tuple(shape), kind, parts, is_external)


def _half_floats(part: memoryview) -> NDArray[np.float16]:
    """Return float16 numbers that are stored as packed varints, one of at most three bytes for each.

    Raises:
        ValueError: The bytes are no such numbers.
    """
    content = np.frombuffer(part, np.uint8)
    ends = np.flatnonzero(content < 0x80)
    if content.size and (not ends.size or ends[-1] != content.size - 1):
        raise ValueError("a number ends early")
    lengths = np.diff(ends, prepend=-1)
    if lengths.size and lengths.max() > 3:
        raise ValueError("a number is too large for 16 bits")
    values = np.zeros(ends.size, np.uint32)
    for place in range(3):
        here = lengths > place
        values[here] |= (content[ends[here] - lengths[here] + 1 + place] & 0x7F).astype(np.uint32) << np.uint32(7 * place)
    return values.astype("<u2").view("<f2")


def constant_inputs(graph: OnnxGraph) -> Iterator[Tensor]:
    """Yield the constants that operations take, each once, in the order of use."""
    seen: set[str] = set()
    for node in graph.nodes:
        for name in node.inputs:
            if name in graph.constants and name not in seen:
                seen.add(name)
                yield graph.constants[name]
