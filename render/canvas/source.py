"""The picture that dreaming starts from, at any octave's size and by rectangles: a file, a sample photo, or noise."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyvips

from render.config import SourceConfig
from render.dream.noise import fractal_noise
from render.dream.resample import Pixels, resample
from render.errors import UserError
from render.geometry import AxisMode, Rect, whole
from render.paths import file_sha256

#: Photos that ship inside the scikit-image package, CC0 or public domain: name here -> file there.
SAMPLES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "hubble": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}

#: The value of white in each type of sample that is read.
_WHITE = {"uchar": 255.0, "ushort": 65535.0}


class Source(Protocol):
    """What the ascent departs from, the same picture at every octave."""

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) px, or None where the source has none of its own."""

    @property
    def sha256(self) -> str:
        """Identifies the content."""

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """The rectangle of the source resampled to `shape`: (rows, columns, 3) float32 RGB, 0..255."""


@dataclass(frozen=True)
class PhotoSource:
    """A photo held in memory: (height, width, 3) float32 RGB, 0..255; `modes` are those of its axes' boundaries."""

    pixels: Pixels
    sha256: str
    modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        resampled = resample(self._read, self.size, shape, rect, self.modes)
        return np.clip(resampled, 0.0, 255.0)

    def _read(self, rect: Rect) -> Pixels:
        if whole(*self.size).intersect(rect) == rect:
            return self.pixels[slice(*rect.rows), slice(*rect.columns)]
        # Beyond the ends of an axis that wraps.
        rows, columns = np.arange(*rect.rows), np.arange(*rect.columns)
        return self.pixels[np.ix_(rows % self.size[0], columns % self.size[1])]


@dataclass(frozen=True)
class NoiseSource:
    """Fractal noise, computed where it is asked for."""

    seed: int
    size: None = None
    nbytes: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"fractal noise {self.seed}".encode()).hexdigest()

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        return fractal_noise(self.seed, shape, rect)


def open_source(
    image: str, seed: int, how: SourceConfig, modes: tuple[AxisMode, AxisMode] = ("reflect", "reflect")
) -> Source:
    """The source that `image` names: `noise`, `sample:NAME`, or a path to a PNG, JPEG, WebP or TIFF file.

    Raises `UserError` for a file that is missing, unreadable, truncated, or larger than `how.max_megapixels`.
    """
    if image == "noise":
        return NoiseSource(seed)
    try:
        path = sample_path(image.removeprefix("sample:")) if image.startswith("sample:") else Path(image).expanduser()
        if not path.exists():
            samples = ", ".join(SAMPLES)
            raise UserError(f"image {image!r} does not exist (a path, sample:NAME or noise; samples: {samples})")
        if path.is_dir():
            raise UserError(f"image {image!r} is a directory: name one picture in it")
        if not path.is_file():
            raise UserError(f"image {image!r} is not a file but a device or pipe: name a picture")
        digest = file_sha256(path)
    except OSError as error:
        raise UserError(f"image {image!r} cannot be opened: {error.strerror}") from None
    except RuntimeError:
        raise UserError(f"image {image!r} begins with the home directory of a user who does not exist") from None
    return PhotoSource(read_photo(path, how), digest, modes)


def sample_path(name: str) -> Path:
    """Where the sample photo `name` lies in the installed scikit-image package."""
    if name not in SAMPLES:
        near = difflib.get_close_matches(name, SAMPLES, n=1)
        hint = f"did you mean sample:{near[0]}?" if near else "there are"
        raise UserError(f"there is no sample {name!r}: {hint} ({', '.join(SAMPLES)})")
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise UserError("sample photos need the scikit-image package: run `make setup`, or give image=PATH")
    return Path(package.origin).parent / "data" / SAMPLES[name]


def read_photo(path: Path, how: SourceConfig) -> Pixels:
    """Decodes a picture to (height, width, 3) float32 RGB in sRGB, 0..255, upright.

    16-bit files keep their precision, grey becomes three equal channels, an embedded ICC profile is converted to sRGB, and
    transparency is laid over `how.background`. Raises `UserError` for what is no such picture or not a whole one.
    """
    try:
        # Opened as a stream: libvips takes a file name that ends in brackets for loader options.
        file = pyvips.Source.new_from_file(str(path))
        picture = pyvips.Image.new_from_source(file, "", access="sequential", fail_on="error")
        _refuse_bomb(picture, path, how.max_megapixels)
        _refuse_odd_samples(picture, path)
        return _to_srgb(_upright(picture), how.background)
    except pyvips.Error as error:
        lines = [line.strip() for line in (str(error.detail) or error.message).splitlines() if line.strip()]
        why = lines[-1] if lines else "it is damaged"
        raise UserError(f"image {str(path)!r} is no whole PNG, JPEG, WebP or TIFF picture: {why}") from None


def _refuse_bomb(picture: pyvips.Image, path: Path, max_megapixels: float) -> None:
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
    if picture.get_typeof("orientation") == 0 or picture.get("orientation") == 1:
        return picture
    # Turning reads out of order, which a decoder that streams cannot.
    return picture.copy_memory().autorot()


def _to_srgb(picture: pyvips.Image, background: list[int]) -> Pixels:
    """A picture of 8- or 16-bit samples as float32 sRGB, 0..255."""
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
        colours = colours * alpha + (alpha * -1.0 + 1.0) * background
    pixels = colours.cast("float").numpy()
    return np.clip(pixels, 0.0, 255.0, out=pixels)
