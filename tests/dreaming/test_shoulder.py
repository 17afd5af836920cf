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
from render.dreaming.shoulder import BRIGHTEST, DARKEST, limit_change, limit_detail, restore_detail

levels = st.floats(0, 255, width=32)
changes = st.floats(-600, 600, width=32, allow_subnormal=False)
shoulders = st.floats(1, 127, width=32)


def one(value: float) -> np.ndarray:
    return np.asarray([value], np.float32)


def limited(source: float, detail: float, shoulder: float) -> float:
    return float(limit_detail(one(source), one(detail), shoulder)[0])


def after(source: float, changes: list[float], shoulder: float) -> float:
    """Return a pixel of the canvas after some steps."""
    canvas = one(source)
    for change in changes:
        canvas = canvas + limit_change(canvas, one(source), one(change), shoulder)
    return float(canvas[0])


@given(levels, st.lists(changes, min_size=1, max_size=5), shoulders)
def test_no_steps_make_new_black_or_white(source: float, steps: list[float], shoulder: float) -> None:
    """Neither in floats nor in the 8 bits of a picture; what was black or white before may stay."""
    for moved in (after(source, steps, shoulder), source + limited(source, steps[0], shoulder)):
        assert min(source, DARKEST) - 1e-4 <= moved <= max(source, BRIGHTEST) + 1e-4
        if DARKEST <= source <= BRIGHTEST:
            assert not np.isin(to_integers(one(moved), 8), (0, 255)).any()


@given(levels, changes, shoulders)
def test_nothing_changes_in_the_middle_and_away_from_the_ends(source: float, change: float, shoulder: float) -> None:
    target = source + change
    is_free = target <= BRIGHTEST - shoulder if change > 0 else target >= DARKEST + shoulder
    if is_free:
        np.testing.assert_allclose(limit_change(one(source), one(source), one(change), shoulder), one(change), atol=1e-4)
    # It is never turned round, and never made larger.
    moved = limited(source, change, shoulder)
    assert moved * change >= 0
    assert abs(moved) <= abs(np.float32(change)) + 1e-4


@given(levels, changes, changes, shoulders)
def test_the_result_grows_with_the_change(source: float, change: float, other: float, shoulder: float) -> None:
    low, high = sorted((change, other))
    assert limited(source, low, shoulder) <= limited(source, high, shoulder) + 1e-4
    assert after(source, [low], shoulder) <= after(source, [high], shoulder) + 1e-4


@given(levels, levels, changes, shoulders)
def test_detail_keeps_the_order_of_the_source(source: float, other: float, detail: float, shoulder: float) -> None:
    low, high = sorted((source, other))
    if low >= DARKEST and high <= BRIGHTEST:
        assert low + limited(low, detail, shoulder) <= high + limited(high, detail, shoulder) + 1e-3


@given(st.floats(2, 253, width=32), st.floats(-150, 150, width=32), st.floats(8, 127, width=32))
def test_detail_is_found_again(source: float, detail: float, shoulder: float) -> None:
    """To a hundredth: what octaves carry over is the detail, not its limited image."""
    found = restore_detail(one(source), limit_detail(one(source), one(detail), shoulder), shoulder)
    assert found[0] == pytest.approx(detail, rel=1e-2, abs=1e-2)


@given(st.floats(2, 253, width=32), st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=8))
def test_steps_to_and_fro_lead_back(source: float, steps: list[float]) -> None:
    """No drift: the sum of the steps counts, in whatever order they come."""
    there_and_back = [*steps, *[-step for step in steps]]
    assert after(source, there_and_back, 32.0) == pytest.approx(source, abs=0.05)


def test_wavering_steps_do_not_lift_the_shadows() -> None:
    rng = np.random.default_rng(0)
    source = np.full((1, 4000, 3), 6, np.float32)
    canvas = source.copy()
    for _ in range(50):
        update(canvas, rng.choice((-1, 1), canvas.shape).astype(np.float32), 1.5, source, 32.0)
    clipped = source.copy()
    rng = np.random.default_rng(0)
    for _ in range(50):
        update(clipped, rng.choice((-1, 1), canvas.shape).astype(np.float32), 1.5)
    assert canvas.mean() < clipped.mean() + 2
    assert canvas.min() > DARKEST
    assert (clipped == 0).mean() > 0.05


def test_a_small_step_shrinks_in_proportion_to_the_room() -> None:
    shoulder, step = 32.0, 0.01
    for room in (32.0, 16.0, 4.0, 1.0):
        for level, sign in ((BRIGHTEST - room, 1), (DARKEST + room, -1)):
            assert limited(level, sign * step, shoulder) == pytest.approx(sign * step * room / shoulder, rel=0.01)


def test_a_hundred_steps_towards_white_keep_an_order() -> None:
    source = np.linspace(100, 250, 31, dtype=np.float32).reshape(1, 31, 1).repeat(3, axis=2)
    canvas, clipped = source.copy(), source.copy()
    for _ in range(100):
        update(canvas, np.ones_like(canvas), 1.5, source, 32.0)
        update(clipped, np.ones_like(clipped), 1.5)
    assert (np.diff(canvas[0, :, 0]) > 0).all()
    assert canvas.max() < BRIGHTEST
    assert (clipped == 255).mean() > 0.9


def test_what_does_not_move_keeps_every_bit() -> None:
    source = np.random.default_rng(0).uniform(0, 255, (50, 50, 3)).astype(np.float32)
    canvas = source + limit_detail(source, np.float32(40) * np.ones_like(source), 32.0)
    before = canvas.copy()
    update(canvas, np.zeros_like(canvas), 1.5, source, 32.0)
    assert canvas.tobytes() == before.tobytes()


def test_a_device_limits_as_the_host_does() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform(0, 255, (64, 64, 3)).astype(np.float32)
    pixels = source + limit_detail(source, rng.normal(0, 30, source.shape).astype(np.float32), 32.0)
    change = rng.normal(0, 30, pixels.shape).astype(np.float32)
    device = jax.jit(lambda *arrays: limit_change(*arrays, 32.0, jnp))(pixels, source, change)
    np.testing.assert_allclose(device, limit_change(pixels, source, change, 32.0), atol=1e-2)
