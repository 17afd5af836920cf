"""Ascent in a decorrelated colour space: Lucid's own figures, and what they mean for a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from render.dreaming.decorrelation import decorrelate, from_axes, mixing_matrix, to_axes

#: As in Lucid, optvis/param/color.py; pixels there are t @ normalised.T.
SQRT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
NORMALISED = SQRT / np.max(np.linalg.norm(SQRT, axis=0))

gradients = arrays.arrays(np.float32, (4, 5, 3), elements=st.floats(-100, 100, width=32))


def test_a_move_is_what_ascent_of_lucids_parameters_does() -> None:
    """The change of x = M z for a step of z along the gradient of a linear function of x."""
    rng = np.random.default_rng(0)
    gradient, z, rate = rng.normal(size=(6, 7, 3)), rng.normal(size=(6, 7, 3)), 0.1
    of_z = gradient @ NORMALISED
    moved = (z + rate * of_z) @ NORMALISED.T - z @ NORMALISED.T
    np.testing.assert_allclose(rate * decorrelate(gradient.astype(np.float32), 1), moved, atol=1e-6)


def test_grey_keeps_its_strength_and_colours_lose_theirs() -> None:
    grey, red_blue, green = ((1, 1, 1), (1, 0, -1), (1, -2, 1))
    lengths = {
        strength: [
            np.linalg.norm(mixing_matrix(strength) @ np.array(axis)) / np.linalg.norm(axis)
            for axis in (grey, red_blue, green)
        ]
        for strength in (0.0, 0.5, 1.0)
    }
    np.testing.assert_allclose(lengths[0], 1, atol=1e-6)
    assert all(0.95 < length[0] < 1.05 for length in lengths.values())
    assert lengths[1][1] < 0.15 < lengths[0.5][1] < 0.35
    assert lengths[1][2] < 0.05 < lengths[0.5][2] < 0.2
    # Ascent, whatever the gradient: the step never leads down.
    assert all(np.linalg.eigvalsh(mixing_matrix(strength).astype(float)).min() > 0 for strength in lengths)
    # Half the strength twice is the whole.
    np.testing.assert_allclose(mixing_matrix(0.5) @ mixing_matrix(0.5), mixing_matrix(1), atol=1e-6)


@given(gradients, st.sampled_from([0.1, 0.5, 1.0]))
def test_axes_and_back_is_the_same_move(move: np.ndarray, strength: float) -> None:
    np.testing.assert_allclose(from_axes(to_axes(move, strength), strength), move, atol=1e-3)


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_a_move_of_one_along_each_axis_changes_channels_by_one(strength: float) -> None:
    signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T.astype(np.float32)[None]
    assert abs(np.abs(from_axes(signs, strength)).mean() - 1) < 1e-6


@given(gradients, st.integers(0, 3), st.integers(0, 4))
def test_a_pixel_depends_on_no_other(gradient: np.ndarray, row: int, column: int) -> None:
    part = slice(row, row + 1), slice(column, column + 1)
    np.testing.assert_array_equal(decorrelate(gradient[part], 0.5), decorrelate(gradient, 0.5)[part])
