"""Arithmetic of one step against numbers written down here: jitter, luminance, statistics, blending."""

from __future__ import annotations

import numpy as np
import pytest

from render.dreaming.ascent import blend, jitter, luminance, measure, statistic
from render.dreaming.optimizer import Optimizer

RANDOM = np.random.default_rng(5)


def gradient(shape: tuple[int, int] = (6, 9)) -> np.ndarray:
    return RANDOM.normal(0.3, 2, (*shape, 3)).astype(np.float32)


@pytest.mark.parametrize(("most", "reached"), [(None, 16), (0, 1), (5, 6), (15, 16), (400, 16)])
def test_jitter_reaches_every_shift_that_it_may_and_no_other(most: int | None, reached: int) -> None:
    shifts = np.array([jitter(3, 1, step, 16, most) for step in range(600)])
    assert set(shifts[:, 0]) == set(shifts[:, 1]) == set(range(reached))
    assert reached == 1 or (shifts[:, 0] != shifts[:, 1]).any()


def test_luminance_is_rec_709_for_all_channels_alike() -> None:
    result = luminance(np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]], np.float32))
    np.testing.assert_allclose(result[0], np.repeat([[0.2126], [0.7152], [0.0722], [1]], 3, axis=1), rtol=1e-6)


def test_statistics_of_tiles_are_those_of_the_canvas() -> None:
    values, mask = gradient(), RANDOM.uniform(0, 1, (6, 9)).astype(np.float32)
    weights = np.repeat(mask[..., None], 3, axis=2).astype(float)
    mean = np.average(values, weights=weights)
    expected = {
        ("mean_abs", False): np.abs(values).mean(dtype=float),
        ("std", False): values.std(dtype=float),
        ("mean_abs", True): np.average(np.abs(values), weights=weights),
        ("std", True): np.sqrt(np.average((values - mean) ** 2, weights=weights)),
    }
    for (normalize, masked), value in expected.items():
        parts = [measure(values[rows], mask[rows] if masked else None, normalize) for rows in (slice(0, 2), slice(2, None))]
        sums = [sum(of) for of in zip(*parts, strict=True)]
        assert statistic(sums, normalize) == pytest.approx(value, rel=1e-5), (normalize, masked)


def test_what_cannot_change_does_not_count() -> None:
    values = np.zeros((4, 5, 3), np.float32)
    values[0] = 2
    assert statistic(measure(values, None, "mean_abs"), "mean_abs") == pytest.approx(0.5)
    assert statistic(measure(values, None, "mean_abs"), "mean_abs", support=0.25) == pytest.approx(2)
    assert statistic(measure(values, np.zeros((4, 5), np.float32), "std"), "std") == 0


def test_one_region_without_a_mask_is_followed_fully() -> None:
    values = gradient()
    direction, follow = blend([values], [None], [4.0])
    assert follow is None
    np.testing.assert_allclose(direction, values / 4, rtol=1e-6)


def test_a_soft_mask_weakens_the_step_and_not_the_direction() -> None:
    """So that it is as soft after an optimizer that makes small directions large."""
    values, mask = gradient(), np.linspace(0, 1, 54, dtype=np.float32).reshape(6, 9)
    direction, follow = blend([values], [mask], [2.0])
    assert follow is not None
    np.testing.assert_allclose(follow, mask)
    np.testing.assert_allclose(direction[mask > 0], values[mask > 0] / 2, rtol=1e-6)
    moments = [np.zeros_like(values), np.zeros_like(values)]
    steps = np.abs(follow[..., None] * Optimizer("adam").update(direction, moments, 0)).mean(-1)
    assert steps[0].mean() < 0.3 * steps[-1].mean()


def test_regions_share_a_pixel_by_their_masks() -> None:
    first, second = gradient(), gradient()
    low, high = np.full((6, 9), 0.25, np.float32), np.full((6, 9), 0.5, np.float32)
    direction, follow = blend([first, second], [low, high], [1.0, 2.0])
    np.testing.assert_allclose(follow, np.full((6, 9), 0.75))
    np.testing.assert_allclose(direction, first / 3 + second / 2 * 2 / 3, rtol=1e-5, atol=1e-6)
    # Where there is more than 1 the masks count as they are.
    full = np.ones((6, 9), np.float32)
    direction, follow = blend([first, second], [full, high], [1.0, 2.0])
    np.testing.assert_allclose(follow, full)
    np.testing.assert_allclose(direction, first + second / 4, rtol=1e-5, atol=1e-6)


def test_a_region_that_has_no_part_in_a_tile_adds_nothing() -> None:
    values, mask = gradient(), np.ones((6, 9), np.float32)
    for gradients, statistics in (([values, None], [1.0, 1.0]), ([values, 9 * values], [1.0, 0.0])):
        direction, _ = blend(gradients, [mask, np.zeros_like(mask)], statistics)
        np.testing.assert_allclose(direction, values)
    direction, follow = blend([None], [np.zeros_like(mask)], [1.0])
    assert direction.shape == (6, 9, 3)
    assert not direction.any()
    assert follow is not None and not follow.any()
