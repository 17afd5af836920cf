"""Carried dreams flicker far less than frames dreamed one by one, and leave no ghost behind what moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.film.footage import clips
from tests.reports import flicker

SHAPE, FRAMES = (96, 128), 8
WORDS = ("tiles.size=auto", "objective.terms=[mixed2]", "octaves.count=2", "octaves.steps=5")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pan", "object"])
def test_carried_dreams_flicker_at_most_half_as_much(name: str, tmp_path: Path) -> None:
    clip = flicker.moving_clips(SHAPE, FRAMES)[name]
    carried, alone = flicker.measured(clip, tmp_path, WORDS)
    assert carried.change <= flicker.MOST_FLICKER * alone.change
    # A dream that is weak would flicker little, too.
    assert carried.dream > 0.6 * alone.dream


def test_figures_of_frames_that_move_along_are_those_of_the_footage() -> None:
    """A dream that is painted onto the picture itself does not flicker."""
    picture = clips.photo("astronaut")
    painted = np.clip(picture + 20 * np.sin(np.arange(picture.shape[1]) / 9)[None, :, None].astype(np.float32), 0, 255)
    clip = clips.pan(picture, SHAPE, 4, (1.0, 3.0))
    dreams = dict(enumerate(frame.astype(np.float32) for frame in clips.pan(painted, SHAPE, 4, (1.0, 3.0))))
    noise = np.random.default_rng(3)
    noisy = {number: (frame + noise.normal(0, 10, frame.shape)).astype(np.float32) for number, frame in dreams.items()}
    assert flicker.flicker(clip, dreams).change < 1.0
    assert flicker.flicker(clip, noisy).change > 5.0
