"""A photo larger than memory: shrunk by 1, 2, 4, 8 ... into levels on disk, each made when first needed."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from render.dreaming.resample import Pixels, resample_window
from render.errors import UserError
from render.geometry.geometry import Interval, Rect
from render.geometry.source_window import SourceWindow
from render.source.beyond import Sampling, reading_beyond
from render.source.levels import Level, Told, level_bytes, write_level
from render.source.streaming import open_shrunk
from render.source.turning import TURNS, Turn
from render.storage.opening import open_storage
from render.storage.url import Place, joined
from render.system.paths import file_sha256

log = logging.getLogger(__name__)

#: Version of the rule that makes the levels; change it whenever the same file gives other levels.
_RULE = 2
#: Output pixels that are resampled at once, and their fewest columns: narrower pieces would read chunks twice.
_PIECE, _NARROWEST = 400_000, 1024
_LEVEL_NAME = re.compile(r"\.?level-\d+(\.partial)?")


@dataclass(frozen=True)
class PyramidSource:
    """A photo file that is read through levels in `directory` (a path or URL), shared by all processes that read it.

    `stored` is (height, width) px in the file, before it is turned upright by its EXIF `orientation`. `background` (R,G,B)
    lies under transparent pixels and around the picture. `window` is the part that the canvas shows, by default all of it.
    """

    path: Path
    sha256: str
    stored: tuple[int, int]
    orientation: int = 1
    background: tuple[int, ...] = (255, 255, 255)
    window: SourceWindow | None = None
    directory: Place | None = None
    nbytes: int = 0
    #: Levels that this process has opened; they are not pickled.
    _opened: dict[int, Level] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.stored
        return (width, height) if self._turn.transposed else (height, width)

    @property
    def _turn(self) -> Turn:
        return TURNS[self.orientation - 1]

    @property
    def _shown(self) -> SourceWindow:
        return self.window or SourceWindow.whole(self.size)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def laid_out(self, window: SourceWindow | None, directory: Place) -> PyramidSource:
        return replace(self, window=window, directory=directory, _opened={})

    def shrink_for(self, shape: tuple[int, int]) -> int:
        """Return the factor of the smallest level that is not smaller than an octave of (rows, columns) px."""
        shrink = 1
        while all(
            span.extent / (2 * shrink) >= length
            for span, length in zip((self._shown.rows, self._shown.columns), shape, strict=True)
        ):
            shrink *= 2
        return shrink

    def disk_bytes(self, shapes: Sequence[tuple[int, int]]) -> int:
        """Return the bytes on disk of the levels for octaves of these (rows, columns) px."""
        return sum(
            level_bytes((-(-self.stored[0] // shrink), -(-self.stored[1] // shrink)))
            for shrink in {self.shrink_for(shape) for shape in shapes}
        )

    def prepare(self, shape: tuple[int, int], told: Told = log.info) -> None:
        """Make the level that an octave of `shape` (rows, columns) px needs, if it does not exist yet.

        `told` receives progress messages, as this may take minutes. A failed call leaves no unfinished level.

        Raises:
            UserError: the file is damaged, or not the one that the run began with.
        """
        shrink = self.shrink_for(shape)
        path, identity = self._level_path(shrink), self._identity(shrink)
        level = Level.open(path)
        if level is not None and level.identity == identity:
            return
        size = "its full size" if shrink == 1 else f"1/{shrink} of its size"
        told(f"reading {self.path.name} at {size} ...")
        try:
            changed = file_sha256(self.path) != self.sha256
        except OSError as error:
            raise UserError(f"image {str(self.path)!r} cannot be read any more: {error.strerror}") from None
        if changed:
            raise UserError(f"image {str(self.path)!r} has changed since the run began: restore it, or start over")
        self._opened.pop(shrink, None)
        write_level(
            path,
            open_shrunk(self.path, self.background, shrink),
            identity,
            lambda share: told(f"reading {self.path.name} at {size}: {share}"),
        )

    def discard(self) -> None:
        """Remove all levels; the picture is finished."""
        self._opened.clear()
        if self.directory is not None:
            discard_levels(self.directory)

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle as `Source.at` does; `prepare` must have made the level.

        Memory is at most a few times the rectangle.
        """
        level, turn = self._level(self.shrink_for(shape)), self._turn
        samplings = [
            Sampling(length, count, factor, length - count * factor if flipped else 0.0)
            for length, count, factor, flipped in zip(
                self.stored, level.shape, level.factors, (turn.flip_rows, turn.flip_columns), strict=True
            )
        ]
        rows, columns = reversed(samplings) if turn.transposed else samplings
        shown = SourceWindow(rows.span(self._shown.rows), columns.span(self._shown.columns))
        read = reading_beyond(lambda part: _read_turned(level, turn, part), rows, columns, shown, self.background)
        pixels = np.empty((*rect.shape, 3), np.float32)
        for piece in _pieces(rect):
            pixels[piece.slices_from(rect)] = resample_window(read, shown, shape, piece)
        return np.clip(pixels, 0.0, 255.0, out=pixels)

    def _level(self, shrink: int) -> Level:
        if shrink not in self._opened:
            path = self._level_path(shrink)
            level = Level.open(path)
            if level is None or level.identity != self._identity(shrink):
                raise UserError(f"source level {path} is missing or of another picture: run the job again")
            self._opened[shrink] = level
        return self._opened[shrink]

    def _level_path(self, shrink: int) -> Place:
        assert self.directory is not None, "laid_out comes first"
        return joined(self.directory, f"level-{shrink}")

    def _identity(self, shrink: int) -> dict[str, Any]:
        """Return the attributes that identify a level's content and rule, as JSON returns them."""
        return {"sha256": self.sha256, "background": list(self.background), "shrink": shrink, "rule": _RULE}


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


def _read_turned(level: Level, turn: Turn, rect: Rect) -> Pixels:
    """Return a rectangle of an upright level, read from the rectangle of the file that it is turned from."""
    stored = Rect(rect.columns, rect.rows) if turn.transposed else rect
    flips = turn.flip_rows, turn.flip_columns
    rows, columns = (
        Interval(count - interval.stop, count - interval.start) if flipped else interval
        for interval, count, flipped in zip(stored, level.shape, flips, strict=True)
    )
    pixels = level.read(Rect(rows, columns))
    pixels = pixels[:: -1 if turn.flip_rows else 1, :: -1 if turn.flip_columns else 1]
    return pixels.transpose(1, 0, 2) if turn.transposed else pixels


def _pieces(rect: Rect) -> Iterator[Rect]:
    """Yield parts of a rectangle, so that the data read for one stays small: columns first, as it is itself a strip."""
    width = max(_NARROWEST, _PIECE // max(1, rect.rows.size))
    for left in range(*rect.columns, width):
        column = Rect(rect.rows, Interval(left, min(left + width, rect.columns.stop)))
        yield from column.bands(_PIECE)
