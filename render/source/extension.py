"""Extension of a picture beyond its ends, where it is mirrored, repeated or one colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels, ReadPixels
from render.geometry.geometry import Interval, Rect
from render.geometry.source_window import SourceWindow
from render.source.sampling import Sampling


def extend_reader(
    read: ReadPixels, rows: Sampling, columns: Sampling, window: SourceWindow, background: Sequence[float]
) -> ReadPixels:
    """Return a reader of any rectangle of samples, also beyond the ends of the picture.

    Args:
        read: Reader of the samples that exist.
        rows: Sampling of the picture's rows.
        columns: Sampling of the picture's columns.
        window: Window in samples; it has the rule beyond the ends of each axis.
        background: One value for each channel in the value range of the samples; for a photo R,G,B, 0..255.

    Returns:
        A function of a rectangle of samples. It never reads more at once than the size of the requested rectangle.
    """
    stored = Rect(Interval(0, rows.count), Interval(0, columns.count))
    colour = np.asarray(background, np.float32)

    def read_stored(rect: Rect) -> Pixels:
        """Read existing samples; where one reaches beyond the picture, mix in background."""
        pixels = read(rect)
        for axis, (sampling, interval, span) in enumerate(
            ((rows, rect.rows, window.rows), (columns, rect.columns, window.columns))
        ):
            index, share = sampling.partial_sample
            if span.beyond == "background" and share < 1 and interval.start <= index < interval.stop:
                pixels = pixels.copy()
                edge = np.moveaxis(pixels, axis, 0)[index - interval.start]
                edge += (colour - edge) * np.float32(1 - share)
        return pixels

    def read_extended(rect: Rect) -> Pixels:
        """Read any rectangle of samples."""
        if stored.intersect(rect) == rect:
            return read_stored(rect)
        pixels = np.empty((*rect.shape, len(colour)), np.float32)
        pixels[...] = colour
        row_positions = rows.inside_positions(rect.rows, window.rows.beyond)
        column_positions = columns.inside_positions(rect.columns, window.columns.beyond)
        for row_run in _adjacent_runs(row_positions):
            for column_run in _adjacent_runs(column_positions):
                pixels[row_run, column_run] = _interpolate(
                    read_stored, row_positions[row_run], column_positions[column_run]
                )
        return pixels

    return read_extended


def _adjacent_runs(positions: NDArray[np.float64]) -> Iterator[slice]:
    """Yield the stretches of adjacent positions, without those that are NaN."""
    steps = np.abs(np.diff(positions))
    cuts = np.flatnonzero(~(steps < 1.5)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(positions)], strict=True):
        if not np.isnan(positions[start]):
            yield slice(start, stop)


def _interpolate(read: ReadPixels, row_positions: NDArray[np.float64], column_positions: NDArray[np.float64]) -> Pixels:
    """Return the pixels at these positions, interpolated linearly between samples."""
    bounds = Rect(
        *(Interval(int(np.floor(axis.min())), int(np.ceil(axis.max())) + 1) for axis in (row_positions, column_positions))
    )
    pixels = read(bounds)
    for axis, (positions, first) in enumerate(
        ((row_positions, bounds.rows.start), (column_positions, bounds.columns.start))
    ):
        low, high = np.floor(positions).astype(int), np.ceil(positions).astype(int)
        interpolated = pixels.take(low - first, axis)
        share = (positions - low).astype(np.float32)
        if share.any():
            share = np.expand_dims(share, tuple(dimension for dimension in range(3) if dimension != axis))
            interpolated = interpolated * (1 - share) + pixels.take(high - first, axis) * share
        pixels = interpolated
    return pixels
