"""The formats that a finished canvas can take, and what each of them can hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from render.errors import UserError

#: Formats that Pillow may take a small picture of the program's own for. It would hand some others to other programs.
SMALL_PICTURES = ("PNG", "JPEG", "WEBP")

#: Stems of the pictures in a deep zoom directory: the dream, and what it was dreamed from.
DREAM, SOURCE = "dream", "source"


@dataclass(frozen=True)
class Format:
    """A picture format: `suffixes` are those of its file names, the usual one first; `ending` follows the job's name.

    `longest` is the longest side it can hold, px, `largest` the most bytes, None for no limit that matters. `directory`
    tells those that are many files, `pyramid` how many pixels are kept for each of the canvas.
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


#: TIFF's compressions, the usual one first.
_TIFF = ("lzw", "deflate", "zstd", "jpeg", "none")

#: By name. PNG's sides are 31-bit numbers (third edition, 11.2.1); JPEG's and WebP's limits are their encoders'; classic
#: TIFF counts bytes with 32 bits. A pyramid holds a third more pixels than its base.
FORMATS = {
    one.name: one
    for one in (
        Format("png", ("png",), ".png", bits=(8, 16), longest=2**31 - 1),
        Format("jpeg", ("jpg", "jpeg"), ".jpg", longest=65_500),
        Format("webp", ("webp",), ".webp", longest=16_383),
        Format("tiff", ("tif", "tiff"), ".tif", (8, 16), None, 2**32, _TIFF, takes_cmyk=True),
        Format(
            "bigtiff", ("btf", "tf8", "tif", "tiff"), ".btf", (8, 16), None, None, _TIFF, takes_cmyk=True, pyramid=4 / 3
        ),
        Format("dzi", ("dzi",), "-zoom", directory=True, pyramid=4 / 3),
        Format("zarr", ("zarr",), ".zarr", bits=(32,), directory=True),
    )
}


def suffix_of(path: str) -> str:
    """What follows the last dot of the file's name, in small letters; empty where there is none."""
    return PurePath(path).suffix[1:].lower()


def format_of(path: str) -> str | None:
    """The format that a file name's suffix stands for; None where it stands for none."""
    suffix = suffix_of(path)
    return next((one.name for one in FORMATS.values() if suffix in one.suffixes), None)


def known_suffixes() -> list[str]:
    """Every suffix that names a format."""
    return list(dict.fromkeys(suffix for one in FORMATS.values() for suffix in one.suffixes))


def refuse_size(name: str, shape: tuple[int, int], bits: int, channels: int = 3) -> None:
    """Raises `UserError` when a picture of `shape` (rows, columns) px cannot be kept in the format; names one that can."""
    why = _why_not(FORMATS[name], shape, bits, channels)
    if why is None:
        return
    fitting = [
        other.name
        for other in FORMATS.values()
        if bits in other.bits and (channels < 4 or other.takes_cmyk) and not _why_not(other, shape, bits, channels)
    ]
    # Who asked for a TIFF is best served by the other kind.
    fitting.sort(key=lambda other: name != "tiff" or other != "bigtiff")
    mend = f"set output.format={fitting[0]}" if fitting else "render it smaller"
    raise UserError(f"{name} holds at most {why} and the picture is {shape[1]:,} x {shape[0]:,}: {mend}")


def _why_not(form: Format, shape: tuple[int, int], bits: int, channels: int) -> str | None:
    """What is too much about a picture for a format."""
    if form.longest is not None and max(shape) > form.longest:
        return f"{form.longest:,} px a side"
    needed = shape[0] * shape[1] * channels * bits // 8
    if form.largest is not None and needed >= form.largest:
        return f"{form.largest / 2**30:.0f} GiB, uncompressed as it may be,"
    return None


def names_of(names: Sequence[str]) -> str:
    """For messages: `png, jpeg or webp`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
