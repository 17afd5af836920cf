"""Scanning of a film's packets and frames: times of its frames, and whether all of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av import VideoFrame
from av.container import InputContainer
from av.video import VideoStream

from render.errors import UserError

#: Most frames of a film: two days at 60 a second.
MAX_FRAMES = 10_000_000
#: Share of the stated duration that may be missing before a file counts as cut off: headers are rounded.
_MISSING_SHARE = Fraction(1, 50)
MAX_MISSING_S = Fraction(1, 2)
#: Bytes of a packet of a transport stream: as broadcast, with a time before it, or with a checksum behind it.
_TRANSPORT_PACKETS = (188, 192, 204)


@dataclass(frozen=True)
class Scan:
    """Times of a film's frames.

    Attributes:
        pts: Times of the frames in order of presentation, ticks; made up from the rate if the file has none.
        timed: True if the file has them.
        last_duration: Ticks that the last frame is shown.
        missing: Number of frames that are not there or cannot be decoded.
    """

    pts: tuple[int, ...]
    timed: bool
    last_duration: int
    missing: int


def scan(container: InputContainer, stream: VideoStream, path: Path, *, damaged: bool) -> Scan:
    """Return the times of a film's frames: read from its packets or, for a damaged file, from the frames that decode.

    Raises:
        UserError: The film is damaged and `damaged` is False, encrypted, or without frames, rate or order.
    """
    times, durations, broken, end = _read(container, stream, path, damaged=damaged)
    stated = stream.frames
    missing = max(broken, stated - len(times), 0)
    if not times:
        raise UserError(f"{path} has no frames that can be read: use another file")
    if len(times) > MAX_FRAMES:
        raise UserError(f"{path} has over {MAX_FRAMES:,} frames: cut it into parts")
    untimed = sum(time is None for time in times)
    if untimed:
        pts = _counted(stream, len(times), path)
    else:
        pts = sorted(time for time in times if time is not None)
        missing += _refuse_repeats(pts, path, damaged=damaged)
        pts = sorted(set(pts))
    last = _last_duration(pts, durations, stream)
    if not damaged:
        _refuse_cut_off(container, end, missing, path)
    return Scan(tuple(pts), not untimed, last, missing)


def _read(
    container: InputContainer, stream: VideoStream, path: Path, *, damaged: bool
) -> tuple[list[int | None], dict[int, int], int, Fraction]:
    """Return the times of packets or frames, durations by time, the number of unreadable packets, and the end of all, s."""
    times: list[int | None] = []
    durations: dict[int, int] = {}
    broken, end = 0, Fraction(0)
    try:
        for packet in container.demux(stream, *container.streams.audio):
            if packet.pts is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream_index != stream.index:
                continue
            if packet.size and (packet.has_sidedata("encryption_info") or packet.has_sidedata("encryption_init_info")):
                raise UserError(f"{path} is encrypted (DRM) and cannot be read: use a copy without protection")
            if not damaged:
                if packet.size and not packet.is_discard:
                    broken += packet.is_corrupt
                    times.append(packet.pts)
                    durations[packet.pts or 0] = packet.duration or 0
            else:
                try:
                    for frame in cast(list[VideoFrame], packet.decode()):
                        broken += frame.is_corrupt
                        times += [] if frame.is_corrupt else [frame.pts]
                        durations[frame.pts or 0] = frame.duration or 0
                except av.FFmpegError:
                    broken += 1
            if len(times) > MAX_FRAMES:
                break
    except av.FFmpegError as error:
        if not damaged:
            raise UserError(_damage(path, f"reading ends at frame {len(times)}: {error.strerror}")) from error
        broken += 1
    return times, durations, broken, end


def _damage(path: Path, problem: str) -> str:
    return f"{path} is damaged ({problem}): use a whole copy, or set film.damaged=true to dream what can be read"


def _counted(stream: VideoStream, frames: int, path: Path) -> list[int]:
    """Return times by the stated rate, for a film without any."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not stream.time_base:
        raise UserError(
            f"{path} has neither timestamps nor a frame rate: wrap it into another container, such as MKV, first"
        )
    return [round(number / rate / stream.time_base) for number in range(frames)]


def _refuse_repeats(pts: list[int], path: Path, *, damaged: bool) -> int:
    """Return the number of frames with the time of another."""
    repeats = len(pts) - len(set(pts))
    if repeats and not damaged:
        raise UserError(_damage(path, f"{repeats} frames have the time of another"))
    return repeats


def _usual_duration(pts: list[int], stream: VideoStream) -> int:
    """Return the duration of a frame, ticks: the median distance, or by the rate if there is one frame only."""
    if len(pts) > 1:
        distances = sorted(after - before for before, after in zip(pts, pts[1:], strict=False))
        return distances[len(distances) // 2]
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return max(1, round(1 / rate / (stream.time_base or Fraction(1, 1000))))


def _last_duration(pts: list[int], durations: dict[int, int], stream: VideoStream) -> int:
    """Return the duration of the last frame, ticks: to the stream's stated end, or that of its packet, or the usual one."""
    usual = _usual_duration(pts, stream)
    if stream.duration is not None:
        to_end = (stream.start_time or 0) + stream.duration - pts[-1]
        if 0 < to_end <= 100 * usual:
            return to_end
    return durations.get(pts[-1], 0) or usual


def _refuse_cut_off(container: InputContainer, end: Fraction, missing: int, path: Path) -> None:
    """Refuse a film of which frames are missing, or that ends before its header says."""
    if missing:
        raise UserError(_damage(path, f"{missing} of its frames are missing or damaged"))
    if container.format.name == "mpegts" and all(path.stat().st_size % size for size in _TRANSPORT_PACKETS):
        # A transport stream states no duration, so only a packet that is cut tells.
        raise UserError(_damage(path, "it ends within a packet"))
    if container.duration is None:
        return
    stated = Fraction(container.duration + max(container.start_time or 0, 0), av.time_base)
    if stated - end > max(MAX_MISSING_S, stated * _MISSING_SHARE):
        raise UserError(_damage(path, f"it ends at {float(end):.1f} of {float(stated):.1f} s"))
