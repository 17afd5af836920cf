"""Chunks of a PNG file that state its colour space (PNG, third edition, 4.3 and 11.3.2)."""

from __future__ import annotations

import struct
from pathlib import Path

from render.source.colour_space import (
    SRGB,
    ColourSpace,
    coded_space,
    gamma_curve,
    is_sensible,
    same_chromaticities,
    srgb_curve,
)

_EXIF = b"eXIf"
_COLOUR = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
#: Most bytes that are read of a colour chunk, and of EXIF, which other formats limit to 64 kB.
_LONGEST, _LONGEST_EXIF = 64, 1_000_000
#: Most chunks of a file that are examined: encoders write pixels in chunks of 8 kB and more.
_MAX_CHUNKS = 1_000_000
#: Value of gAMA that stands for sRGB's curve (PNG, third edition, 11.3.2.5), and its rounding, in 1/100000.
_SRGB_GAMMA, _ROUNDING = 45455, 5
#: Valid range of gAMA: libpng treats other values as damage.
_GAMMAS = (16, 625_000_000)


def colour_chunks(path: Path) -> dict[bytes, bytes]:
    """Return the colour chunks before the pixels, by name, with the header and with EXIF from anywhere.

    Of an ICC profile only the start is returned.
    """
    chunks: dict[bytes, bytes] = {}
    names: tuple[bytes, ...] = (*_COLOUR, b"IHDR", _EXIF)
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8:
                break
            length, name = struct.unpack(">I4s", head)
            if name == b"IDAT":
                names = (_EXIF,)
            content = file.read(min(length, _LONGEST_EXIF if name == _EXIF else _LONGEST)) if name in names else b""
            if content:
                chunks.setdefault(name, content)
            file.seek(length - len(content) + 4, 1)
    return chunks


def png_space(path: Path) -> tuple[ColourSpace | None, bytes | None]:
    """Return the space that chunks other than iCCP state, and the file's EXIF if it still counts.

    The order is cICP, iCCP, sRGB, gAMA with cHRM. A space by cICP overrides the file's ICC profile. The space is None for
    sRGB, or where none is stated.

    Raises:
        Unknown: the space cannot be converted to sRGB.
    """
    chunks = colour_chunks(path)
    code_points = chunks.get(b"cICP", b"")
    if len(code_points) == 4 and code_points[2] == 0 and code_points[3] < 2:
        depth = 16 if chunks.get(b"IHDR", b"")[8:9] == b"\x10" else 8
        space = coded_space(code_points[0], code_points[1], code_points[3] == 1, depth)
        if space is not None:
            return space, None
    if b"iCCP" in chunks or b"sRGB" in chunks:
        return None, None
    space = _measured(chunks)
    return space, None if b"gAMA" in chunks or b"cHRM" in chunks else chunks.get(_EXIF)


def _measured(chunks: dict[bytes, bytes]) -> ColourSpace | None:
    """Return the space of gAMA and cHRM, with sRGB's value for a missing one; None if the result is sRGB."""
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] if len(chunks.get(b"gAMA", b"")) == 4 else _SRGB_GAMMA
    if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        gamma = _SRGB_GAMMA
    content = chunks.get(b"cHRM", b"")
    chromaticities = SRGB
    if len(content) == 32:
        numbers = tuple(number / 100_000 for number in struct.unpack(">8i", content))
        if is_sensible(numbers):
            chromaticities = numbers
    if abs(gamma - _SRGB_GAMMA) <= _ROUNDING and same_chromaticities(chromaticities, SRGB):
        return None
    no_gamma = b"gAMA" not in chunks
    return ColourSpace("gAMA and cHRM", (srgb_curve if no_gamma else gamma_curve(100_000 / gamma),), chromaticities)
