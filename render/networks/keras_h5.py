"""Reader of InceptionV3 weights in Keras' HDF5 files.

The files are models (`.h5`), and weights of Keras 2 (`.h5`) and 3 (`.weights.h5`). Keras numbers its convolutions
`conv2d`, `conv2d_1`, ... and its batch norms in the same way. The count continues through a process, so only the order
is used. Keras builds branches in its own order, listed here for each block.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.declared import MAX_PARTS, Declared, Expected, check_file
from render.networks.nodes import Conv

#: Order in which keras.applications.inception_v3 creates the branches of each block.
_BLOCK_ORDERS: dict[str, tuple[str, ...]] = {
    **{
        f"mixed{block}": (
            "branch1x1", "branch5x5_1", "branch5x5_2", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3", "branch_pool",
        )
        for block in (0, 1, 2)
    },
    "mixed3": ("branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
    **{
        f"mixed{block}": (
            "branch1x1", "branch7x7_1", "branch7x7_2", "branch7x7_3",
            *(f"branch7x7dbl_{step}" for step in range(1, 6)), "branch_pool",
        )
        for block in (4, 5, 6, 7)
    },
    "mixed8": (
        "branch3x3_1", "branch3x3_2", "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4",
    ),
    **{
        f"mixed{block}": (
            "branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b",
            "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool",
        )
        for block in (9, 10)
    },
}  # fmt: skip


#: Names of the variables that Keras 3 only numbers. InceptionV3's batch norms have no gamma.
_NUMBERED_VARIABLES = {"conv2d": ("kernel",), "batch_normalization": ("beta", "moving_mean", "moving_variance")}


_NORM_PARTS = {"beta": "beta", "moving_mean": "mean", "moving_variance": "var", "gamma": "gamma"}
#: Largest chunk of a dataset, bytes. HDF5 unpacks a whole chunk to read any value in it.
_MAX_CHUNK_BYTES = 64 << 20
#: Errors that h5py raises on damaged files, in addition to `OSError`, `RuntimeError` and `ValueError`.
_DAMAGED = (KeyError, TypeError, AttributeError, OverflowError, MemoryError)

_Datasets = dict[str, h5py.Dataset]


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray | Declared]:
    """Return the weights of every convolution, and the statistics of its batch norm.

    A classifier (`predictions`) in the file is ignored.

    Args:
        path: The file.
        architecture: Keras' variant of InceptionV3.

    Returns:
        LAYER/weight, (out, in, rows, columns), and LAYER/{beta,mean,var}, (out,), float32; arrays that fit no parameter are
            declared only.

    Raises:
        UserError: The number of convolutions or batch norms does not fit.
        OSError: The file is not HDF5.
        ValueError: The file is damaged.
    """
    check_file(path)
    try:
        with h5py.File(path, "r") as file:
            groups = {_layer_name(name, group): _datasets(group) for name, group in _layer_groups(file)}
            return _parameters(groups, architecture, path)
    except _DAMAGED as error:
        raise ValueError(f"it is damaged: {error}") from None


def _parameters(groups: dict[str, _Datasets], architecture: Architecture, path: Path) -> dict[str, NDArray | Declared]:
    """Return the parameters from the datasets of each layer, by Keras' name of the layer."""
    expected = Expected(architecture)
    convolutions = _numbered(groups, "conv2d")
    norms = _numbered(groups, "batch_normalization")
    names = list(_keras_order(architecture))
    if len(convolutions) != len(names) or len(norms) != len(names):
        raise UserError(
            f"{path!s} does not fit {architecture.name}: it holds {len(convolutions)} convolutions and "
            f"{len(norms)} batch norms, not {len(names)} of each"
        )
    parameters = {}
    for name, convolution, norm in zip(names, convolutions, norms, strict=True):
        for array, dataset in convolution.items():
            parameter = f"{name}/{'weight' if array == 'kernel' else array}"
            parameters[parameter] = _read(dataset, parameter, expected, kernel=array == "kernel")
        for keras_name, part in _NORM_PARTS.items():
            if keras_name in norm:
                parameters[f"{name}/{part}"] = _read(norm[keras_name], f"{name}/{part}", expected)
    return parameters


def _read(dataset: h5py.Dataset, name: str, expected: Expected, *, kernel: bool = False) -> NDArray | Declared:
    """Return a dataset's values as float32, or its declaration if it does not have the shape.

    Kernels are stored as (rows, columns, in, out) and returned as (out, in, rows, columns).
    """
    axes = (3, 2, 0, 1) if kernel and dataset.ndim == 4 else tuple(range(dataset.ndim))
    shape = tuple(dataset.shape[axis] for axis in axes)
    if not expected.has(name, shape, dataset.dtype):
        return Declared(shape, str(dataset.dtype))
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} has its values in another file")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > _MAX_CHUNK_BYTES:
        raise ValueError(f"{name} is stored in pieces of {dataset.chunks} values")
    return np.asarray(dataset, np.float32).transpose(axes)


def _layer_groups(file: h5py.File) -> list[tuple[str, h5py.Group]]:
    """Return the groups of layers with their names in the file.

    The result is a list, because an unfinished iteration over a group holds the library's lock and the process never ends.
    """
    root = next((group for name in ("model_weights", "layers") if (group := _group(file, name)) is not None), file)
    if len(root) > MAX_PARTS:
        raise ValueError(f"it holds {len(root):,} layers")
    named = [(name, _group(root, name)) for name in list(root)]
    return [(name, group) for name, group in named if group is not None]


def _group(parent: h5py.Group, name: str) -> h5py.Group | None:
    """Return the group `name`, or None if it is not in this file.

    Links to other files are not followed.
    """
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        return None
    item = parent.get(name)
    return item if isinstance(item, h5py.Group) else None


def _layer_name(name: str, group: h5py.Group) -> str:
    """Return the name of a layer.

    Keras 3 renumbers the groups and stores the name in an attribute.
    """
    variables = _group(group, "vars")
    if variables is None or "name" not in variables.attrs:
        return name
    attribute = variables.attrs.get_id("name")
    # Check the type before reading: a damaged file may declare any length.
    text = variables.attrs["name"] if attribute.shape == () and attribute.dtype.kind in "OSU" else None
    if isinstance(text, bytes):
        text = text.decode()
    if not isinstance(text, str):
        raise ValueError(f"the name of its layer {name[:80]!r} is no text")
    return text


def _datasets(group: h5py.Group) -> _Datasets:
    """Return every numeric dataset below a layer's group, by its last name without Keras' `:0`."""
    datasets: _Datasets = {}
    budget = iter(range(MAX_PARTS))

    def visit(name: str, item: object) -> bool | None:
        """Add a numeric dataset; return True to end the visit once the budget is spent."""
        if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "fiu":
            datasets[name.rpartition("/")[2].removesuffix(":0")] = item
        # Anything but None ends the visit.
        return None if next(budget, None) is not None else True

    group.visititems(visit)
    return datasets


def _numbered(groups: dict[str, _Datasets], stem: str) -> list[_Datasets]:
    """Return the groups called `stem` or `stem_N` that hold arrays, in Keras' order of creation."""
    matches = [(re.fullmatch(rf"{stem}(?:_(\d{{1,9}}))?", name), datasets) for name, datasets in groups.items()]
    numbered = [(int(match[1] or 0), datasets) for match, datasets in matches if match and datasets]
    names = {str(number): name for number, name in enumerate(_NUMBERED_VARIABLES[stem])}
    return [
        {names.get(name, name): dataset for name, dataset in datasets.items()}
        for _, datasets in sorted(numbered, key=lambda item: item[0])
    ]


def _keras_order(architecture: Architecture) -> Iterator[str]:
    """Yield the names of the convolutions in the order in which Keras creates them."""
    convolutions = [layer.name for layer in architecture.layers.values() if isinstance(layer.node, Conv)]
    yield from (name for name in convolutions if "/" not in name)
    for block, branches in _BLOCK_ORDERS.items():
        yield from (f"{block}/{branch}" for branch in branches)
