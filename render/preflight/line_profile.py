"""Steps between neighbouring pixels along one axis of a picture: repeated pixels, and blocks of a JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Side of a JPEG's blocks, px.
BLOCK = 8
#: Fewest blocks along an axis on which a grid of blocks is looked for.
_MIN_BLOCKS = 12
#: Tried for the edges of repeated pixels: factors near the one that is looked for, and offsets a pixel.
_FACTORS, _OFFSETS = 17, 4
#: Error of rounding to 8 bits, levels of 255: what steps there are in a flat picture.
_ROUNDING = 0.05


@dataclass(frozen=True)
class Blocking:
    """Grid of a JPEG's blocks along one axis.

    Attributes:
        ratio: Mean step between blocks, divided by that within them; 1.0 without blocks.
        excess: Mean step between blocks minus that within them, levels of 255.
    """

    ratio: float = 1.0
    excess: float = 0.0

    @property
    def strength(self) -> float:
        """Visibility of blocks, levels: by the height of their edges, and how far it exceeds the picture's own steps."""
        return (self.ratio - 1) * self.excess


@dataclass(frozen=True)
class StepProfile:
    """Mean |difference| between each pixel of an axis and the next, (length - 1,), in levels of 255."""

    steps: NDArray[np.float64]

    def edge_contrast(self, factor: float, tolerance: float) -> float:
        """Return how much larger steps are every `factor` pixels than elsewhere, 1.0 for no larger.

        Enlarged by nearest neighbour, a picture has steps only there.

        Args:
            factor: Distance of the edges, px.
            tolerance: Error of the factor, as a part.
        """
        best = 1.0
        total = self.steps.sum()
        for near in factor * (1 + np.linspace(-tolerance, tolerance, _FACTORS)):
            offsets = np.arange(0, near, 1 / _OFFSETS)
            edges = np.rint(offsets[:, np.newaxis] + near * np.arange(int((len(self.steps) - 1) / near))).astype(np.int64)
            at_edges = self.steps[np.minimum(edges, len(self.steps) - 1)].sum(axis=1)
            elsewhere = (total - at_edges) / max(1, len(self.steps) - edges.shape[1])
            ratios = (at_edges / edges.shape[1] + _ROUNDING) / (elsewhere + _ROUNDING)
            best = max(best, float(ratios.max(initial=1.0)))
        return best

    def blocking(self) -> Blocking:
        """Return the grid of a JPEG's blocks of 8 px, which may begin anywhere, as in a picture that was cut.

        Medians over the blocks are taken, so that one edge of the picture's own, along all of its height, is no block.
        """
        best = Blocking()
        for phase in range(BLOCK):
            count = (len(self.steps) - phase) // BLOCK
            blocks = self.steps[phase : phase + max(0, count) * BLOCK].reshape(-1, BLOCK)
            # Steps beside a border, which a smoothing decoder changes too, are left out.
            within = blocks[:, 2:-1].mean(axis=1)
            between = blocks[within > 0, 0]
            within = within[within > 0]
            if len(between) >= _MIN_BLOCKS:
                ratio = float(np.median(between / within))
                if ratio > best.ratio:
                    best = Blocking(ratio, float(np.median(between - within)))
        return best


class StepMeter:
    """Adds up the steps of lines along one axis."""

    def __init__(self, length: int) -> None:
        """Prepare for lines of `length` px."""
        self._sums = np.zeros(max(0, length - 1))
        self._count = 0

    def add(self, lines: NDArray[np.float32]) -> None:
        """Add lines, (lines, length) in levels of 255."""
        self._sums += np.abs(np.diff(lines, axis=1)).sum(axis=0, dtype=np.float64)
        self._count += len(lines)

    def result(self) -> StepProfile:
        """Return the mean steps of the lines so far."""
        return StepProfile(self._sums / max(1, self._count))
