"""Joining of encoded segments into a film's file, with exact timestamps and copied sound; nothing is encoded again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from render.errors import UserError
from render.film.video.containers import opened_input
from render.film.video.encoding import TICKS, opened_output, written_whole
from render.film.video.film_formats import VideoSettings

#: Options of containers: the index of MP4 and MOV comes first, so that players start before all is there.
_OPTIONS = {
    "mp4": {"movflags": "+faststart"},
    "mov": {"movflags": "+faststart"},
    # FFmpeg would else shift all streams by the first packet of sound, whose samples come before 0.
    "matroska": {"avoid_negative_ts": "disabled"},
    "webm": {"avoid_negative_ts": "disabled"},
}
#: Apple's players know H.265 in MP4 only by this tag.
_TAGS = {("h265", "mp4"): "hvc1", ("h265", "mov"): "hvc1"}
#: Most frames that an encoder holds back before it writes one that is shown earlier.
_MAX_REORDER = 64


@dataclass(frozen=True)
class Timing:
    """Times of frames: number n is shown at pts[n] * time_base seconds.

    Attributes:
        pts: Timestamps in ascending order, one a frame.
        time_base: Duration of a tick, s.
        duration: Ticks that the last frame is shown.
    """

    pts: Sequence[int]
    time_base: Fraction
    duration: int = 1

    @property
    def end(self) -> Fraction:
        """Time at which the last frame ends, s."""
        return (self.pts[-1] + self.duration) * self.time_base


def constant(rate: Fraction, frames: int) -> Timing:
    """Return the times of `frames` frames at a constant rate, frames a second."""
    return Timing(range(frames), 1 / rate)


@dataclass(frozen=True)
class Sound:
    """Sound that is copied from another file.

    Attributes:
        path: File whose sound is copied: all of its sound streams.
        origin: Time of that file, s, that is 0 in the film.
    """

    path: Path
    origin: Fraction = Fraction(0)


def join_segments(
    path: Path,
    segments: Sequence[Path],
    settings: VideoSettings,
    timing: Timing,
    sound: Sound | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Join segments of `encode_segment`, in order, into a film's file; the same segments make the same bytes.

    Args:
        path: The film's file, written whole or not at all.
        segments: Files of segments.
        settings: The settings that they were encoded with.
        timing: Times of all frames.
        sound: Sound to copy bit for bit; it ends with the film.
        overwrite: True to replace an existing file.

    Raises:
        UserError: A segment is damaged or not of these settings, the number of frames differs, the format cannot hold the
            sound, or the file exists.
    """
    muxer = settings.format.muxer
    with (
        written_whole(path, overwrite=overwrite) as file,
        ExitStack() as inputs,
        opened_output(file, muxer, path, **_OPTIONS.get(muxer, {})) as container,
    ):
        first = inputs.enter_context(opened_input(segments[0]))
        template = first.streams.video[0]
        video = container.add_stream_from_template(template, opaque=True)
        video.time_base = timing.time_base
        if tag := _TAGS.get((settings.codec.name, muxer)):
            video.codec_tag = tag
        packets: list[Iterator[Packet]] = [_video_packets(segments, video, template.codec_context.extradata, timing)]
        if sound is not None:
            source = inputs.enter_context(opened_input(sound.path))
            copies = _add_sounds(container, source, settings)
            # Matroska has no times below 0.
            start = Fraction(0) if muxer in ("matroska", "webm") else None
            packets.append(_sound_packets(source, copies, sound.origin, (start, timing.end)))
        _start(container, path, settings)
        for packet in _interleaved(packets):
            container.mux(packet)


def _start(container: OutputContainer, path: Path, settings: VideoSettings) -> None:
    """Write the container's head, which fails if it cannot hold one of the streams."""
    try:
        container.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path}: {settings.format.name} cannot hold these streams ({error}): set film.format=mkv or film.sound=false"
        ) from error


def _video_packets(segments: Sequence[Path], stream: Stream, extradata: bytes | None, timing: Timing) -> Iterator[Packet]:
    """Yield the packets of all segments in order of decoding, with their final times.

    Frames are decoded in the order of packets and shown in the order of `timing`. The decoding time of packet n is that of
    frame n - delay, where delay is the most places that a packet lies behind its frame: so none is decoded too late.

    Raises:
        UserError: A segment is damaged, or the number of frames differs.
    """
    counts = [_numbers(path, extradata) for path in segments]
    total = sum(len(numbers) for numbers in counts)
    if total != len(timing.pts):
        raise UserError(
            f"the film's segments in {segments[0].parent} hold {total} frames instead of {len(timing.pts)}: "
            "remove them and make the film again"
        )
    delay = max((index - number for numbers in counts for index, number in enumerate(numbers)), default=0)
    if delay > _MAX_REORDER:
        raise UserError(f"the film's segments in {segments[0].parent} are damaged: remove them and make the film again")
    done, lead = 0, min(_duration(number, timing) for number in range(total))
    for path, numbers in zip(segments, counts, strict=True):
        with opened_input(path) as segment:
            for index, packet in enumerate(_packets_of(segment.demux(video=0))):
                number = done + numbers[index]
                packet.stream = stream
                packet.time_base = timing.time_base
                packet.pts = timing.pts[number]
                packet.dts = _decoding_time(done + index - delay, timing, lead)
                packet.duration = _duration(number, timing)
                if done + index == total - 1:
                    # MP4 adds up the intervals of decoding times to the stream's duration; none may end after the film.
                    end = timing.pts[-1] + timing.duration
                    packet.duration = max(packet.duration, min(end - packet.dts - delay * lead, end - packet.pts))
                yield packet
        done += len(numbers)


def _numbers(path: Path, extradata: bytes | None) -> list[int]:
    """Return the number within its segment of each packet's frame.

    Raises:
        UserError: The segment is damaged or was encoded with other settings.
    """
    with opened_input(path) as segment:
        stream = segment.streams.video[0]
        if stream.codec_context.extradata != extradata:
            raise UserError(
                f"{path} was encoded with other settings than the segments before it: remove it and make the film again"
            )
        base = stream.time_base or Fraction(1, 1000)
        numbers = [round((packet.pts or 0) * base * 1000 / TICKS) for packet in _packets_of(segment.demux(video=0))]
    if sorted(numbers) != list(range(len(numbers))):
        raise UserError(f"{path} is damaged: remove it and make the film again")
    return numbers


def _packets_of(packets: Iterator[Packet]) -> Iterator[Packet]:
    """Yield packets with content: the last one of a demuxer is empty."""
    return (packet for packet in packets if packet.size > 0)


def _decoding_time(number: int, timing: Timing, lead: int) -> int:
    """Return a frame's time in ticks; `lead` ticks lie between those before the first."""
    return timing.pts[number] if number >= 0 else timing.pts[0] + number * lead


def _duration(number: int, timing: Timing) -> int:
    return timing.pts[number + 1] - timing.pts[number] if number + 1 < len(timing.pts) else timing.duration


def _add_sounds(container: OutputContainer, source: InputContainer, settings: VideoSettings) -> dict[int, Stream]:
    """Add a stream for each sound stream of a file; return them by its indexes.

    Raises:
        UserError: The format cannot hold one.
    """
    copies: dict[int, Stream] = {}
    for stream in source.streams.audio:
        name = stream.codec_context.name
        try:
            copy = container.add_stream_from_template(stream, opaque=True)
        except (ValueError, av.FFmpegError) as error:
            raise UserError(
                f"{settings.format.name} cannot hold sound as {name}, which is copied: "
                "set film.format=mkv or film.sound=false"
            ) from error
        copy.time_base = stream.time_base
        copies[stream.index] = copy
    return copies


def _sound_packets(
    source: InputContainer, copies: dict[int, Stream], origin: Fraction, span: tuple[Fraction | None, Fraction]
) -> Iterator[Packet]:
    """Yield packets of sound that end after the start and begin before the end of `span`, with times less `origin`."""
    if not copies:
        return
    start, end = span
    ended: set[int] = set()
    for packet in _packets_of(source.demux(*source.streams.audio)):
        index = packet.stream_index
        base = packet.time_base
        if packet.pts is None or packet.dts is None or index in ended:
            continue
        shift = round(origin / base)
        if (packet.pts - shift) * base >= end:
            ended.add(index)
            if len(ended) == len(copies):
                return
            continue
        if start is not None and (packet.pts - shift + (packet.duration or 0)) * base <= start:
            continue
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = copies[index]
        yield packet


def _interleaved(streams: Sequence[Iterator[Packet]]) -> Iterator[Packet]:
    """Yield packets of several streams in order of their decoding times; those of the first stream first."""
    waiting = [(packet, rest) for rest in streams if (packet := next(rest, None)) is not None]
    while waiting:
        place = min(range(len(waiting)), key=lambda index: (waiting[index][0].dts or 0) * waiting[index][0].time_base)
        packet, rest = waiting[place]
        yield packet
        following = next(rest, None)
        if following is None:
            waiting.pop(place)
        else:
            waiting[place] = (following, rest)
