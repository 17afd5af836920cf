"""Sampling of a picture's axes: pixels of the picture against samples of a shrunk copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from render.geometry.geometry import Interval
from render.geometry.source_window import Beyond, Span
from render.source.orientation import Orientation


@dataclass(frozen=True)
class Sampling:
    """One axis of a picture: `length` px stored in `count` samples of `factor` px each.

    The first sample begins at pixel `origin`: 0, or below 0 if the axis is flipped. The sample at the other end of the
    file may cover fewer pixels than the others.
    """

    length: int
    count: int
    factor: float = 1.0
    origin: float = 0.0

    def to_samples(self, span: Span) -> Span:
        """Convert a span of the picture from px to samples."""
        return Span(self.count, (span.start - self.origin) / self.factor, span.extent / self.factor, span.beyond)

    @property
    def partial_sample(self) -> tuple[int, float]:
        """Index of the sample at the far end, and the share of it, in (0, 1], that is picture."""
        covered = self.length - (self.count - 1) * self.factor
        return (0 if self.origin < 0 else self.count - 1), min(1.0, covered / self.factor)

    def inside_positions(self, indices: Interval, beyond: Beyond) -> NDArray[np.float64]:
        """Return the position among the stored samples at which each sample is to be read.

        Args:
            indices: Samples, some of which may lie beyond the ends.
            beyond: Content beyond the ends: background, wrap, or else mirrored.

        Returns:
            (indices.size,) float64 in [0, count - 1]; NaN for background. A mirrored or repeated sample of a shrunk picture
            may fall between two stored samples.
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


def upright_samplings(
    stored_shape: tuple[int, int], sample_shape: tuple[int, int], factors: Sequence[float], orientation: Orientation
) -> tuple[Sampling, Sampling]:
    """Return the samplings of the rows and columns of an upright picture.

    Args:
        stored_shape: (height, width) px in the file, before the picture is turned.
        sample_shape: (height, width) of the samples, as in the file.
        factors: Px of the picture per sample along the file's (rows, columns).
        orientation: Steps that turn the picture upright.
    """
    # The last sample, which may cover less, comes first if the axis is flipped.
    rows, columns = (
        Sampling(length, count, factor, length - count * factor if flipped else 0.0)
        for length, count, factor, flipped in zip(stored_shape, sample_shape, factors, orientation.flips, strict=True)
    )
    return (columns, rows) if orientation.transposed else (rows, columns)
