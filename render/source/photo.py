"""A photo: its file decoded to sRGB, upright, and held in memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyvips

from render.config.schema import SourceConfig
from render.dreaming.resample import Pixels, Samples, resample_window
from render.errors import UserError
from render.geometry.geometry import Rect
from render.geometry.source_window import SourceWindow
from render.source.decoding import decode
from render.source.extension import extend_reader
from render.source.loaders import PICTURES
from render.source.orientation import ORIENTATIONS, read_orientation
from render.source.picture_info import PictureInfo, open_file
from render.source.sampling import Sampling
from render.source.srgb import WHITE, to_srgb
from render.storage.url import Place

#: Conversion of a picture of 8 or 16 bits, by its facts and a background: see `to_srgb`.
Convert = Callable[[pyvips.Image, PictureInfo, Sequence[int]], pyvips.Image]

#: Part of a decoder's message for a kind of file that it does not support, even if the file is complete.
_UNSUPPORTED = re.compile("not configured|not implemented|not supported|[Uu]nsupported|not a whole number of bytes")


@dataclass(frozen=True)
class PhotoSource:
    """A photo held in memory; see the protocol `Source`.

    Attributes:
        pixels: (height, width, 3) float32 sRGB, 0..255, upright.
        sha256: Digest of the file.
        background: R,G,B, 0..255, around the picture.
        window: Part that the canvas shows; None for all of it.
    """

    pixels: Pixels
    sha256: str
    background: tuple[int, ...] = (255, 255, 255)
    window: SourceWindow | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) px."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""
        return self.pixels.nbytes

    def laid_out(self, window: SourceWindow | None, _directory: Place) -> PhotoSource:
        """Return the photo as the canvas shows it through `window`."""
        return replace(self, window=window)

    def disk_bytes(self, _shapes: object) -> int:
        """Return 0: a photo in memory has no files."""
        return 0

    def prepare(self, shape: tuple[int, int], on_progress: object = None) -> None:
        """Do nothing: the pixels are in memory."""

    def discard(self) -> None:
        """Do nothing: no data is on disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the photo, resampled to an octave; see `Source.at`."""
        samples = self.samples(shape)
        return np.clip(resample_window(samples.read, samples.window, shape, rect), 0.0, 255.0)

    def samples(self, _shape: tuple[int, int]) -> Samples:
        """Return the samples that `at` resamples: the photo's own pixels."""
        window = self.window or SourceWindow.whole(self.size)
        rows, columns = (Sampling(length, length) for length in self.size)
        return Samples(extend_reader(self._read, rows, columns, window, self.background), window)

    def _read(self, rect: Rect) -> Pixels:
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


def read_photo(path: Path, source_config: SourceConfig) -> Pixels:
    """Decode a picture to sRGB, upright.

    16-bit files keep their precision, grey becomes three equal channels, the colours that the file states are converted to
    sRGB, and transparency is laid over `source_config.background`.

    Args:
        path: A PNG, JPEG, WebP or TIFF file.
        source_config: Background and size limit.

    Returns:
        (height, width, 3) float32, 0..255.

    Raises:
        UserError: the file is not such a picture, or not complete.
    """
    pixels = decode_upright(path, source_config, to_srgb)
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def decode_upright(path: Path, source_config: SourceConfig, convert: Convert) -> Pixels:
    """Decode what a conversion makes of a file's colours, upright.

    Args:
        path: A PNG, JPEG, WebP or TIFF file.
        source_config: Background and size limit.
        convert: The conversion.

    Returns:
        (height, width, 3) float32.

    Raises:
        UserError: the file is not such a picture, or not complete.
    """
    try:
        picture, info = open_picture(path, source_config)
        pixels = decode(convert(picture, info, source_config.background))
    except pyvips.Error as error:
        raise damaged_picture(path, error) from None
    return turn_upright(pixels, picture)


def read_small(path: Path, source_config: SourceConfig, max_area: int) -> Pixels:
    """Decode a picture like `read_photo`, but shrunk to about `max_area` px if it is larger."""
    try:
        picture, info = open_picture(path, source_config)
        image = to_srgb(picture, info, source_config.background)
        shrink = math.sqrt(max_area / (picture.width * picture.height))
        pixels = decode(image.resize(shrink) if shrink < 1 else image)
    except pyvips.Error as error:
        raise damaged_picture(path, error) from None
    pixels = turn_upright(pixels, picture)
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def open_picture(path: Path, source_config: SourceConfig) -> tuple[pyvips.Image, PictureInfo]:
    """Open a picture that is to be dreamed on, and return it with its properties.

    Only the header is read; the picture is to be decoded once from top to bottom.

    Raises:
        UserError: the file is not such a picture, is too large, or is not in colours or grey of 8 or 16 bits.
    """
    try:
        picture, info = open_file(path)
    except pyvips.Error as error:
        raise damaged_picture(path, error) from None
    except OSError as error:
        raise UserError(f"image {str(path)!r} cannot be opened: {error.strerror}") from None
    refuse_oversized(picture, path, source_config.max_megapixels)
    _refuse_odd_samples(picture, info, path)
    return picture, info


def damaged_picture(path: Path, error: pyvips.Error) -> UserError:
    """Return the error for a file that libvips cannot read to its end."""
    lines = [line.strip() for line in (str(error.detail) or error.message).splitlines() if line.strip()]
    reason = lines[-1] if lines else "it is damaged"
    if _UNSUPPORTED.search(reason):
        return UserError(
            f"image {str(path)!r} is of a kind that is not read ({reason}): save it as {PICTURES} of 8 or 16 bits"
        )
    return UserError(f"image {str(path)!r} is no whole {PICTURES} picture: {reason}")


def refuse_oversized(picture: pyvips.Image, path: Path, max_megapixels: float) -> None:
    """Raise `UserError` for a picture over the size limit, before a pixel is decoded."""
    megapixels = picture.width * picture.height / 1e6
    if megapixels > max_megapixels:
        raise UserError(
            f"image {str(path)!r} is {picture.width} x {picture.height}, {megapixels:,.0f} megapixels: over the limit "
            f"source.max_megapixels={max_megapixels:g}; raise it if you trust the file"
        )


def _refuse_odd_samples(picture: pyvips.Image, info: PictureInfo, path: Path) -> None:
    """Raise `UserError` for samples without a defined white, and channels that are no colours.

    White is defined for unsigned samples of 8 and 16 bits only.
    """
    if picture.coding != "none" or (picture.format not in WHITE and picture.interpretation != "labs"):
        raise UserError(
            f"image {str(path)!r} holds {picture.interpretation} samples of type {picture.format}: "
            "save it as RGB or grey of 8 or 16 bits"
        )
    if info.channels.colours not in (1, 3) and picture.interpretation != "cmyk":
        raise UserError(f"image {str(path)!r} has {picture.bands} channels: save it as RGB, RGBA or grey")


def turn_upright(pixels: Pixels, picture: pyvips.Image) -> Pixels:
    """Turn stored pixels (rows, columns, channels) upright by their EXIF orientation."""
    return np.ascontiguousarray(ORIENTATIONS[read_orientation(picture) - 1].apply(pixels))
