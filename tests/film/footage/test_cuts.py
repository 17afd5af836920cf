"""Cuts: those of a clip are found where they are; motion, flashes and fades are none, or one at most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from render.film.footage.cuts import LOOKAHEAD, mark_cuts, thumbnail
from render.film.footage.flow import grey
from tests.film.footage import clips

SHAPE = (90, 120)


def _shot(name: str, count: int = 8, speed: tuple[float, float] = (0.5, 2.0)) -> list[clips.Frame]:
    return clips.pan(clips.photo(name), SHAPE, count, speed)


def _cuts(frames: Sequence[clips.Frame]) -> list[int]:
    marks = list(mark_cuts(thumbnail(grey(frame)) for frame in frames))
    assert len(marks) == len(frames)
    return [number for number, begins in enumerate(marks) if begins]


def _dimmed(frame: clips.Frame, share: float) -> clips.Frame:
    return np.rint(frame * share).astype(np.uint8)


def test_cuts_are_found_at_their_frames() -> None:
    assert _cuts([*_shot("astronaut"), *_shot("coffee", 5), *_shot("chelsea", 9), *_shot("astronaut")]) == [0, 8, 13, 22]


@pytest.mark.parametrize(
    "frames",
    [
        _shot("astronaut", 6, (4.0, 15.0)),
        clips.turning(clips.photo("coffee"), SHAPE, 6, 8.0),
        clips.passing(clips.photo("coffee"), clips.photo("chelsea"), SHAPE, 8, 10.0),
        [clips.view(clips.photo("chelsea"), SHAPE, zoom=1.15**number) for number in range(6)],
    ],
    ids=["pan", "turn", "object", "zoom"],
)
def test_motion_is_no_cut(frames: list[clips.Frame]) -> None:
    assert _cuts(frames) == [0]


def test_noise_is_no_cut() -> None:
    noise = np.random.default_rng(7)
    frames = [np.clip(frame + noise.normal(0, 12, frame.shape), 0, 255).astype(np.uint8) for frame in _shot("coffee")]
    assert _cuts(frames) == [0]


@pytest.mark.parametrize("length", [1, 3])
def test_a_flash_is_no_cut(length: int) -> None:
    frames = _shot("astronaut", 16)
    for number in range(6, 6 + length):
        frames[number] = np.full_like(frames[number], 252)
    assert _cuts(frames) == [0]


def test_a_picture_that_flashes_up_is_no_cut() -> None:
    frames = _shot("astronaut", 16)
    frames[7:9] = _shot("coffee", 2)
    assert _cuts(frames) == [0]


def test_a_fade_through_black_is_one_cut_at_most() -> None:
    shares = [1, 0.8, 0.6, 0.4, 0.2, 0.1, 0, 0]
    out = [_dimmed(frame, share) for frame, share in zip(_shot("astronaut"), shares, strict=True)]
    back = [_dimmed(frame, share) for frame, share in zip(_shot("astronaut"), reversed(shares), strict=True)]
    other = [_dimmed(frame, share) for frame, share in zip(_shot("coffee"), reversed(shares), strict=True)]
    assert _cuts([*out, *back]) == [0]
    begin, cut = _cuts([*out, *other, *_shot("coffee")])
    assert begin == 0
    assert 8 <= cut <= 12


def test_a_shot_begins_after_black_frames() -> None:
    black = [np.zeros((*SHAPE, 3), np.uint8)] * 3
    assert _cuts([*black, *_shot("coffee")]) == [0, 3]


def test_a_slow_dissolve_is_one_cut_at_most() -> None:
    shares = np.linspace(0, 1, 24)
    first, second = _shot("astronaut", 24), _shot("coffee", 24)
    dissolve = [
        np.rint(a * (1 - share) + b * share).astype(np.uint8) for a, b, share in zip(first, second, shares, strict=True)
    ]
    assert len(_cuts([*_shot("astronaut"), *dissolve, *_shot("coffee")])) <= 2


def test_quick_changes_in_a_row_are_one_cut() -> None:
    names = ("coffee", "chelsea", "rocket", "coffee")
    quick = [_shot(name, 1)[0] for name in names]
    assert len(_cuts([*_shot("astronaut"), *quick, *_shot("chelsea")])) == 2


def test_marks_depend_on_a_few_later_frames_only() -> None:
    read = []

    def thumbnails():
        for number, frame in enumerate([*_shot("astronaut"), *_shot("coffee", 20)]):
            read.append(number)
            yield thumbnail(grey(frame))

    marks = mark_cuts(thumbnails())
    assert [next(marks) for _ in range(10)] == [number in (0, 8) for number in range(10)]
    assert len(read) == 10 + LOOKAHEAD
