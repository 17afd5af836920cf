"""Colour space of a PNG file, from its chunks (W3C PNG, third edition, 4.3 and 11.3.2)."""

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

_EXIF_CHUNK = b"eXIf"
_COLOUR_CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
#: Most bytes that are read of a colour chunk, and of EXIF, which other formats limit to 64 kB.
_MAX_COLOUR_BYTES, _MAX_EXIF_BYTES = 64, 1_000_000
#: Most chunks of a file that are examined: encoders write pixels in chunks of 8 kB and more.
_MAX_CHUNKS = 1_000_000
#: Units of 1 in gAMA and cHRM.
_UNITS = 100_000
#: Value of gAMA that stands for sRGB's curve, and the largest difference that is rounding, in 1/100000.
_SRGB_GAMMA, _MAX_GAMMA_ROUNDING = 45455, 5
#: Valid range of gAMA: libpng treats other values as damage.
_MIN_GAMMA, _MAX_GAMMA = 16, 625_000_000


def colour_chunks(path: Path) -> dict[bytes, bytes]:
    """Return the content of a PNG's colour chunks, IHDR and eXIf by name.

    Colour chunks count only before the pixels, eXIf anywhere. Of a long chunk, such as an ICC profile, only the start is
    returned. Checksums are not checked.
    """
    chunks: dict[bytes, bytes] = {}
    names: tuple[bytes, ...] = (*_COLOUR_CHUNKS, b"IHDR", _EXIF_CHUNK)
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8:
                break
            length, name = struct.unpack(">I4s", head)
            if name == b"IDAT":
                names = (_EXIF_CHUNK,)
            max_bytes = _MAX_EXIF_BYTES if name == _EXIF_CHUNK else _MAX_COLOUR_BYTES
            content = file.read(min(length, max_bytes)) if name in names else b""
            if content:
                chunks.setdefault(name, content)
            file.seek(length - len(content) + 4, 1)
    return chunks


def png_space(path: Path) -> tuple[ColourSpace | None, bytes | None]:
    """Return the colour space that a PNG states by numbers, and EXIF that may state one.

    The first of cICP, iCCP, sRGB, and gAMA with cHRM decides; a space by cICP overrides the file's ICC profile.

    Returns:
        (space, EXIF block). The space is None for sRGB, for an ICC profile, and if none is stated.

    Raises:
        UnknownColourSpace: the space cannot be converted to sRGB.
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
    space = _gamma_and_chromaticities(chunks)
    return space, None if b"gAMA" in chunks or b"cHRM" in chunks else chunks.get(_EXIF_CHUNK)


def _gamma_and_chromaticities(chunks: dict[bytes, bytes]) -> ColourSpace | None:
    """Return the space of gAMA and cHRM; None if it is sRGB.

    The value of sRGB stands for a missing chunk.
    """
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] if len(chunks.get(b"gAMA", b"")) == 4 else _SRGB_GAMMA
    if not _MIN_GAMMA <= gamma <= _MAX_GAMMA:
        gamma = _SRGB_GAMMA
    content = chunks.get(b"cHRM", b"")
    chromaticities = SRGB
    if len(content) == 32:
        numbers = tuple(number / _UNITS for number in struct.unpack(">8i", content))
        if is_sensible(numbers):
            chromaticities = numbers
    if abs(gamma - _SRGB_GAMMA) <= _MAX_GAMMA_ROUNDING and same_chromaticities(chromaticities, SRGB):
        return None
    curve = gamma_curve(_UNITS / gamma) if b"gAMA" in chunks else srgb_curve
    return ColourSpace("gAMA and cHRM", (curve,), chromaticities)
