"""Quality of a JPEG, estimated from its quantisation table for luma."""

from __future__ import annotations

import struct
from typing import IO

import numpy as np

#: Quantisation table for luma that the IJG's encoder scales (ITU-T T.81, table K.1).
_LUMA_TABLE = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87,
    80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92,
    95, 98, 112, 100, 103, 99,
])  # fmt: skip
#: Markers (T.81, table B.1): quantisation tables, start of scan, end of image, and those without content.
_DQT, _SOS, _EOI, _START, _PREFIX = 0xDB, 0xDA, 0xD9, 0xD8, 0xFF
_WITHOUT_CONTENT = (0x01, *range(0xD0, 0xD9))
#: Most segments before the first scan: large ICC profiles and XMP packets take one for every 64 kB.
_MAX_SEGMENTS = 4000
#: Coefficients of a table.
_COEFFICIENTS = 64


def estimate_quality(file: IO[bytes]) -> int | None:
    """Return the quality, 1..100, by which the IJG's encoder has a table nearest to that of a JPEG.

    The sums of the tables are compared, so tables of other encoders get the quality that is about as coarse.

    Args:
        file: File of a JPEG, or of a stream of its tables only, at its first byte.

    Returns:
        The quality; None if there is no table for luma before the first scan.
    """
    table_sum = _luma_sum(file)
    if table_sum is None:
        return None
    return int(np.argmin(np.abs(_IJG_SUMS - table_sum))) + 1


def _luma_sum(file: IO[bytes]) -> int | None:
    """Return the sum of quantisation table 0; None if there is none."""
    if file.read(2) != bytes((_PREFIX, _START)):
        return None
    for _ in range(_MAX_SEGMENTS):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != _PREFIX or marker[1] in (_SOS, _EOI):
            return None
        if marker[1] == _PREFIX:  # Padding before a marker.
            file.seek(-1, 1)
            continue
        if marker[1] in _WITHOUT_CONTENT:
            continue
        length = file.read(2)
        if len(length) < 2 or (size := struct.unpack(">H", length)[0] - 2) < 0:
            return None
        if marker[1] != _DQT:
            file.seek(size, 1)
        elif (table_sum := _sum_in_segment(file.read(size))) is not None:
            return table_sum
    return None


def _sum_in_segment(content: bytes) -> int | None:
    """Return the sum of table 0 in a segment of tables (T.81, B.2.4.1); None if it has another."""
    while content:
        wide, number = content[0] >> 4, content[0] & 15
        size = _COEFFICIENTS * (2 if wide else 1)
        values = np.frombuffer(content[1 : 1 + size], ">u2" if wide else np.uint8) if len(content) > size else None
        if values is None:
            return None
        if number == 0:
            return int(values.sum(dtype=np.int64))
        content = content[1 + size :]
    return None


def _ijg_sum(quality: int) -> int:
    """Return the sum of the table that the IJG's encoder takes for a quality."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return int(np.clip((_LUMA_TABLE * percent + 50) // 100, 1, 255).sum())


_IJG_SUMS = np.array([_ijg_sum(quality) for quality in range(1, 101)])
