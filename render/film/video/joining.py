"""Joining of encoded segments into a film's file, with exact timestamps and copied sound; nothing is encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from render.film.video.formats import VideoSettings


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
    raise NotImplementedError
