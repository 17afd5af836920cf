"""The picture that dreaming starts from: a file, a sample photo, or noise."""

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
from render.source.levels import OnProgress
from render.source.orientation import ORIENTATIONS, read_orientation
from render.source.photo import PhotoSource, open_picture, read_photo
from render.source.pyramid import PyramidSource
from render.storage.url import Place, checked_url
from render.storage.user_paths import input_path
from render.system.paths import file_sha256

#: Sample pictures: file name by name. The photos, CC0 or public domain, are in the scikit-image package.
SAMPLES = {
    "astronaut": "astronaut.png",
    "brush": "brush.jpg",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "hubble": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
#: Samples that a program drew; their files are in `samples`, beside this one.
_DRAWN = frozenset({"brush"})

#: Largest picture that is held in memory, px; it takes 400 MB as float32.
MAX_IN_MEMORY_PX = 32_000_000


class Source(Protocol):
    """The picture that gradient ascent starts from; immutable, and the same at every octave."""

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) px, upright; None if the source has no size of its own."""

    @property
    def sha256(self) -> str:
        """Digest that identifies the content."""

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""

    def laid_out(self, window: SourceWindow | None, directory: Place) -> Source:
        """Return the source as the canvas shows it.

        Args:
            window: Part of the source that the canvas shows; None for all of it.
            directory: Path or URL for the files of a source larger than memory.
        """

    def disk_bytes(self, shapes: Sequence[tuple[int, int]]) -> int:
        """Return the bytes on disk of the source's files for octaves of these (rows, columns) px."""

    def prepare(self, shape: tuple[int, int], on_progress: OnProgress = ...) -> None:
        """Make the files that `at` needs for an octave; call it in one process only.

        Args:
            shape: (rows, columns) px of the octave.
            on_progress: Receiver of progress messages.
        """

    def discard(self) -> None:
        """Remove the source's files from disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the source, resampled to an octave.

        The parts of a rectangle are bit-identical to the whole.

        Args:
            shape: (rows, columns) px of the octave.
            rect: Rectangle of the octave.

        Returns:
            (rect.rows.size, rect.columns.size, 3) float32 sRGB, 0..255.
        """


@dataclass(frozen=True)
class NoiseSource:
    """Fractal noise, computed on demand."""

    seed: int
    size: None = None
    nbytes: int = 0

    @property
    def sha256(self) -> str:
        """Digest of the seed."""
        return hashlib.sha256(f"fractal noise {self.seed}".encode()).hexdigest()

    def laid_out(self, _window: SourceWindow | None, _directory: Place) -> NoiseSource:
        """Return the noise itself: it fills any canvas."""
        return self

    def disk_bytes(self, _shapes: object) -> int:
        """Return 0: noise has no files."""
        return 0

    def prepare(self, shape: tuple[int, int], on_progress: object = None) -> None:
        """Do nothing: noise needs no preparation."""

    def discard(self) -> None:
        """Do nothing: no data is on disk."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the noise at the size of an octave; see `Source.at`."""
        return fractal_noise(self.seed, shape, rect)


def open_source(image: str, seed: int, source_config: SourceConfig) -> Source:
    """Open the source that `image` names.

    A file of up to `MAX_IN_MEMORY_PX` px is decoded at once, a larger one when its pixels are needed.

    Args:
        image: `noise`, `sample:NAME`, or a path to a PNG, JPEG, WebP or TIFF file.
        seed: Seed of the noise.
        source_config: Background and size limit.

    Raises:
        UserError: the file is missing, unreadable, truncated (for a large one only later), or larger than
            `source_config.max_megapixels`.
    """
    if image == "noise":
        return NoiseSource(seed)
    path, digest = find_picture(image, "a path, sample:NAME or noise")
    picture, _ = open_picture(path, source_config)
    background = tuple(source_config.background)
    if picture.width * picture.height <= MAX_IN_MEMORY_PX:
        return PhotoSource(read_photo(path, source_config), digest, background)
    return PyramidSource(path.absolute(), digest, (picture.height, picture.width), read_orientation(picture), background)


def open_source_size(path: Path, source_config: SourceConfig) -> tuple[int, int]:
    """Return (height, width) px, upright, of a picture file by its header; raise `UserError` if it is none."""
    picture, _ = open_picture(path, source_config)
    size = (picture.height, picture.width)
    return size[::-1] if ORIENTATIONS[read_orientation(picture) - 1].transposed else size


def find_picture(image: str, choices: str) -> tuple[Path, str]:
    """Return the file that `image` names, and its sha256.

    Args:
        image: A path or `sample:NAME`.
        choices: The allowed values of `image`, for messages.

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
    """Return the path of the sample picture `name`.

    Raises:
        UserError: there is no such sample, or it is a photo and scikit-image is not installed.
    """
    if name not in SAMPLES:
        close_names = difflib.get_close_matches(name, SAMPLES, n=1)
        hint = f"did you mean sample:{close_names[0]}?" if close_names else "there are"
        raise UserError(f"there is no sample {name!r}: {hint} ({', '.join(SAMPLES)})")
    if name in _DRAWN:
        return Path(__file__).parent / "samples" / SAMPLES[name]
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise UserError("sample photos need the scikit-image package: run `make setup`, or give image=PATH")
    return Path(package.origin).parent / "data" / SAMPLES[name]
