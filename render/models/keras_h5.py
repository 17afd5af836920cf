"""Reads InceptionV3 weights from Keras' HDF5 files: whole models (`.h5`), weights of Keras 2 (`.h5`) and 3 (`.weights.h5`).

Keras numbers its convolutions `conv2d`, `conv2d_1`, ... and batch norms likewise, counting on through a process, so only
their order counts. It builds branches in an order of its own, given here block by block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.models.architecture import Architecture, Conv

#: keras.applications.inception_v3 creates each block's branches in this order.
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


#: Keras 3 numbers a layer's variables instead of naming them. InceptionV3's batch norms have no gamma.
_NUMBERED_VARIABLES = {"conv2d": ("kernel",), "batch_normalization": ("beta", "moving_mean", "moving_variance")}


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """LAYER/{weight,beta,mean,var} of every convolution: weights (out, in, rows, columns), float32.

    A classifier (`predictions`) in the file is left aside. Raises `UserError` where the counts do not fit, `OSError` where
    the file is not HDF5.
    """
    with h5py.File(path, "r") as file:
        groups = {name: _arrays(group) for name, group in _layer_groups(file)}
    convolutions = _numbered(groups, "conv2d")
    norms = _numbered(groups, "batch_normalization")
    names = list(_keras_order(architecture))
    if len(convolutions) != len(names) or len(norms) != len(names):
        raise UserError(
            f"{path} does not fit {architecture.name}: it holds {len(convolutions)} convolutions and {len(norms)} batch "
            f"norms, not {len(names)} of each"
        )
    parameters = {}
    for name, convolution, norm in zip(names, convolutions, norms, strict=True):
        for array, value in convolution.items():
            is_kernel = array == "kernel" and value.ndim == 4
            parameters[f"{name}/{'weight' if array == 'kernel' else array}"] = (
                value.transpose(3, 2, 0, 1) if is_kernel else value
            )
        for keras_name, part in (
            ("beta", "beta"),
            ("moving_mean", "mean"),
            ("moving_variance", "var"),
            ("gamma", "gamma"),
        ):
            if keras_name in norm:
                parameters[f"{name}/{part}"] = norm[keras_name]
    return parameters


def _layer_groups(file: h5py.File) -> Iterator[tuple[str, h5py.Group]]:
    root = next((file[name] for name in ("model_weights", "layers") if isinstance(file.get(name), h5py.Group)), file)
    for name, item in root.items():
        if isinstance(item, h5py.Group):
            # Keras 3 counts layers anew in the group's name, and keeps their own name in an attribute.
            variables = item.get("vars")
            yield (name if variables is None else variables.attrs.get("name", name)), item


def _arrays(group: h5py.Group) -> dict[str, NDArray[np.float32]]:
    """Every dataset of numbers below a layer's group by its last name, without Keras' `:0`."""
    found: dict[str, NDArray[np.float32]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu":
            found[name.rpartition("/")[2].removesuffix(":0")] = np.asarray(item, np.float32)

    group.visititems(visit)
    return found


def _numbered(groups: dict[str, dict[str, NDArray[np.float32]]], stem: str) -> list[dict[str, NDArray[np.float32]]]:
    """The groups called `stem` or `stem_N` that hold arrays, in Keras' order of creation."""
    matches = [(re.fullmatch(rf"{stem}(?:_(\d+))?", name), arrays) for name, arrays in groups.items()]
    numbered = [(int(match[1] or 0), arrays) for match, arrays in matches if match and arrays]
    names = {str(number): name for number, name in enumerate(_NUMBERED_VARIABLES[stem])}
    return [
        {names.get(name, name): array for name, array in arrays.items()}
        for _, arrays in sorted(numbered, key=lambda item: item[0])
    ]


def _keras_order(architecture: Architecture) -> Iterator[str]:
    """Names of the convolutions in the order in which Keras creates them."""
    convolutions = [layer.name for layer in architecture.layers.values() if isinstance(layer.node, Conv)]
    yield from (name for name in convolutions if "/" not in name)
    for block, branches in _BLOCK_ORDERS.items():
        yield from (f"{block}/{branch}" for branch in branches)
