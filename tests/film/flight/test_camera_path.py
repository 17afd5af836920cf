"""The camera's path: smooth, even to the eye, and within the canvas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.errors import UserError
from render.film.flight.camera_path import CameraPath, PathPoint, View, check_views, whole_view
from render.film.flight.tour_points import read_tour

CANVAS, FRAME = (3000, 4000), (90, 160)
ASPECT = FRAME[0] / FRAME[1]
TOUR = [
    {"at": 0, "x": 0.5, "y": 0.5, "width": 1},
    {"at": 2, "x": 0.2, "y": 0.3, "width": 0.05},
    {"at": 3.5, "x": 0.9, "y": 0.9, "width": 0.1},
    {"at": 6, "x": 0.5, "y": 0.5, "width": 0.8},
]


def path(easing: str = "in_out", tour: list[dict[str, Any]] = TOUR) -> CameraPath:
    return read_tour(tour, CANVAS, FRAME, easing)


@pytest.mark.parametrize("easing", ["linear", "in", "out", "in_out"])
def test_path_passes_its_points_without_a_jump_of_speed(easing: str) -> None:
    course, step = path(easing), 1e-4
    for point in course.points:
        view = course.view(point.at)
        assert (view.x, view.y, view.width) == pytest.approx((point.view.x, point.view.y, point.view.width))
    for point in course.points[1:-1]:
        before, at, after = (course.view(point.at + shift) for shift in (-step, 0, step))
        for name in ("x", "y", "width"):
            speeds = [(getattr(b, name) - getattr(a, name)) / step for a, b in ((before, at), (at, after))]
            assert abs(speeds[0] - speeds[1]) < 0.01 * CANVAS[1]


def test_linear_zoom_multiplies_the_width_by_the_same_factor_in_every_second() -> None:
    course = path("linear", [TOUR[0], {**TOUR[1], "at": 4}])
    widths = [course.view(seconds).width for seconds in (0, 1, 2, 3, 4)]
    ratios = np.array(widths[1:]) / widths[:-1]
    np.testing.assert_allclose(ratios, ratios[0])


def test_easing_rests_at_the_ends_and_linear_does_not() -> None:
    def speed_at_start(easing: str) -> float:
        course = path(easing, TOUR[:2])
        return abs(math.log(course.view(0.001).width / course.view(0).width)) / 0.001

    assert speed_at_start("in") < 0.02
    assert speed_at_start("linear") > 1


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=2, max_size=5), st.sampled_from(["linear", "in", "out", "in_out"])
)
def test_every_view_between_points_lies_within_the_canvas(shares: list[tuple[float, ...]], easing: str) -> None:
    points = []
    for number, (across, down, size) in enumerate(shares):
        width = 20 + size * (CANVAS[1] - 20)
        height = width * ASPECT
        x = width / 2 + across * (CANVAS[1] - width)
        y = height / 2 + down * (CANVAS[0] - height)
        points.append({"at": number, "x": x / CANVAS[1], "y": y / CANVAS[0], "width": width / CANVAS[1]})
    course = path(easing, points)
    assert all(course.view(seconds).is_within(CANVAS, ASPECT) for seconds in np.linspace(0, len(points), 101))
    assert all(course.view(seconds).width <= course.widest() + 1e-6 for seconds in np.linspace(0, len(points), 101))


def test_camera_stands_still_after_its_last_point() -> None:
    assert path().view(6) == path().view(100) == path().points[-1].view


def test_turning_view_that_leaves_the_canvas_on_its_way_is_refused() -> None:
    upright = whole_view(CANVAS, ASPECT)
    course = CameraPath([PathPoint(0, upright), PathPoint(1, View(upright.x, upright.y, upright.width, 180))])
    with pytest.raises(UserError, match=r"0\.1 s into the flight, the turned view"):
        check_views(course, [0, 0.1, 0.2], CANVAS, FRAME)


def test_view_that_overhangs_by_the_frames_even_sides_is_fitted() -> None:
    view = read_tour([{"at": 0, "width": 1}], (2230, 4000), (90, 160), "linear").view(0)
    assert view.is_within((2230, 4000), ASPECT)
    assert view.width == pytest.approx(2230 / ASPECT)


def test_loop_flies_back_to_its_first_point() -> None:
    course = read_tour(TOUR, CANVAS, FRAME, "in_out", loop_seconds=8)
    assert course.view(8) == course.view(0)
    with pytest.raises(UserError, match="no time to fly back"):
        read_tour(TOUR, CANVAS, FRAME, "in_out", loop_seconds=6)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"at": 2, "x": 0.99, "y": 0.5, "width": 0.1}, r"point 2 shows more than the canvas.*\(3960, 1500\)"),
        ({"at": 2, "width": 1.5}, "point 2: width=1.5 must be a share"),
        ({"at": 2, "width": 1, "turn": 45}, "point 2 shows more than the canvas"),
        ({"at": 0, "width": 1}, "point 2 is at 0 s, not after point 1"),
        ({"at": -1, "width": 1}, "point 2: at=-1 must be"),
        ({"at": 2}, "point 2 says no width"),
        ({"at": 2, "width": True}, "point 2: width=True is no number"),
        ({"at": 2, "width": math.nan}, "point 2: width=nan is no number"),
        ({"at": 2, "width": "${oc.env:HOME}"}, "is no number"),
        ({"at": 2, "width": 1, "zoom": 3}, "point 2 has the unknown key 'zoom'"),
        ({"at": 2, "width": 0.001}, r"point 2 enlarges the canvas 40\.0 times.*0\.005 or more"),
        ([2, 0.5], "point 2 is no mapping"),
    ],
)
def test_bad_point_is_refused_by_its_number(point: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_tour([TOUR[0], point], CANVAS, FRAME, "linear")


def test_camera_flies_through_inner_points_without_a_rest() -> None:
    """A zoom in three steps and a shift in two have their speed at the points between, too."""
    steps = [(0, 0.5, 0.8), (1, 0.5, 0.4), (2, 0.5, 0.2), (3, 0.55, 0.2), (4, 0.6, 0.2)]
    course = path("linear", [{"at": at, "x": x, "width": width} for at, x, width in steps])

    def speed(name: str, seconds: float) -> float:
        before, after = (getattr(course.view(seconds + shift), name) for shift in (-1e-3, 1e-3))
        return abs(after - before) / 2e-3 / course.view(seconds).width

    np.testing.assert_allclose([speed("width", seconds) for seconds in (0.5, 1.0)], math.log(2), rtol=0.01)
    np.testing.assert_allclose([speed("x", seconds) for seconds in (3.0, 3.5)], 0.25, rtol=0.01)


def test_camera_does_not_fly_beyond_a_point_at_which_it_turns_back() -> None:
    steps = [(0, 0.5, 0.5), (1, 0.5, 0.05), (2, 0.5, 0.5), (3, 0.6, 0.1), (4, 0.4, 0.1)]
    course = path("linear", [{"at": at, "x": x, "width": width} for at, x, width in steps])
    views = [course.view(seconds) for seconds in np.linspace(0, 4, 401)]
    assert min(view.width for view in views) == pytest.approx(0.05 * CANVAS[1])
    assert max(view.width for view in views) == pytest.approx(0.5 * CANVAS[1])
    assert max(view.x for view in views) == pytest.approx(0.6 * CANVAS[1], rel=0.002)
