"""Reader of the FID InceptionV3 weights in their TorchScript archive.

It does not need torch and never unpickles. The archive is an uncompressed zip; `out_jit_module/data/N` are raw little-
endian float32 tensors, four for each convolution: weight (out, in, rows, columns), then batch norm's beta, mean and
var.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.nodes import Conv

_FOLDER = "out_jit_module/data"
_PARTS = ("weight", "beta", "mean", "var")


def is_archive(path: Path) -> bool:
    """Return True if a file is a zip archive with tensors where the published one has them."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{_FOLDER}/0" in archive.NameToInfo
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError):
        return False


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """Return the weights of every convolution, and the statistics of its batch norm.

    The archive only numbers its tensors, in the architecture's order of convolutions.

    Args:
        path: The file.
        architecture: The network.

    Returns:
        LAYER/weight, (out, in, rows, columns), and LAYER/{beta,mean,var}, (out,), float32.

    Raises:
        UserError: The file is not the expected archive.
    """
    shapes = architecture.parameters()
    convolutions = [layer.name for layer in architecture.layers.values() if isinstance(layer.node, Conv)]
    parameters = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for position, layer in enumerate(convolutions):
                for part, kind in enumerate(_PARTS):
                    shape = shapes[f"{layer}/weight"] if kind == "weight" else shapes[f"{layer}/bias"]
                    content = _read_stored(archive, f"{_FOLDER}/{4 * position + part}", 4 * math.prod(shape))
                    parameters[f"{layer}/{kind}"] = np.frombuffer(content, "<f4").reshape(shape)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, RuntimeError) as error:
        raise UserError(f"{path.name} is not the expected archive of InceptionV3 weights: {error!s}") from None
    return parameters


def _read_stored(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """Return an uncompressed member of `size` bytes.

    Raises:
        ValueError: It is compressed, or has another size.
    """
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != size:
        raise ValueError(f"{name} is no uncompressed tensor of {size:,} bytes")
    return archive.read(info)
