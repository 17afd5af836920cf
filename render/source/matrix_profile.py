"""ICC profiles that are three primaries and transfer curves: reading as a colour space, and writing.

Those of Adobe RGB, ProPhoto RGB and Display P3 are of this kind. Their colours are computed exactly, and beyond sRGB's
limits, where a colour engine clips. Section numbers are of ICC.1:2022.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from render.source.colour_space import (
    PCS_WHITE,
    Chromaticities,
    ColourSpace,
    Curve,
    gamma_curve,
    is_sensible,
    matrix_to_xyz,
    table_curve,
)

_HEADER_BYTES, _TAG_BYTES = 128, 12
#: Most tags of a plausible profile.
_MAX_TAGS = 200
#: Tags of the primaries, and of their curves.
_PRIMARIES, _CURVES = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")
#: Beginning of the names of tables, which precede primaries and curves where a profile has both.
_TABLES = b"A2B"
#: Numbers of a parametric curve by its type (10.18, table 68).
_PARAMETERS = (1, 3, 4, 5, 7)
_FIXED = 65536.0


class _Unreadable(ValueError):
    """A part of a profile is missing or of another kind."""


def read_matrix_profile(content: bytes) -> ColourSpace | None:
    """Return the colour space of a profile of RGB; None if it has tables, or is none that can be read."""
    try:
        if content[16:24] != b"RGB XYZ ":
            return None
        tags = _tags(content)
        if any(name.startswith(_TABLES) for name in tags):
            return None
        primaries = np.stack([_xyz(tags[name]) for name in _PRIMARIES])
        curves = tuple(_curve(tags[name]) for name in _CURVES)
    except (_Unreadable, KeyError, struct.error):
        return None
    # The sum of the primaries is white: that of the connection space.
    points = np.vstack([primaries.sum(0), primaries])
    sums = points.sum(1, keepdims=True)
    if not (sums > 0).all():
        return None
    chromaticities = tuple(map(float, (points / sums)[:, :2].ravel()))
    return ColourSpace("ICC profile", curves, chromaticities) if is_sensible(chromaticities) else None


def _tags(content: bytes) -> dict[bytes, bytes]:
    """Return the tags of a profile by their names of four letters (7.3)."""
    (count,) = struct.unpack_from(">I", content, _HEADER_BYTES)
    if count > _MAX_TAGS:
        raise _Unreadable("too many tags")
    tags = {}
    for number in range(count):
        name, offset, size = struct.unpack_from(">4sII", content, _HEADER_BYTES + 4 + number * _TAG_BYTES)
        if offset + size > len(content):
            raise _Unreadable("a tag lies beyond the end")
        tags[name] = content[offset : offset + size]
    return tags


def _xyz(tag: bytes) -> NDArray[np.float64]:
    """Return X, Y, Z of a tag of type XYZType (10.31)."""
    if tag[:4] != b"XYZ ":
        raise _Unreadable("no X, Y, Z")
    return np.array(struct.unpack_from(">3i", tag, 8)) / _FIXED


def _curve(tag: bytes) -> Curve:
    """Return the curve of a tag of type curveType (10.6) or parametricCurveType (10.18)."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return gamma_curve(1.0)
        if count == 1:
            return gamma_curve(struct.unpack_from(">H", tag, 12)[0] / 256)
        if 12 + 2 * count > len(tag):
            raise _Unreadable("a curve is cut off")
        return table_curve(np.frombuffer(tag, ">u2", count, 12) / 65535)
    if tag[:4] != b"para":
        raise _Unreadable("no curve")
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind >= len(_PARAMETERS):
        raise _Unreadable("no known curve")
    numbers = struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)
    return _ParametricCurve(kind, tuple(number / _FIXED for number in numbers))


@dataclass(frozen=True)
class _ParametricCurve:
    """Curve of ICC's type `kind` with the parameters g, a, b, c, d, e, f, as many as it has."""

    kind: int
    parameters: tuple[float, ...]

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return linear light, 0..1, for stored values, 0..1."""
        g, a, b, c, d, e, f = (*self.parameters, *(0.0,) * (7 - len(self.parameters)))
        with np.errstate(all="ignore"):
            power = np.maximum(values if self.kind == 0 else a * values + b, 0.0) ** g
        if self.kind == 0:
            light = power
        elif self.kind in (1, 2):
            # Below -b / a there is only c, which is 0 in type 1.
            light = np.where(a * values + b >= 0, power + c, c)
        else:
            light = np.where(values >= d, power + e, c * values + f)
        # Numbers of anybody's: infinite ones become 1.
        return np.clip(np.nan_to_num(light, nan=0.0), 0.0, 1.0)


def matrix_profile(name: str, chromaticities: Chromaticities, gamma: float) -> bytes:
    """Return a display profile (version 2.4) of primaries and one gamma.

    Args:
        name: Description, in ASCII.
        chromaticities: x, y of white, red, green and blue.
        gamma: Exponent of the curve; it is rounded to 1/256.
    """
    text = name.encode("ascii") + b"\0"
    # A description in ASCII (ICC.1:2001, 6.5.17), without those in Unicode and for old Macintoshes.
    description = struct.pack(">4sII", b"desc", 0, len(text)) + text + bytes(78)
    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256))
    points = zip((b"wtpt", *_PRIMARIES), (PCS_WHITE, *matrix_to_xyz(chromaticities, PCS_WHITE).T), strict=True)
    tags = {b"desc": description, b"cprt": struct.pack(">4sI", b"text", 0) + b"public domain\0"}
    tags |= {tag: struct.pack(">4sI", b"XYZ ", 0) + _packed(xyz) for tag, xyz in points}
    tags |= dict.fromkeys(_CURVES, curve)
    offset = _HEADER_BYTES + 4 + _TAG_BYTES * len(tags)
    entries = data = b""
    for tag, content in tags.items():
        entries += struct.pack(">4sII", tag, offset + len(data), len(content))
        data += content.ljust(-(-len(content) // 4) * 4, b"\0")
    header = struct.pack(">I4xI4s4s4s", offset + len(data), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s28x", 2000, 1, 1, 0, 0, 0, b"acsp") + _packed(PCS_WHITE)
    return header.ljust(_HEADER_BYTES, b"\0") + struct.pack(">I", len(tags)) + entries + data


def _packed(xyz: Sequence[float] | NDArray[np.float64]) -> bytes:
    """Return X, Y, Z as three numbers of type s15Fixed16Number (4.6)."""
    return struct.pack(">3i", *(round(_FIXED * float(part)) for part in xyz))
