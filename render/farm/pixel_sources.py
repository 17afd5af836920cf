"""Pictures that workers read while they dream: the source, what a single run makes of it, and masks."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from render.dreaming.resample import Pixels
from render.geometry.geometry import Rect


class SourceOfPixels(Protocol):
    """The part of `source.source.Source` that a worker uses."""

    def at(self, shape: tuple[int, int], rect: Rect) -> Pixels:
        """Return a rectangle of the source resampled to `shape`: (rows, columns, 3) float32 RGB, 0..255."""


class MaskOfPixels(Protocol):
    """The part of `source.mask.Mask` that a worker uses."""

    def at(self, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
        """Return a rectangle of the mask resampled to `shape`: (rows, columns) float32, 0..1."""


class SourceChange(Protocol):
    """Change of the job's source for one run of its octaves, such as a frame of a film.

    It is sent with every assignment, so it is small: it names pictures on disk and holds none. Equal changes make equal
    sources.
    """

    def applied_to(self, source: SourceOfPixels) -> SourceOfPixels:
        """Return the source that the run dreams on; parts of its rectangles are bit-identical to the whole."""


class RunSources:
    """The sources of one job's runs. That of the newest change is kept, as all octaves of a run share it."""

    def __init__(self, source: SourceOfPixels) -> None:
        """Store the job's source."""
        self._source = source
        self._newest: tuple[SourceChange, SourceOfPixels] | None = None

    def of(self, change: SourceChange | None) -> SourceOfPixels:
        """Return the source of a run: the job's, or what a change makes of it."""
        if change is None:
            return self._source
        if self._newest is None or self._newest[0] != change:
            self._newest = change, change.applied_to(self._source)
        return self._newest[1]
