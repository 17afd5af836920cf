"""Flicker of dreamed footage: `python -m tests.reports.flicker [DIRECTORY]`.

Makes clips with known motion, dreams each with dreams that are carried and frame by frame, and prints how far a frame is
from the one before, moved along the flow, where nothing is hidden. Strips of frames are written into the directory.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyvips

from render.film.footage.flow import bilinear, grey, measure_motion, sources
from tests.film.footage import clips
from tests.film.footage.tiny_footage import TinyFootage

#: Most flicker of carried dreams, as a share of that of frames dreamed one by one.
MOST_FLICKER = 0.5
SHAPE = (192, 256)
FRAMES = 10
WORDS = ("tiles.size=auto", "objective.terms=[mixed3]", "octaves.count=3", "octaves.steps=6", "octaves.scale=1.4")
CARRIED = ("film.octaves.count=1", "film.octaves.steps=3")
ONE_BY_ONE = ("film.flow.carry=0", "film.octaves.count=3", "film.octaves.steps=6")


class Flicker(NamedTuple):
    """Figures of a film, levels.

    Attributes:
        change: Mean difference between a frame and the one before, moved along the flow, outside occlusions.
        dream: Mean of what dreaming added, in the second half of the film.
    """

    change: float
    dream: float


def moving_clips(shape: tuple[int, int], frames: int) -> dict[str, list[clips.Frame]]:
    """Return the clips by name."""
    astronaut, coffee, chelsea = map(clips.photo, ("astronaut", "coffee", "chelsea"))
    return {
        "pan": clips.pan(astronaut, shape, frames, (1.3, 3.7)),
        "turn": clips.turning(coffee, shape, frames, 1.5),
        "object": clips.passing(coffee, chelsea, shape, frames, 6.0),
    }


def flicker(clip: Sequence[clips.Frame], canvases: Mapping[int, np.ndarray]) -> Flicker:
    """Return the figures of a clip's dream."""
    changes = []
    for number in range(1, len(clip)):
        motion = measure_motion(grey(clip[number - 1]), grey(clip[number]), 1.5)
        moved = bilinear(canvases[number - 1], *sources(motion.back))
        changes.append(np.abs(canvases[number] - moved)[motion.trust > 0].mean(dtype=np.float64))
    half = range(len(clip) // 2, len(clip))
    dreams = [np.abs(canvases[number] - clip[number]).mean(dtype=np.float64) for number in half]
    return Flicker(float(np.mean(changes)), float(np.mean(dreams)))


def measured(clip: Sequence[clips.Frame], directory: Path, words: Sequence[str] = WORDS) -> tuple[Flicker, Flicker]:
    """Dream a clip carried and one by one, write strips of both, and return the figures of each."""
    figures = []
    for name, words_of in (("carried", CARRIED), ("one-by-one", ONE_BY_ONE)):
        film = TinyFootage(directory / name, clip, (*words, *words_of))
        film.make()
        figures.append(flicker(clip, film.pixels))
        write_strip(directory / f"{name}.png", [film.pixels[number] for number in sorted(film.pixels)])
    return figures[0], figures[1]


def write_strip(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Write every other frame beside each other."""
    strip = np.concatenate([np.clip(np.rint(frame), 0, 255).astype(np.uint8) for frame in frames[::2]], axis=1)
    pyvips.Image.new_from_array(strip).copy(interpretation="srgb").pngsave(str(path))


def main(directory: Path) -> None:
    """Print the figures of all clips."""
    print(f"{'clip':8} {'carried':>8} {'one by one':>11} {'ratio':>6}   dream carried, one by one")
    for name, clip in moving_clips(SHAPE, FRAMES).items():
        carried, alone = measured(clip, directory / name)
        ratio = carried.change / alone.change
        verdict = "" if ratio <= MOST_FLICKER else "  TOO MUCH"
        dreams = f"{carried.dream:.1f}, {alone.dream:.1f}"
        print(f"{name:8} {carried.change:8.2f} {alone.change:11.2f} {ratio:6.2f}   {dreams}{verdict}", flush=True)
    print(f"strips of frames: {directory}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="flicker-")))
