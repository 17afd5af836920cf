"""The picture in a TIFF: whether it is complete and readable, its channels, its levels, and its colours.

Files that libvips would misread are refused with `UserError`: it reads missing tiles as black and a camera's raw file as
its thumbnail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from render.errors import UserError
from render.source import tiff as tags
from render.source.colour_space import (
    ADOBE,
    ADOBE_GAMMA,
    SRGB,
    ColourSpace,
    Curve,
    gamma_curve,
    is_sensible,
    same_chromaticities,
    srgb_curve,
    table_curve,
)  # fmt: skip
from render.source.loaders import PICTURES, raw_refusal
from render.source.tiff import Damaged, Directory, Tiff, read_integers

#: Values of PhotometricInterpretation, and the number of samples per colour.
WHITE_IS_ZERO, PALETTE, INKS, LAB, ICC_LAB, ITU_LAB = 0, 3, 5, 8, 9, 10
_COLOURS = {WHITE_IS_ZERO: 1, 1: 1, 2: 3, PALETTE: 1, 4: 1, INKS: 4, 6: 3, LAB: 3, ICC_LAB: 3, ITU_LAB: 3}
#: PhotometricInterpretation of sensors: colour filter array and linear raw (DNG 1.7).
_SENSORS = (32803, 34892)
_NONE, _OLD_JPEG = 1, 6
_SEPARATE = 2
#: Values of ExtraSamples that mean transparency; 999 is CorelDRAW's.
_ALPHAS = (1, 2, 999)
#: ColorSpace of EXIF 2.32: sRGB, and the value that cameras and converters write for Adobe RGB.
_EXIF_SRGB, _EXIF_ADOBE = 1, 2
_CURVE_LENGTHS = (2**8, 2**16)
#: Bits per sample that libvips reads in any number of channels, and in a single channel.
_BITS, _BITS_OF_ONE = (8, 16, 32, 64), (1, 2, 4)
PLAIN = "save it as RGB or grey of 8 or 16 bits, with LZW or deflate compression or none"


@dataclass(frozen=True)
class Channels:
    """Bands of a picture: the first `colours` are colours, `alpha`, if any, is transparency; others have no meaning."""

    colours: int
    alpha: int | None


def refuse_unreadable(path: Path, file: IO[bytes], tiff: Tiff) -> None:
    """Raise `UserError` if the first picture of a TIFF is incomplete, a thumbnail, or of an unsupported kind."""
    first = tiff.first
    if tags.DNG_VERSION in first or any(part.integer(tags.PHOTOMETRIC, 1) in _SENSORS for part in tiff.everything()):
        raise raw_refusal(path)
    if first.is_reduced and any(_area(part) > _area(first) for part in tiff.everything()):
        raise UserError(
            f"image {str(path)!r} begins with a thumbnail of the larger picture in it: save the large one on its own"
        )
    unreadable = _why_unreadable(first)
    if unreadable is not None:
        raise UserError(f"image {str(path)!r} {unreadable}: {PLAIN}")
    missing = why_cut(file, tiff)
    if missing is not None:
        raise UserError(f"image {str(path)!r} is no whole {PICTURES} picture: it is cut off, {missing}")
    if _is_ambiguous(file, tiff):
        raise UserError(f"image {str(path)!r} has empty tiles, whose colour is not known: save it with all of its tiles")


def why_cut(file: IO[bytes], tiff: Tiff) -> str | None:
    """Return which part of the first picture, or of its smaller copies, is beyond the file's end; None if nothing is."""
    if tiff.is_cut or any(not part.values for part in tiff.first.children):
        return "the list of its pictures goes on beyond its end"
    for number, directory in enumerate([tiff.first, *(part for _, part in _copies(tiff))]):
        try:
            chunks = _chunks(file, tiff, directory)
        except Damaged as damage:
            return str(damage)
        if chunks is None:
            continue
        offsets, counts = chunks
        missing_count = int(np.count_nonzero(offsets + counts > tiff.size))
        if missing_count:
            name = "tiles" if directory.tile else "strips"
            part = "" if number == 0 else " of a smaller copy"
            return f"{missing_count:,} of its {len(offsets):,} {name}{part} lie beyond its end"
    return None


def channels(first: Directory, bands: int) -> Channels | None:
    """Return the meaning of each band that libvips made of a directory; None if the file does not state it."""
    samples = first.integer(tags.SAMPLES, 1)
    basic = _COLOURS.get(first.integer(tags.PHOTOMETRIC, 1))
    if basic is None or samples < basic:
        return None
    surplus = samples - basic
    meanings = first.numbers(tags.EXTRA_SAMPLES)[:surplus]
    if not meanings and surplus == 1:
        # Old files, and some writers, leave the tag out.
        meanings = (2,)
    alpha = next((index for index, meaning in enumerate(meanings) if meaning in _ALPHAS), None)
    if surplus - (alpha is not None) > 1 or (basic == 4 and first.integer(tags.INK_NUMBER, 4) != 4):
        return None
    colours = bands - surplus
    return Channels(colours, None if alpha is None else colours + alpha) if colours > 0 else None


def levels(tiff: Tiff) -> Iterator[tuple[dict[str, Any], Directory]]:
    """Yield the smaller copies of the first picture, each with the loader's option for it.

    Only directories marked as copies count, in the chain or as SubIFDs: a page of half the size may be another picture.
    """
    first = tiff.first
    for option, directory in _copies(tiff):
        is_same_kind = all(directory.integer(tag, 1) == first.integer(tag, 1) for tag in (tags.SAMPLES, tags.BITS))
        if is_same_kind and _why_unreadable(directory) is None:
            yield option, directory


def stated_space(file: IO[bytes], tiff: Tiff, directory: Directory) -> ColourSpace | None:
    """Return the space stated by EXIF's ColorSpace and interoperability index, or by TIFF's colorimetry.

    None for sRGB, or where none is stated. EXIF 2.32, 4.6.5; DCF 2.0, 4.1.2; TIFF 6.0, section 20.
    """
    exif = directory.exif or Directory({})
    code, index = exif.integer(tags.COLOUR_SPACE, 0), (exif.exif or Directory({})).values.get(tags.INTEROP_INDEX, b"")
    if code == _EXIF_SRGB:
        return None
    if code == _EXIF_ADOBE or (isinstance(index, bytes) and index.startswith(b"R03")):
        return ColourSpace("EXIF (Adobe RGB)", (gamma_curve(ADOBE_GAMMA),), ADOBE)
    stated = (*(directory.numbers(tags.WHITE_POINT) or SRGB[:2]), *directory.numbers(tags.PRIMARIES))
    chromaticities = stated if is_sensible(stated) else SRGB
    curves = _curves(file, tiff, directory)
    gamma = exif.numbers(tags.GAMMA)
    if not curves and gamma and 0.1 < gamma[0] < 10 and abs(gamma[0] - 2.2) > 0.01:
        curves = (gamma_curve(gamma[0]),)
    if not curves and same_chromaticities(chromaticities, SRGB):
        return None
    return ColourSpace("TIFF's colorimetry", curves or (srgb_curve,), chromaticities)


def _curves(file: IO[bytes], tiff: Tiff, directory: Directory) -> tuple[Curve, ...]:
    """Return the curves of TransferFunction: one for all channels, or one for each."""
    if tags.TRANSFER not in directory:
        return ()
    try:
        table = read_integers(file, tiff, directory, tags.TRANSFER) / 65535
    except Damaged:
        return ()
    for count in (1, 3):
        if len(table) % count == 0 and len(table) // count in _CURVE_LENGTHS:
            return tuple(table_curve(part) for part in np.split(table, count))
    return ()


def _copies(tiff: Tiff) -> Iterator[tuple[dict[str, Any], Directory]]:
    """Yield the directories below or after the first that are marked as smaller copies of it."""
    for number, directory in enumerate(tiff.first.children):
        if directory.is_reduced:
            yield {"subifd": number}, directory
    for number, directory in enumerate(tiff.directories[1:], 1):
        if directory.is_reduced:
            yield {"page": number}, directory


def _why_unreadable(directory: Directory) -> str | None:
    """Return why libvips does not read a directory, or misreads it; None where it reads it correctly."""
    bits, samples = directory.integer(tags.BITS, 1), directory.integer(tags.SAMPLES, 1)
    photometric = directory.integer(tags.PHOTOMETRIC, 1)
    if directory.integer(tags.COMPRESSION, _NONE) == _OLD_JPEG:
        return "is compressed with old-style JPEG, which is not read"
    if directory.tile and samples > 1 and directory.integer(tags.PLANAR, 1) == _SEPARATE:
        return "has its channels in separate planes of tiles, which are not read"
    if bits not in _BITS and not (samples == 1 and bits in _BITS_OF_ONE):
        return f"has samples of {bits} bits, which are not read"
    if len(set(directory.numbers(tags.BITS))) > 1:
        return "has channels of different numbers of bits, which are not read"
    if photometric == ITU_LAB or (photometric == LAB and bits != 16) or (photometric == ICC_LAB and bits not in (8, 16)):
        return f"holds Lab colours of {bits} bits in a form that is not read"
    return None


def _chunks(file: IO[bytes], tiff: Tiff, directory: Directory) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return offsets and bytes of the tiles or strips, both 0 for an omitted tile; None if there are no offsets."""
    names = (tags.TILE_OFFSETS, tags.TILE_COUNTS) if directory.tile else (tags.STRIP_OFFSETS, tags.STRIP_COUNTS)
    if names[0] not in directory:
        return None
    offsets = read_integers(file, tiff, directory, names[0])
    counts = read_integers(file, tiff, directory, names[1]) if names[1] in directory else np.zeros_like(offsets)
    listed, number = min(len(offsets), len(counts)), _chunk_number(directory)
    if listed < number:
        raise Damaged(f"it lists {listed:,} of its {number:,} tiles or strips")
    offsets, counts = offsets[:number], counts[:number]
    if directory.integer(tags.COMPRESSION, _NONE) == _NONE:
        # Some writers state an arbitrary length for a single strip.
        counts = np.minimum(counts, _chunk_bytes(directory))
    return offsets, counts


def _planes(directory: Directory) -> int:
    """Return the number of planes, whose tiles or strips follow one another."""
    return directory.integer(tags.SAMPLES, 1) if directory.integer(tags.PLANAR, 1) == _SEPARATE else 1


def _strip_rows(directory: Directory) -> int:
    return max(1, min(directory.integer(tags.ROWS_PER_STRIP, directory.shape[0]), directory.shape[0]))


def _chunk_number(directory: Directory) -> int:
    """Return the number of tiles or strips of the picture."""
    height, width = directory.shape
    tile = directory.tile or (_strip_rows(directory), max(1, width))
    return -(-height // tile[0]) * -(-width // tile[1]) * _planes(directory)


def _chunk_bytes(directory: Directory) -> NDArray[np.int64]:
    """Return the decoded bytes of each tile or strip."""
    height, width = directory.shape
    tile, planes = directory.tile, _planes(directory)
    bits = directory.integer(tags.BITS, 1) * (directory.integer(tags.SAMPLES, 1) // planes)
    if tile:
        return np.full(_chunk_number(directory), -(-tile[1] * bits // 8) * tile[0], np.int64)
    rows = np.minimum(_strip_rows(directory), height - np.arange(0, height, _strip_rows(directory), dtype=np.int64))
    return np.tile(rows * -(-width * bits // 8), planes)


def _is_ambiguous(file: IO[bytes], tiff: Tiff) -> bool:
    """Return whether tiles are omitted in a picture where zeros, the samples of an empty tile, are not black."""
    first = tiff.first
    if first.integer(tags.PHOTOMETRIC, 1) not in (WHITE_IS_ZERO, PALETTE) or tags.TILE_COUNTS not in first:
        return False
    return bool((read_integers(file, tiff, first, tags.TILE_COUNTS) == 0).any())


def _area(directory: Directory) -> int:
    height, width = directory.shape
    return height * width
