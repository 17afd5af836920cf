"""Readers of NumPy archives (`.npz`) and safetensors files. `declared` limits what they read."""

from __future__ import annotations

import math
import tokenize
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from render.networks.declared import MAX_FILE_BYTES, MAX_PARTS, Declared, Expected, check_file
from render.system.reading import open_regular

#: NumPy types by their names in safetensors.
_TYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
#: The compressions that NumPy writes. Other methods have to unpack everything before they return a part.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

#: Arrays of a file by name.
Arrays = dict[str, NDArray | Declared]


def read_safetensors(path: Path, expected: Expected) -> Arrays:
    """Return the arrays of a safetensors file by name.

    Arrays that are not expected are declared only.

    Args:
        path: The file.
        expected: Arrays to read.

    Raises:
        OSError: The file cannot be read.
        SafetensorError: The file is damaged.
    """
    check_file(path)
    arrays: Arrays = {}
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        _refuse_many(len(names))
        for name in names:
            declared = file.get_slice(name)
            shape, kind = tuple(declared.get_shape()), declared.get_dtype()
            fits = kind in _TYPES and expected.has(name, shape, np.dtype(_TYPES[kind]))
            arrays[name] = file.get_tensor(name) if fits else Declared(shape, kind)
    return arrays


def read_npz(path: Path, expected: Expected) -> Arrays:
    """Return the arrays of an archive written by `numpy.savez`, by name.

    Arrays that are not expected are declared only.

    Args:
        path: The file.
        expected: Arrays to read.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged, or holds pickles.
        zipfile.BadZipFile: The file is no archive.
    """
    arrays: Arrays = {}
    # np.load trusts headers, tries other formats, and leaves a broken archive open.
    with open_regular(path, MAX_FILE_BYTES) as file, zipfile.ZipFile(file) as archive:
        _refuse_many(len(archive.infolist()))
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"it holds {name[:80]!r} twice")
            if info.compress_type not in _COMPRESSIONS:
                raise ValueError(f"{name[:80]!r} is compressed in another way than numpy.savez_compressed does")
            with archive.open(info) as member:
                arrays[name] = _read_array(member, name, expected)
    return arrays


def _read_array(member: Any, name: str, expected: Expected) -> NDArray | Declared:
    """Return the array of an archive's member, or its declaration if it is not expected."""
    magic = member.read(len(np.lib.format.MAGIC_PREFIX))
    if magic != np.lib.format.MAGIC_PREFIX:
        return Declared((), "no array")
    shape, fortran, dtype = _read_header(member)
    if dtype.hasobject:
        raise ValueError("it holds a pickle, which may run programs and is never read")
    if not expected.has(name, shape, dtype):
        return Declared(shape, str(dtype))
    size = math.prod(shape) * dtype.itemsize
    content = member.read(size)
    if len(content) != size:
        raise ValueError(f"{name} ends early")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(member: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether columns come first, and type of an array after its magic prefix."""
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version = member.read(2)
    try:
        # Version 3 is only for field names, which plain numbers do not have.
        return readers[version[0]](member)
    except (IndexError, KeyError):
        raise ValueError("an array is of an unknown version of the format") from None
    except (TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError(f"an array's header is damaged: {error}") from None


def _refuse_many(count: int) -> None:
    """Raise `ValueError` if a file holds more than `MAX_PARTS` arrays."""
    if count > MAX_PARTS:
        raise ValueError(f"it holds {count:,} arrays: no network here has so many")
