"""The materials that an objective refers to: classes of the model, guides, textures, and vectors in files."""

from __future__ import annotations

import io
import math
import tokenize

import numpy as np

from render.config.schema import SourceConfig
from render.dreaming.term_syntax import Picture
from render.errors import UserError
from render.networks.labels import Classifier, find_class
from render.source.photo import read_small
from render.source.source import MAX_IN_MEMORY_PX, find_picture
from render.storage.user_paths import input_path
from render.system.reading import read_regular

#: Most pixels of a guide after shrinking: at stride 16 about a thousand features to match.
GUIDE_AREA = 512 * 512
#: Most bytes of a direction file: ample for one number for each channel of a layer.
_MAX_FILE_BYTES = 16_000_000


def _refuse_size(content: io.BytesIO) -> None:
    """Raise ValueError where the header of an .npy file states more numbers than the file has bytes for."""
    version = np.lib.format.read_magic(content)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read_header(content)
    if math.prod(shape) * max(1, kind.itemsize) > len(content.getbuffer()):
        raise ValueError(f"it states {math.prod(shape):,} numbers and is shorter")
    content.seek(0)


class Library:
    """The `Materials` of a job: classes of its network, pictures and files on this machine."""

    def __init__(self, network: str | Classifier, source: SourceConfig) -> None:
        """Store where to look.

        Args:
            network: Name of the network, or its classifier, whose classes are meant.
            source: Reading of pictures.
        """
        self._network = network
        self._source = source
        #: Textures by path: several terms of one picture share its pixels.
        self._textures: dict[str, Picture] = {}

    def find_class(self, name: str | int) -> tuple[int, str]:
        """Return the number and name of a class of the job's model."""
        label = find_class(name, self._network)
        return label.index, label.name

    def picture(self, path: str) -> Picture:
        """Return a guide, shrunk to about `GUIDE_AREA` px where it is larger; raise `UserError` as `open_source` does."""
        try:
            image_path, digest = find_picture(path, "a path or sample:NAME")
            return Picture(read_small(image_path, self._source, GUIDE_AREA), digest)
        except UserError as error:
            raise UserError(f"objective guide: {error}") from None

    def texture(self, path: str) -> Picture:
        """Return a texture, shrunk to about `MAX_IN_MEMORY_PX` if larger; raise `UserError` as `open_source` does."""
        try:
            if path not in self._textures:
                image_path, digest = find_picture(path, "a path or sample:NAME")
                self._textures[path] = Picture(read_small(image_path, self._source, MAX_IN_MEMORY_PX), digest)
            return self._textures[path]
        except UserError as error:
            raise UserError(f"objective texture: {error}") from None

    def vector(self, path: str) -> tuple[float, ...]:
        """Return the numbers of a one-dimensional .npy file; raise `UserError` for any other file."""
        vector_path = input_path(path, "objective direction")
        try:
            content = io.BytesIO(read_regular(vector_path, _MAX_FILE_BYTES))
            _refuse_size(content)
            # Not np.load: it takes other files for pickles, and its error tells the user how to trust them.
            vector = np.lib.format.read_array(content, allow_pickle=False)
        except FileNotFoundError:
            raise UserError(f"objective direction {path}: there is no such file") from None
        except OSError as error:
            raise UserError(f"objective direction {path!r} cannot be read: {error.strerror}") from None
        except (ValueError, EOFError, MemoryError, RecursionError, tokenize.TokenError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"objective direction {path} is no .npy file of numbers ({reason}): write one with numpy.save"
            ) from None
        if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.number):
            raise UserError(f"objective direction {path} must hold one row of numbers")
        if np.iscomplexobj(vector):
            raise UserError(f"objective direction {path} must hold real numbers")
        return tuple(float(value) for value in vector)
