"""Reader of the convolutions of 8-bit TensorFlow Lite models. It does not need TensorFlow.

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
from render.networks.architecture import Architecture
from render.networks.declared import MAX_FILE_BYTES, Expected
from render.networks.nodes import Conv
from render.system.reading import read_regular

_IDENTIFIER = b"TFL3"
#: schema.fbs: BuiltinOperator.CONV_2D, and the TensorTypes of weights and biases.
_CONV_2D = 3
_TYPES = {2: "<i4", 3: "u1"}
#: Most operators that a file may have. The published model has 130.
_MAX_OPERATORS = 10_000
#: Errors that the flatbuffers reader raises on damaged files.
_DAMAGED = (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError)


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """Return the weights and the bias of every convolution and of the classifier.

    The classifier is the last convolution, 1x1. Files hold the convolutions in no fixed order, under TF-slim's names; the
    alphabetical order of these names is the architecture's order.

    Args:
        path: The file.
        architecture: The network.

    Returns:
        LAYER/weight, (out, in, rows, columns), or (classes, in) of the classifier, and LAYER/bias, (out,), float32.

    Raises:
        UserError: The file is not an 8-bit TensorFlow Lite model, is damaged, or does not fit the architecture.
    """
    names = [layer.name for layer in architecture.layers.values() if isinstance(layer.node, Conv)]
    names += [architecture.classifier] if architecture.classes else []
    try:
        content = read_regular(path, MAX_FILE_BYTES)
        # One convolution too many is enough to see that the file does not fit.
        candidates = islice(_convolutions(content, Expected(architecture).largest), len(names) + 1)
        convolutions = sorted(candidates, key=lambda convolution: convolution[0])
    except _DAMAGED as error:
        raise UserError(f"{path.name} is not a TensorFlow Lite model in 8 bits, or is damaged: {error!s}") from None
    if len(convolutions) != len(names):
        count = f"{len(convolutions)}{' or more' if len(convolutions) > len(names) else ''}"
        raise UserError(f"{path.name} does not fit {architecture.name}: it holds {count} convolutions, not {len(names)}")
    parameters = {}
    for name, (_, weight, bias) in zip(names, convolutions, strict=True):
        dense = name == architecture.classifier and weight.shape[1:3] == (1, 1)
        # TensorFlow Lite stores (out, rows, columns, in).
        parameters[f"{name}/weight"] = weight[:, 0, 0, :] if dense else weight.transpose(0, 3, 1, 2)
        parameters[f"{name}/bias"] = bias
    return parameters


def _convolutions(content: bytes, largest: int) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield name, weight and bias of every convolution, in file order.

    Weights are (out, rows, columns, in), biases (out,). `largest` is the most values that an array may have.
    """
    # Imported late because it loads over a hundred modules.
    import tflite

    if content[4:8] != _IDENTIFIER:
        raise ValueError("it does not begin as one")
    model = tflite.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    if graph.OperatorsLength() > _MAX_OPERATORS:
        raise ValueError(f"it has {graph.OperatorsLength():,} operators")
    for position in range(graph.OperatorsLength()):
        operator = graph.Operators(position)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Newer files keep the code in a wider field.
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == _CONV_2D:
            weight, bias = (graph.Tensors(operator.Inputs(place)) for place in (1, 2))
            yield weight.Name().decode(), _dequantised(model, weight, 4, largest), _dequantised(model, bias, 1, largest)


def _dequantised(model: Any, tensor: Any, dimensions: int, largest: int) -> NDArray[np.float32]:
    """Return the values of a constant tensor, float32.

    Args:
        model: The file's root.
        tensor: The tensor.
        dimensions: Number of axes that it must have.
        largest: Most values that it may have.

    Raises:
        ValueError: It has other axes, more values, or no integers of one scale.
    """
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
    # A scale that is NaN gives values that are NaN; the check of the parameters reports them.
    with np.errstate(all="ignore"):
        values = (numbers.astype(np.float64) - quantisation.ZeroPoint(0)) * quantisation.Scale(0)
        return values.astype(np.float32).reshape(shape)
