"""A source whose file has colours beyond sRGB: the sRGB picture that is dreamed on, and what was cut off from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips

from render.config.schema import SourceConfig
from render.dreaming.resample import Pixels, Samples, resample_window
from render.errors import UserError
from render.geometry.geometry import Rect
from render.geometry.source_window import SourceWindow
from render.source.beyond import ZERO, decoded, encoded, is_wide, read_beyond
from render.source.extension import extend_reader
from render.source.orientation import read_orientation
from render.source.photo import PhotoSource, damaged_picture, open_picture
from render.source.pyramid import PyramidSource
from render.source.source import MAX_IN_MEMORY_PX, Source, open_source
from render.source.streaming import ShrunkPicture, open_shrunk
from render.storage.local import temporary_directory
from render.storage.url import Place

#: No difference: nothing is beyond sRGB around the picture.
_NOTHING = (0, 0, 0)


@dataclass(frozen=True)
class OpenedWideSource:
    """A wide source that can be read.

    Attributes:
        source: The source that is dreamed on, in sRGB.
        beyond: Returns what sRGB cut off in a rectangle (second) of a canvas of (rows, columns) px (first):
            (*rect.shape, 3) float32, in levels; 0 within sRGB.
    """

    source: Source
    beyond: Callable[[tuple[int, int], Rect], Pixels]


@dataclass(frozen=True)
class WideSource:
    """A source file with colours beyond sRGB.

    Attributes:
        path: The file.
        sha256: Digest of its content.
        config: Background and size limit.
        window: Part that the canvas shows; None for all of it.
    """

    path: Path
    sha256: str
    config: SourceConfig
    window: SourceWindow | None

    @contextmanager
    def opened(self, shape: tuple[int, int], directory: Path) -> Iterator[OpenedWideSource]:
        """Yield the source for a canvas of `shape` px. Files of a large one lie in `directory` meanwhile.

        Raises:
            UserError: the file is damaged or has changed, or `directory` cannot be written to.
        """
        with temporary_directory(directory) as levels:
            source = open_source(str(self.path), 0, self.config).laid_out(self.window, levels / "srgb")
            if source.sha256 != self.sha256:
                raise UserError(f"image {str(self.path)!r} has changed since the run began: restore it, or start over")
            beyond = self._beyond(levels / "beyond")
            source.prepare(shape)
            beyond.prepare(shape)

            def read(canvas_shape: tuple[int, int], rect: Rect) -> Pixels:
                samples = beyond.samples(canvas_shape)
                return resample_window(samples.read, samples.window, canvas_shape, rect)

            yield OpenedWideSource(source, read)

    def _beyond(self, levels: Place) -> PhotoSource | _BeyondPyramid:
        """Return what sRGB cuts off, in memory if the source would be there."""
        picture, _ = open_picture(self.path, self.config)
        if picture.width * picture.height <= MAX_IN_MEMORY_PX:
            pixels = read_beyond(self.path, self.config)
            return PhotoSource(pixels, self.sha256, _NOTHING, self.window)
        shape, background = (picture.height, picture.width), tuple(self.config.background)
        pyramid = _BeyondPyramid(self.path.absolute(), self.sha256, shape, read_orientation(picture), background)
        return pyramid.laid_out(self.window, levels)


@dataclass(frozen=True)
class _BeyondPyramid(PyramidSource):
    """Colours of a file larger than memory that sRGB cuts off: levels of the differences."""

    def samples(self, shape: tuple[int, int]) -> Samples:
        """Return the differences that an octave of `shape` px is resampled from."""
        read, rows, columns, window = self.stored_samples(shape)
        return Samples(extend_reader(lambda rect: decoded(read(rect)), rows, columns, window, _NOTHING), window)

    def _shrunk(self, shrink: int) -> ShrunkPicture:
        return open_shrunk(self.path, self.background, shrink, encoded)

    def _identity(self, shrink: int) -> dict[str, Any]:
        return {**super()._identity(shrink), "zero": ZERO}


def wide_source(path: Path, sha256: str, config: SourceConfig, window: SourceWindow | None) -> WideSource | None:
    """Return the source if its file's colour space reaches beyond sRGB; only the header is read.

    Raises:
        UserError: the file is not such a picture.
    """
    picture, info = open_picture(path, config)
    try:
        return WideSource(path.absolute(), sha256, config, window) if is_wide(picture, info) else None
    except pyvips.Error as error:
        raise damaged_picture(path, error) from None
