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
from render.system.reading import read_regular

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: NetParameter field -> (name field, blobs field) of its layers.
_LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}
_KINDS = ("weight", "bias")
#: Most fields that a file may have. The published file has about 3,000; each array is one field.
_MAX_FIELDS = 500_000


def read_parameters(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the parameters of every layer but the auxiliary classifiers.

    Returns:
        LAYER/weight, (out, in, rows, columns) or (out, in), and LAYER/bias, (out,), float32.

    Raises:
        UserError: The file is not a Caffe model, or is cut short.
    """
    parameters: dict[str, NDArray[np.float32]] = {}
    try:
        budget = iter(range(_MAX_FIELDS))
        for number, layer in _fields(memoryview(read_regular(path, MAX_FILE_BYTES)), budget):
            if number not in _LAYER_FIELDS or not isinstance(layer, memoryview):
                continue
            name_field, blobs_field = _LAYER_FIELDS[number]
            name, blobs = "", []
            for inner, value in _fields(layer, budget):
                if inner == name_field and isinstance(value, memoryview):
                    name = bytes(value).decode()
                elif inner == blobs_field and isinstance(value, memoryview):
                    blobs.append(_blob(value, budget))
            if name.startswith(("loss1/", "loss2/")):
                continue
            for kind, blob in zip(_KINDS, blobs, strict=False):
                parameters[f"{name}/{kind}"] = _without_unit_axes(blob, kind)
    except (IndexError, ValueError, OverflowError) as error:
        raise UserError(f"{path.name} is not a Caffe model, or is cut short: {error}") from None
    if not parameters:
        raise UserError(f"{path.name} is not a Caffe model: it holds no layer with parameters")
    return parameters


def _without_unit_axes(blob: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Return a bias as (n,) and fully connected weights as (out, in).

    Old files write every blob with four axes.
    """
    if kind == "bias":
        return blob.reshape(-1)
    return blob.reshape(blob.shape[2:]) if blob.ndim == 4 and blob.shape[:2] == (1, 1) else blob


def _blob(message: memoryview, budget: Iterator[int]) -> NDArray[np.float32]:
    """Return the array of a BlobProto message."""
    legacy = {1: 1, 2: 1, 3: 1, 4: 1}
    shape: list[int] | None = None
    values: list[NDArray[np.float32]] = []
    for number, value in _fields(message, budget):
        if number in legacy and isinstance(value, int):
            legacy[number] = value
        elif number == 5 and isinstance(value, memoryview):
            values.append(np.frombuffer(value, "<f4"))
        elif number == 7 and isinstance(value, memoryview):
            shape = list(_dimensions(value, budget))
    data = np.concatenate(values) if values else np.empty(0, np.float32)
    return data.reshape(shape if shape is not None else list(legacy.values()))


def _dimensions(message: memoryview, budget: Iterator[int]) -> Iterator[int]:
    """Yield the dimensions of a BlobShape message, packed or not."""
    for number, value in _fields(message, budget):
        if number != 1:
            continue
        if isinstance(value, int):
            yield value
        else:
            offset = 0
            while offset < len(value):
                dimension, offset = _varint(value, offset)
                _spend(budget)
                yield dimension


def _fields(message: memoryview, budget: Iterator[int]) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a protobuf message: the number, and an integer or the field's bytes.

    Args:
        message: The message.
        budget: Iterator from which every field takes one item.

    Raises:
        ValueError: The message is damaged, or the budget is spent.
        IndexError: It ends early.
    """
    offset = 0
    while offset < len(message):
        _spend(budget)
        key, offset = _varint(message, offset)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, offset = _varint(message, offset)
            yield number, value
            continue
        if wire == _BYTES:
            length, offset = _varint(message, offset)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire} at byte {offset}")
        if offset + length > len(message):
            raise ValueError(f"a field of {length} bytes at byte {offset} goes past the end")
        yield number, message[offset : offset + length]
        offset += length


def _spend(budget: Iterator[int]) -> None:
    """Take one item from the budget; raise `ValueError` if there is none."""
    if next(budget, None) is None:
        raise ValueError(f"it has more than {_MAX_FIELDS:,} fields")


def _varint(message: memoryview, offset: int) -> tuple[int, int]:
    """Return the variable-length integer at an offset, and the offset after it."""
    value = shift = 0
    while True:
        byte = message[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, offset
        shift += 7
        if shift > 63:
            raise ValueError(f"a varint at byte {offset} is too long")
