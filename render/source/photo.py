"""A photo: its file decoded to sRGB, upright, and held in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from render.config import SourceConfig
from render.dream.resample import Pixels, resample_window
from render.errors import UserError
from render.geometry import Rect
from render.layout import SourceWindow
from render.source.beyond import Sampling, reading_beyond
from render.storage.url import Place

# libvips would keep what it did last, and with it all that a decoder holds; nothing here is asked for twice.
pyvips.cache_set_max(0)

#: The value of white in each type of sample that is read.
_WHITE = {"uchar": 255.0, "ushort": 65535.0}


@dataclass(frozen=True)
class PhotoSource:
    """A photo held in memory: (height, width, 3) float32 RGB, 0..255.

    `window` is what the canvas shows of it, all by default, and `background` (R,G,B) what lies around it there.
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
        """Nothing is to be done."""

    def discard(self) -> None:
        """Nothing is on disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        window = self.window or SourceWindow.whole(self.size)
        rows, columns = (Sampling(length, length) for length in self.size)
        read = reading_beyond(self._read, rows, columns, window, self.background)
        return np.clip(resample_window(read, window, shape, rect), 0.0, 255.0)

    def _read(self, rect: Rect) -> Pixels:
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


def read_photo(path: Path, how: SourceConfig) -> Pixels:
    """Decodes a picture to (height, width, 3) float32 RGB in sRGB, 0..255, upright.

    16-bit files keep their precision, grey becomes three equal channels, an embedded ICC profile is converted to sRGB, and
    transparency is laid over `how.background`. Raises `UserError` for what is no such picture or not a whole one.
    """
    try:
        pixels = to_srgb(_upright(open_picture(path, how)), how.background).numpy()
    except pyvips.Error as error:
        raise not_whole(path, error) from None
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def read_small(path: Path, how: SourceConfig, area: int) -> Pixels:
    """`read_photo` of a picture shrunk to about `area` px while it is decoded, where it is larger."""
    try:
        picture = to_srgb(_upright(open_picture(path, how)), how.background)
        shrink = math.sqrt(area / (picture.width * picture.height))
        pixels = (picture.resize(shrink) if shrink < 1 else picture).numpy()
    except pyvips.Error as error:
        raise not_whole(path, error) from None
    return np.clip(pixels, 0.0, 255.0, out=pixels)


def open_picture(path: Path, how: SourceConfig) -> pyvips.Image:
    """A picture of which only the header has been read, to be decoded once from top to bottom.

    Raises `UserError` for what is no such picture, too large, or not in colours or grey of 8 or 16 bits.
    """
    try:
        picture = load(path)
    except pyvips.Error as error:
        raise not_whole(path, error) from None
    refuse_bomb(picture, path, how.max_megapixels)
    _refuse_odd_samples(picture, path)
    return picture


def load(path: Path, **options: Any) -> pyvips.Image:
    """Opens a picture as a stream with a loader's options: libvips takes a name that ends in brackets for such."""
    file = pyvips.Source.new_from_file(str(path))
    return pyvips.Image.new_from_source(file, "", access="sequential", fail_on="error", **options)


def not_whole(path: Path, error: pyvips.Error) -> UserError:
    """What to say of a file that libvips cannot read to its end."""
    lines = [line.strip() for line in (str(error.detail) or error.message).splitlines() if line.strip()]
    why = lines[-1] if lines else "it is damaged"
    return UserError(f"image {str(path)!r} is no whole PNG, JPEG, WebP or TIFF picture: {why}")


def orientation(picture: pyvips.Image) -> int:
    """How the picture is to be turned and mirrored: 1 (as it is) to 8 (Exif 2.32, tag 0x0112)."""
    found = picture.get("orientation") if picture.get_typeof("orientation") != 0 else 1
    return found if 1 <= found <= 8 else 1


def refuse_bomb(picture: pyvips.Image, path: Path, max_megapixels: float) -> None:
    """Refuses by the header's size, before a pixel is decoded."""
    megapixels = picture.width * picture.height / 1e6
    if megapixels > max_megapixels:
        raise UserError(
            f"image {str(path)!r} is {picture.width} x {picture.height}, {megapixels:,.0f} megapixels: over the limit "
            f"source.max_megapixels={max_megapixels:g}; raise it if you trust the file"
        )


def _refuse_odd_samples(picture: pyvips.Image, path: Path) -> None:
    """Refuses samples of which nothing says what white is: float, signed, 32-bit; and channels that are no colours."""
    if picture.coding != "none" or picture.format not in _WHITE:
        raise UserError(
            f"image {str(path)!r} holds {picture.interpretation} samples of type {picture.format}: "
            "save it as RGB or grey of 8 or 16 bits"
        )
    colours = picture.bands - (1 if picture.hasalpha() else 0)
    if colours not in (1, 3) and picture.interpretation != "cmyk":
        raise UserError(f"image {str(path)!r} has {picture.bands} channels: save it as RGB, RGBA or grey")


def _upright(picture: pyvips.Image) -> pyvips.Image:
    """Turned and mirrored as EXIF says."""
    if orientation(picture) == 1:
        return picture
    # Turning reads out of order, which a decoder that streams cannot.
    return picture.copy_memory().autorot()


def to_srgb(picture: pyvips.Image, background: Sequence[int]) -> pyvips.Image:
    """A picture of 8- or 16-bit samples as three bands of float32 sRGB, 0..255 but for rounding, yet to be computed."""
    if picture.get_typeof("icc-profile-data") != 0:
        if picture.format == "uchar":
            picture = picture.icc_transform("srgb", embedded=True, depth=8)
        else:
            # In one go, 16 bits pass through a coarse table: up to 15 levels of 255 wrong where a channel clips.
            picture = picture.icc_import(embedded=True, pcs="lab", intent="relative")
            picture = picture.icc_export(output_profile="srgb", depth=16, intent="relative")
    elif picture.interpretation == "cmyk":
        picture = picture.colourspace("srgb")
    full = _WHITE[picture.format]
    has_alpha = picture.hasalpha()
    colours = picture.extract_band(0, n=picture.bands - 1) if has_alpha else picture
    colours = colours.cast("float") * (255.0 / full)
    if colours.bands == 1:
        colours = colours.bandjoin([colours, colours])
    if has_alpha:
        alpha = picture[picture.bands - 1].cast("float") / full
        colours = colours * alpha + (alpha * -1.0 + 1.0) * list(background)
    return colours.cast("float")
