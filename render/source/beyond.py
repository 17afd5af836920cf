"""Reads a picture beyond its ends, where it is mirrored, repeated, or one colour, at its own size or shrunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from render.dream.resample import Pixels, ReadPixels
from render.geometry.geometry import Interval, Rect
from render.geometry.source_window import Beyond, SourceWindow, Span


@dataclass(frozen=True)
class Sampling:
    """One axis of a picture of `length` px, stored in `count` samples of `factor` px each, the first from `origin` px on.

    A last sample may cover less than the others. `origin` is 0 or, where the picture is stored back to front, below.
    """

    length: int
    count: int
    factor: float = 1.0
    origin: float = 0.0

    def span(self, span: Span) -> Span:
        """A span of the picture in samples instead of px."""
        return Span(self.count, (span.start - self.origin) / self.factor, span.extent / self.factor, span.beyond)

    @property
    def partial(self) -> tuple[int, float]:
        """Which sample may cover less than the others, and which share of it is picture."""
        covered = self.length - (self.count - 1) * self.factor
        return (0 if self.origin < 0 else self.count - 1), min(1.0, covered / self.factor)

    def positions(self, indices: Interval, beyond: Beyond) -> NDArray[np.float64]:
        """Where in [0, count - 1] each sample lies that may be beyond the ends; NaN where there is background.

        A mirrored or repeated sample of a shrunk picture may fall between two of those stored.
        """
        at = np.arange(*indices, dtype=np.float64)
        outside = (at < 0) | (at >= self.count)
        if not outside.any():
            return at
        if beyond == "background":
            return np.where(outside, np.nan, at)
        centres = self.origin + (at + 0.5) * self.factor - 0.5
        if beyond == "wrap":
            inside = centres % self.length
        else:
            period = max(1, 2 * self.length - 2)
            inside = centres % period
            inside = np.where(inside > self.length - 1, period - inside, inside)
        samples = (inside + 0.5 - self.origin) / self.factor - 0.5
        return np.where(outside, np.clip(samples, 0.0, self.count - 1.0), at)


def reading_beyond(
    read: ReadPixels, rows: Sampling, columns: Sampling, window: SourceWindow, background: Sequence[float]
) -> ReadPixels:
    """A reader of any rectangle of samples, from one of those that exist.

    `window` says what lies beyond each axis; `background` has a value for each of the channels that are read: of a
    photo R,G,B, 0..255. What is read at once is no larger than what was asked for.
    """
    stored = Rect(Interval(0, rows.count), Interval(0, columns.count))
    colour = np.asarray(background, np.float32)

    def read_stored(rect: Rect) -> Pixels:
        pixels = read(rect)
        for axis, (sampling, part, span) in enumerate(
            ((rows, rect.rows, window.rows), (columns, rect.columns, window.columns))
        ):
            index, share = sampling.partial
            if span.beyond == "background" and share < 1 and part.start <= index < part.stop:
                # The rest of this sample is background.
                pixels = pixels.copy()
                edge = np.moveaxis(pixels, axis, 0)[index - part.start]
                edge += (colour - edge) * np.float32(1 - share)
        return pixels

    def read_any(rect: Rect) -> Pixels:
        if stored.intersect(rect) == rect:
            return read_stored(rect)
        pixels = np.empty((*rect.shape, len(colour)), np.float32)
        pixels[...] = colour
        down = rows.positions(rect.rows, window.rows.beyond)
        across = columns.positions(rect.columns, window.columns.beyond)
        for part in _runs(down):
            for other in _runs(across):
                pixels[part, other] = _between(read_stored, down[part], across[other])
        return pixels

    return read_any


def _runs(positions: NDArray[np.float64]) -> Iterator[slice]:
    """The stretches of positions that lie side by side; those that are NaN are left out."""
    steps = np.abs(np.diff(positions))
    cuts = np.flatnonzero(~(steps < 1.5)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(positions)], strict=True):
        if not np.isnan(positions[start]):
            yield slice(start, stop)


def _between(read: ReadPixels, down: NDArray[np.float64], across: NDArray[np.float64]) -> Pixels:
    """The pixels at these rows and columns, in a straight line between the two nearest where they are no whole numbers."""
    wanted = Rect(*(Interval(int(np.floor(axis.min())), int(np.ceil(axis.max())) + 1) for axis in (down, across)))
    pixels = read(wanted)
    for axis, (position, first) in enumerate(((down, wanted.rows.start), (across, wanted.columns.start))):
        low, high = np.floor(position).astype(int), np.ceil(position).astype(int)
        nearer = pixels.take(low - first, axis)
        share = (position - low).astype(np.float32)
        if share.any():
            share = np.expand_dims(share, tuple(other for other in range(3) if other != axis))
            nearer = nearer * (1 - share) + pixels.take(high - first, axis) * share
        pixels = nearer
    return pixels
