"""Chunks of a PNG file that say which colours its samples stand for (PNG, third edition, 4.3 and 11.3.2)."""

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
#: Bytes of the longest of these that is read, and of the longest EXIF, which other formats bound by 64 kB.
_LONGEST, _LONGEST_EXIF = 64, 1_000_000
#: Chunks of a file that are looked at, at most: encoders write pixels in chunks of 8 kB and more.
_MAX_CHUNKS = 1_000_000
#: What gAMA has where it stands in for sRGB's curve (PNG, third edition, 11.3.2.5), in 1/100000, however rounded.
_SRGB_GAMMA, _ROUNDING = 45455, 5
#: libpng takes others for damage.
_GAMMAS = (16, 625_000_000)


def colour_chunks(path: Path) -> dict[bytes, bytes]:
    """The chunks about colour before the pixels, by name, the header, and EXIF from anywhere; of a profile its start."""
    chunks: dict[bytes, bytes] = {}
    wanted: tuple[bytes, ...] = (*_COLOUR, b"IHDR", _EXIF)
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            head = file.read(8)
            if len(head) < 8:
                break
            length, name = struct.unpack(">I4s", head)
            if name == b"IDAT":
                wanted = (_EXIF,)
            content = file.read(min(length, _LONGEST_EXIF if name == _EXIF else _LONGEST)) if name in wanted else b""
            if content:
                chunks.setdefault(name, content)
            file.seek(length - len(content) + 4, 1)
    return chunks


def png_space(path: Path) -> tuple[ColourSpace | None, bytes | None]:
    """The space that chunks other than iCCP state, None for sRGB's or none, and the file's EXIF where that still counts.

    In order: cICP, iCCP, sRGB, gAMA with cHRM. A space by cICP goes before the file's ICC profile. Raises `Unknown`.
    """
    chunks = colour_chunks(path)
    coded = chunks.get(b"cICP", b"")
    if len(coded) == 4 and coded[2] == 0 and coded[3] < 2:
        depth = 16 if chunks.get(b"IHDR", b"")[8:9] == b"\x10" else 8
        space = coded_space(coded[0], coded[1], coded[3] == 1, depth)
        if space is not None:
            return space, None
    if b"iCCP" in chunks or b"sRGB" in chunks:
        return None, None
    space = _measured(chunks)
    return space, None if b"gAMA" in chunks or b"cHRM" in chunks else chunks.get(_EXIF)


def _measured(chunks: dict[bytes, bytes]) -> ColourSpace | None:
    """The space of gAMA and cHRM. Where one is missing, sRGB has its place; so it has where gAMA is the one for sRGB."""
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] if len(chunks.get(b"gAMA", b"")) == 4 else _SRGB_GAMMA
    if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        gamma = _SRGB_GAMMA
    measured = chunks.get(b"cHRM", b"")
    chromaticities = SRGB
    if len(measured) == 32:
        numbers = tuple(number / 100_000 for number in struct.unpack(">8i", measured))
        if is_sensible(numbers):
            chromaticities = numbers
    if abs(gamma - _SRGB_GAMMA) <= _ROUNDING and same_chromaticities(chromaticities, SRGB):
        return None
    no_gamma = b"gAMA" not in chunks
    return ColourSpace("gAMA and cHRM", (srgb_curve if no_gamma else gamma_curve(100_000 / gamma),), chromaticities)
