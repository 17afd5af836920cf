"""Memory of a worker's arrays: RAM, or mapped files that vanish with the process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from render.errors import UserError


def empty(shape: tuple[int, ...], directory: Path | None, dtype: DTypeLike = np.float32) -> NDArray:
    """Return an array of unspecified content: in memory, or in a file in `directory`.

    The file has no name, so that nothing is left however the process ends. Its disk space is allocated at once.
    Raise `UserError` if there is not enough space.
    """
    if directory is None:
        return np.empty(shape, dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            # Allocate now: if a sparse file met a full disk later, a write would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, nbytes)
            else:
                file.truncate(nbytes)
            return np.memmap(file, dtype, "r+", shape=shape).view(np.ndarray)
    except OSError as error:
        raise UserError(
            f"scratch files of {nbytes / 1e9:,.1f} GB cannot be kept in {directory} ({error.strerror}): free some space or "
            "set farm.scratch to a larger disk"
        ) from None
