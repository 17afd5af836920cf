"""Conversion by device links: profiles that lead from one device's colours to another's, without colours in between.

Print shops make them where a conversion by two profiles is not enough: to keep black text in black ink alone, or ink below
a limit. libvips converts between two profiles, so the second one is a link that changes nothing.
"""

from __future__ import annotations

import struct
from functools import cache
from tempfile import NamedTemporaryFile

import pyvips

from render.source.loaders import ICC_FIELD

#: Channels of CMYK.
_INKS = 4
#: Rendering intents by their number in the header of a profile, and the last byte of that number (ICC.1:2022, 7.2.15).
_INTENTS, _INTENT_BYTE = ("perceptual", "relative", "saturation", "absolute"), 67


def convert_by_link(image: pyvips.Image, link: bytes, bits: int) -> pyvips.Image:
    """Convert an sRGB image of 16 bits to CMYK of 8 or 16 bits by a device link; nothing is computed yet.

    A link has one intent, which its header states.
    """
    intent = link[_INTENT_BYTE] % len(_INTENTS)
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, ICC_FIELD, link)
    # libvips reads the second profile from a file, at once.
    with NamedTemporaryFile(suffix=".icc") as file:
        file.write(_identity_link(intent))
        file.flush()
        converted = image.icc_transform(file.name, embedded=True, depth=bits, intent=_INTENTS[intent])
    converted = converted.copy()
    converted.remove(ICC_FIELD)
    return converted


@cache
def _identity_link(intent: int) -> bytes:
    """Return a device link from CMYK to CMYK that changes nothing (ICC.1:2022, 8.6): four straight curves."""
    curve = struct.pack(">4sIHHi", b"para", 0, 0, 0, 1 << 16)
    first_curve = 32
    table = struct.pack(">4sIBBH5I", b"mAB ", 0, _INKS, _INKS, 0, first_curve, 0, 0, 0, 0) + curve * _INKS
    offset = 128 + 4 + 12
    header = struct.pack(">I4xI4s4s4s", offset + len(table), 0x04200000, b"link", b"CMYK", b"CMYK")
    header += struct.pack(">6H4s24xI", 2000, 1, 1, 0, 0, 0, b"acsp", intent)
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", offset, len(table)) + table
