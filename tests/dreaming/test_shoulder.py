"""The soft limit near black and white: what it leaves alone, and what it never does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from render.canvas.image import to_integers
from render.dreaming.ascent import update
from render.dreaming.shoulder import BRIGHTEST, DARKEST, limit_change, limit_detail

levels = st.floats(0, 255, width=32)
changes = st.floats(-600, 600, width=32, allow_subnormal=False)
shoulders = st.floats(1, 127, width=32)


def one(value: float) -> np.ndarray:
    return np.asarray([value], np.float32)


@given(levels, changes, shoulders)
def test_no_change_makes_new_black_or_white(level: float, change: float, shoulder: float) -> None:
    """Neither in floats nor in the 8 bits of a picture; what was black or white before may stay."""
    for limited in (limit_change(one(level), one(change), shoulder), limit_detail(one(level), one(change))):
        result = one(level) + limited
        assert 0 <= result[0] <= 255
        if DARKEST <= level <= BRIGHTEST:
            assert not np.isin(to_integers(result, 8), (0, 255)).any()
        else:
            # It comes back as it would, and goes no further.
            goes_on = (change > 0) == (level > BRIGHTEST)
            assert limited[0] == 0 if goes_on else abs(limited[0]) <= abs(np.float32(change))


@given(levels, changes, shoulders)
def test_nothing_changes_in_the_middle_and_away_from_the_ends(level: float, change: float, shoulder: float) -> None:
    target = level + change
    is_free = target <= BRIGHTEST - shoulder if change > 0 else target >= DARKEST + shoulder
    limited = limit_change(one(level), one(change), shoulder)
    if is_free:
        assert abs(limited[0] - np.float32(change)) <= 1e-4
    # It is never turned round, and never made larger.
    assert limited[0] * change >= 0
    assert abs(limited[0]) <= abs(np.float32(change)) + 1e-4


@given(levels, changes, changes, shoulders)
def test_the_result_grows_with_the_change(level: float, change: float, other: float, shoulder: float) -> None:
    low, high = sorted((change, other))
    for limit in (
        lambda change: limit_change(one(level), one(change), shoulder),
        lambda c: limit_detail(one(level), one(c)),
    ):
        assert limit(low)[0] <= limit(high)[0] + 1e-4


@given(levels, levels, changes)
def test_detail_keeps_the_order_of_the_source(level: float, other: float, detail: float) -> None:
    low, high = sorted((level, other))
    if low >= DARKEST and high <= BRIGHTEST:
        dark, bright = (one(source) + limit_detail(one(source), one(detail)) for source in (low, high))
        assert dark[0] <= bright[0] + 1e-3


def test_a_small_step_shrinks_in_proportion_to_the_room() -> None:
    shoulder, step = 32.0, 0.01
    for room in (32.0, 16.0, 4.0, 1.0):
        for level, sign in ((BRIGHTEST - room, 1), (DARKEST + room, -1)):
            limited = limit_change(one(level), one(sign * step), shoulder)
            assert limited[0] == pytest.approx(sign * step * room / shoulder, rel=0.01)


def test_a_hundred_steps_towards_white_keep_an_order() -> None:
    canvas = np.linspace(100, 250, 31, dtype=np.float32).reshape(1, 31, 1).repeat(3, axis=2)
    for _ in range(100):
        update(canvas, np.ones_like(canvas), 1.5, 32.0)
    assert (np.diff(canvas[0, :, 0]) > 0).all()
    assert canvas.max() < BRIGHTEST
    clipped = np.linspace(100, 250, 31, dtype=np.float32).reshape(1, 31, 1).repeat(3, axis=2)
    for _ in range(100):
        update(clipped, np.ones_like(clipped), 1.5)
    assert (clipped == 255).mean() > 0.9


def test_detail_that_fits_is_carried_over_as_it_is() -> None:
    """It was limited when it was dreamed; limited again at each octave it would fade."""
    source = np.linspace(DARKEST, BRIGHTEST, 200, dtype=np.float32)
    detail = 0.74 * (BRIGHTEST - source)
    np.testing.assert_array_equal(limit_detail(source, detail), detail)
    np.testing.assert_array_equal(limit_detail(source, -0.74 * (source - DARKEST)), -0.74 * (source - DARKEST))


def test_a_device_limits_as_the_host_does() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (64, 64, 3)).astype(np.float32)
    change = rng.normal(0, 30, pixels.shape).astype(np.float32)
    device = jax.jit(lambda pixels, change: limit_change(pixels, change, 32.0, jnp))(pixels, change)
    np.testing.assert_allclose(device, limit_change(pixels, change, 32.0), atol=1e-4)
