"""Where a worker's arrays live: in memory, or in files that are mapped into it and vanish with the process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from render.errors import UserError


def empty(shape: tuple[int, ...], directory: Path | None, dtype: DTypeLike = np.float32) -> NDArray:
    """An array of unspecified content: in memory, or in a file in `directory`.

    The file has no name, so that nothing is left however the process ends, and its place on disk is taken at once.
    Raises `UserError` when there is not that much place.
    """
    if directory is None:
        return np.empty(shape, dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            # A hole in the file would be filled when it is written to, and a full disk would then kill the process.
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
