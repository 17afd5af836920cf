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
from render.geometry import Rect

#: Photos that ship inside the scikit-image package, CC0 or public domain: name here -> file there.
SAMPLES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "hubble": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}


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
    """A photo held in memory: (height, width, 3) float32 RGB, 0..255."""

    pixels: Pixels
    sha256: str

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        resampled = resample(self._read, self.size, shape, rect)
        return np.clip(resampled, 0.0, 255.0)

    def _read(self, rect: Rect) -> Pixels:
        return self.pixels[slice(*rect.rows), slice(*rect.columns)]


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


def open_source(image: str, seed: int, how: SourceConfig) -> Source:
    """The source that `image` names: `noise`, `sample:NAME`, or a path to a PNG, JPEG, WebP or TIFF file.

    Raises `UserError` for a file that is missing, unreadable, truncated, or larger than `how.max_megapixels`.
    """
    if image == "noise":
        return NoiseSource(seed)
    path = sample_path(image.removeprefix("sample:")) if image.startswith("sample:") else Path(image).expanduser()
    if not path.exists():
        raise UserError(f"image {image!r} does not exist (a path, sample:NAME or noise; samples: {', '.join(SAMPLES)})")
    if path.is_dir():
        raise UserError(f"image {image!r} is a directory: name one picture in it")
    return PhotoSource(read_photo(path, how), _file_sha256(path))


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
    transparency is laid over `how.background`.
    """
    try:
        picture = pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error")
        _refuse_bomb(picture, path, how.max_megapixels)
        picture = picture.autorot()
        return _to_srgb(picture, how.background)
    except pyvips.Error as error:
        detail = str(error.detail if hasattr(error, "detail") else error).strip().splitlines()
        why = detail[-1] if detail else str(error)
        raise UserError(f"image {str(path)!r} cannot be read as a picture: {why}") from None
    except OSError as error:
        raise UserError(f"image {str(path)!r} cannot be opened: {error.strerror}") from None


def _refuse_bomb(picture: pyvips.Image, path: Path, max_megapixels: float) -> None:
    """Refuses by the header's size, before a pixel is decoded."""
    megapixels = picture.width * picture.height / 1e6
    if megapixels > max_megapixels:
        raise UserError(
            f"image {str(path)!r} is {picture.width} x {picture.height}, {megapixels:,.0f} megapixels: over the limit "
            f"source.max_megapixels={max_megapixels:g}; raise it if you trust the file"
        )


def _to_srgb(picture: pyvips.Image, background: list[int]) -> Pixels:
    """Any decoded picture as float32 sRGB, 0..255."""
    wide = picture.format in ("ushort", "short", "uint", "int") or picture.interpretation in ("rgb16", "grey16")
    if picture.get_typeof("icc-profile-data") != 0:
        picture = picture.icc_transform("srgb", embedded=True, depth=16 if wide else 8)
    elif picture.interpretation not in ("srgb", "rgb16", "b-w", "grey16", "multiband", "rgb"):
        picture = picture.colourspace("srgb")
    full = 65535.0 if picture.format == "ushort" else 255.0
    if picture.hasalpha():
        alpha = picture[picture.bands - 1].cast("float") / full
        colours = picture.extract_band(0, n=picture.bands - 1).cast("float")
        if colours.bands == 1:
            colours = colours.bandjoin([colours, colours])
        scaled = colours * (255.0 / full)
        picture = scaled * alpha + (alpha * -1.0 + 1.0) * background
    else:
        if picture.bands == 1:
            picture = picture.bandjoin([picture, picture])
        picture = picture.cast("float") * (255.0 / full)
    pixels = picture.extract_band(0, n=3).cast("float").numpy()
    return np.ascontiguousarray(np.clip(pixels, 0.0, 255.0), dtype=np.float32)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
