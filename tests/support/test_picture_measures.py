"""Measures of dreams, on pictures of which the result is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.picture_measures import (
    CHROMA_AXES,
    chroma_noise,
    clipped_share,
    coarse_share,
    largest_form,
    spectrum,
)


def wave(length: float, shape: tuple[int, int] = (160, 240), amplitude: float = 10.0) -> np.ndarray:
    """A grey wave from left to right."""
    line = amplitude * np.sin(2 * np.pi * np.arange(shape[1]) / length)
    return np.repeat(np.tile(line, (shape[0], 1))[..., None], 3, axis=2)


def test_a_pixel_is_clipped_if_one_channel_is() -> None:
    pixels = np.full((10, 10, 3), 100.0)
    assert clipped_share(pixels) == 0
    pixels[0, :, 1] = 254.6
    pixels[1, :5] = 0.4
    pixels[2, :, 0] = 254.4
    assert clipped_share(pixels) == pytest.approx(0.15)


def test_the_energies_sum_to_the_mean_square() -> None:
    change = np.random.default_rng(0).normal(0, 5, (200, 300, 3))
    assert spectrum(change)[1].sum() == pytest.approx(3 * 25, rel=0.05)


def test_noise_is_fine_and_coloured() -> None:
    rng = np.random.default_rng(0)
    fine = rng.normal(0, 5, (200, 200, 1))
    assert chroma_noise(np.repeat(fine, 3, axis=2)) == pytest.approx(0, abs=1e-9)
    coarse = wave(30)[..., :1]
    for axis in CHROMA_AXES:
        # Of white noise, what is beyond a circle of a quarter cycle a pixel: all but pi / 16.
        assert chroma_noise(fine * axis) == pytest.approx(25 * (1 - np.pi / 16), rel=0.05)
        assert chroma_noise(coarse * axis) < 0.01
    assert np.allclose(CHROMA_AXES @ CHROMA_AXES.T, np.eye(2)) and np.allclose(CHROMA_AXES.sum(1), 0)


@pytest.mark.parametrize("length", [6, 12, 40, 80])
def test_the_largest_form_is_the_wave(length: int) -> None:
    """To the width of a line of the window's spectrum."""
    found = largest_form(wave(length))
    assert 1 / found == pytest.approx(1 / length, abs=2 / 240)
    assert coarse_share(wave(length)) == pytest.approx(1 if length > 15 else 0, abs=0.05)


def test_a_tenth_of_the_energy_counts_and_less_does_not() -> None:
    fine = wave(8)
    assert largest_form(fine + wave(60, amplitude=2)) < 10
    assert largest_form(fine + wave(60, amplitude=4)) > 40


def test_measures_do_not_depend_on_the_size() -> None:
    """Of the same forms in a picture twice as large, in a picture's own units."""
    small, large = wave(30), wave(60, (320, 480))
    assert largest_form(large) / 480 == pytest.approx(largest_form(small) / 240)
    assert coarse_share(large) == pytest.approx(coarse_share(small), abs=0.01)
