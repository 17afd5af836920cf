"""Reading of footage's frames: decoded, deinterlaced, turned upright, in RGB."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
from av import VideoFrame
from av.filter import Graph
from av.sidedata.sidedata import SideData, Type
from av.video import VideoStream
from av.video.reformatter import Colorspace

from render.errors import UserError
from render.film.video.containers import opened_input
from render.film.video.high_range import tone_mapped
from render.film.video.planes import EXACT, FULL, LIMITED, Picture, stretched, to_uint8

#: FFmpeg's scaler names matrices by its own numbers; untagged films follow the usual: BT.601 for SD, BT.709 above.
_SCALER_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_SD_ROWS = 576
#: Frames before the first wanted one that are deinterlaced with it, since the filter looks at its neighbours.
_DEINTERLACING_LEAD = 3


@dataclass(frozen=True)
class Turn:
    """Turn that brings stored frames upright: mirrored first, then turned counterclockwise.

    Attributes:
        quarters: Quarter turns counterclockwise, 0 to 3.
        flipped: True if mirrored from left to right first.
    """

    quarters: int
    flipped: bool

    @classmethod
    def of(cls, frame: VideoFrame) -> Turn:
        """Return the turn of a frame's display matrix: 16.16 numbers a, b, u, c, d, v, x, y, w by rows."""
        data = cast(SideData | None, frame.side_data.get(Type.DISPLAYMATRIX.name))
        if data is None or data.buffer_size < 36:
            return cls(0, False)
        a, b, _, c, d = struct.unpack("=5i", bytes(memoryview(data))[:20])
        flipped = a * d - b * c < 0
        if flipped:
            a, b = -a, -b
        # A turn by t has (a, b) = (cos t, sin t) clockwise on the screen, whose rows grow downwards.
        clockwise = (0 if a > 0 else 2) if abs(a) >= abs(b) else (1 if b > 0 else 3)
        return cls(-clockwise % 4, flipped)

    def shape(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of upright frames."""
        return (stored[1], stored[0]) if self.quarters % 2 else stored

    def upright(self, picture: Picture) -> Picture:
        """Return a stored picture upright."""
        return np.ascontiguousarray(np.rot90(picture[:, ::-1] if self.flipped else picture, self.quarters))


@dataclass(frozen=True)
class FrameReader:
    """Reader of a film's frames.

    Attributes:
        path: The film's file.
        pts: Times of the frames in order, ticks, as in the file.
        timed: False if they are made up, and frames go by their order.
        turn: Turn that brings frames upright.
        interlaced: True to deinterlace.
        hdr: `pq`, `hlg` or None.
        colour_range: FFmpeg's code of the range of luma; 2 is full.
        damaged: True to leave out frames that cannot be decoded.
    """

    path: Path
    pts: tuple[int, ...]
    timed: bool
    turn: Turn
    interlaced: bool
    hdr: str | None
    colour_range: int
    damaged: bool

    def frames(self, first: int, bits: int) -> Iterator[Picture]:
        """Yield upright RGB frames from number `first` on; see `Footage.frames`."""
        lead = min(first, _DEINTERLACING_LEAD) if self.interlaced else 0
        start = first - lead
        frames = self._numbered(start)
        if self.interlaced:
            frames = _deinterlaced(frames)
        for number, frame in enumerate(frames, start):
            if number >= first:
                yield self.turn.upright(self._rgb(frame, bits))

    def _numbered(self, first: int) -> Iterator[VideoFrame]:
        """Yield the decoded frames from number `first` on, one for each time.

        Raises:
            UserError: A frame cannot be decoded.
        """
        expected = first
        for frame in self._decoded(first):
            if expected == len(self.pts):
                return
            if self.timed:
                if frame.pts is None or frame.pts < self.pts[expected]:
                    continue
                if frame.pts != self.pts[expected]:
                    break
            if frame.is_corrupt and not self.damaged:
                break
            expected += 1
            yield frame
        if expected < len(self.pts):
            raise UserError(
                f"{self.path} is damaged: frame {expected} of {len(self.pts)} cannot be decoded: use a whole copy, "
                "or set film.damaged=true to dream what can be read"
            )

    def _decoded(self, first: int) -> Iterator[VideoFrame]:
        """Yield frames in order of presentation, from `first` or before."""
        with opened_input(self.path) as container:
            stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
            stream.thread_type = "AUTO"
            if not self.timed:
                yield from _after(self._packets_decoded(container.demux(stream)), first)
                return
            if first and not self.damaged:
                container.seek(self.pts[first], stream=stream, backward=True)
                frames = self._packets_decoded(container.demux(stream))
                head = next(frames, None)
                if head is not None and head.pts is not None and head.pts <= self.pts[first] and head.key_frame:
                    yield head
                    yield from frames
                    return
                yield from self._from_start()
                return
            yield from self._packets_decoded(container.demux(stream))

    def _from_start(self) -> Iterator[VideoFrame]:
        with opened_input(self.path) as container:
            stream: VideoStream = next(
                s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
            )
            yield from self._packets_decoded(container.demux(stream))

    def _packets_decoded(self, packets: Iterator[av.Packet]) -> Iterator[VideoFrame]:
        """Yield the frames of packets.

        Raises:
            UserError: One cannot be decoded, and `damaged` is False.
        """
        try:
            for packet in packets:
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    if self.damaged:
                        continue
                    raise UserError(
                        f"{self.path} is damaged ({error.strerror}): use a whole copy, or set film.damaged=true"
                    ) from error
                yield from (frame for frame in frames if not (self.damaged and frame.is_corrupt))
        except av.FFmpegError as error:
            if not self.damaged:
                raise UserError(
                    f"{self.path} is damaged ({error.strerror}): use a whole copy, or set film.damaged=true"
                ) from error

    def _rgb(self, frame: VideoFrame, bits: int) -> Picture:
        """Return a frame in RGB by its own matrix and range.

        Raises:
            UserError: The frame has another size than the film.
        """
        wide = bits == 16 or self.hdr is not None
        code = frame.colorspace
        matrix = _SCALER_MATRICES.get(code, 5 if frame.height <= _SD_ROWS else 1)
        is_full = self.colour_range == FULL or code == 0
        picture: Picture = frame.reformat(
            format="rgb48le" if wide else "rgb24",
            src_colorspace=Colorspace(matrix) if code != 0 else None,
            src_color_range=FULL if is_full else LIMITED,
            dst_color_range=FULL,
            interpolation=EXACT,
            threads=1,
        ).to_ndarray()
        if wide:
            picture = stretched(picture, _scaler_white(frame, is_full=is_full))
        if self.hdr:
            picture = tone_mapped(picture, self.hdr)
        return picture if bits == 16 else to_uint8(picture)


def _scaler_white(frame: VideoFrame, *, is_full: bool) -> int:
    """Return what FFmpeg's scaler makes of white with 16 bits: it shifts luma, and fills up the bits of RGB alone."""
    if frame.format.is_rgb:
        return 65535
    bits = frame.format.components[0].bits
    return ((1 << bits) - 1) << (16 - bits) if is_full else 255 << 8


def _after(frames: Iterator[VideoFrame], count: int) -> Iterator[VideoFrame]:
    for number, frame in enumerate(frames):
        if number >= count:
            yield frame


def _deinterlaced(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield one frame for each by FFmpeg's bwdif, which looks at the frames before and after."""
    graph: Graph | None = None
    for frame in frames:
        if graph is None:
            graph = Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )  # fmt: skip
            bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=all")
            graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        graph.vpush(frame)
        yield from _pulled(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(graph)


def _pulled(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
