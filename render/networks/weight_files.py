"""Weights in local files: their formats, and the variant of an architecture that a file is for.

The suffix decides the format. Reading is bounded and runs nothing; nothing is ever unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from render.errors import UserError
from render.networks import arrays, caffe, onnx, tensorflow_graph, tflite, torch_checkpoint, torchscript
from render.networks.architecture import Architecture
from render.networks.declared import MAX_CLASSES, MAX_FILE_BYTES, Declared, Expected, NothingExpected, check_file
from render.networks.inception_v3 import INCEPTION_V3, INCEPTION_V3_KERAS
from render.networks.inception_v3_slim import INCEPTION_V3_SLIM
from render.networks.parameters import Parameters, check_parameters, fingerprint
from render.system.paths import file_sha256
from render.system.reading import open_regular

#: Suffixes of the files that are read.
SUFFIXES = (
    ".safetensors", ".npz", ".onnx", ".caffemodel", ".h5", ".hdf5", ".tflite", ".lite", ".pth", ".pt", ".pb", ".tgz",
)  # fmt: skip
#: Formats that are read for one network only: their name, and the network.
_SINGLE_NETWORK = {
    ".h5": ("Keras files", INCEPTION_V3),
    ".hdf5": ("Keras files", INCEPTION_V3),
    ".pth": ("PyTorch files", INCEPTION_V3),
    ".pt": ("PyTorch files", INCEPTION_V3),
    ".pb": ("TensorFlow graphs", INCEPTION_V3),
    ".tgz": ("TensorFlow graphs", INCEPTION_V3),
    ".tflite": ("TensorFlow Lite files", INCEPTION_V3_SLIM),
    ".lite": ("TensorFlow Lite files", INCEPTION_V3_SLIM),
}
#: Formats whose classifier can be looked up without reading the rest.
_PEEKED = (".safetensors", ".npz", ".onnx", ".caffemodel")
#: Beginnings of what is sent in place of a file.
_STAND_INS = {
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
#: Errors of readers on damaged files. zipfile raises `RuntimeError` for unusual compression, HDF5 for damaged content.
UNREADABLE = (SafetensorError, zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError)


@dataclass(frozen=True)
class FileReading:
    """Content of a file of weights, not yet checked.

    Attributes:
        arrays: Its arrays by the architecture's names.
        architecture: Variant of the architecture that the file is for.
        differences: What else of the file differs from the architecture, one text each.
    """

    arrays: Mapping[str, NDArray | Declared]
    architecture: Architecture
    differences: tuple[str, ...] = ()


def read_file(path: Path, architecture: Architecture, published_sha256: str = "") -> tuple[Parameters, Architecture]:
    """Return the checked parameters of a file, and the variant of the architecture that they are for.

    Args:
        path: The file.
        architecture: The network. A file may have another number of classes, if the network has a classifier.
        published_sha256: Fingerprint of the published parameters. In a file that has these, it does not matter how an
            exporter wrote the graph.

    Raises:
        UserError: The file cannot be read, or does not fit; every difference is named.
    """
    reading = _read(path, architecture, Expected(architecture))
    if reading.differences:
        with suppress(UserError):
            parameters = check_parameters(reading.arrays, architecture, str(path))
            if fingerprint(parameters) == published_sha256:
                return parameters, architecture
    parameters = check_parameters(reading.arrays, reading.architecture, str(path), reading.differences)
    return parameters, reading.architecture


def variant_of(path: Path, architecture: Architecture) -> Architecture:
    """Return the architecture with the number of classes that a file has; its parameters are not read.

    Raises:
        UserError: The file cannot be read.
    """
    check_local(path)
    if not architecture.classes or path.suffix.lower() not in _PEEKED:
        return architecture
    status = path.stat()
    return replace(architecture, classes=_class_count(path, architecture, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _class_count(path: Path, architecture: Architecture, _size: int, _time: int) -> int:
    return _read(path, architecture, NothingExpected(architecture)).architecture.classes


def refuse_stand_in(path: Path) -> None:
    """Refuse what servers send in place of a file: a page, or a pointer of Git LFS.

    Raises:
        UserError: The file is one of these.
        OSError: It cannot be read.
    """
    with open_regular(path, MAX_FILE_BYTES) as file:
        beginning = file.read(64).lstrip().lower()
    for start, kind in _STAND_INS.items():
        if beginning.startswith(start):
            raise UserError(f"{path.name} is {kind}, not a file of weights: download the file itself")


def check_local(path: Path) -> None:
    """Raise `UserError` unless the path is a regular file of at most `MAX_FILE_BYTES`."""
    try:
        check_file(path)
    except FileNotFoundError:
        raise UserError(f"model.weights={path!s}: there is no such file") from None
    except OSError as error:
        raise UserError(f"model.weights={path!s} cannot be read: {error.strerror}") from None


def check_sha256(path: Path, expected: str) -> None:
    """Raise `UserError` unless the file's sha256 is `expected`, in hex."""
    try:
        actual = file_sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if actual != expected.lower():
        raise UserError(f"{path.name} has the wrong checksum: sha256 is {actual}, expected {expected}; fetch it anew")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _read(path: Path, architecture: Architecture, expected: Expected) -> FileReading:
    """Return the content of a file; of the formats in `_PEEKED`, only the expected arrays have values."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"model.weights={path!s}: must be one of {', '.join(SUFFIXES)}")
    kind, only = _SINGLE_NETWORK.get(suffix, ("", architecture))
    if only.name != architecture.name:
        raise UserError(f"{path!s}: {kind} are read for {only.name} only, not for {architecture.name}")
    try:
        refuse_stand_in(path)
        return _with_classes(_by_format(path, suffix, architecture, expected))
    except UNREADABLE as error:
        raise UserError(f"model.weights={path!s} cannot be read: {first_line(error)}") from None


def _by_format(path: Path, suffix: str, architecture: Architecture, expected: Expected) -> FileReading:
    match suffix:
        case ".safetensors":
            return FileReading(arrays.read_safetensors(path, expected), architecture)
        case ".npz":
            return FileReading(arrays.read_npz(path, expected), architecture)
        case ".caffemodel":
            return FileReading(caffe.read_parameters(path), architecture)
        case ".onnx":
            variants = (architecture, INCEPTION_V3_KERAS) if architecture is INCEPTION_V3 else (architecture,)
            reading, variant = onnx.read_parameters(path, variants)
            return FileReading(reading.arrays, variant, tuple(reading.differences))
        case ".tflite" | ".lite":
            return FileReading(tflite.read_parameters(path, architecture), architecture)
        case ".pth" | ".pt":
            reader = torchscript if torchscript.is_archive(path) else torch_checkpoint
            return FileReading(reader.read_parameters(path, architecture), architecture)
        case ".pb" | ".tgz":
            return FileReading(tensorflow_graph.read_parameters(path, architecture), architecture)
    # Imported late because h5py is slow to import.
    from render.networks import keras_h5

    return FileReading(keras_h5.read_parameters(path, INCEPTION_V3_KERAS), INCEPTION_V3_KERAS)


def _with_classes(reading: FileReading) -> FileReading:
    """Return a reading with the number of classes that its classifier has."""
    architecture = reading.architecture
    if not architecture.classes:
        return reading
    inputs = architecture.parameters()[f"{architecture.classifier}/weight"][1]
    arrays_by_name = _with_usual_classifier(dict(reading.arrays), architecture, inputs)
    weight = arrays_by_name.get(f"{architecture.classifier}/weight")
    if weight is not None and weight.ndim == 2 and weight.shape[1] == inputs and 0 < weight.shape[0] <= MAX_CLASSES:
        architecture = replace(architecture, classes=weight.shape[0])
    return FileReading(arrays_by_name, architecture, reading.differences)


def _with_usual_classifier(
    arrays_by_name: dict[str, NDArray | Declared], architecture: Architecture, inputs: int
) -> dict[str, NDArray | Declared]:
    """Return arrays in which a classifier under another name has its usual one.

    Networks that were trained further often have one, such as `loss3/classifier_flowers`. It is taken for the classifier if
    it is the only other layer with that number of inputs, and the usual one is missing.
    """
    usual, expected = f"{architecture.classifier}/", architecture.parameters()
    others = [
        name.removesuffix("weight")
        for name, array in arrays_by_name.items()
        if name not in expected and isinstance(array, np.ndarray) and array.ndim == 2 and array.shape[1] == inputs
    ]
    if len(others) != 1 or not others[0].endswith("/") or any(name.startswith(usual) for name in arrays_by_name):
        return arrays_by_name
    return {
        usual + name.removeprefix(others[0]) if name.startswith(others[0]) else name: array
        for name, array in arrays_by_name.items()
    }
