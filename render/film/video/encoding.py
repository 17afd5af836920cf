"""Encoding of a film's frames into segments: closed, complete files that are later joined without encoding again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video import VideoStream
from av.video.codeccontext import VideoCodecContext

from render.errors import UserError
from render.film.video.film_formats import VideoSettings, scaled_quality
from render.film.video.planes import BT709, FULL, LIMITED, RGB_MATRIX, Picture, video_frame
from render.storage.local import replacing

#: Ticks of a frame in a segment. Matroska counts milliseconds, so a rate would be rounded there; joining sets the times.
TICKS = 40
_SEGMENT_BASE = Fraction(1, 1000)
#: Threads of every encoder. Some cut frames or rows by threads, so with the cores of a machine the bytes would differ.
ENCODER_THREADS = 4
#: Seconds between two frames that players can jump to.
_KEY_FRAME_S = 2
_BIT_EXACT = {"fflags": "+bitexact"}


def encode_segment(path: Path, frames: Iterable[Picture], settings: VideoSettings, first_number: int = 0) -> int:
    """Encode frames into a segment, an atomically written Matroska file; return their number.

    Args:
        path: The segment's file; replaced if it exists.
        frames: The segment's frames in order, (rows, columns, 3) RGB, uint8 or uint16. Each is read before the next is
            asked for.
        settings: Settings of the film.
        first_number: Number of the first frame in the film, for messages.

    Raises:
        UserError: A frame has another shape, or the encoder or the disk refuses.
    """
    # SVT-AV1 would print its settings; its library asks the environment only.
    os.environ.setdefault("SVT_LOG", "1")
    count = 0
    with written_whole(path) as file, opened_output(file, "matroska", path) as container:
        stream = cast(VideoStream, container.add_stream(settings.codec.encoder, rate=settings.rate))
        _set_up(stream, settings)
        for count, picture in enumerate(frames, 1):
            if picture.shape != (*settings.shape, 3):
                raise UserError(
                    f"frame {first_number + count - 1} has the shape {picture.shape}, and the film's frames have "
                    f"{(*settings.shape, 3)}: remove the film's run directory and make it again"
                )
            frame = video_frame(picture, settings.pixels)
            frame.pts, frame.time_base = count - 1, 1 / settings.rate
            _mux(container, stream, stream.encode(frame), settings)
        _mux(container, stream, stream.encode(None), settings)
    return count


@contextmanager
def written_whole(path: Path, *, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Yield a temporary file that gets its name once complete.

    Raises:
        UserError: The disk refuses, or `path` exists and `overwrite` is False.
    """
    if not overwrite and path.exists():
        raise UserError(f"{path} exists: set overwrite=true or another output.path")
    try:
        with replacing(path, keep=not overwrite) as file:
            yield file
    except FileExistsError:
        raise UserError(f"{path} exists: set overwrite=true or another output.path") from None
    except OSError as error:
        if isinstance(error, av.FFmpegError):
            raise
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def opened_output(file: IO[bytes], muxer: str, path: Path, **options: str) -> Iterator[OutputContainer]:
    """Yield a container that is written into an open file, without versions and dates.

    Raises:
        UserError: FFmpeg refuses what is written.
    """
    try:
        with av.open(file, "w", format=muxer, options={**_BIT_EXACT, **options}) as container:
            yield container
    except av.FFmpegError as error:
        raise UserError(f"{path} cannot be written as {muxer}: FFmpeg says {error.strerror}") from error


def _set_up(stream: VideoStream, settings: VideoSettings) -> None:
    """Set all options of an encoder, before its first frame."""
    rows, columns = settings.shape
    context: VideoCodecContext = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = columns, rows, settings.pixels
    stream.time_base = _SEGMENT_BASE
    context.time_base, context.framerate = 1 / settings.rate, settings.rate
    context.gop_size = max(1, round(settings.rate * _KEY_FRAME_S))
    context.thread_count = ENCODER_THREADS
    context.flags |= int(av.codec.context.Flags.bitexact) | int(av.codec.context.Flags.closed_gop)
    context.sample_aspect_ratio = settings.aspect
    is_rgb = not settings.pixels.startswith("yuv")
    context.color_primaries, context.color_trc = BT709[:2]
    context.colorspace = RGB_MATRIX if is_rgb else BT709[2]
    context.color_range = FULL if is_rgb else LIMITED
    context.options = _options(settings)


def _options(settings: VideoSettings) -> dict[str, str]:
    """Return the options of an encoder: constant quality, and threads by which bytes do not depend on the machine."""
    quality = scaled_quality(settings) if settings.codec.scale else 0.0
    match settings.codec.name:
        case "h264":
            # x264's macroblock tree gives other bytes each time on processors with AVX-512, and others again without.
            return {
                "crf": f"{quality:g}",
                "preset": "medium",
                "mbtree": "0",
                **({"bf": "0"} if settings.variable else {}),
            }
        case "h265":
            threads = f"pools={ENCODER_THREADS}:frame-threads=2" + (":bframes=0" if settings.variable else "")
            return {
                "crf": f"{quality:g}",
                "preset": "medium",
                "x265-params": f"log-level=error:open-gop=0:info=0:{threads}",
            }
        case "av1":
            return {"crf": f"{round(quality)}", "preset": "7", "svtav1-params": f"lp={ENCODER_THREADS}"}
        case "vp9":
            return {"crf": f"{round(quality)}", "b": "0", "deadline": "good", "cpu-used": "2", "row-mt": "0"}
        case "prores":
            return {"profile": str(_prores_profile(settings.quality)), "vendor": "apl0"}
        case "ffv1":
            return {"level": "3", "slices": "16", "slicecrc": "1", "context": "0", "coder": "range_tab"}
    raise ValueError(f"{settings.codec.name} is not encoded in segments")


def _prores_profile(quality: int) -> int:
    """Return ProRes' profile for a quality: 0 proxy below 25, 1 LT below 50, 2 standard below 75, else 3 HQ."""
    return min(3, quality // 25)


def _mux(container: OutputContainer, stream: Stream, packets: list[Packet], settings: VideoSettings) -> None:
    """Write packets, with times in whole ticks of a frame."""
    for packet in packets:
        base = packet.time_base or 1 / settings.rate
        number = round((packet.pts or 0) * base * settings.rate)
        order = number if packet.dts is None else round(packet.dts * base * settings.rate)
        packet.time_base = _SEGMENT_BASE
        packet.pts, packet.dts, packet.duration = number * TICKS, order * TICKS, TICKS
        packet.stream = stream
        container.mux(packet)
