"""Carrying: dreams follow the motion exactly, nothing is carried where it is not trusted, and parts equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render.dreaming.resample import Pixels, ReadPixels
from render.film.footage.carry import Carrier, soft_edges
from render.film.footage.flow import Motion
from render.geometry.geometry import Interval, Rect, whole

SHAPE = (61, 84)


def _random(seed: int, *shape: int, low: float = -40.0, high: float = 40.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def _reader(pixels: Pixels) -> ReadPixels:
    def read(rect: Rect) -> Pixels:
        assert whole(*pixels.shape[:2]).intersect(rect) == rect
        assert rect.area
        return pixels[slice(*rect.rows), slice(*rect.columns)]

    return read


def _motion(right: float, down: float, shape: tuple[int, int] = SHAPE) -> Motion:
    return Motion(np.tile(np.array([right, down], np.float32), (*shape, 1)), np.ones(shape, np.float32))


def test_detail_moves_by_whole_pixels_unchanged() -> None:
    detail, footage = _random(1, *SHAPE, 3), np.full((*SHAPE, 3), 128, np.float32)
    start = Carrier.of(_motion(5, -3), SHAPE, 1.0).start(whole(*SHAPE), _reader(footage), _reader(detail))
    np.testing.assert_array_equal(start[3:, :-5], footage[3:, :-5] + detail[:-3, 5:])


def test_smooth_detail_moves_by_parts_of_pixels() -> None:
    columns = np.arange(SHAPE[1], dtype=np.float32)
    wave = np.tile(30 * np.sin(columns / 6)[None, :, None], (SHAPE[0], 1, 3)).astype(np.float32)
    start = Carrier.of(_motion(0.4, 0), SHAPE, 1.0).start(
        whole(*SHAPE), _reader(np.full((*SHAPE, 3), 100, np.float32)), _reader(wave)
    )
    expected = 100 + 30 * np.sin((columns + np.float32(0.4)) / 6)
    np.testing.assert_allclose(start[:, 3:-3, 0], np.broadcast_to(expected[3:-3], (SHAPE[0], SHAPE[1] - 6)), atol=0.02)


def test_carry_is_the_share_that_is_kept() -> None:
    detail, footage = _random(2, *SHAPE, 3), np.full((*SHAPE, 3), 128, np.float32)
    start = Carrier.of(_motion(0, 0), SHAPE, 0.5).start(whole(*SHAPE), _reader(footage), _reader(detail))
    np.testing.assert_array_equal(start, footage + np.float32(0.5) * detail)


def test_untrusted_parts_are_footage_alone_and_others_fade_into_them() -> None:
    trust = np.ones((120, 160), np.float32)
    trust[:, 80:] = 0
    detail, footage = np.full((120, 160, 3), 50, np.float32), np.full((120, 160, 3), 100, np.float32)
    motion = Motion(np.zeros((120, 160, 2), np.float32), trust)
    start = Carrier.of(motion, (120, 160), 1.0).start(whole(120, 160), _reader(footage), _reader(detail))
    assert (start[:, 80:] == 100).all()
    assert (start[:, :76] == 150).all()
    fade = start[60, 76:81, 0]
    assert (np.diff(fade) <= 0).all()
    assert ((fade > 100) & (fade < 150)).any()


def test_nothing_carried_reads_nothing_and_is_the_footage() -> None:
    motion = Motion(np.full((*SHAPE, 2), 1e6, np.float32), np.zeros(SHAPE, np.float32))
    footage = _random(3, *SHAPE, 3, low=0, high=255)

    def read(rect: Rect) -> Pixels:
        raise AssertionError(f"{rect} was read")

    np.testing.assert_array_equal(Carrier.of(motion, SHAPE, 0.9).start(whole(*SHAPE), _reader(footage), read), footage)


def test_start_stays_within_the_canvas_range() -> None:
    start = Carrier.of(_motion(0, 0), SHAPE, 1.0).start(
        whole(*SHAPE), _reader(_random(4, *SHAPE, 3, low=0, high=255)), _reader(_random(5, *SHAPE, 3, low=-300, high=300))
    )
    assert start.dtype == np.float32
    assert start.min() == 0
    assert start.max() == 255


def test_single_wrong_pixels_leave_no_holes() -> None:
    trust = np.ones((90, 90), np.float32)
    trust[30, 40] = trust[60, 61] = 0
    assert (soft_edges(trust) == 1).all()


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_parts_of_a_start_equal_the_whole(data: st.DataObject, seed: int) -> None:
    """Flow of another size, wild and partly untrusted."""
    flow_shape = data.draw(st.sampled_from([SHAPE, (31, 42), (20, 60)]))
    trust = (_random(seed, *flow_shape) > -30).astype(np.float32)
    motion = Motion(_random(seed + 1, *flow_shape, 2, low=-20, high=20), trust)
    footage, detail = _random(seed + 2, *SHAPE, 3, low=0, high=255), _random(seed + 3, *SHAPE, 3)
    carrier = Carrier.of(motion, SHAPE, 0.9)
    total = carrier.start(whole(*SHAPE), _reader(footage), _reader(detail))
    top = data.draw(st.integers(0, SHAPE[0] - 1))
    left = data.draw(st.integers(0, SHAPE[1] - 1))
    rect = Rect(
        Interval(top, data.draw(st.integers(top + 1, SHAPE[0]))), Interval(left, data.draw(st.integers(left + 1, SHAPE[1])))
    )
    part = carrier.start(rect, _reader(footage), _reader(detail))
    np.testing.assert_array_equal(part, total[slice(*rect.rows), slice(*rect.columns)])


@pytest.mark.parametrize("factor", [2, 3])
def test_flow_of_a_smaller_picture_moves_as_far(factor: int) -> None:
    shape = (60, 84)
    detail, footage = _random(6, *shape, 3), np.full((*shape, 3), 128, np.float32)
    small = _motion(2, 1, (shape[0] // factor, shape[1] // factor))
    start = Carrier.of(small, shape, 1.0).start(whole(*shape), _reader(footage), _reader(detail))
    np.testing.assert_array_equal(start[:-factor, : -2 * factor], (footage[factor:] + detail[factor:])[:, 2 * factor :])
