"""What the words of an objective refer to: classes of the model, pictures to be guided by, vectors in files."""

from __future__ import annotations

import tokenize

import numpy as np

from render.config import Config
from render.dream.words import Picture
from render.errors import UserError
from render.models.labels import find_class
from render.paths import input_path
from render.reading import open_regular
from render.source.photo import read_small
from render.source.source import find_picture

#: Pixels that a guide is shrunk to at most: at stride 16 about a thousand features to match.
GUIDE_AREA = 512 * 512
#: Bytes of a direction's file at most; no layer has over 2,048 channels.
_MOST_BYTES = 1 << 20


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
        try:
            where, digest = find_picture(path, "a path or sample:NAME")
            return Picture(read_small(where, self._config.source, GUIDE_AREA), digest)
        except UserError as error:
            raise UserError(f"objective guide: {error}") from None

    def vector(self, path: str) -> tuple[float, ...]:
        """The numbers of a one-dimensional .npy file."""
        where = input_path(path, "objective direction")
        try:
            # Not np.load, which takes other files for pickles and says how to trust them.
            with open_regular(where, _MOST_BYTES) as file:
                vector = np.lib.format.read_array(file, allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"objective direction {path}: there is no such file") from None
        except OSError as error:
            raise UserError(f"objective direction {path!r} cannot be read: {error.strerror}") from None
        except (ValueError, EOFError, MemoryError, tokenize.TokenError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"objective direction {path} is no .npy file of numbers ({reason}): write one with numpy.save"
            ) from None
        if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.number):
            raise UserError(f"objective direction {path} must hold one row of numbers")
        if np.iscomplexobj(vector):
            raise UserError(f"objective direction {path} must hold real numbers")
        return tuple(float(value) for value in vector)
