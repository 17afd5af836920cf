"""A photo: its file decoded to sRGB, upright, and held in memory."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyvips

from render.config.schema import SourceConfig
from render.dreaming.resample import Pixels, resample_window
from render.errors import UserError
from render.geometry.geometry import Rect
from render.geometry.source_window import SourceWindow
from render.source.beyond import Sampling, reading_beyond
from render.source.decoding import decoded
from render.source.facts import Facts, open_file
from render.source.loaders import PICTURES
from render.source.srgb import WHITE, to_srgb
from render.source.turning import TURNS
from render.storage.url import Place

#: Messages of decoders for a kind of file that they do not support, even if the file is complete.
_UNREAD = re.compile("not configured|not implemented|not supported|[Uu]nsupported|not a whole number of bytes")


@dataclass(frozen=True)
class PhotoSource:
    """A photo held in memory: (height, width, 3) float32 RGB, 0..255.

    `window` is the part that the canvas shows, by default all of it; `background` (R,G,B) is the colour around it.
    """

    pixels: Pixels
    sha256: str
    background: tuple[int, ...] = (255, 255, 255)
    window: SourceWindow | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes

    def laid_out(self, window: SourceWindow | None, _directory: Place) -> PhotoSource:
        return replace(self, window=window)

    def disk_bytes(self, _shapes: object) -> int:
        return 0

    def prepare(self, shape: tuple[int, int], told: object = None) -> None:
        """Do nothing: the pixels are in memory."""

    def discard(self) -> None:
        """Do nothing: no data is on disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        window = self.window or SourceWindow.whole(self.size)
        rows, columns = (Sampling(length, length) for length in self.size)
        read = reading_beyond(self._read, rows, columns, window, self.background)
        return np.clip(resample_window(read, window, shape, rect), 0.0, 255.0)

    def _read(self, rect: Rect) -> Pixels:
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


def read_photo(path: Path, how: SourceConfig) -> Pixels:
    """Decode a picture to (height, width, 3) float32 RGB in sRGB, 0..255, upright.

    16-bit files keep their precision, grey becomes three equal channels, the colours that the file states are converted to
    sRGB, and transparency is laid over `how.background`.

    Raises:
        UserError: the file is not such a picture, or not complete.
    """
    try:
        picture, facts = open_picture(path, how)
        pixels = decoded(to_srgb(picture, facts, how.background))
    except pyvips.Error as error:
        raise not_whole(path, error) from None
    pixels = upright(pixels, picture)
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def read_small(path: Path, how: SourceConfig, area: int) -> Pixels:
    """Decode a picture like `read_photo`, shrunk to about `area` px while it is decoded if it is larger."""
    try:
        picture, facts = open_picture(path, how)
        image = to_srgb(picture, facts, how.background)
        shrink = math.sqrt(area / (picture.width * picture.height))
        pixels = decoded(image.resize(shrink) if shrink < 1 else image)
    except pyvips.Error as error:
        raise not_whole(path, error) from None
    pixels = upright(pixels, picture)
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def open_picture(path: Path, how: SourceConfig) -> tuple[pyvips.Image, Facts]:
    """Open a picture by its header, to be decoded once from top to bottom, and return it with its facts.

    Raises:
        UserError: the file is not such a picture, is too large, or is not in colours or grey of 8 or 16 bits.
    """
    try:
        picture, facts = open_file(path)
    except pyvips.Error as error:
        raise not_whole(path, error) from None
    except OSError as error:
        raise UserError(f"image {str(path)!r} cannot be opened: {error.strerror}") from None
    refuse_bomb(picture, path, how.max_megapixels)
    _refuse_odd_samples(picture, facts, path)
    return picture, facts


def not_whole(path: Path, error: pyvips.Error) -> UserError:
    """Return the error for a file that libvips cannot read to its end."""
    lines = [line.strip() for line in (str(error.detail) or error.message).splitlines() if line.strip()]
    reason = lines[-1] if lines else "it is damaged"
    if _UNREAD.search(reason):
        return UserError(
            f"image {str(path)!r} is of a kind that is not read ({reason}): save it as {PICTURES} of 8 or 16 bits"
        )
    return UserError(f"image {str(path)!r} is no whole {PICTURES} picture: {reason}")


def orientation(picture: pyvips.Image) -> int:
    """Return the picture's orientation, 1 (upright) to 8 (Exif 2.32, tag 0x0112)."""
    value = picture.get("orientation") if picture.get_typeof("orientation") != 0 else 1
    return value if 1 <= value <= 8 else 1


def refuse_bomb(picture: pyvips.Image, path: Path, max_megapixels: float) -> None:
    """Raise `UserError` for a picture over the size limit, by its header, before a pixel is decoded."""
    megapixels = picture.width * picture.height / 1e6
    if megapixels > max_megapixels:
        raise UserError(
            f"image {str(path)!r} is {picture.width} x {picture.height}, {megapixels:,.0f} megapixels: over the limit "
            f"source.max_megapixels={max_megapixels:g}; raise it if you trust the file"
        )


def _refuse_odd_samples(picture: pyvips.Image, facts: Facts, path: Path) -> None:
    """Raise `UserError` for samples without a defined white (float, signed, 32-bit) and channels that are no colours."""
    if picture.coding != "none" or (picture.format not in WHITE and picture.interpretation != "labs"):
        raise UserError(
            f"image {str(path)!r} holds {picture.interpretation} samples of type {picture.format}: "
            "save it as RGB or grey of 8 or 16 bits"
        )
    if facts.channels.colours not in (1, 3) and picture.interpretation != "cmyk":
        raise UserError(f"image {str(path)!r} has {picture.bands} channels: save it as RGB, RGBA or grey")


def upright(pixels: Pixels, picture: pyvips.Image) -> Pixels:
    """Return pixels (rows, columns, channels) turned and mirrored by the EXIF orientation of their picture."""
    turn = TURNS[orientation(picture) - 1]
    turned = pixels[:: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]
    return np.ascontiguousarray(turned.transpose(1, 0, 2) if turn.transposed else turned)
