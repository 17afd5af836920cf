"""The picture that dreaming starts from, at any octave's size and by rectangles: a file, a sample photo, or noise."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from render.config.schema import Config, SourceConfig
from render.dream.noise import fractal_noise
from render.dream.resample import Pixels
from render.errors import UserError
from render.geometry.geometry import BOUNDARY_MODES, Rect
from render.geometry.source_window import SourceWindow
from render.planning.layout import lay_out
from render.source.levels import Told
from render.source.photo import PhotoSource, open_picture, orientation, read_photo
from render.source.pyramid import PyramidSource
from render.storage.url import Place, checked_url
from render.storage.user_paths import input_path
from render.system.paths import file_sha256

#: Photos that ship inside the scikit-image package, CC0 or public domain: name here -> file there.
SAMPLES = {
    "astronaut": "astronaut.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "hubble": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}

#: Pixels of a file up to which it is held in memory, as 400 MB of float32.
IN_MEMORY = 32_000_000


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

    def laid_out(self, window: SourceWindow | None, directory: Place) -> Source:
        """The same source, shown on the canvas through a window; what it keeps goes to `directory`, also a URL."""

    def disk_bytes(self, shapes: Sequence[tuple[int, int]]) -> int:
        """What it keeps on disk for octaves of these (rows, columns) px, bytes."""

    def prepare(self, shape: tuple[int, int], told: Told = ...) -> None:
        """Makes ready what `at` needs for an octave of `shape`, in one process alone; `told` hears of what takes long."""

    def discard(self) -> None:
        """Removes what it keeps on disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """The rectangle of the source as a canvas of `shape` shows it: (rows, columns, 3) float32 RGB, 0..255."""


@dataclass(frozen=True)
class NoiseSource:
    """Fractal noise, computed where it is asked for."""

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
        """Nothing is to be done."""

    def discard(self) -> None:
        """Nothing is on disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        return fractal_noise(self.seed, shape, rect)


def open_source(image: str, seed: int, how: SourceConfig) -> Source:
    """The source that `image` names: `noise`, `sample:NAME`, or a path to a PNG, JPEG, WebP or TIFF file.

    A file of up to `IN_MEMORY` px is decoded at once, a larger one when its pixels are asked for. Raises `UserError` for a
    file that is missing, unreadable, truncated (a large one: only later), or larger than `how.max_megapixels`.
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
    """The file that `image` names, a path or `sample:NAME`, and its sha256; `choices` says what else it may be.

    Raises `UserError` for what is no file, or cannot be read.
    """
    path = picture_path(image, choices)
    try:
        return path, file_sha256(path)
    except OSError as error:
        raise UserError(f"image {image!r} cannot be opened: {error.strerror}") from None


def picture_path(image: str, choices: str) -> Path:
    """The file that `image` names, as `find_picture` finds it, without a look at its content."""
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


def reopen_source(config: Config, sha256: str | None, levels: Path) -> Source | None:
    """The source that a run was dreamed from, laid out as it was then; None where it is gone or has other content.

    A record may come from somebody else: no URL of it is fetched, and a file is decoded only once its content is known to
    be what the record says. `levels` is a directory for what a source larger than memory keeps.
    """
    try:
        if config.image != "noise":
            if checked_url(config.image, "image") is not None:
                return None
            if find_picture(config.image, "a path, sample:NAME or noise")[1] != sha256:
                return None
        # What the user trusts a file of today's with, a record does not say.
        most = min(config.source.max_megapixels, SourceConfig.max_megapixels)
        source = open_source(config.image, config.seed, replace(config.source, max_megapixels=most))
        layout = lay_out(config.output, source.size, BOUNDARY_MODES[config.boundary.mode])
    except UserError:
        return None
    return source.laid_out(layout.window, levels) if source.sha256 == sha256 else None


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
