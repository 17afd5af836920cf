"""The picture that dreaming starts from, at any octave's size and by rectangles: a file, a sample photo, or noise."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from render.config.schema import SourceConfig
from render.dreaming.noise import fractal_noise
from render.dreaming.resample import Pixels
from render.errors import UserError
from render.geometry.geometry import Rect
from render.geometry.source_window import SourceWindow
from render.source.levels import Told
from render.source.photo import PhotoSource, open_picture, orientation, read_photo
from render.source.pyramid import PyramidSource
from render.storage.url import Place, checked_url
from render.storage.user_paths import input_path
from render.system.paths import file_sha256

#: Photos in the scikit-image package, CC0 or public domain: name of the sample -> file name.
SAMPLES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "hubble": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}

#: Most pixels of a file that is held in memory; they take 400 MB as float32.
IN_MEMORY = 32_000_000


class Source(Protocol):
    """The picture that the ascent starts from, the same at every octave."""

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) px, or None where the source has no size of its own."""

    @property
    def sha256(self) -> str:
        """Identifier of the content."""

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""

    def laid_out(self, window: SourceWindow | None, directory: Place) -> Source:
        """Return the source as the canvas shows it through `window`; its files go to `directory`, a path or URL."""

    def disk_bytes(self, shapes: Sequence[tuple[int, int]]) -> int:
        """Return the bytes on disk of the source's files for octaves of these (rows, columns) px."""

    def prepare(self, shape: tuple[int, int], told: Told = ...) -> None:
        """Prepare `at` for an octave of `shape`, in a single process; `told` receives progress messages."""

    def discard(self) -> None:
        """Remove the source's files from disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return the rectangle on a canvas of `shape` (rows, columns): (rows, columns, 3) float32 RGB, 0..255."""


@dataclass(frozen=True)
class NoiseSource:
    """Fractal noise, computed on demand."""

    seed: int
    size: None = None
    nbytes: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"fractal noise {self.seed}".encode()).hexdigest()

    def laid_out(self, _window: SourceWindow | None, _directory: Place) -> NoiseSource:
        return self

    def disk_bytes(self, _shapes: object) -> int:
        return 0

    def prepare(self, shape: tuple[int, int], told: object = None) -> None:
        """Do nothing: noise needs no preparation."""

    def discard(self) -> None:
        """Do nothing: no data is on disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        return fractal_noise(self.seed, shape, rect)


def open_source(image: str, seed: int, how: SourceConfig) -> Source:
    """Return the source that `image` names: `noise`, `sample:NAME`, or a path to a PNG, JPEG, WebP or TIFF file.

    A file of up to `IN_MEMORY` px is decoded at once, a larger one when its pixels are needed.

    Raises:
        UserError: the file is missing, unreadable, truncated (for a large one only later), or larger than
            `how.max_megapixels`.
    """
    if image == "noise":
        return NoiseSource(seed)
    path, digest = find_picture(image, "a path, sample:NAME or noise")
    picture, _ = open_picture(path, how)
    background = tuple(how.background)
    if picture.width * picture.height <= IN_MEMORY:
        return PhotoSource(read_photo(path, how), digest, background)
    return PyramidSource(path.absolute(), digest, (picture.height, picture.width), orientation(picture), background)


def find_picture(image: str, choices: str) -> tuple[Path, str]:
    """Return the file that `image` names, a path or `sample:NAME`, and its sha256.

    `choices` lists the allowed values of `image`, for messages.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = picture_path(image, choices)
    try:
        return path, file_sha256(path)
    except OSError as error:
        raise UserError(f"image {image!r} cannot be opened: {error.strerror}") from None


def picture_path(image: str, choices: str) -> Path:
    """Return the file that `image` names, like `find_picture`, without reading its content."""
    if checked_url(image, "image") is not None:
        return input_path(image, "image")
    try:
        path = sample_path(image.removeprefix("sample:")) if image.startswith("sample:") else Path(image).expanduser()
        if not path.exists():
            raise UserError(f"image {image!r} does not exist ({choices}; samples: {', '.join(SAMPLES)})")
        if path.is_dir():
            raise UserError(f"image {image!r} is a directory: name one picture in it")
        if not path.is_file():
            raise UserError(f"image {image!r} is not a file but a device or pipe: name a picture")
        return path
    except OSError as error:
        raise UserError(f"image {image!r} cannot be opened: {error.strerror}") from None
    except RuntimeError:
        raise UserError(f"image {image!r} begins with the home directory of a user who does not exist") from None


def sample_path(name: str) -> Path:
    """Return the path of the sample photo `name` in the installed scikit-image package."""
    if name not in SAMPLES:
        close_names = difflib.get_close_matches(name, SAMPLES, n=1)
        hint = f"did you mean sample:{close_names[0]}?" if close_names else "there are"
        raise UserError(f"there is no sample {name!r}: {hint} ({', '.join(SAMPLES)})")
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise UserError("sample photos need the scikit-image package: run `make setup`, or give image=PATH")
    return Path(package.origin).parent / "data" / SAMPLES[name]
