"""Reader of a picture beyond its ends, where it is mirrored, repeated or one colour; at full size or shrunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels, ReadPixels
from render.geometry.geometry import Interval, Rect
from render.geometry.source_window import Beyond, SourceWindow, Span


@dataclass(frozen=True)
class Sampling:
    """One axis of a picture: `length` px stored in `count` samples of `factor` px each.

    The first sample begins at pixel `origin`: 0, or below 0 where the picture is stored back to front. The sample at one
    end may cover fewer pixels than the rest.
    """

    length: int
    count: int
    factor: float = 1.0
    origin: float = 0.0

    def span(self, span: Span) -> Span:
        """Return a span of the picture in samples instead of px."""
        return Span(self.count, (span.start - self.origin) / self.factor, span.extent / self.factor, span.beyond)

    @property
    def partial(self) -> tuple[int, float]:
        """Index of the sample that may cover less than the others, and the share of it (0..1] that is picture."""
        covered = self.length - (self.count - 1) * self.factor
        return (0 if self.origin < 0 else self.count - 1), min(1.0, covered / self.factor)

    def positions(self, indices: Interval, beyond: Beyond) -> NDArray[np.float64]:
        """Return the position in [0, count - 1] of each sample that may lie beyond the ends; NaN for background.

        A mirrored or repeated sample of a shrunk picture may fall between two stored samples.
        """
        positions = np.arange(*indices, dtype=np.float64)
        outside = (positions < 0) | (positions >= self.count)
        if not outside.any():
            return positions
        if beyond == "background":
            return np.where(outside, np.nan, positions)
        centres = self.origin + (positions + 0.5) * self.factor - 0.5
        if beyond == "wrap":
            inside = centres % self.length
        else:
            period = max(1, 2 * self.length - 2)
            inside = centres % period
            inside = np.where(inside > self.length - 1, period - inside, inside)
        samples = (inside + 0.5 - self.origin) / self.factor - 0.5
        return np.where(outside, np.clip(samples, 0.0, self.count - 1.0), positions)


def reading_beyond(
    read: ReadPixels, rows: Sampling, columns: Sampling, window: SourceWindow, background: Sequence[float]
) -> ReadPixels:
    """Return a reader of any rectangle of samples, given `read`, a reader of the samples that exist.

    `window` has the rule beyond each axis; `background` has one value per channel, for a photo R,G,B, 0..255. The reader
    never reads more at once than the size of the requested rectangle.
    """
    stored = Rect(Interval(0, rows.count), Interval(0, columns.count))
    colour = np.asarray(background, np.float32)

    def read_stored(rect: Rect) -> Pixels:
        pixels = read(rect)
        for axis, (sampling, interval, span) in enumerate(
            ((rows, rect.rows, window.rows), (columns, rect.columns, window.columns))
        ):
            index, share = sampling.partial
            if span.beyond == "background" and share < 1 and interval.start <= index < interval.stop:
                # The picture ends within this sample; the remainder is background.
                pixels = pixels.copy()
                edge = np.moveaxis(pixels, axis, 0)[index - interval.start]
                edge += (colour - edge) * np.float32(1 - share)
        return pixels

    def read_any(rect: Rect) -> Pixels:
        if stored.intersect(rect) == rect:
            return read_stored(rect)
        pixels = np.empty((*rect.shape, len(colour)), np.float32)
        pixels[...] = colour
        down = rows.positions(rect.rows, window.rows.beyond)
        across = columns.positions(rect.columns, window.columns.beyond)
        for interval in _runs(down):
            for column_run in _runs(across):
                pixels[interval, column_run] = _between(read_stored, down[interval], across[column_run])
        return pixels

    return read_any


def _runs(positions: NDArray[np.float64]) -> Iterator[slice]:
    """Yield the stretches of adjacent positions, without those that are NaN."""
    steps = np.abs(np.diff(positions))
    cuts = np.flatnonzero(~(steps < 1.5)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(positions)], strict=True):
        if not np.isnan(positions[start]):
            yield slice(start, stop)


def _between(read: ReadPixels, down: NDArray[np.float64], across: NDArray[np.float64]) -> Pixels:
    """Return the pixels at these rows and columns, interpolated linearly where a position is not a whole number."""
    bounds = Rect(*(Interval(int(np.floor(axis.min())), int(np.ceil(axis.max())) + 1) for axis in (down, across)))
    pixels = read(bounds)
    for axis, (position, first) in enumerate(((down, bounds.rows.start), (across, bounds.columns.start))):
        low, high = np.floor(position).astype(int), np.ceil(position).astype(int)
        nearer = pixels.take(low - first, axis)
        share = (position - low).astype(np.float32)
        if share.any():
            share = np.expand_dims(share, tuple(dimension for dimension in range(3) if dimension != axis))
            nearer = nearer * (1 - share) + pixels.take(high - first, axis) * share
        pixels = nearer
    return pixels
