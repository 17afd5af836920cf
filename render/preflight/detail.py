"""Resolution of what a picture shows: its pixels, unless it was enlarged; and blocks that a JPEG left.

The thresholds are from the pictures of `tests/preflight/pictures.py`; `python -m tests.reports.preflight` prints what
each of them measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from render.preflight.line_profile import BLOCK, Blocking, StepMeter
from render.preflight.resampling import MIN_FACTOR, MIN_PIECE, Mirror, ResamplingMeter

#: Least coherence of a mirror above its neighbourhood, and of one where a JPEG's grid has mirrors, too.
MIN_COHERENCE, _MIN_COHERENCE_ON_GRID = 0.3, 0.5
#: Least fall of the spectrum at the mirror of an enlargement, and greatest fall up to it, dB.
MIN_DROP_DB, MAX_SLOPE_DB = 7.0, 12.0
#: Steps between repeated pixels, over those within them.
MIN_EDGE_CONTRAST = 3.0
#: Largest difference of the factors of the two axes, as a part.
_MAX_DIFFERENCE = 0.04
#: Strength of the blocks of a JPEG whose quality is low, levels.
MIN_BLOCK_STRENGTH = 1.0


@dataclass(frozen=True)
class Detail:
    """Resolution of what a picture shows.

    Attributes:
        factor: Factor by which it was enlarged; 1.0 if it was not.
        repeated: True if it was enlarged by repeating pixels.
        blocking: Grid of a JPEG's blocks, of the axis on which it is weaker.
    """

    factor: float
    repeated: bool
    blocking: Blocking

    @property
    def is_enlarged(self) -> bool:
        """Whether it was enlarged by so much that it is seen."""
        return self.factor >= MIN_FACTOR

    @property
    def has_blocks(self) -> bool:
        """Whether a JPEG of low quality left its blocks."""
        return self.blocking.strength >= MIN_BLOCK_STRENGTH and not self.is_enlarged


class DetailMeter:
    """Measures the resolution along both axes from sampled rows and columns."""

    def __init__(self, shape: tuple[int, int], white: int) -> None:
        """Prepare for a picture of (rows, columns) px."""
        self._scale = np.float32(255 / white)
        self._axes = [(StepMeter(length), ResamplingMeter(length)) for length in shape]
        self._shape = shape

    def add(self, lines: NDArray[Any], axis: int) -> None:
        """Add lines along an axis, 1 for rows and 0 for columns: (lines, length, channels)."""
        if not len(lines):
            return
        grey = lines.mean(axis=2, dtype=np.float32) * self._scale
        for meter in self._axes[axis]:
            meter.add(grey)

    def result(self) -> Detail | None:
        """Return the resolution; None if the picture is too small to tell."""
        if min(self._shape) < MIN_PIECE:
            return None
        profiles = [steps.result() for steps, _ in self._axes]
        blocking = min((profile.blocking() for profile in profiles), key=lambda blocking: blocking.strength)
        mirrors = [spectrum.mirrors(MIN_COHERENCE) for _, spectrum in self._axes]
        repeated = _common_factor(
            [
                [mirror for mirror in axis if profile.edge_contrast(mirror.factor, mirror.error) >= MIN_EDGE_CONTRAST]
                for axis, profile in zip(mirrors, profiles, strict=True)
            ]
        )
        if repeated >= MIN_FACTOR:
            return Detail(repeated, True, blocking)
        smooth = [[mirror for mirror in axis if _is_enlargement(mirror)] for axis in mirrors]
        return Detail(_common_factor(smooth), False, blocking)


def _common_factor(mirrors: Sequence[Sequence[Mirror]]) -> float:
    """Return the largest factor whose mirror both axes have; 1.0 if there is none."""
    common = [
        float(np.sqrt(down.factor * across.factor))
        for down in mirrors[0]
        for across in mirrors[1]
        if abs(down.factor / across.factor - 1) < _MAX_DIFFERENCE
    ]
    return max(common, default=1.0)


def _is_enlargement(mirror: Mirror) -> bool:
    """Return whether the spectrum at a mirror is that of a smooth enlargement."""
    multiple = BLOCK / mirror.factor
    is_on_grid = abs(multiple - round(multiple)) < 0.02 * multiple
    least = _MIN_COHERENCE_ON_GRID if is_on_grid else MIN_COHERENCE
    return mirror.coherence >= least and mirror.drop_db >= MIN_DROP_DB and mirror.slope_db <= MAX_SLOPE_DB
