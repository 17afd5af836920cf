"""Moving thumbnails: which frames, at which times, and never too large."""

from __future__ import annotations

import io
from itertools import accumulate

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from render.export.picture import image_of
from render.sweeps.rendering.film_thumbnails import (
    MAX_MOTION_BYTES,
    MAX_MOTION_RATE,
    MAX_MOTION_S,
    animated_webp,
    motion_frames,
)


def test_a_film_at_24_frames_a_second_shows_every_other_frame() -> None:
    numbers, delays = motion_frames([number / 24 for number in range(48)], 2.0)
    assert numbers == list(range(0, 48, 2))
    assert sum(delays) == 2000


def test_slow_films_show_every_frame_and_long_ones_their_beginning() -> None:
    assert motion_frames([0, 0.5, 1.0], 1.5) == ([0, 1, 2], [500, 500, 500])
    numbers, delays = motion_frames([number / 10 for number in range(600)], 60.0)
    assert numbers[-1] == 39
    assert sum(delays) == 1000 * MAX_MOTION_S
    assert motion_frames([0.0], 1 / 24) == ([0], [42])


@given(st.lists(st.floats(1e-3, 2), min_size=1, max_size=80))
def test_frames_are_shown_at_their_own_times(lengths: list[float]) -> None:
    *starts, end = accumulate(lengths, initial=0.0)
    numbers, delays = motion_frames(starts, end)
    assert len(numbers) == len(delays)
    assert numbers[0] == 0
    assert numbers == sorted(set(numbers))
    assert all(delay > 0 for delay in delays)
    begun = accumulate(delays, initial=0)
    for number, time in zip(numbers, begun, strict=False):
        assert time / 1000 == pytest.approx(starts[number], abs=2e-3)
    gaps = [starts[later] - starts[earlier] for earlier, later in zip(numbers, numbers[1:], strict=False)]
    assert all(gap > 1 / MAX_MOTION_RATE - 1e-5 for gap in gaps)


def noise(frames: int, rows: int, columns: int) -> list[pyvips.Image]:
    """Frames that no encoder makes small."""
    generator = np.random.default_rng(0)
    return [image_of(generator.integers(0, 256, (rows, columns, 3), np.uint8)) for _ in range(frames)]


def test_a_moving_thumbnail_is_never_too_large() -> None:
    content = animated_webp(noise(24, 160, 240), [80] * 24)
    assert len(content) <= MAX_MOTION_BYTES
    with Image.open(io.BytesIO(content)) as shown:
        lengths = []
        for number in range(shown.n_frames):
            shown.seek(number)
            shown.load()
            lengths.append(shown.info["duration"])
        assert sum(lengths) == 24 * 80, "frames that are left out leave their time to others"


def test_a_plain_thumbnail_has_all_frames() -> None:
    frames = [image_of(np.full((20, 30, 3), 9 * number, np.uint8)) for number in range(8)]
    with Image.open(io.BytesIO(animated_webp(frames, [100] * 8))) as shown:
        assert (shown.n_frames, shown.size, shown.info["loop"]) == (8, (30, 20), 0)
        for number in range(8):
            shown.seek(number)
            assert np.abs(np.asarray(shown.convert("RGB"), int) - 9 * number).max() <= 3
