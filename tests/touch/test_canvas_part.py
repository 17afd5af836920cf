"""Parts of a stored canvas at any octave: bit-identical to the whole, also where the canvas wraps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.canvas import store
from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.geometry.geometry import Interval, Rect, whole
from render.touch.areas import BoxArea
from render.touch.canvas_part import CanvasPart, PartMask

SHAPE = (613, 901)


@pytest.fixture(scope="module")
def canvas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pixels]:
    """A stored canvas, and its pixels."""
    path = tmp_path_factory.mktemp("canvas") / "canvas"
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pixels = np.stack([rows * columns % 256, (rows + 2 * columns) / 12, 127 + 100 * np.sin(rows / 9)], -1)
    pixels = np.clip(pixels, 0, 255).astype(np.float32)
    store.create(path, SHAPE, "ab")
    CanvasStore(path, "ab", mode="r+").write(whole(*SHAPE), pixels)
    return path, pixels


def part_of(path: Path, octave: tuple[int, int], window: Rect, mode: str = "reflect") -> CanvasPart:
    return CanvasPart(path, "ab", SHAPE, (mode, mode), octave, window)  # type: ignore[arg-type]


@pytest.mark.parametrize("octave", [SHAPE, (438, 644), (313, 460), (130, 191), (61, 90)])
def test_any_rectangle_has_the_bits_of_the_whole(octave: tuple[int, int], canvas: tuple[Path, Pixels]) -> None:
    path, pixels = canvas
    everything = part_of(path, octave, whole(*octave)).applied_to(None).at(octave, whole(*octave))
    window = Rect(Interval(16, 55), Interval(24, 80))
    part = part_of(path, octave, window).applied_to(None)
    np.testing.assert_array_equal(part.at(window.shape, whole(*window.shape)), everything[16:55, 24:80])
    inner = Rect(Interval(5, 17), Interval(3, 40))
    np.testing.assert_array_equal(part.at(window.shape, inner), everything[21:33, 27:64])
    if octave == SHAPE:
        np.testing.assert_array_equal(everything, pixels)


@pytest.mark.parametrize("octave", [(438, 644), (130, 191)])
def test_an_octave_looks_like_the_canvas_resampled_at_once(octave: tuple[int, int], canvas: tuple[Path, Pixels]) -> None:
    path, pixels = canvas
    everything = part_of(path, octave, whole(*octave)).applied_to(None).at(octave, whole(*octave))
    smooth = Image.fromarray(pixels[..., 1]).resize(octave[::-1], Image.Resampling.LANCZOS)
    np.testing.assert_allclose(everything[4:-4, 4:-4, 1], np.asarray(smooth)[4:-4, 4:-4], atol=0.1)


def test_a_part_reaches_over_ends_that_wrap(canvas: tuple[Path, Pixels]) -> None:
    path, pixels = canvas
    window = Rect(Interval(-20, 30), Interval(880, 950))
    part = part_of(path, SHAPE, window, "wrap").applied_to(None)
    rolled = np.roll(pixels, (20, -880), (0, 1))
    np.testing.assert_array_equal(part.at(window.shape, whole(50, 70)), rolled[:50, :70])


def test_a_mask_is_nothing_beyond_the_canvas() -> None:
    area = BoxArea.of(Rect(Interval(0, 100), Interval(0, 100)), SHAPE, 0, ("wrap", "wrap"))
    mask = PartMask(area, SHAPE, Rect(Interval(-20, 30), Interval(-10, 130)))
    weights = mask.at((50, 140), whole(50, 140))
    assert not weights[:20].any()
    assert not weights[:, :10].any()
    assert (weights[20:, 10:110] == 1).all()
    assert not weights[:, 110:].any()
