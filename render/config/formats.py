"""Picture formats of a finished canvas and their limits. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from render.errors import UserError

#: Formats in which Pillow may open the program's own small pictures. Pillow passes some others to external programs.
SMALL_PICTURES = ("PNG", "JPEG", "WEBP")

#: Stems of the pictures in a deep zoom directory: the dream and its source.
DREAM, SOURCE = "dream", "source"


@dataclass(frozen=True)
class Format:
    """Picture format and its limits.

    Attributes:
        name: Name in a config.
        suffixes: Suffixes of file names, without the dot, the usual one first.
        ending: Text that follows the job's name in a file name.
        bits: Possible bits per channel.
        longest: Longest side, px; None for no practical limit.
        largest: Upper limit of the file size, bytes; None for no practical limit.
        compressions: Possible compressions, the usual one first.
        takes_cmyk: True if it can hold CMYK.
        directory: True if it is a directory of files.
        pyramid: Stored pixels per pixel of the canvas.
        is_read: True if this program reads its files again, for thumbnails and reports.
        srgb_only: True if its pictures are in sRGB, whatever `output.profile` says: many small ones, for browsers.
    """

    name: str
    suffixes: tuple[str, ...]
    ending: str
    bits: tuple[int, ...] = (8,)
    longest: int | None = None
    largest: int | None = None
    compressions: tuple[str, ...] = ()
    takes_cmyk: bool = False
    directory: bool = False
    pyramid: float = 1.0
    is_read: bool = True
    srgb_only: bool = False


#: TIFF's compressions, the usual one first.
_TIFF = ("lzw", "deflate", "zstd", "jpeg", "none")

#: Formats by name. PNG's sides are 31-bit numbers (third edition, 11.2.1). JPEG's and WebP's limits are those of their
#: encoders. Classic TIFF counts bytes with 32 bits. A pyramid holds a third more pixels than its base.
FORMATS = {
    form.name: form
    for form in (
        Format("png", ("png",), ".png", bits=(8, 16), longest=2**31 - 1),
        Format("jpeg", ("jpg", "jpeg"), ".jpg", longest=65_500),
        Format("webp", ("webp",), ".webp", longest=16_383),
        Format("tiff", ("tif", "tiff"), ".tif", (8, 16), None, 2**32, _TIFF, takes_cmyk=True),
        Format(
            "bigtiff", ("btf", "tf8", "tif", "tiff"), ".btf", (8, 16), None, None, _TIFF, takes_cmyk=True, pyramid=4 / 3
        ),
        Format("dzi", ("dzi",), "-zoom", directory=True, pyramid=4 / 3, srgb_only=True),
        Format("zarr", ("zarr",), ".zarr", bits=(32,), directory=True),
        Format("pdf", ("pdf",), ".pdf", bits=(8, 16), takes_cmyk=True, is_read=False),
        Format("psb", ("psb",), ".psb", bits=(8, 16), longest=300_000, takes_cmyk=True, is_read=False),
        Format("iiif", ("iiif",), "-iiif", directory=True, pyramid=4 / 3, is_read=False, srgb_only=True),
    )
}


def suffix_of(path: str) -> str:
    """Return the suffix of a file name in lower case, without the dot; empty if there is none."""
    return PurePath(path).suffix[1:].lower()


def format_of(path: str) -> str | None:
    """Return the name of the format for a file name's suffix, or None if no format has it."""
    suffix = suffix_of(path)
    return next((form.name for form in FORMATS.values() if suffix in form.suffixes), None)


def known_suffixes() -> list[str]:
    """Return every suffix of a format, each once."""
    return list(dict.fromkeys(suffix for form in FORMATS.values() for suffix in form.suffixes))


def refuse_size(name: str, shape: tuple[int, int], bits: int, channels: int = 3) -> None:
    """Raise `UserError` if a picture is too large for a format. The message names a format that can hold it.

    Args:
        name: Name of the format.
        shape: (rows, columns) of the picture, px.
        bits: Bits per channel.
        channels: Number of channels; 4 is CMYK.
    """
    limit = _why_not(FORMATS[name], shape, bits, channels)
    if limit is None:
        return
    fitting = [
        candidate.name
        for candidate in FORMATS.values()
        if bits in candidate.bits
        and (channels < 4 or candidate.takes_cmyk)
        and not _why_not(candidate, shape, bits, channels)
    ]
    # Suggest BigTIFF first to users who asked for TIFF.
    fitting.sort(key=lambda candidate: name != "tiff" or candidate != "bigtiff")
    remedy = f"set output.format={fitting[0]}" if fitting else "render it smaller"
    raise UserError(f"{name} holds at most {limit} and the picture is {shape[1]:,} x {shape[0]:,}: {remedy}")


def _why_not(form: Format, shape: tuple[int, int], bits: int, channels: int) -> str | None:
    """Return the limit of a format that a picture exceeds, as text, or None if it fits."""
    if form.longest is not None and max(shape) > form.longest:
        return f"{form.longest:,} px a side"
    needed = shape[0] * shape[1] * channels * bits // 8
    if form.largest is not None and needed >= form.largest:
        return f"{form.largest / 2**30:.0f} GiB, uncompressed as it may be,"
    return None


def names_of(names: Sequence[str]) -> str:
    """Return the names as text for messages, such as `png, jpeg or webp`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
