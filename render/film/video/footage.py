"""Footage: films of anybody's, opened without trust, with their exact times and upright RGB frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import VideoFrame
from av.container import InputContainer
from av.video import VideoStream

from render.errors import UserError
from render.film.video.colour_tags import MATRICES, PRIMARIES, TRANSFERS, tag_name
from render.film.video.containers import opened_input
from render.film.video.frame_reader import FrameReader, Turn
from render.film.video.planes import Picture
from render.film.video.scanning import Scan, scan

#: Largest frame that is read, px: 16K by 16K. FFmpeg would allocate what a header states.
MAX_PIXELS = 16_384**2
_HDR = {"smpte2084": "pq", "arib-std-b67": "hlg"}


@dataclass(frozen=True)
class Footage:
    """A film that can be dreamed.

    Attributes:
        path: Its file.
        shape: (rows, columns) px of the frames that `frames` yields: upright, pixels as stored.
        stored_shape: (rows, columns) px in the file.
        rotation: Degrees counterclockwise by which frames were turned upright: 0, 90, 180 or 270.
        flipped: True if frames were mirrored from left to right before they were turned.
        aspect: Width of a pixel by its height, upright. Frames are not resampled: files of dreams have the same tag.
        pts: Time of every frame in presentation order, ticks of `time_base`; the file's start is 0.
        time_base: Duration of a tick, s.
        last_duration: Ticks that the last frame is shown.
        origin: Time in the file, s, that is 0 in `pts`; for `Sound`.
        average_rate: Frames a second on average.
        variable: True if frames are not shown equally long.
        bits: Bits of a channel in the file.
        primaries, transfer, matrix: Colour tags, names of H.273; `unknown` if there are none.
        full_range: True if luma is 0..255, not 16..235.
        interlaced: True if frames are of two fields, which are deinterlaced.
        hdr: `pq`, `hlg` or None; HDR is tone-mapped.
        sounds: Names of the codecs of the sound streams.
        damaged: Number of frames that could not be read and are left out.
        notes: One line each for the user: what is changed in the frames.
    """

    path: Path
    shape: tuple[int, int]
    stored_shape: tuple[int, int]
    rotation: int
    flipped: bool
    aspect: Fraction
    pts: tuple[int, ...]
    time_base: Fraction
    last_duration: int
    origin: Fraction
    average_rate: Fraction
    variable: bool
    bits: int
    primaries: str
    transfer: str
    matrix: str
    full_range: bool
    interlaced: bool
    hdr: str | None
    sounds: tuple[str, ...]
    damaged: int
    notes: tuple[str, ...]
    reader: FrameReader

    @property
    def duration(self) -> Fraction:
        """Duration from the start of the first frame to the end of the last, s."""
        return (self.pts[-1] - self.pts[0] + self.last_duration) * self.time_base

    def frames(self, first: int = 0, bits: int = 8) -> Iterator[Picture]:
        """Yield upright RGB frames from number `first` on, the same bits wherever it starts.

        Args:
            first: Number of the first frame, from 0.
            bits: 8 for uint8 of 0..255, 16 for uint16 of 0..65535.

        Yields:
            (rows, columns, 3) arrays of `shape`.

        Raises:
            UserError: A frame cannot be decoded.
        """
        return self.reader.frames(first, bits)


def open_footage(path: Path, damaged: bool = False) -> Footage:
    """Return the facts of a local film file, after reading it through once without decoding.

    Args:
        path: A file on this machine.
        damaged: True to take what can be read of a damaged file; all of it is decoded then to find out.

    Raises:
        UserError: It is no film that can be read, or part of it is broken and `damaged` is False.
    """
    sample = _first_frame(path)
    with opened_input(path) as container:
        stream = video_stream(container, path)
        times = scan(container, stream, path, damaged=damaged)
        context = stream.codec_context
        hdr = _HDR.get(tag_name(TRANSFERS, context.color_trc))
        turn, interlaced = Turn.of(sample), sample.interlaced_frame
        reader = FrameReader(path, times.pts, times.timed, turn, interlaced, hdr, context.color_range, damaged)
        return _described(container, stream, times, reader)


def _described(container: InputContainer, stream: VideoStream, times: Scan, reader: FrameReader) -> Footage:
    """Return the facts of footage that has been read through."""
    context, turn = stream.codec_context, reader.turn
    base = stream.time_base or Fraction(1, 1000)
    origin = Fraction(max(container.start_time or 0, 0), av.time_base)
    shift = round(origin / base)
    pts = tuple(time - shift for time in times.pts)
    rate = _average_rate(pts, base, stream.average_rate)
    stored = (context.height, context.width)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    aspect = Fraction(1) if aspect <= 0 else aspect
    return Footage(
        path=reader.path,
        shape=turn.shape(stored),
        stored_shape=stored,
        rotation=turn.quarters * 90,
        flipped=turn.flipped,
        aspect=1 / aspect if turn.quarters % 2 else aspect,
        pts=pts,
        time_base=base,
        last_duration=times.last_duration,
        origin=origin,
        average_rate=rate,
        variable=_is_variable(pts, base, rate),
        bits=context.format.components[0].bits if context.format else 8,
        primaries=tag_name(PRIMARIES, context.color_primaries),
        transfer=tag_name(TRANSFERS, context.color_trc),
        matrix=tag_name(MATRICES, context.colorspace),
        full_range=context.color_range == 2,
        interlaced=reader.interlaced,
        hdr=reader.hdr,
        sounds=tuple(sound.codec_context.name for sound in container.streams.audio),
        damaged=times.missing,
        notes=tuple(_notes(reader.interlaced, reader.hdr, times.timed, times.missing)),
        reader=reader,
    )


def _average_rate(pts: tuple[int, ...], base: Fraction, stated: Fraction | None) -> Fraction:
    """Return the frames a second on average: the stated rate, if the times say nearly the same."""
    average = (len(pts) - 1) / ((pts[-1] - pts[0]) * base) if len(pts) > 1 else stated or Fraction(25)
    return Fraction(stated if stated and abs(stated / average - 1) < Fraction(1, 1000) else average)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return a film's video stream: the first that is no cover picture.

    Raises:
        UserError: There is none, or its codec or size cannot be read.
    """
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise UserError(f"{path} has no video stream (only {kinds}): use a film")
    stream = streams[0]
    if stream.codec_tag in ("encv", "drmi"):
        raise UserError(f"{path} is encrypted (DRM) and cannot be read: use a copy without protection")
    context = stream.codec_context
    if context is None:
        raise UserError(
            f"{path} has video of a codec that FFmpeg does not know here: convert it to H.264, H.265, AV1, VP9 or ProRes"
        )
    if context.width <= 0 or context.height <= 0:
        raise UserError(f"{path} states no size of its frames: use another file")
    if context.width * context.height > MAX_PIXELS:
        raise UserError(
            f"{path} states frames of {context.width:,} x {context.height:,} px: at most {MAX_PIXELS:,} px are read"
        )
    return stream


def _first_frame(path: Path) -> VideoFrame:
    """Return the first frame that can be decoded, which shows whether the film is interlaced or turned."""
    with opened_input(path) as container:
        stream = video_stream(container, path)
        for packet in container.demux(stream):
            if packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info"):
                raise UserError(f"{path} is encrypted (DRM) and cannot be read: use a copy without protection")
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            if frames:
                return frames[0]
    raise UserError(f"{path} has no frames that can be read: use another file")


def _is_variable(pts: tuple[int, ...], base: Fraction, rate: Fraction) -> bool:
    """Return True if a frame lies more than a tick from where the average rate has it."""
    return any(abs((time - pts[0]) * base - number / rate) > base for number, time in enumerate(pts))


def _notes(interlaced: bool, hdr: str | None, timed: bool, missing: int) -> Iterator[str]:
    if interlaced:
        yield "The footage is interlaced: each frame's two fields become one (bwdif)."
    if hdr:
        yield f"The footage is HDR ({hdr.upper()}): it is tone-mapped to BT.709."
    if not timed:
        yield "The footage has no timestamps: its frames are shown at its stated rate."
    if missing:
        yield f"The footage is damaged: {missing} frames cannot be read and are left out."
