"""Animations (GIF, WebP) from pictures in files, and numbered pictures in a directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from render.film.video.formats import VideoSettings
from render.film.video.joining import Timing


def write_animation(
    path: Path,
    pictures: Sequence[Path],
    settings: VideoSettings,
    timing: Timing,
    *,
    loops: int = 0,
    overwrite: bool = False,
) -> None:
    """Write an animation of pictures, one in memory at a time.

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
    raise NotImplementedError


def write_numbered(directory: Path, number: int, picture: Path, settings: VideoSettings) -> Path:
    """Write a frame's picture into a directory as NNNNNN.png or NNNNNN.tif (frames-png, frames-tiff); return its path."""
    raise NotImplementedError
