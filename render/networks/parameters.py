"""Trained parameters of a network: checked one by one against the architecture, with batch norm folded in.

Parameters are named `LAYER/weight` (out, in, rows, columns; classifiers (classes, in)) and `LAYER/bias` (out,), float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.networks.architecture import Architecture
from render.networks.declared import Declared

#: Parameters by name.
Parameters = dict[str, NDArray[np.float32]]

#: Added to the variance of a batch norm, as in training.
BATCH_NORM_EPSILON = 1e-3
#: Most faults in one message: more than the largest model has parameters.
_MAX_FAULTS = 1000
#: Most characters of a parameter's name in a message.
_MAX_NAME_LENGTH = 200


def check_parameters(
    raw: Mapping[str, NDArray | Declared], architecture: Architecture, source: str, differences: Sequence[str] = ()
) -> Parameters:
    """Return the architecture's parameters from the arrays of a file.

    They are float32, with batch norm folded into the convolutions.

    A file without the classifier passes, because dreaming does not need it.

    Args:
        raw: Arrays of the file by name.
        architecture: The network.
        source: Name of the file, for messages.
        differences: What else of the file is not as in the architecture; the message names these first.

    Raises:
        UserError: There are differences, or parameters are missing, extra, of the wrong shape, not real numbers or not
            finite. The message names them all.
    """
    folded = fold_batch_norm(raw)
    expected = architecture.parameters()
    classifier = {name for name in expected if architecture.classes and name.startswith(f"{architecture.classifier}/")}
    if not classifier & folded.keys():
        expected = {name: shape for name, shape in expected.items() if name not in classifier}
    faults = list(differences)
    faults += [f"missing {name} {shape}" for name, shape in expected.items() if name not in folded]
    # Names in a damaged file may be very long and hold any character.
    faults += [f"extra {name[:_MAX_NAME_LENGTH]} {array.shape}" for name, array in folded.items() if name not in expected]
    parameters: Parameters = {}
    for name, shape in expected.items():
        if name not in folded:
            continue
        array = folded[name]
        if array.shape != shape:
            faults.append(f"{name} is {array.shape}, not {shape}")
        elif isinstance(array, Declared) or not _is_real(array):
            faults.append(f"{name} holds {array.dtype}, not real numbers")
        else:
            with np.errstate(over="ignore"):
                parameters[name] = np.ascontiguousarray(array, dtype=np.float32)
            if not np.isfinite(parameters[name]).all():
                faults.append(f"{name} holds values that are not finite")
    if faults:
        overflow_note = f"; and {len(faults) - _MAX_FAULTS} more" if len(faults) > _MAX_FAULTS else ""
        fault_list = "; ".join(faults[:_MAX_FAULTS])
        raise UserError(f"{source} does not fit {architecture.name} ({len(faults)} faults): {fault_list}{overflow_note}")
    return parameters


def _is_real(array: NDArray) -> bool:
    """Return True if the array's numbers can be converted to float32."""
    return np.can_cast(array.dtype, np.float32, "same_kind")


def fold_batch_norm(raw: Mapping[str, NDArray | Declared]) -> dict[str, NDArray | Declared]:
    """Return arrays with every LAYER/{beta,mean,var} folded into LAYER/{weight,bias}.

    Folding is done in float64: weight / sqrt(var + 1e-3), beta - mean / sqrt(var + 1e-3). Statistics that are not
    finite, or have no root, give values that are not finite. Other arrays stay as they are.

    Args:
        raw: Arrays of the file by name.
    """
    folded = dict(raw)
    for name in raw:
        layer, _, kind = name.rpartition("/")
        parts = [f"{layer}/{part}" for part in ("weight", "beta", "mean", "var")]
        present = [array for part in parts if (array := raw.get(part)) is not None and not isinstance(array, Declared)]
        if kind != "var" or len(present) != len(parts) or not all(map(_is_real, present)):
            continue
        weight, beta, mean, var = (np.asarray(array, np.float64) for array in present)
        if weight.ndim != 4 or any(part.shape != weight.shape[:1] for part in (beta, mean, var)):
            continue
        with np.errstate(all="ignore"):
            factor = 1.0 / np.sqrt(np.where(np.isfinite(var), var, np.nan) + BATCH_NORM_EPSILON)
            folded[f"{layer}/weight"] = (weight * factor[:, None, None, None]).astype(np.float32)
            folded[f"{layer}/bias"] = (beta - mean * factor).astype(np.float32)
        for part in parts[1:]:
            del folded[part]
    return folded


def fingerprint(parameters: Mapping[str, NDArray[np.float32]]) -> str:
    """Return the sha256 of parameters, which is the same for every file format.

    It is over names, shapes and little-endian values, in name order.
    """
    digest = hashlib.sha256()
    for name in sorted(parameters):
        array = parameters[name]
        digest.update(f"{name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()
