"""Reader of InceptionV3 weights in PyTorch's checkpoints (`.pth`), zipped or in the older form. It does not need torch.

A checkpoint is a pickle that says which array is where, and the arrays in raw bytes. The pickle is read as text
(`pickle_text`). Names of layers are torchvision's, which the FID weights of pytorch-fid and torch-fidelity have.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.declared import MAX_FILE_BYTES, MAX_PARTS, Declared
from render.networks.pickle_text import DAMAGED, Call, Name, Reference, read_pickle
from render.system.reading import read_regular

#: NumPy types of storages of real numbers, and the bytes of a number of others.
_STORAGES = {"torch.FloatStorage": "<f4", "torch.HalfStorage": "<f2", "torch.DoubleStorage": "<f8"}
_OTHER_STORAGES = {
    "torch.LongStorage": 8, "torch.IntStorage": 4, "torch.ShortStorage": 2, "torch.BFloat16Storage": 2,
    "torch.CharStorage": 1, "torch.ByteStorage": 1, "torch.BoolStorage": 1,
}  # fmt: skip
_ORDERED = "collections.OrderedDict"
_REBUILD = "torch._utils._rebuild_tensor_v2"
#: torchvision's blocks, in the order of mixed0 to mixed10.
_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
_PARTS = {
    "conv.weight": "weight", "bn.bias": "beta", "bn.running_mean": "mean", "bn.running_var": "var", "bn.weight": "gamma",
}  # fmt: skip
#: Values of a checkpoint that no network is made of.
_COUNTER = "num_batches_tracked"
#: Most bytes of the pickle.
_MAX_PICKLE_BYTES = 16 << 20
#: Pickles before the table in the older form: a number that marks the file, a version, and the machine.
_PREFACES = 3


@dataclass(frozen=True)
class _Stored:
    """Array of a checkpoint.

    Attributes:
        key: Key of its storage.
        dtype: NumPy type of its values; empty unless they are real numbers.
        itemsize: Bytes of a value.
        shape: Sizes of its axes.
        offset: Number of values in the storage before its first one.
    """

    key: str
    dtype: str
    itemsize: int
    shape: tuple[int, ...]
    offset: int


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray | Declared]:
    """Return the weights of every convolution, and the statistics of its batch norm.

    The classifier and the auxiliary one in the file are ignored.

    Args:
        path: The file.
        architecture: The network.

    Returns:
        LAYER/weight, (out, in, rows, columns), and LAYER/{beta,mean,var}, (out,); arrays of other names are declared only.

    Raises:
        UserError: The file is no checkpoint, or is damaged.
        OSError: It cannot be read.
    """
    try:
        content = read_regular(path, MAX_FILE_BYTES)
        table, storage = _zipped(content) if zipfile.is_zipfile(BytesIO(content)) else _legacy(content)
        return dict(_parameters(table, storage, architecture))
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, RuntimeError, struct.error, *DAMAGED) as error:
        raise UserError(f"{path.name} is no checkpoint of InceptionV3 weights: {error!s:.200}") from None


#: Function that returns the bytes of the storage with a key.
_ReadStorage = Callable[[str], bytes | memoryview]


def _zipped(content: bytes) -> tuple[dict[str, _Stored], _ReadStorage]:
    """Return the table and the storages of a checkpoint that is a zip archive."""
    archive = zipfile.ZipFile(BytesIO(content))
    if len(archive.infolist()) > MAX_PARTS:
        raise ValueError(f"it holds {len(archive.infolist()):,} parts")
    pickles = [info for info in archive.infolist() if info.filename.count("/") == 1 and info.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it holds no data.pkl")
    folder = pickles[0].filename.removesuffix("/data.pkl")

    def stored(info: zipfile.ZipInfo, limit: int) -> bytes:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise ValueError(f"{info.filename[:80]!r} is compressed or too large")
        return archive.read(info)

    table = _table(read_pickle(BytesIO(stored(pickles[0], _MAX_PICKLE_BYTES))))
    return table, lambda key: stored(archive.getinfo(f"{folder}/data/{key}"), MAX_FILE_BYTES)


def _legacy(content: bytes) -> tuple[dict[str, _Stored], _ReadStorage]:
    """Return the table and the storages of a checkpoint from before PyTorch 1.6: pickles, then lengths and values."""
    file = BytesIO(content)
    for _ in range(_PREFACES):
        read_pickle(file)
    table = _table(read_pickle(file))
    keys = read_pickle(file)
    if not isinstance(keys, list) or len(keys) > MAX_PARTS or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    sizes = {stored.key: stored.itemsize for stored in table.values()}
    places: dict[str, tuple[int, int]] = {}
    offset = file.tell()
    for key in keys:
        (count,) = struct.unpack_from("<q", content, offset)
        length = count * sizes.get(key, 1)
        offset += 8
        if count < 0 or offset + length > len(content):
            raise ValueError("a storage goes past the end")
        places[key] = (offset, length)
        offset += length
    view = memoryview(content)
    return table, lambda key: view[places[key][0] : sum(places[key])]


def _table(described: Any) -> dict[str, _Stored]:
    """Return the arrays of a state dictionary by name; an array of other than real numbers has an empty type."""
    if isinstance(described, dict) and isinstance(described.get("state_dict"), Call | dict):
        described = described["state_dict"]
    is_ordered = isinstance(described, Call) and described.function == Name(_ORDERED)
    items = described.items if is_ordered else described
    if not isinstance(items, dict) or len(items) > MAX_PARTS:
        raise ValueError("it holds no table of arrays")
    return {name: _stored(value) for name, value in items.items() if isinstance(name, str)}


def _stored(value: Any) -> _Stored:
    """Return where the values of a described array are."""
    if not isinstance(value, Call) or value.function != Name(_REBUILD) or len(value.arguments) < 4:
        raise ValueError("a value of its table is no array")
    reference, offset, shape, strides = value.arguments[:4]
    if not isinstance(reference, Reference) or not isinstance(reference.description, tuple):
        raise ValueError("an array has no storage")
    word, kind, key = reference.description[:3]
    numbers = (offset, *shape, *strides)
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str):
        raise ValueError("an array has no storage")
    if not all(type(number) is int and 0 <= number < MAX_FILE_BYTES for number in numbers) or len(shape) > 8:
        # What stands there is not shown: the text of nested containers could be endless.
        raise ValueError("an array's shape or place is no row of whole numbers, or is too large")
    if tuple(strides) != _row_strides(shape) and math.prod(shape) > 1:
        raise ValueError("an array is not stored row by row")
    dtype = _STORAGES.get(kind.text, "")
    itemsize = np.dtype(dtype).itemsize if dtype else _OTHER_STORAGES.get(kind.text, 0)
    if not itemsize:
        raise ValueError(f"an array is in a {kind.text[:80]!r}")
    return _Stored(key, dtype, itemsize, tuple(shape), offset)


def _row_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _parameters(
    table: dict[str, _Stored], storage: _ReadStorage, architecture: Architecture
) -> Iterator[tuple[str, NDArray | Declared]]:
    """Yield the arrays of a table by the architecture's names."""
    shapes = architecture.parameters()
    for name, stored in table.items():
        layer, _, part = _place(name)
        if name.endswith(_COUNTER) or layer.startswith(("fc", "AuxLogits")):
            continue
        kind = _PARTS.get(part, "")
        shape = shapes.get(f"{layer}/{'weight' if kind == 'weight' else 'bias'}") if kind else None
        if shape != stored.shape or not stored.dtype:
            yield f"{layer}/{kind}" if kind else name, Declared(stored.shape, stored.dtype or "other numbers")
            continue
        values = np.frombuffer(storage(stored.key), stored.dtype)
        count = math.prod(stored.shape)
        if stored.offset + count > values.size:
            raise ValueError(f"{name[:80]!r} goes past the end of its storage")
        array = values[stored.offset : stored.offset + count].reshape(stored.shape)
        # A gamma of ones changes nothing; any other is named as an extra array.
        if kind != "gamma" or not (array == 1).all():
            yield f"{layer}/{kind}", array


def _place(name: str) -> tuple[str, str, str]:
    """Return a parameter's layer as the architecture calls it, a dot, and its part, such as `conv.weight`."""
    match = re.fullmatch(r"(?:Mixed_(\w\w)\.)?([\w]+)\.((?:conv|bn)\.\w+)", name)
    if match is None:
        return name, "", ""
    block, layer, part = match.groups()
    if block is None:
        return layer.lower(), ".", part
    return f"mixed{_BLOCKS.index(block)}/{layer}" if block in _BLOCKS else name, ".", part
