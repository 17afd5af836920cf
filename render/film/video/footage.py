"""Footage: films of anybody's, opened without trust, with their exact times and upright RGB frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from render.film.video.encoding import Picture


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
        raise NotImplementedError


def open_footage(path: Path, damaged: bool = False) -> Footage:
    """Return the facts of a local film file, after reading it through once without decoding.

    Args:
        path: A file on this machine.
        damaged: True to take what can be read of a damaged file; all of it is decoded then to find out.

    Raises:
        UserError: It is no film that can be read, or part of it is broken and `damaged` is False.
    """
    raise NotImplementedError
