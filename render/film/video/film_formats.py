"""Formats of films, the codecs that each can hold, and their limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import PurePath
from typing import Literal

from av.codec import Codec
from av.codec.codec import UnknownCodecError

from render.config.formats import names_of
from render.errors import UserError

#: Kinds of formats: encoded in segments that are joined; written from all pictures at once; pictures in files of their own.
Kind = Literal["video", "animation", "directory"]


@dataclass(frozen=True)
class FilmCodec:
    """Codec, and how it is encoded here.

    Attributes:
        name: Name in a config.
        encoder: FFmpeg's name of the encoder.
        pixels: Pixel format by bits of a channel.
        longest: Longest side, px.
        scale: The encoder's figures at quality 100 and 1; None if it has no such scale.
        even: True if sides must be even.
    """

    name: str
    encoder: str
    pixels: dict[int, str]
    longest: int = 16_384
    scale: tuple[float, float] | None = None
    even: bool = True


@dataclass(frozen=True)
class FilmFormat:
    """Format of a film.

    Attributes:
        name: Name in a config.
        kind: How it comes to be.
        suffixes: Suffixes of file names, without the dot, the usual one first; empty for directories.
        codecs: Names of its codecs, the usual one first.
        muxer: FFmpeg's name of the container.
        takes_sound: True if it can hold sound.
        highest_rate: Most frames a second; None for no limit.
    """

    name: str
    kind: Kind
    suffixes: tuple[str, ...]
    codecs: tuple[str, ...]
    muxer: str
    takes_sound: bool = False
    highest_rate: int | None = None


@dataclass(frozen=True)
class VideoSettings:
    """Settings of a film's encoding, complete and checked.

    Attributes:
        format: The film's format.
        codec: The film's codec.
        shape: (rows, columns) px of the frames.
        bits: Bits of a channel in the file.
        rate: Frames a second; for variable rates, the average.
        quality: 1 to 100.
        aspect: Width of a pixel by its height.
        variable: True if frames are not shown equally long. H.264 and H.265 then store frames in the order that they are
            shown: MP4 adds up the times of decoding, which would not end with the film.
    """

    format: FilmFormat
    codec: FilmCodec
    shape: tuple[int, int]
    bits: int = 8
    rate: Fraction = field(default=Fraction(24))
    quality: int = 80
    aspect: Fraction = field(default=Fraction(1))
    variable: bool = False

    @property
    def pixels(self) -> str:
        """FFmpeg's name of the pixel format in the file."""
        return self.codec.pixels[self.bits]


_RGB = {8: "rgb24", 16: "rgb48le"}

#: Codecs by name. A quality of 80 is about what a studio sends to a client: CRF 18 with x264, 20 with x265.
CODECS = {
    codec.name: codec
    for codec in (
        FilmCodec("h264", "libx264", {8: "yuv420p", 10: "yuv420p10le"}, scale=(10, 50)),
        FilmCodec("h265", "libx265", {8: "yuv420p", 10: "yuv420p10le"}, scale=(12, 51)),
        FilmCodec("av1", "libsvtav1", {8: "yuv420p", 10: "yuv420p10le"}, 8_704, (10, 62)),
        FilmCodec("vp9", "libvpx-vp9", {8: "yuv420p", 10: "yuv420p10le"}, scale=(8, 62)),
        FilmCodec("prores", "prores_ks", {8: "yuv422p10le", 10: "yuv422p10le"}),
        FilmCodec("ffv1", "ffv1", {8: "bgr0", 10: "gbrp10le", 16: "gbrp16le"}, 32_766, even=False),
        FilmCodec("gif", "gif", {8: "pal8"}, 65_535, even=False),
        FilmCodec("webp", "libwebp_anim", {8: "bgra"}, 16_383, even=False),
        FilmCodec("png", "png", _RGB, 2**31 - 1, even=False),
        FilmCodec("tiff", "tiff", _RGB, 65_535, even=False),
    )
}

#: Formats by name. Browsers show frames of a GIF that last under 0.02 s for 0.1 s.
FORMATS = {
    form.name: form
    for form in (
        FilmFormat("mp4", "video", ("mp4", "m4v"), ("h264", "h265", "av1"), "mp4", True),
        FilmFormat("webm", "video", ("webm",), ("av1", "vp9"), "webm", True),
        FilmFormat("mov", "video", ("mov",), ("prores", "h264", "h265"), "mov", True),
        FilmFormat("mkv", "video", ("mkv",), ("ffv1", "h264", "h265", "av1", "vp9"), "matroska", True),
        FilmFormat("gif", "animation", ("gif",), ("gif",), "gif", highest_rate=50),
        FilmFormat("webp", "animation", ("webp",), ("webp",), "webp", highest_rate=1000),
        FilmFormat("frames-png", "directory", (), ("png",), "image2"),
        FilmFormat("frames-tiff", "directory", (), ("tiff",), "image2"),
    )
}


def format_of(path: str) -> str | None:
    """Return the name of the format for a file name's suffix, or None if no format has it."""
    suffix = PurePath(path).suffix[1:].lower()
    return next((form.name for form in FORMATS.values() if suffix in form.suffixes), None)


def codecs_here() -> dict[str, tuple[int, ...]]:
    """Return the names of the codecs whose encoders are installed, and the bits that each can encode."""
    return {name: bits for name, codec in CODECS.items() if (bits := tuple(_bits_here(codec)))}


def choose(
    format: str,
    codec: str | None,
    bits: int,
    shape: tuple[int, int],
    *,
    quality: int = 80,
    rate: Fraction = Fraction(24),
    aspect: Fraction = Fraction(1),
    variable: bool = False,
) -> VideoSettings:
    """Return the settings of a film's encoding.

    Args:
        format: Name of a format.
        codec: Name of a codec; None for the format's usual one, of those installed.
        bits: Bits of a channel.
        shape: (rows, columns) px of the frames.
        quality: 1 to 100.
        rate: Frames a second.
        aspect: Width of a pixel by its height.
        variable: True if frames are not shown equally long.

    Raises:
        UserError: The format or codec is unknown or not installed, or cannot hold such frames. The message names those
            that can.
    """
    form = _known(format, list(FORMATS), "film.format")
    film_format = FORMATS[form]
    here = codecs_here()
    possible = [name for name in film_format.codecs if name in here]
    if not possible:
        raise UserError(
            f"film.format={format} needs the codec {film_format.codecs[0]}, which this FFmpeg lacks: {_formats_here(here)}"
        )
    if codec is not None and codec not in possible:
        raise UserError(f"film.codec={codec} is not there for {format}: use {names_of(possible)}")
    fitting = [name for name in possible if bits in here[name]]
    if codec is None and fitting:
        codec = fitting[0]
    codec = codec or possible[0]
    if bits not in here[codec]:
        numbers = names_of([str(number) for number in here[codec]])
        others = f", or film.codec={names_of(fitting)}" if fitting else ""
        raise UserError(f"film.bits={bits}: {codec} has {numbers} bits here: set film.bits={here[codec][0]}{others}")
    _refuse_size(film_format, CODECS[codec], shape)
    if not 1 <= quality <= 100:
        raise UserError(f"film.quality={quality} is outside 1 to 100")
    _refuse_rate(film_format, rate)
    return VideoSettings(film_format, CODECS[codec], shape, bits, rate, quality, aspect, variable)


def scaled_quality(settings: VideoSettings) -> float:
    """Return the quality on the codec's own scale, linear between its ends: `film.quality` 1 and 100.

    Raises:
        ValueError: The codec has no such scale.
    """
    if settings.codec.scale is None:
        raise ValueError(f"{settings.codec.name} has no scale of quality")
    best, worst = settings.codec.scale
    return round(best + (worst - best) * (100 - settings.quality) / 99, 2)


def _bits_here(codec: FilmCodec) -> Iterator[int]:
    try:
        available = {form.name for form in Codec(codec.encoder, "w").video_formats or ()}
    except UnknownCodecError:
        return
    yield from (bits for bits, pixels in codec.pixels.items() if pixels in available)


def _refuse_size(form: FilmFormat, codec: FilmCodec, shape: tuple[int, int]) -> None:
    rows, columns = shape
    if min(shape) < 16:
        raise UserError(f"frames of {columns} x {rows} px are too small for a film: use 16 px a side or more")
    if codec.even and (rows % 2 or columns % 2):
        raise UserError(f"{codec.name} needs even sides and frames are {columns} x {rows} px: set another output.width")
    if max(shape) <= codec.longest:
        return
    larger = [
        f"film.format={other.name} film.codec={name}"
        for other in FORMATS.values()
        for name in other.codecs
        if CODECS[name].longest >= max(shape) and other.kind != "animation"
    ]
    remedy = f", or {larger[0]}" if larger else ""
    raise UserError(
        f"{codec.name} ({form.name}) has at most {codec.longest:,} px a side and frames are {columns:,} x {rows:,}: "
        f"set a smaller output.width{remedy}"
    )


def _refuse_rate(form: FilmFormat, rate: Fraction) -> None:
    if rate <= 0:
        raise UserError(f"film.rate={rate} is not above 0")
    if form.highest_rate is not None and rate > form.highest_rate:
        raise UserError(
            f"film.rate={float(rate):g} is above the {form.highest_rate} frames a second that {form.name} can show"
        )


def _known(name: str, names: list[str], key: str) -> str:
    if name not in names:
        raise UserError(f"{key}={name} is unknown: use {names_of(names)}")
    return name


def _formats_here(here: dict[str, tuple[int, ...]]) -> str:
    formats = [form.name for form in FORMATS.values() if any(name in here for name in form.codecs)]
    return f"use {names_of(formats)}" if formats else "install the package av"
