"""Animations (GIF, WebP) from pictures in files, and numbered pictures in a directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pyvips
from av import VideoFrame
from av.filter import Graph
from av.video import VideoStream

from render.errors import UserError
from render.film.video.encoding import opened_output, written_whole
from render.film.video.film_formats import VideoSettings
from render.film.video.planes import Picture, to_uint8, video_frame
from render.film.video.segment_joining import Timing
from render.storage.local import replacing

#: Duration of a tick of each format, s.
TICKS = {"gif": Fraction(1, 100), "webp": Fraction(1, 1000)}
#: Ordered dithering: its pattern stands still, so that dreams do not crawl as with error diffusion, and GIFs stay small.
_DITHER = "dither=bayer:bayer_scale=3:diff_mode=rectangle"


def write_animation(
    path: Path,
    pictures: Sequence[Path],
    settings: VideoSettings,
    timing: Timing,
    *,
    loops: int = 0,
    overwrite: bool = False,
) -> None:
    """Write an animation of pictures, one in memory at a time; a GIF has one palette for all.

    Args:
        path: The animation's file, written whole or not at all.
        pictures: PNG files in order.
        settings: Settings of the film; the format is gif or webp.
        timing: Times of all frames; each is shown at its time rounded to the format's tick (GIF 0.01 s, WebP 0.001 s).
        loops: Times that it is shown; 0 for ever.
        overwrite: True to replace an existing file.

    Raises:
        UserError: A picture is missing or of another size, or the file exists.
    """
    name = settings.format.name
    tick = TICKS[name]
    times = [round((time - timing.pts[0]) * timing.time_base / tick) for time in timing.pts]
    times.append(round((timing.pts[-1] - timing.pts[0] + timing.duration) * timing.time_base / tick))
    if len(pictures) != len(timing.pts):
        raise ValueError(f"{len(pictures)} pictures for {len(timing.pts)} times")
    frames = _paletted(pictures, settings) if name == "gif" else _coloured(pictures, settings)
    options = {"loop": _loop_option(name, loops)}
    if name == "gif":
        options["final_delay"] = str(times[-1] - times[-2])
    with (
        written_whole(path, overwrite=overwrite) as file,
        opened_output(file, settings.format.muxer, path, **options) as output,
    ):
        stream = cast(VideoStream, output.add_stream(settings.codec.encoder, rate=settings.rate))
        stream.width, stream.height = settings.shape[1], settings.shape[0]
        stream.pix_fmt = settings.pixels
        stream.time_base = stream.codec_context.time_base = tick
        stream.codec_context.flags |= int(av.codec.context.Flags.bitexact)
        if name == "webp":
            stream.codec_context.options = {
                "quality": str(settings.quality), "lossless": str(int(settings.quality == 100)), "loop": options["loop"],
            }  # fmt: skip
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.duration = times[number], tick, times[number + 1] - times[number]
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_numbered(directory: Path, number: int, picture: Path, settings: VideoSettings) -> Path:
    """Write a frame's picture into a directory, atomically, as NNNNNN.png or NNNNNN.tif; return its path.

    Args:
        directory: Directory of the frames.
        number: Number of the frame, from 0.
        picture: Its PNG file, copied as it is for frames-png.
        settings: Settings of the film; the format is frames-png or frames-tiff.

    Raises:
        UserError: The picture cannot be read, or the disk refuses.
    """
    suffix = "png" if settings.codec.name == "png" else "tif"
    target = directory / f"{number:06d}.{suffix}"
    try:
        content = picture.read_bytes()
        if suffix == "tif":
            image = pyvips.Image.new_from_buffer(content, "", access="sequential")
            content = image.write_to_buffer(".tif", compression="lzw", predictor="horizontal", strip=True)
        with replacing(target) as file:
            file.write(content)
    except (OSError, pyvips.Error) as error:
        raise UserError(f"{target} cannot be written from {picture}: {str(error).strip().splitlines()[0]}") from error
    return target


def read_picture(path: Path) -> Picture:
    """Return a PNG file as (rows, columns, 3) RGB, uint8 or uint16.

    Raises:
        UserError: It is missing or no picture.
    """
    try:
        image = pyvips.Image.pngload(str(path), access="sequential")
        bands = image[:3] if image.bands >= 3 else image[0].bandjoin([image[0], image[0]])
        array: Picture = bands.numpy()
    except pyvips.Error as error:
        raise UserError(f"{path} cannot be read as a PNG: remove it and make the film again") from error
    return array


def _checked(path: Path, settings: VideoSettings) -> np.ndarray:
    picture = to_uint8(read_picture(path))
    rows, columns = settings.shape
    if picture.shape != (rows, columns, 3):
        raise UserError(
            f"{path} is {picture.shape[1]} x {picture.shape[0]} px, and the film {columns} x {rows}: "
            "remove it and make the film again"
        )
    return np.ascontiguousarray(picture)


def _coloured(pictures: Sequence[Path], settings: VideoSettings) -> Iterator[VideoFrame]:
    return (video_frame(_checked(path, settings), settings.pixels) for path in pictures)


def _loop_option(name: str, loops: int) -> str:
    """Return the muxer's option: GIF counts repetitions (-1 for none), WebP showings; both have 0 for ever."""
    if name == "gif" and loops:
        return str(loops - 1) if loops > 1 else "-1"
    return str(loops)


def _paletted(pictures: Sequence[Path], settings: VideoSettings) -> Iterator[VideoFrame]:
    """Yield frames in the colours of one palette, which is counted in a first pass over all pictures."""
    palette = _palette(pictures, settings)
    graph = Graph()
    rows, columns = settings.shape
    size = {"time_base": Fraction(1, 100), "format": av.VideoFormat("bgra")}
    source = graph.add_buffer(width=columns, height=rows, **size)  # type: ignore[arg-type]
    colours = graph.add_buffer(width=16, height=16, **size)  # type: ignore[arg-type]
    use, sink = graph.add("paletteuse", _DITHER), graph.add("buffersink")
    source.link_to(use, 0, 0)
    colours.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    palette.pts, palette.time_base = 0, Fraction(1, 100)
    colours.push(palette)
    colours.push(None)
    for number, path in enumerate(pictures):
        frame = video_frame(_checked(path, settings), "bgra")
        frame.pts, frame.time_base = number, Fraction(1, 100)
        source.push(frame)
        yield from _pulled(sink)
    source.push(None)
    yield from _pulled(sink)


def _palette(pictures: Sequence[Path], settings: VideoSettings) -> VideoFrame:
    """Return the palette, 16 x 16 px, of the colours of all pictures."""
    graph = Graph()
    rows, columns = settings.shape
    source = graph.add_buffer(width=columns, height=rows, format=av.VideoFormat("bgra"), time_base=Fraction(1, 100))
    count, sink = graph.add("palettegen", "stats_mode=full:reserve_transparent=0"), graph.add("buffersink")
    graph.link_nodes(source, count, sink).configure()
    for number, path in enumerate(pictures):
        frame = video_frame(_checked(path, settings), "bgra")
        frame.pts, frame.time_base = number, Fraction(1, 100)
        source.push(frame)
    source.push(None)
    return next(_pulled(sink))


def _pulled(sink: Any) -> Iterator[VideoFrame]:
    while True:
        try:
            yield sink.pull()
        except (av.BlockingIOError, av.EOFError):
            return
