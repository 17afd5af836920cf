"""An ICC profile of a printer that takes sRGB, as photo laboratories do.

PDF/X wants the profile of a printer, which has tables (ICC.1:2001-04, 6.3.3), and sRGB's own is that of a screen. The
tables here hold the same colours: curves, and a matrix that eight corners of a cube say exactly.
"""

from __future__ import annotations

import io
import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from render.export.metadata import srgb_profile

#: Name of the profile.
NAME = "sRGB printer"
#: Entries of a curve: the most that a table has.
_ENTRIES = 4096
#: Greatest value of 16 bits, and the value that stands for 1.0 of X, Y or Z (6.3.4.1, table 9).
_MAX, _ONE = 65535, 32768
#: White of the profile connection space.
_D50 = (0.9642, 1.0, 0.8249)
#: Version 2.4; date of creation, the same in every profile; relative colorimetric.
_VERSION, _DATE, _INTENT = 0x02400000, (2016, 1, 1, 0, 0, 0), 1
_HEADER_BYTES = 128

Table = NDArray[np.float64]


@cache
def srgb_printer_profile() -> bytes:
    """Return the profile: version 2, class `prtr`, RGB."""
    matrix = _colorants()
    corners = np.stack(np.meshgrid(*[np.arange(2.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    straight = np.array([0.0, 1.0])
    levels = np.linspace(0, 1, _ENTRIES)
    to_xyz = _lut16(np.eye(3), _linear(levels), corners @ matrix.T * _ONE / _MAX, straight)
    # Values of the connection space are half of those of the matrix.
    to_rgb = _lut16(np.linalg.inv(matrix) * _MAX / _ONE, straight, corners, _encoded(levels))
    gamut = _lut16(np.eye(3), straight, np.zeros((8, 1)), straight)
    tags = {
        b"desc": _description(NAME),
        b"cprt": b"text" + bytes(4) + b"Public domain\0",
        b"wtpt": b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in _D50),
        **{b"A2B%d" % intent: to_xyz for intent in range(3)},
        **{b"B2A%d" % intent: to_rgb for intent in range(3)},
        b"gamt": gamut,
    }
    return _assembled(tags)


def _colorants() -> Table:
    """Return the matrix from linear RGB to XYZ (D50) of the program's sRGB profile."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile())).profile
    colorants = [profile.red_colorant, profile.green_colorant, profile.blue_colorant]
    return np.array([colorant[0] for colorant in colorants if colorant is not None]).T


def _linear(values: Table) -> Table:
    """Return linear light for values of sRGB, 0..1 (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _encoded(light: Table) -> Table:
    """Return values of sRGB for linear light, 0..1."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _lut16(matrix: Table, input_curve: Table, corners: Table, output_curve: Table) -> bytes:
    """Return a table from three channels (6.5.8).

    Args:
        matrix: Three rows of three; it counts only for X, Y and Z.
        input_curve: Curve of each input, 0..1.
        corners: Outputs at the eight corners of the cube of inputs, 0..1, the last input varying fastest.
        output_curve: Curve of each output, 0..1.
    """
    outputs = corners.shape[1]
    head = struct.pack(">4s4xBBBx", b"mft2", 3, outputs, 2) + b"".join(_fixed(value) for value in matrix.ravel())
    sizes = struct.pack(">HH", len(input_curve), len(output_curve))
    numbers = [np.tile(input_curve, 3), corners.ravel(), np.tile(output_curve, outputs)]
    return head + sizes + b"".join(np.rint(part * _MAX).astype(">u2").tobytes() for part in numbers)


def _description(text: str) -> bytes:
    """Return a description in ASCII only (6.5.17)."""
    ascii_text = text.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(4 + 4 + 2 + 1 + 67)


def _fixed(value: float) -> bytes:
    """Return a number with 16 bits before and 16 after the point (5.3.2)."""
    return struct.pack(">i", round(value * 2**16))


def _assembled(tags: dict[bytes, bytes]) -> bytes:
    """Return a profile with its header and list of tags; equal tags share their data."""
    offset = _HEADER_BYTES + 4 + 12 * len(tags)
    entries, content = b"", b""
    places: dict[bytes, int] = {}
    for name, data in tags.items():
        if data not in places:
            places[data] = offset + len(content)
            content += data + bytes(-len(data) % 4)
        entries += struct.pack(">4sII", name, places[data], len(data))
    header = struct.pack(
        ">I4xI4s4s4s6H4s24xI",
        offset + len(content), _VERSION, b"prtr", b"RGB ", b"XYZ ", *_DATE, b"acsp", _INTENT,
    )  # fmt: skip
    header += b"".join(_fixed(value) for value in _D50)
    return header.ljust(_HEADER_BYTES, b"\0") + struct.pack(">I", len(tags)) + entries + content
