"""What the words of an objective refer to: classes of the model, pictures to be guided by, vectors in files."""

from __future__ import annotations

import numpy as np

from render.config import Config
from render.dream.words import Picture
from render.errors import UserError
from render.models.labels import find_class
from render.paths import user_path
from render.source.photo import read_small
from render.source.source import find_picture

#: Pixels that a guide is shrunk to at most: at stride 16 about a thousand features to match.
GUIDE_AREA = 512 * 512


class Library:
    """The `Materials` of a job."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def find_class(self, written: str | int) -> tuple[int, str]:
        """Number and name of a class of the job's model."""
        found = find_class(written, self._config.model.name)
        return found.index, found.name

    def picture(self, path: str) -> Picture:
        """A guide, shrunk to about `GUIDE_AREA` px where it is larger; raises `UserError` as `open_source` does."""
        where, digest = find_picture(path, "a path or sample:NAME")
        return Picture(read_small(where, self._config.source, GUIDE_AREA), digest)

    def vector(self, path: str) -> tuple[float, ...]:
        """The numbers of a one-dimensional .npy file."""
        where = user_path(path, "objective direction")
        try:
            vector = np.load(where, allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"objective direction {path}: there is no such file") from None
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"objective direction {path} cannot be read as .npy: {error}") from None
        if not isinstance(vector, np.ndarray) or vector.ndim != 1 or not np.issubdtype(vector.dtype, np.number):
            raise UserError(f"objective direction {path} must hold one row of numbers")
        if np.iscomplexobj(vector):
            raise UserError(f"objective direction {path} must hold real numbers")
        return tuple(float(value) for value in vector)
