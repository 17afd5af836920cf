"""A photo larger than memory: levels on disk, shrunk by 1, 2, 4 ..., made on demand."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from render.dreaming.resample import Pixels, ReadPixels, Samples, resample_window
from render.errors import UserError
from render.geometry.geometry import Interval, Rect
from render.geometry.source_window import SourceWindow
from render.source.extension import extend_reader
from render.source.levels import Level, OnProgress, level_bytes, write_level
from render.source.orientation import ORIENTATIONS, Orientation
from render.source.sampling import Sampling, upright_samplings
from render.source.streaming import ShrunkPicture, open_shrunk
from render.storage.opening import open_storage
from render.storage.url import Place, joined
from render.system.paths import file_sha256

log = logging.getLogger(__name__)

#: Version of the rule that makes the levels; change it whenever the same file gives other levels.
_RULE_VERSION = 2
#: Most output pixels that are resampled at once, and their fewest columns: narrower pieces would read chunks twice.
_MAX_PIECE_PX, _MIN_PIECE_COLUMNS = 400_000, 1024
_LEVEL_NAME = re.compile(r"\.?level-\d+(\.partial)?")


@dataclass(frozen=True)
class PyramidSource:
    """A photo file that is read through levels on disk; see the protocol `Source`.

    Attributes:
        path: The file.
        sha256: Digest of the file.
        stored_shape: (height, width) px in the file, before it is turned upright.
        orientation: EXIF orientation, 1 (upright) to 8.
        background: R,G,B, 0..255, under transparent pixels and around the picture.
        window: Part that the canvas shows; None for all of it.
        directory: Path or URL of the levels; None before `laid_out`.
        nbytes: Host memory held, bytes.
    """

    path: Path
    sha256: str
    stored_shape: tuple[int, int]
    orientation: int = 1
    background: tuple[int, ...] = (255, 255, 255)
    window: SourceWindow | None = None
    directory: Place | None = None
    nbytes: int = 0
    #: Levels that this process has opened; they are not pickled.
    _opened: dict[int, Level] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) px, upright."""
        height, width = self.stored_shape
        return (width, height) if self._steps.transposed else (height, width)

    @property
    def _steps(self) -> Orientation:
        """Steps from the stored picture to upright."""
        return ORIENTATIONS[self.orientation - 1]

    @property
    def _window(self) -> SourceWindow:
        """Part that the canvas shows, in px of the upright picture."""
        return self.window or SourceWindow.whole(self.size)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to be pickled, without open levels."""
        return {**self.__dict__, "_opened": {}}

    def laid_out(self, window: SourceWindow | None, directory: Place) -> Self:
        """Return the photo as the canvas shows it, with its levels in `directory`."""
        return replace(self, window=window, directory=directory, _opened={})

    def shrink_for(self, shape: tuple[int, int]) -> int:
        """Return the factor of the smallest level at least as large as an octave of `shape`."""
        shrink = 1
        while all(
            span.extent / (2 * shrink) >= length
            for span, length in zip((self._window.rows, self._window.columns), shape, strict=True)
        ):
            shrink *= 2
        return shrink

    def disk_bytes(self, shapes: Sequence[tuple[int, int]]) -> int:
        """Return the bytes on disk of the levels for octaves of these (rows, columns) px."""
        return sum(
            level_bytes((-(-self.stored_shape[0] // shrink), -(-self.stored_shape[1] // shrink)))
            for shrink in {self.shrink_for(shape) for shape in shapes}
        )

    def prepare(self, shape: tuple[int, int], on_progress: OnProgress = log.info) -> None:
        """Make the level that an octave of `shape` (rows, columns) px needs, unless it exists.

        This may take minutes. A failed call leaves no unfinished level.

        Raises:
            UserError: the file is damaged, or not the one that the run began with.
        """
        shrink = self.shrink_for(shape)
        path, identity = self._level_path(shrink), self._identity(shrink)
        level = Level.open(path)
        if level is not None and level.identity == identity:
            return
        size = "its full size" if shrink == 1 else f"1/{shrink} of its size"
        on_progress(f"reading {self.path.name} at {size} ...")
        try:
            changed = file_sha256(self.path) != self.sha256
        except OSError as error:
            raise UserError(f"image {str(self.path)!r} cannot be read any more: {error.strerror}") from None
        if changed:
            raise UserError(f"image {str(self.path)!r} has changed since the run began: restore it, or start over")
        self._opened.pop(shrink, None)
        write_level(
            path,
            self._shrunk(shrink),
            identity,
            lambda share: on_progress(f"reading {self.path.name} at {size}: {share}"),
        )

    def discard(self) -> None:
        """Remove all levels; the picture is finished."""
        self._opened.clear()
        if self.directory is not None:
            discard_levels(self.directory)

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the photo, resampled to an octave; see `Source.at`.

        `prepare` must have made the level. Memory is at most a few times the rectangle.
        """
        samples = self.samples(shape)
        pixels = np.empty((*rect.shape, 3), np.float32)
        for piece in _pieces(rect):
            pixels[piece.slices_from(rect)] = resample_window(samples.read, samples.window, shape, piece)
        return np.clip(pixels, 0.0, 255.0, out=pixels)

    def samples(self, shape: tuple[int, int]) -> Samples:
        """Return the samples that `at` resamples: those of the octave's level."""
        read, rows, columns, window = self.stored_samples(shape)
        return Samples(extend_reader(read, rows, columns, window, self.background), window)

    def stored_samples(self, shape: tuple[int, int]) -> tuple[ReadPixels, Sampling, Sampling, SourceWindow]:
        """Return a reader of the octave's level, upright, the samplings of its rows and columns, and the window in them."""
        level, steps = self._level(self.shrink_for(shape)), self._steps
        rows, columns = upright_samplings(self.stored_shape, level.shape, level.factors, steps)
        window = SourceWindow(rows.to_samples(self._window.rows), columns.to_samples(self._window.columns))
        return lambda part: _read_upright(level, steps, part), rows, columns, window

    def _shrunk(self, shrink: int) -> ShrunkPicture:
        """Return the file to be decoded, `shrink` times smaller."""
        return open_shrunk(self.path, self.background, shrink)

    def _level(self, shrink: int) -> Level:
        """Return an open level; raise `UserError` if it is missing or of another picture."""
        if shrink not in self._opened:
            path = self._level_path(shrink)
            level = Level.open(path)
            if level is None or level.identity != self._identity(shrink):
                raise UserError(f"source level {path} is missing or of another picture: run the job again")
            self._opened[shrink] = level
        return self._opened[shrink]

    def _level_path(self, shrink: int) -> Place:
        """Return the path or URL of a level."""
        assert self.directory is not None, "laid_out comes first"
        return joined(self.directory, f"level-{shrink}")

    def _identity(self, shrink: int) -> dict[str, Any]:
        """Return the attributes that identify a level's content and rule, as JSON returns them."""
        return {"sha256": self.sha256, "background": list(self.background), "shrink": shrink, "rule": _RULE_VERSION}


def discard_levels(directory: Place) -> None:
    """Remove the levels in a directory, and the directory if nothing else is in it."""
    if not isinstance(directory, Path):
        storage = open_storage(directory, patient=True)
        for name in storage.children():
            if _LEVEL_NAME.fullmatch(name):
                storage.remove_tree(name)
        return
    for path in directory.glob("*level-*"):
        if _LEVEL_NAME.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        directory.rmdir()


def _read_upright(level: Level, steps: Orientation, rect: Rect) -> Pixels:
    """Return a rectangle of a level as if the level were stored upright."""
    stored_rect = Rect(rect.columns, rect.rows) if steps.transposed else rect
    rows, columns = (
        Interval(count - interval.stop, count - interval.start) if flipped else interval
        for interval, count, flipped in zip(stored_rect, level.shape, steps.flips, strict=True)
    )
    return steps.apply(level.read(Rect(rows, columns)))


def _pieces(rect: Rect) -> Iterator[Rect]:
    """Yield the parts in which a rectangle is resampled, to bound the data read for each.

    It is first cut along its columns, because a rectangle is usually a strip.
    """
    width = max(_MIN_PIECE_COLUMNS, _MAX_PIECE_PX // max(1, rect.rows.size))
    for left in range(*rect.columns, width):
        column = Rect(rect.rows, Interval(left, min(left + width, rect.columns.stop)))
        yield from column.bands(_MAX_PIECE_PX)
