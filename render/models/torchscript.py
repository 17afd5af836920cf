"""Reads the FID InceptionV3 weights out of their TorchScript archive, without torch and without unpickling.

The archive is an uncompressed zip; `out_jit_module/data/N` are raw little-endian float32 tensors, four for each
convolution: weight (out, in, rows, columns), then batch norm's beta, mean and var.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.models.architecture import Architecture, Conv

_FOLDER = "out_jit_module/data"
_PARTS = ("weight", "beta", "mean", "var")


def read_parameters(path: Path, architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    """LAYER/{weight,beta,mean,var} of every convolution, float32.

    The archive names tensors by number only; numbers follow the architecture's own order of convolutions.
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
    """An uncompressed member of a known size; raises `ValueError` for another."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != size:
        raise ValueError(f"{name} is no uncompressed tensor of {size:,} bytes")
    return archive.read(info)
