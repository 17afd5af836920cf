"""Reader of the InceptionV3 of December 2015 in TensorFlow's frozen graph, from which the FID weights come.

It does not need TensorFlow. The file is `classify_image_graph_def.pb`, also inside of `inception-2015-12-05.tgz`. From
graph.proto: GraphDef.node = 1 (NodeDef: name = 1, attr = 5, a map of key = 1 and value = 2); AttrValue.tensor = 8
(TensorProto: dtype = 1, tensor_shape = 2, tensor_content = 4, float_val = 5; TensorShapeProto.dim = 2, its size = 1).
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.declared import MAX_FILE_BYTES, Declared
from render.networks.nodes import Conv
from render.networks.protobuf import DAMAGED, Budget, fields, joined, messages, signed, text
from render.system.reading import open_member, open_regular, read_regular

#: Member of the published archive.
_MEMBER = "classify_image_graph_def.pb"
#: Most bytes of an unpacked archive. The published one has 113 MB.
_MAX_ARCHIVE_BYTES = 256 << 20
#: DataType of float32.
_FLOAT = 1
_PARTS = {
    "conv2d_params": "weight", "batchnorm/beta": "beta", "batchnorm/moving_mean": "mean",
    "batchnorm/moving_variance": "var",
}  # fmt: skip
#: Towers of a block, by the beginning of its branches' names; a branch of one convolution has none.
_TOWERS = {
    "mixed_35": {"branch5x5": "tower", "branch3x3dbl": "tower_1", "branch_pool": "tower_2"},
    "mixed3": {"branch3x3dbl": "tower"},
    "mixed_17": {"branch7x7dbl": "tower_1", "branch7x7": "tower", "branch_pool": "tower_2"},
    "mixed8": {"branch7x7x3": "tower_1", "branch3x3": "tower"},
    "mixed_8": {"branch3x3dbl": "tower_1", "branch3x3": "tower", "branch_pool": "tower_2"},
}


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray | Declared]:
    """Return the weights of every convolution, and the statistics of its batch norm.

    Args:
        path: The graph, or the published archive of it (`.tgz`).
        architecture: The network.

    Returns:
        LAYER/weight, (out, in, rows, columns), and LAYER/{beta,mean,var}, (out,), float32; what the graph lacks is missing.

    Raises:
        UserError: The file is no such graph, or is damaged.
        OSError: It cannot be read.
    """
    try:
        content = _unpacked(path) if path.suffix.lower() == ".tgz" else read_regular(path, MAX_FILE_BYTES)
        names = dict(_graph_names(architecture))
        arrays: dict[str, NDArray | Declared] = {}
        for name, array in _constants(memoryview(content), set(names)):
            arrays[names[name]] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    except (*DAMAGED, tarfile.TarError, EOFError, KeyError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path.name} is no TensorFlow graph of InceptionV3, or is cut short: {error!s:.200}") from None
    return arrays


def _unpacked(path: Path) -> bytes:
    """Return the graph inside of the published archive."""
    with open_regular(path, MAX_FILE_BYTES) as packed, gzip.open(packed) as file:
        content = file.read(_MAX_ARCHIVE_BYTES + 1)
    if len(content) > _MAX_ARCHIVE_BYTES:
        raise ValueError(f"it unpacks to over {_MAX_ARCHIVE_BYTES >> 20} MiB")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        return open_member(archive, _MEMBER, _MAX_ARCHIVE_BYTES).read()


def _constants(graph: memoryview, names: set[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the constants of these names."""
    budget = Budget()
    for node in messages(graph, 1, budget):
        name, tensors = "", []
        for number, value in fields(node, budget):
            if number == 1:
                name = text(value)
            elif number == 5 and isinstance(value, memoryview):
                tensors.append(value)
        if name in names:
            for attribute in tensors:
                for value in messages(attribute, 2, budget):
                    for tensor in messages(value, 8, budget):
                        yield name, _array(tensor, name, budget)


def _array(tensor: memoryview, name: str, budget: Budget) -> NDArray[np.float32]:
    """Return the array of a TensorProto message of float32."""
    kind, shape, parts = 0, [], []
    for number, value in fields(tensor, budget):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, memoryview):
            sizes = [dict(fields(dimension, budget)).get(1, 0) for dimension in messages(value, 2, budget)]
            shape = [signed(size) if isinstance(size, int) else -1 for size in sizes]
        elif number in (4, 5) and isinstance(value, memoryview):
            parts.append(np.frombuffer(value, "<f4"))
    values = joined(parts, "<f4")
    if kind != _FLOAT or min(shape, default=0) < 0 or math.prod(shape) != values.size:
        raise ValueError(f"{name} of shape {tuple(shape)} holds {values.size:,} values")
    return values.reshape(shape)


def _graph_names(architecture: Architecture) -> Iterator[tuple[str, str]]:
    """Yield the names in the graph, each with the parameter that it is."""
    counts: dict[str, int] = {}
    for layer in architecture.layers.values():
        if not isinstance(layer.node, Conv):
            continue
        block, _, branch = layer.name.rpartition("/")
        place = _tower(block, branch)
        # TensorFlow numbers the convolutions of a place in the order of their creation.
        count = counts.get(place, 0)
        counts[place] = count + 1
        convolution = f"{place}conv" + (f"_{count}" if count else "")
        for part, kind in _PARTS.items():
            yield f"{convolution}/{part}", f"{layer.name}/{kind}"


def _tower(block: str, branch: str) -> str:
    """Return the part of a graph name before `conv`, such as `mixed_9/tower/mixed/`."""
    if not block:
        return ""
    number = int(block.removeprefix("mixed"))
    kind = block if number in (3, 8) else "mixed_35" if number < 3 else "mixed_17" if number < 8 else "mixed_8"
    towers = _TOWERS[kind]
    # A branch of a single convolution lies in the block itself.
    is_single = branch in ("branch1x1", "branch3x3")
    tower = "" if is_single else next(f"{name}/" for start, name in towers.items() if branch.startswith(start))
    inner = "mixed/" if branch[-1] in "ab" else ""
    return f"mixed{f'_{number}' if number else ''}/{tower}{inner}"
