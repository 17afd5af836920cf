"""Reads the convolutions of a TensorFlow Lite model whose numbers are held in 8 bits, without TensorFlow.

A tensor's value is scale * (number - zero point), in float: weights are uint8, biases int32 (Jacob 2017, "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", equation 1).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.models.architecture import Architecture, Conv
from render.models.declared import MAX_FILE_BYTES, Expected
from render.system.reading import read_regular

_IDENTIFIER = b"TFL3"
#: schema.fbs: BuiltinOperator.CONV_2D, and the TensorTypes of weights and biases.
_CONV_2D = 3
_TYPES = {2: "<i4", 3: "u1"}
#: Operators of a file; the published model has 130.
_MOST_OPERATORS = 10_000
#: What the reader of flatbuffers raises on damaged files.
_DAMAGED = (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError)


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """LAYER/weight (out, in, rows, columns) and LAYER/bias of every convolution, float32.

    The classifier is the last convolution, 1x1, and comes as (classes, in). Files hold convolutions in no order and under
    TF-slim's names, whose alphabetical order is the architecture's own. Raises `UserError` where the file is no such model.
    """
    names = [layer.name for layer in architecture.layers.values() if isinstance(layer.node, Conv)]
    names += [architecture.classifier] if architecture.classes else []
    try:
        content = read_regular(path, MAX_FILE_BYTES)
        # One more than there may be says that they do not fit.
        some = islice(_convolutions(content, Expected(architecture).largest), len(names) + 1)
        found = sorted(some, key=lambda convolution: convolution[0])
    except _DAMAGED as error:
        raise UserError(f"{path.name} is not a TensorFlow Lite model in 8 bits, or is damaged: {error!s}") from None
    if len(found) != len(names):
        count = f"{len(found)}{' or more' if len(found) > len(names) else ''}"
        raise UserError(f"{path.name} does not fit {architecture.name}: it holds {count} convolutions, not {len(names)}")
    parameters = {}
    for name, (_, weight, bias) in zip(names, found, strict=True):
        dense = name == architecture.classifier and weight.shape[1:3] == (1, 1)
        # TensorFlow Lite's order is (out, rows, columns, in).
        parameters[f"{name}/weight"] = weight[:, 0, 0, :] if dense else weight.transpose(0, 3, 1, 2)
        parameters[f"{name}/bias"] = bias
    return parameters


def _convolutions(content: bytes, largest: int) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Name, weight (out, rows, columns, in) and bias (out,) of every convolution, in the order of computation."""
    # Imported where it is needed: it is over a hundred modules.
    import tflite

    if content[4:8] != _IDENTIFIER:
        raise ValueError("it does not begin as one")
    model = tflite.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    if graph.OperatorsLength() > _MOST_OPERATORS:
        raise ValueError(f"it has {graph.OperatorsLength():,} operators")
    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Newer files have moved the code to a wider field.
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == _CONV_2D:
            weight, bias = (graph.Tensors(operator.Inputs(place)) for place in (1, 2))
            yield weight.Name().decode(), _dequantised(model, weight, 4, largest), _dequantised(model, bias, 1, largest)


def _dequantised(model: Any, tensor: Any, dimensions: int, largest: int) -> NDArray[np.float32]:
    """A constant tensor's values, which are `largest` at most."""
    quantisation = tensor.Quantization()
    if (
        tensor.Type() not in _TYPES
        or quantisation is None
        or (quantisation.ScaleLength(), quantisation.ZeroPointLength()) != (1, 1)
    ):
        raise ValueError("a tensor is not held in whole numbers of one scale")
    if tensor.ShapeLength() != dimensions:
        raise ValueError(f"a tensor has {tensor.ShapeLength()} dimensions, not {dimensions}")
    numbers = np.frombuffer(model.Buffers(tensor.Buffer()).DataAsNumpy(), _TYPES[tensor.Type()])
    shape = tuple(map(int, tensor.ShapeAsNumpy()))
    if min(shape) < 0 or math.prod(shape) != numbers.size or numbers.size > largest:
        raise ValueError(f"a tensor of shape {shape} has {numbers.size:,} values")
    # A scale that is no number comes out as values that are none, which is said of the parameter.
    with np.errstate(all="ignore"):
        values = (numbers.astype(np.float64) - quantisation.ZeroPoint(0)) * quantisation.Scale(0)
        return values.astype(np.float32).reshape(shape)
