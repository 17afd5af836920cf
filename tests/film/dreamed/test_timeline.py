"""Settings of frames between keyframes, and the camera that follows them."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.config.film_schema import FilmConfig
from render.errors import UserError
from render.film.dreamed.camera import Camera, step_map
from render.film.dreamed.keyframes import EASINGS, read_keyframes
from render.film.dreamed.timeline import CameraMotion, Crossfade, Timeline
from render.geometry.affine import Affine, Point

RATE = Fraction(24)


def timeline(film: FilmConfig, rate: Fraction = RATE, **base: float) -> Timeline:
    return Timeline(read_keyframes(film), rate, film.easing, **base)


def test_without_keyframes_every_frame_has_the_films_own_settings() -> None:
    course = timeline(FilmConfig(zoom=1.5, pan=[0.1, -0.2], turn=3, centre=[0.2, 0.9], fade=0.1, hold=0.5))
    for frame in (1, 7, 10_000):
        motion = course.motion(frame)
        assert motion.zoom == pytest.approx(1.5, rel=1e-15)
        assert motion[1:] == ((0.1, -0.2), 3.0, (0.2, 0.9))
        assert course.settings(frame) == (0.1, 0.5, Crossfade(0, 0, 0.0), None, None)


def test_numbers_run_from_keyframe_to_keyframe_and_hold_after_the_last() -> None:
    film = FilmConfig(fade=0.1, keyframes=[{"at": 2, "fade": 0.3}, {"at": 4, "turn": 8}, {"at": 6, "fade": 0.0}])
    course = timeline(film)
    fades = {second: course.settings(24 * second).fade for second in (0, 1, 2, 3, 4, 6, 90)}
    assert fades == pytest.approx({0: 0.1, 1: 0.2, 2: 0.3, 3: 0.225, 4: 0.15, 6: 0.0, 90: 0.0})
    assert course.motion(24 * 2).turn == pytest.approx(4, abs=0.1)


def test_zoom_changes_evenly_in_its_logarithm() -> None:
    course = timeline(FilmConfig(zoom=1.0, keyframes=[{"at": 2, "zoom": 4.0}]), rate=Fraction(2))
    # The motion of frame 2 is that at 0.75 s.
    assert course.motion(2).zoom == pytest.approx(4 ** (0.75 / 2))


@pytest.mark.parametrize("easing", EASINGS)
def test_every_easing_goes_from_one_keyframe_to_the_other_without_turning_back(easing: str) -> None:
    course = timeline(FilmConfig(fade=0.0, easing=easing, keyframes=[{"at": 10, "fade": 1.0}]), rate=Fraction(10))
    fades = [course.settings(frame).fade for frame in range(101)]
    assert fades[0] == 0 and fades[-1] == pytest.approx(1)
    assert fades == sorted(fades)
    middle = {"linear": 0.5, "in": 0.25, "out": 0.75, "in_out": 0.5}
    assert fades[50] == pytest.approx(middle[easing])


def test_dreams_cross_over_between_the_keyframes_that_name_them() -> None:
    film = FilmConfig(keyframes=[{"at": 1, "objective": ["mixed4"]}, {"at": 2, "zoom": 1.1}, {"at": 3, "look": "pearls"}])
    course = timeline(film, rate=Fraction(2))
    assert [dream.at for dream in course.dreams] == [0, 1, 3]
    assert [course.settings(frame).dream for frame in (0, 1, 2, 4, 6, 99)] == [
        (0, 1, 0.0), (0, 1, 0.5), (1, 2, 0.0), (1, 2, 0.5), (2, 2, 0.0), (2, 2, 0.0),
    ]  # fmt: skip
    at_start = timeline(FilmConfig(keyframes=[{"at": 0, "objective": ["mixed4"]}]))
    assert [dream.objective for dream in at_start.dreams] == [["mixed4"]]


def test_steps_and_step_size_start_at_those_of_the_job() -> None:
    film = FilmConfig(keyframes=[{"at": 2, "step_size": 3, "octaves": {"steps": 6}}])
    course = timeline(film, rate=Fraction(1), step_size=1.0, steps=2)
    assert [course.settings(frame)[3:] for frame in range(4)] == [(1.0, 2), (2.0, 4), (3.0, 6), (3.0, 6)]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 1)), max_size=6), st.integers(0, 400), st.sampled_from(EASINGS))
def test_values_stay_between_those_of_the_keyframes(steps: list[tuple[float, float]], frame: int, easing: str) -> None:
    at, keyframes = 0.0, []
    for seconds, fade in steps:
        at += seconds
        keyframes.append({"at": at, "fade": fade})
    fades = [0.5, *(fade for _, fade in steps)]
    fade = timeline(FilmConfig(fade=0.5, easing=easing, keyframes=keyframes)).settings(frame).fade
    assert min(fades) - 1e-12 <= fade <= max(fades) + 1e-12


@pytest.mark.parametrize(
    ("keyframes", "message"),
    [
        ([{"at": 2}, {"at": 1}], "film.keyframes\\[1\\].at=1 is not after 2"),
        ([{"zoom": 2}], "film.keyframes\\[0\\].at=None"),
        ([{"at": 1, "zom": 2}], "did you mean zoom"),
        ([{"at": 1, "zoom": 0}], "film.keyframes\\[0\\].zoom=0"),
        ([{"at": 1, "pan": 1}], "pan=1.*two numbers"),
        ([{"at": 1, "turn": [1, 2]}], "turn"),
        ([{"at": 1, "octaves": {"count": 2}}], "only steps may change"),
        ([{"at": 1, "octaves": {"steps": 1.5}}], "whole number"),
        ([{"at": 1, "look": "pearls", "objective": ["mixed4"]}], "leave one of them out"),
        ([{"at": 1, "objective": "mixed4"}], "list of terms"),
        ([{"at": float("nan")}], "at=nan"),
        ([3], "must be a mapping"),
        ("now", "must be a list"),
    ],
)
def test_keyframes_without_a_meaning_are_refused(keyframes: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_keyframes(FilmConfig(keyframes=keyframes))


def test_a_camera_that_stands_still_is_the_identity() -> None:
    camera = Camera(timeline(FilmConfig(zoom=1.0)), RATE, (90, 160))
    assert camera.to_previous(1) == Affine()
    assert camera.to_first(50) == Affine()


def test_a_zoom_keeps_its_centre_and_magnifies_as_much_in_a_second() -> None:
    film = FilmConfig(zoom=2.0, centre=[0.25, 0.5])
    to_first = Camera(timeline(film), RATE, (90, 160)).to_first(24)
    assert to_first(Point(40, 45)) == pytest.approx((40, 45))
    assert to_first.scale == pytest.approx(0.5)


def test_a_picture_that_turns_and_shifts_shows_in_a_frame_what_was_elsewhere_before() -> None:
    """Turned counterclockwise, what is at the top now was at the right; shifted to the right, it came from the left."""
    quarter = step_map(CameraMotion(1.0, (0, 0), 90.0, (0.5, 0.5)), Fraction(1), (100, 100))
    assert quarter(Point(50, 10)) == pytest.approx((90, 50))
    shifted = step_map(CameraMotion(1.0, (0.2, 0.1), 0.0, (0.5, 0.5)), Fraction(2), (100, 100))
    assert shifted(Point(50, 50)) == pytest.approx((40, 45))


@settings(max_examples=50)
@given(st.floats(0.5, 2), st.floats(-90, 90), st.floats(-1, 1), st.integers(0, 30), st.integers(0, 30))
def test_maps_between_frames_agree(zoom: float, turn: float, pan: float, frame: int, more: int) -> None:
    camera = Camera(timeline(FilmConfig(zoom=zoom, turn=turn, pan=[pan, 0.1])), RATE, (90, 160))
    point = Point(33.0, 70.0)
    there = camera.to_later(frame, frame + more)(point)
    back = camera.to_first(frame + more)(there)
    assert math.dist(back, camera.to_first(frame)(point)) < 1e-6
