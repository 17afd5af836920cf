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
from render.preflight.tones import MIN_LEVELS

#: Least coherence of a mirror above its neighbourhood. Photographs of all kinds have up to 0.34 at 2.0, which a camera's
#: mosaic of colours and a JPEG's blocks make, and up to 0.25 elsewhere; enlargements have 0.38 to 0.98.
MIN_COHERENCE = 0.3
#: Least coherence and least fall of the spectrum, dB, of an enlargement: one of these pairs. Enlargements fall by 6 to 20,
#: photographs out of focus by 8 and dreams by 1 at most.
_ENLARGEMENTS = ((0.3, 7.0), (0.6, 4.0))
#: The same where a JPEG's blocks have mirrors: at a quality of 50, soft photographs have 0.6 and 4 dB there.
_ENLARGEMENTS_ON_GRID = ((0.6, 6.0),)
#: Range of the fall up to the mirror, dB: regular patterns have -120 to -15, enlargements -4 to 12.
_SLOPES_DB = (-12.0, 15.0)
#: Steps between repeated pixels, over those within them: 3.9 and more, also after a JPEG; elsewhere 1.0 to 2.3.
MIN_EDGE_CONTRAST = 3.0
#: Largest difference of the factors of the two axes, as a part.
_MAX_DIFFERENCE = 0.04
#: Strength of the blocks of a JPEG whose quality is low, levels: 1.2 to 10 at a quality of 20, up to 0.75 at 75.
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

    def result(self, levels: int) -> Detail | None:
        """Return the resolution; None if the picture is too small to tell.

        Args:
            levels: Number of levels that its tones use. Repeated pixels of a flat graphic are how it was drawn.
        """
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
        if repeated >= MIN_FACTOR and levels >= MIN_LEVELS:
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
    pairs = _ENLARGEMENTS_ON_GRID if is_on_grid else _ENLARGEMENTS
    falls = any(mirror.coherence >= coherence and mirror.drop_db >= drop for coherence, drop in pairs)
    return falls and _SLOPES_DB[0] <= mirror.slope_db <= _SLOPES_DB[1]
