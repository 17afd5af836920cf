"""Part of a stored canvas as the source of a dream, at any octave, and an area as its mask.

Workers read what they need of the canvas by global coordinates, so that pixels depend neither on the deal of blocks nor on
the part. Coordinates beyond the canvas' ends repeat it on axes that wrap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels, ReadPixels, resample_window
from render.geometry.geometry import AxisMode, Interval, Rect, boundary_runs
from render.geometry.source_window import SourceWindow, Span
from render.storage.url import Place
from render.touch.areas import Area, Weights

#: Most pixels of a stored canvas that are read at once: 100 MB.
_MAX_READ_PX = 8_000_000


@dataclass(frozen=True)
class CanvasPart:
    """Part of a stored canvas at one octave: the source of a run over this part. See `SourceChange`.

    Attributes:
        path: Path or URL of the canvas, absolute.
        token: Its token.
        shape: Its (rows, columns) px.
        modes: Behaviour of its rows and columns at their ends.
        octave_shape: (rows, columns) px of the whole canvas at the octave.
        window: The part, px of the octave.
    """

    path: Place
    token: str
    shape: tuple[int, int]
    modes: tuple[AxisMode, AxisMode]
    octave_shape: tuple[int, int]
    window: Rect

    def applied_to(self, _source: object) -> PartPixels:
        """Return the part's pixels: the job's own source is not used."""
        return PartPixels(self)


class PartPixels:
    """Pixels of a part of a canvas: see `Source.at`."""

    def __init__(self, part: CanvasPart) -> None:
        """Store the part; nothing is read yet."""
        self._part = part

    def at(self, _shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the part at its octave: (rows, columns, 3) float32, 0..255.

        Raises:
            DamagedCheckpoint: The canvas cannot be read.
        """
        return self.whole_at(shifted(rect, self._part.window))

    def whole_at(self, rect: Rect) -> Pixels:
        """Return a rectangle of the whole canvas at the octave."""
        part = self._part
        if part.octave_shape == part.shape:
            return read_repeated(self._store.read, part.shape, part.modes, rect)
        shrink = _shrink(part.shape, part.octave_shape)
        lengths = tuple(-(-length // shrink) for length in part.shape)
        window = SourceWindow(
            *(
                Span(count, 0.0, length / shrink, "wrap" if mode == "wrap" else "cut")
                for count, length, mode in zip(lengths, part.shape, part.modes, strict=True)
            )
        )

        def read(wanted: Rect) -> Pixels:
            level = (lengths[0], lengths[1])
            return read_repeated(
                lambda inner: _shrunk(self._store.read, part.shape, shrink, inner), level, part.modes, wanted
            )

        pixels = resample_window(read, window, part.octave_shape, rect)
        return np.clip(pixels, 0.0, 255.0, out=pixels)

    @cached_property
    def _store(self) -> CanvasStore:
        return CanvasStore(self._part.path, self._part.token)


@dataclass(frozen=True)
class PartMask:
    """An area as the mask of a run over a part of the canvas: see `MaskOfPixels`.

    Attributes:
        area: The area.
        octave_shape: (rows, columns) px of the whole canvas at the octave.
        window: The part, px of the octave.
    """

    area: Area = field(repr=False)
    octave_shape: tuple[int, int]
    window: Rect

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""
        return self.area.nbytes

    def at(self, _shape: tuple[int, int], rect: Rect) -> Weights:
        """Return a rectangle of the mask: (rows, columns) float32, 0..1; 0 beyond the canvas' ends."""
        outer = shifted(rect, self.window)
        rows, columns = self.octave_shape
        inner = outer.intersect(Rect(Interval(0, rows), Interval(0, columns)))
        weights = np.zeros(rect.shape, np.float32)
        if inner.area:
            weights[inner.slices_from(outer)] = self.area.region(self.octave_shape, inner)
        return weights


def shifted(rect: Rect, window: Rect) -> Rect:
    """Return a rectangle of a window as one of what the window is cut from."""
    return Rect(rect.rows.shifted(window.rows.start), rect.columns.shifted(window.columns.start))


def read_repeated(read: ReadPixels, shape: tuple[int, int], modes: tuple[AxisMode, AxisMode], rect: Rect) -> Pixels:
    """Return a rectangle that may reach beyond a picture of (rows, columns) px, which is continued there by `modes`."""
    if Rect(Interval(0, shape[0]), Interval(0, shape[1])).intersect(rect) == rect:
        return read(rect)
    pixels = np.empty((*rect.shape, 3), np.float32)
    for down in boundary_runs(rect.rows, shape[0], modes[0]):
        for across in boundary_runs(rect.columns, shape[1], modes[1]):
            piece = read(Rect(down.source, across.source))
            piece = piece[:: -1 if down.reversed else 1, :: -1 if across.reversed else 1]
            pixels[Rect(down.target, across.target).slices_from(rect)] = piece
    return pixels


def _shrink(shape: tuple[int, int], octave_shape: tuple[int, int]) -> int:
    """Return the largest power of two by which a canvas may be shrunk before it is resampled to an octave."""
    shrink = 1
    while all(length / (2 * shrink) >= small for length, small in zip(shape, octave_shape, strict=True)):
        shrink *= 2
    return shrink


def _shrunk(read: ReadPixels, shape: tuple[int, int], shrink: int, rect: Rect) -> Pixels:
    """Return a rectangle of a canvas that is halved until it is shrunk by `shrink`.

    Sums are taken pair by pair, so that the parts of a rectangle are bit-identical to the whole.
    """
    if shrink == 1:
        return read(rect)
    pixels = np.empty((*rect.shape, 3), np.float32)
    for piece in _pieces(rect, shrink):
        pixels[piece.slices_from(rect)] = _halved(read, shape, shrink, piece)
    return pixels


def _pieces(rect: Rect, shrink: int) -> list[Rect]:
    """Return the squares of a rectangle that are read at once."""
    side = max(1, int(_MAX_READ_PX**0.5) // shrink)
    return [
        Rect(
            Interval(top, min(top + side, rect.rows.stop)), Interval(left, min(left + side, rect.columns.stop))
        )
        for top in range(*rect.rows, side)
        for left in range(*rect.columns, side)
    ]  # fmt: skip


def _halved(read: ReadPixels, shape: tuple[int, int], shrink: int, rect: Rect) -> Pixels:
    """Return a small rectangle of a shrunk canvas, whose last row and column are repeated where they have no pair."""
    rows, columns = (
        Interval(span.start * shrink, min(span.stop * shrink, length)) for span, length in zip(rect, shape, strict=True)
    )
    pixels = read(Rect(rows, columns))
    while shrink > 1:
        pixels = _pairs(_pairs(pixels, 0), 1)
        shrink //= 2
    return pixels


def _pairs(pixels: Pixels, axis: int) -> Pixels:
    """Return the means of pairs of rows (axis 0) or columns (axis 1)."""
    pixels = np.moveaxis(pixels, axis, 0)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    return np.moveaxis((pixels[0::2] + pixels[1::2]) * np.float32(0.5), 0, axis)
