"""Evenly spaced rows and columns of a picture that is read strip by strip from the top."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Most rows that are sampled, and most columns: shares and spectra of so many are near those of all.
MAX_LINES = 512
#: Most bytes of the sampled columns, which are collected until the last row has come.
_MAX_COLUMN_BYTES = 4 << 20
#: Fewest columns, also of a picture as tall as pictures can be.
_MIN_COLUMNS = 16


class Sampler:
    """Picks rows out of strips as they come, and collects columns until the end."""

    def __init__(self, shape: tuple[int, int], channels: int, dtype: Any) -> None:
        """Prepare for a picture of `shape` (rows, columns) px with samples of type `dtype`."""
        height, width = shape
        self._row_step = -(-height // MAX_LINES)
        line_bytes = height * channels * np.dtype(dtype).itemsize
        count = min(max(_MAX_COLUMN_BYTES // line_bytes, _MIN_COLUMNS), MAX_LINES, width)
        self._columns_at = (np.arange(count) * width // count) + width // (2 * count)
        #: Sampled columns, (columns, rows, channels), complete once the last strip is added.
        self.columns = np.empty((count, height, channels), dtype)
        self._bottom = 0

    def rows(self, strip: NDArray[Any]) -> NDArray[Any]:
        """Return the sampled rows of the next strip: (lines, columns, channels)."""
        top, self._bottom = self._bottom, self._bottom + len(strip)
        self.columns[:, top : self._bottom] = strip[:, self._columns_at].transpose(1, 0, 2)
        # The first sampled row is in the middle of the first step, so that one row of a border is not all that counts.
        first = (self._row_step // 2 - top) % self._row_step
        return strip[first :: self._row_step]
