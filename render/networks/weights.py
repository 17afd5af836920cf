"""Trained weights of each network: published ones, converted once into the user's cache, or a local file.

Published weights are fetched once (`sources`), and their parameters are checked one by one against the architecture. The
result is written as safetensors to the user's cache by an atomic rename. Later runs read only that file. Nothing is ever
unpickled.

Parameters are named `LAYER/weight` (out, in, rows, columns; classifiers (classes, in)) and `LAYER/bias` (out,), float32,
batch norm folded in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.numpy import save

from render.errors import UserError
from render.networks import arrays
from render.networks.architecture import Architecture
from render.networks.declared import Declared, Expected
from render.networks.googlenet import GOOGLENET
from render.networks.inception_v3 import INCEPTION_V3
from render.networks.inception_v3_slim import INCEPTION_V3_SLIM
from render.networks.parameters import Parameters, fingerprint
from render.networks.published import GOOGLENET_WEIGHTS, INCEPTION_V3_SLIM_WEIGHTS, INCEPTION_V3_WEIGHTS
from render.networks.sources import Published, fetch_parameters
from render.networks.weight_files import check_local, check_sha256, first_line, read_file
from render.storage import downloads as fetch
from render.system.paths import cache_directory


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
        file: File that they were read from.
    """

    architecture: Architecture
    parameters: Parameters
    sha256: str
    file: Path | None = None


MODELS = {
    "inception_v3": Model(INCEPTION_V3, INCEPTION_V3_WEIGHTS, ("mixed3", "mixed4")),
    "inception_v3_slim": Model(INCEPTION_V3_SLIM, INCEPTION_V3_SLIM_WEIGHTS, ("mixed3", "mixed4")),
    "googlenet": Model(GOOGLENET, GOOGLENET_WEIGHTS, ("inception_4c",)),
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
        return _load_local(model, local, sha256)
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


def is_published(loaded: Loaded, model: Model) -> bool:
    """Return True if weights are a model's published ones, from wherever they were read."""
    return loaded.sha256 == model.published.parameters_sha256


def keep(model: Model, parameters: Parameters) -> Path:
    """Write a model's published parameters to the cache, so that nothing has to be fetched; return the file there."""
    path = cached_path(model)
    with _locked(path):
        if _read_cached(path, model) is None:
            with fetch.scratch_directory(path) as scratch:
                _write(parameters, scratch, path)
    return path


def _load_published(model: Model) -> Loaded:
    """Return the published weights; fetch and convert them if the cache does not hold them."""
    path, published = cached_path(model), model.published
    parameters = _read_cached(path, model)
    if parameters is None:
        with _locked(path):
            # Another process may have converted them while this one waited for the lock.
            parameters = _read_cached(path, model)
            if parameters is None:
                with fetch.scratch_directory(path) as scratch:
                    parameters, _ = fetch_parameters(published, model.architecture, scratch)
                    _write(parameters, scratch, path)
    return Loaded(model.architecture, parameters, published.parameters_sha256, path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock on a file of the cache; raise `UserError` where the cache cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            yield
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"weights cannot be kept in {path.parent} ({first_line(error)}): make room there, or set "
            "XDG_CACHE_HOME to a directory that can be written"
        ) from None


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


def _write(parameters: Parameters, scratch: Path, path: Path) -> None:
    """Write parameters to the cache at `path`, by way of a file in `scratch`."""
    temporary = scratch / "converted.safetensors"
    # save_file would make the file unreadable for other users, but the cache may be shared.
    with temporary.open("wb") as file:
        file.write(save(parameters))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _load_local(model: Model, path: Path, sha256: str | None) -> Loaded:
    """Return the weights of a local file; raise `UserError` if they do not fit the architecture."""
    check_local(path)
    if sha256 is not None:
        check_sha256(path, sha256)
    parameters, variant = read_file(path, model.architecture, model.published.parameters_sha256)
    return Loaded(variant, parameters, fingerprint(parameters), path)
