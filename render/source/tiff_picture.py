"""Checks of the picture in a TIFF; its channels, smaller copies and colour space.

Files that libvips would misread are refused with `UserError`: it reads missing tiles as black, and a camera's raw file as
its thumbnail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from render.canvas import tiff_tags as tags
from render.errors import UserError
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
from render.source.tiff import DamagedTiff, Directory, Tiff, read_integers

#: Values of PhotometricInterpretation (TIFF 6.0, page 37; 9 by Adobe's technical notes of 2002, 10 by RFC 3949).
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, TRANSPARENCY_MASK = 0, 1, 2, 3, 4
SEPARATED, YCBCR, CIE_LAB, ICC_LAB, ITU_LAB = 5, 6, 8, 9, 10
#: Samples that a colour takes, by PhotometricInterpretation.
_COLOUR_SAMPLES = {
    **dict.fromkeys((WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE, TRANSPARENCY_MASK), 1),
    **dict.fromkeys((RGB, YCBCR, CIE_LAB, ICC_LAB, ITU_LAB), 3),
    SEPARATED: 4,
}
#: PhotometricInterpretation of camera sensors: colour filter array and linear raw (DNG 1.7).
_SENSOR_DATA = (32803, 34892)
#: Values of Compression.
_UNCOMPRESSED, _OLD_JPEG = 1, 6
#: Value of PlanarConfiguration: one plane for each channel.
_SEPARATE_PLANES = 2
#: Values of ExtraSamples that mean transparency: associated and unassociated alpha; 999 is CorelDRAW's.
_ALPHA_VALUES = (1, 2, 999)
#: Values of ColorSpace: sRGB (EXIF 2.32), and the one that cameras and converters write for Adobe RGB.
_EXIF_SRGB, _EXIF_ADOBE_RGB = 1, 2
#: Numbers of entries for one channel that a TransferFunction may have: one for each value of 8 or 16 bits.
_CURVE_LENGTHS = (2**8, 2**16)
#: Largest value of TransferFunction.
_MAX_TRANSFER = 65535
#: EXIF's Gamma counts within these bounds, unless it is `_USUAL_GAMMA`, which cameras write for sRGB.
_MIN_GAMMA, _MAX_GAMMA, _USUAL_GAMMA = 0.1, 10, 2.2
#: Bits of a sample that libvips reads in any number of channels, and in pictures of a single channel only.
_READ_BITS, _SINGLE_CHANNEL_BITS = (8, 16, 32, 64), (1, 2, 4)
#: Remedy in messages: a plain TIFF.
PLAIN = "save it as RGB or grey of 8 or 16 bits, with LZW or deflate compression or none"


@dataclass(frozen=True)
class Channels:
    """Meaning of the bands of a picture; bands that are not listed have none.

    Attributes:
        colours: Number of colour bands; they come first.
        alpha: Index of the band that is transparency; None if there is none.
    """

    colours: int
    alpha: int | None


def refuse_unreadable(path: Path, file: IO[bytes], tiff: Tiff) -> None:
    """Raise `UserError` if a TIFF's first picture is incomplete, a thumbnail, or not supported."""
    first = tiff.first
    if tags.DNG_VERSION in first or any(
        part.integer(tags.PHOTOMETRIC_INTERPRETATION, 1) in _SENSOR_DATA for part in tiff.walk()
    ):
        raise raw_refusal(path)
    if first.is_reduced and any(_area(part) > _area(first) for part in tiff.walk()):
        raise UserError(
            f"image {str(path)!r} begins with a thumbnail of the larger picture in it: save the large one on its own"
        )
    unsupported = _unsupported_feature(first)
    if unsupported is not None:
        raise UserError(f"image {str(path)!r} {unsupported}: {PLAIN}")
    missing = missing_part(file, tiff)
    if missing is not None:
        raise UserError(f"image {str(path)!r} is no whole {PICTURES} picture: it is cut off, {missing}")
    if _is_ambiguous(file, tiff):
        raise UserError(f"image {str(path)!r} has empty tiles, whose colour is not known: save it with all of its tiles")


def missing_part(file: IO[bytes], tiff: Tiff) -> str | None:
    """Return a clause on what lies beyond the file's end; None if the file is complete.

    The first picture and its smaller copies are checked.
    """
    if tiff.is_cut or any(not part.values for part in tiff.first.children):
        return "the list of its pictures goes on beyond its end"
    for number, directory in enumerate([tiff.first, *(part for _, part in _copies(tiff))]):
        try:
            chunks = _chunks(file, tiff, directory)
        except DamagedTiff as damage:
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
    """Return the meaning of the bands of a picture; None if the file does not state it.

    Args:
        first: Directory of the picture.
        bands: Bands that libvips has made of its samples; they differ for palettes.
    """
    samples = first.integer(tags.SAMPLES_PER_PIXEL, 1)
    colour_samples = _COLOUR_SAMPLES.get(first.integer(tags.PHOTOMETRIC_INTERPRETATION, 1))
    if colour_samples is None or samples < colour_samples:
        return None
    surplus = samples - colour_samples
    meanings = first.numbers(tags.EXTRA_SAMPLES)[:surplus]
    if not meanings and surplus == 1:
        # Old files, and some writers, leave the tag out.
        meanings = (2,)
    alpha = next((index for index, meaning in enumerate(meanings) if meaning in _ALPHA_VALUES), None)
    if surplus - (alpha is not None) > 1 or (colour_samples == 4 and first.integer(tags.NUMBER_OF_INKS, 4) != 4):
        return None
    colours = bands - surplus
    return Channels(colours, None if alpha is None else colours + alpha) if colours > 0 else None


def levels(tiff: Tiff) -> Iterator[tuple[dict[str, Any], Directory]]:
    """Yield the smaller copies of the first picture: the loader's options and the directory.

    Only directories marked as copies count, in the chain or as SubIFDs: a page of half the size may be another picture.
    """
    first = tiff.first
    for option, directory in _copies(tiff):
        is_same_kind = all(
            directory.integer(tag, 1) == first.integer(tag, 1) for tag in (tags.SAMPLES_PER_PIXEL, tags.BITS_PER_SAMPLE)
        )
        if is_same_kind and _unsupported_feature(directory) is None:
            yield option, directory


def stated_space(file: IO[bytes], tiff: Tiff, directory: Directory) -> ColourSpace | None:
    """Return the colour space that a directory states by numbers; None for sRGB or if unstated.

    It is stated by EXIF's ColorSpace and InteroperabilityIndex (EXIF 2.32, 4.6.5; DCF 2.0, 4.1.2), or else by WhitePoint,
    PrimaryChromaticities and TransferFunction (TIFF 6.0, section 20), with EXIF's Gamma.
    """
    exif = directory.exif or Directory({})
    index = (exif.exif or Directory({})).values.get(tags.INTEROPERABILITY_INDEX, b"")
    code = exif.integer(tags.COLOR_SPACE, 0)
    if code == _EXIF_SRGB:
        return None
    if code == _EXIF_ADOBE_RGB or (isinstance(index, bytes) and index.startswith(b"R03")):
        return ColourSpace("EXIF (Adobe RGB)", (gamma_curve(ADOBE_GAMMA),), ADOBE)
    stated = (*(directory.numbers(tags.WHITE_POINT) or SRGB[:2]), *directory.numbers(tags.PRIMARY_CHROMATICITIES))
    chromaticities = stated if is_sensible(stated) else SRGB
    curves = _curves(file, tiff, directory)
    gamma = exif.numbers(tags.GAMMA)
    if not curves and gamma and _MIN_GAMMA < gamma[0] < _MAX_GAMMA and abs(gamma[0] - _USUAL_GAMMA) > 0.01:
        curves = (gamma_curve(gamma[0]),)
    if not curves and same_chromaticities(chromaticities, SRGB):
        return None
    return ColourSpace("TIFF's colorimetry", curves or (srgb_curve,), chromaticities)


def _curves(file: IO[bytes], tiff: Tiff, directory: Directory) -> tuple[Curve, ...]:
    """Return the curves of TransferFunction, one or one a channel; none if it cannot be read."""
    if tags.TRANSFER_FUNCTION not in directory:
        return ()
    try:
        table = read_integers(file, tiff, directory, tags.TRANSFER_FUNCTION) / _MAX_TRANSFER
    except DamagedTiff:
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


def _unsupported_feature(directory: Directory) -> str | None:
    """Return a clause on a feature that libvips does not read, or misreads; None without one."""
    bits, samples = directory.integer(tags.BITS_PER_SAMPLE, 1), directory.integer(tags.SAMPLES_PER_PIXEL, 1)
    photometric = directory.integer(tags.PHOTOMETRIC_INTERPRETATION, 1)
    if directory.integer(tags.COMPRESSION, _UNCOMPRESSED) == _OLD_JPEG:
        return "is compressed with old-style JPEG, which is not read"
    if directory.tile and samples > 1 and directory.integer(tags.PLANAR_CONFIGURATION, 1) == _SEPARATE_PLANES:
        return "has its channels in separate planes of tiles, which are not read"
    if bits not in _READ_BITS and not (samples == 1 and bits in _SINGLE_CHANNEL_BITS):
        return f"has samples of {bits} bits, which are not read"
    if len(set(directory.numbers(tags.BITS_PER_SAMPLE))) > 1:
        return "has channels of different numbers of bits, which are not read"
    if (
        photometric == ITU_LAB
        or (photometric == CIE_LAB and bits != 16)
        or (photometric == ICC_LAB and bits not in (8, 16))
    ):
        return f"holds Lab colours of {bits} bits in a form that is not read"
    return None


def _chunks(file: IO[bytes], tiff: Tiff, directory: Directory) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return offset and length, bytes, of each tile or strip; None if there are no offsets.

    Both are 0 for an omitted tile.
    """
    offset_tag, count_tag = (
        (tags.TILE_OFFSETS, tags.TILE_BYTE_COUNTS) if directory.tile else (tags.STRIP_OFFSETS, tags.STRIP_BYTE_COUNTS)
    )
    if offset_tag not in directory:
        return None
    offsets = read_integers(file, tiff, directory, offset_tag)
    counts = read_integers(file, tiff, directory, count_tag) if count_tag in directory else np.zeros_like(offsets)
    listed, number = min(len(offsets), len(counts)), _chunk_number(directory)
    if listed < number:
        raise DamagedTiff(f"it lists {listed:,} of its {number:,} tiles or strips")
    offsets, counts = offsets[:number], counts[:number]
    if directory.integer(tags.COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:
        # Some writers state an arbitrary length for a single strip.
        counts = np.minimum(counts, _chunk_bytes(directory))
    return offsets, counts


def _planes(directory: Directory) -> int:
    """Return the number of planes; the tiles or strips of one follow those of another."""
    return (
        directory.integer(tags.SAMPLES_PER_PIXEL, 1)
        if directory.integer(tags.PLANAR_CONFIGURATION, 1) == _SEPARATE_PLANES
        else 1
    )


def _strip_rows(directory: Directory) -> int:
    """Return the rows of a strip; the last one may have fewer."""
    return max(1, min(directory.integer(tags.ROWS_PER_STRIP, directory.shape[0]), directory.shape[0]))


def _chunk_number(directory: Directory) -> int:
    """Return the number of tiles or strips that a picture of this size has."""
    height, width = directory.shape
    tile = directory.tile or (_strip_rows(directory), max(1, width))
    return -(-height // tile[0]) * -(-width // tile[1]) * _planes(directory)


def _chunk_bytes(directory: Directory) -> NDArray[np.int64]:
    """Return the decoded length of each tile or strip, bytes."""
    height, width = directory.shape
    tile, planes = directory.tile, _planes(directory)
    bits = directory.integer(tags.BITS_PER_SAMPLE, 1) * (directory.integer(tags.SAMPLES_PER_PIXEL, 1) // planes)
    if tile:
        return np.full(_chunk_number(directory), -(-tile[1] * bits // 8) * tile[0], np.int64)
    rows = np.minimum(_strip_rows(directory), height - np.arange(0, height, _strip_rows(directory), dtype=np.int64))
    return np.tile(rows * -(-width * bits // 8), planes)


def _is_ambiguous(file: IO[bytes], tiff: Tiff) -> bool:
    """Return whether tiles are omitted in a picture whose zeros are not black.

    libvips fills an omitted tile with zeros.
    """
    first = tiff.first
    if (
        first.integer(tags.PHOTOMETRIC_INTERPRETATION, 1) not in (WHITE_IS_ZERO, PALETTE)
        or tags.TILE_BYTE_COUNTS not in first
    ):
        return False
    return bool((read_integers(file, tiff, first, tags.TILE_BYTE_COUNTS) == 0).any())


def _area(directory: Directory) -> int:
    """Return the number of px of a directory's picture."""
    height, width = directory.shape
    return height * width
