"""Reader of Caffe models (`.caffemodel`), which are protobuf messages. It does not need Caffe.

Only the fields needed are decoded. From caffe.proto: NetParameter.layer = 100 (LayerParameter: name = 1, blobs = 7) and
the older NetParameter.layers = 2 (V1LayerParameter: name = 4, blobs = 6); BlobProto: num, channels, height, width = 1..4,
data = 5, shape = 7 (BlobShape.dim = 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.declared import MAX_FILE_BYTES
from render.networks.protobuf import DAMAGED, Budget, fields, integers, joined, text
from render.system.reading import read_regular

#: NetParameter field -> (name field, blobs field) of its layers.
_LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}
_KINDS = ("weight", "bias")
#: Prefixes of the layers of the auxiliary classifiers, which only training uses.
_AUXILIARY = ("loss1/", "loss2/")


def read_parameters(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the parameters of every layer but the auxiliary classifiers.

    Returns:
        LAYER/weight, (out, in, rows, columns) or (out, in), and LAYER/bias, (out,), float32.

    Raises:
        UserError: The file is not a Caffe model, or is cut short.
    """
    parameters: dict[str, NDArray[np.float32]] = {}
    try:
        budget = Budget()
        for name, blobs in _layers(memoryview(read_regular(path, MAX_FILE_BYTES)), budget):
            if name.startswith(_AUXILIARY):
                continue
            for kind, blob in zip(_KINDS, blobs, strict=False):
                parameters[f"{name}/{kind}"] = _without_unit_axes(_blob(blob, budget), kind)
    except DAMAGED as error:
        raise UserError(f"{path.name} is not a Caffe model, or is cut short: {error}") from None
    if not parameters:
        raise UserError(f"{path.name} is not a Caffe model: it holds no layer with parameters")
    return parameters


def _layers(model: memoryview, budget: Budget) -> Iterator[tuple[str, list[memoryview]]]:
    """Yield the name and the BlobProto messages of every layer."""
    for number, layer in fields(model, budget):
        if number not in _LAYER_FIELDS or not isinstance(layer, memoryview):
            continue
        name_field, blobs_field = _LAYER_FIELDS[number]
        name, blobs = "", []
        for inner, value in fields(layer, budget):
            if inner == name_field and isinstance(value, memoryview):
                name = text(value)
            elif inner == blobs_field and isinstance(value, memoryview):
                blobs.append(value)
        yield name, blobs


def _without_unit_axes(blob: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Return a bias as (n,) and fully connected weights as (out, in).

    Old files write every blob with four axes.
    """
    if kind == "bias":
        return blob.reshape(-1)
    return blob.reshape(blob.shape[2:]) if blob.ndim == 4 and blob.shape[:2] == (1, 1) else blob


def _blob(message: memoryview, budget: Budget) -> NDArray[np.float32]:
    """Return the array of a BlobProto message."""
    legacy = {1: 1, 2: 1, 3: 1, 4: 1}
    shape: list[int] | None = None
    values: list[NDArray[np.float32]] = []
    for number, value in fields(message, budget):
        if number in legacy and isinstance(value, int):
            legacy[number] = value
        elif number == 5 and isinstance(value, memoryview):
            values.append(np.frombuffer(value, "<f4"))
        elif number == 7 and isinstance(value, memoryview):
            shape = [
                size for field, dimensions in fields(value, budget) if field == 1 for size in integers(dimensions, budget)
            ]
    return joined(values, "<f4").reshape(shape if shape is not None else list(legacy.values()))
