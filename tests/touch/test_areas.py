"""Boxes as users write them, and the weights of areas: soft inside, nothing outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.config.schema import SourceConfig
from render.geometry.geometry import Interval, Rect, whole
from render.touch.areas import BoxArea, open_mask_area
from render.touch.boxes import parse_box, parse_feather
from tests.conftest import refusal

SHAPE = (600, 1000)
MODES = ("reflect", "reflect")


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("100,200,300,400", (100, 200, 300, 400)),
        ("[100, 200, 300, 400]", (100, 200, 300, 400)),
        ("10%,20%,30%,40%", (100, 120, 300, 240)),
        ("0.1,0.2,0.3,0.4", (100, 120, 300, 240)),
        ("10%,120,0.3,40%", (100, 120, 300, 240)),
        ("0,0,1000,600", (0, 0, 1000, 600)),
        ("0,0,1.0,100%", (0, 0, 1000, 600)),
    ],
)
def test_a_box_is_in_pixels_per_cent_or_shares(text: str, box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    assert parse_box(text, SHAPE) == Rect(Interval(y, y + height), Interval(x, x + width))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be box=x,y,width,height"),
        ("1,2,3", "must be box=x,y,width,height"),
        ("a,b,c,d", "must be box=x,y,width,height"),
        ("-5,0,100,100", "must be box=x,y,width,height"),
        ("1e9,0,100,100", "must be box=x,y,width,height"),
        ("${seed},0,100,100", "must be box=x,y,width,height"),
        ("900,100,200,100", "ends at 1,100,200 px, and the canvas is 1,000 x 600 px: draw it inside"),
        ("90%,0,20%,20%", "the canvas is 1,000 x 600 px"),
        ("999999999,0,100,100", "the canvas is 1,000 x 600 px"),
        ("10,10,31,400", "is 31 x 400 px: take 32 px a side or more"),
        ("10,10,0,0", "take 32 px a side or more"),
    ],
)
def test_other_boxes_are_refused(text: str, words: str) -> None:
    assert words in refusal(lambda: parse_box(text, SHAPE))


def test_a_feather_is_in_pixels_or_per_cent_of_the_short_side() -> None:
    box = Rect(Interval(0, 200), Interval(0, 400))
    assert [parse_feather(text, box) for text in ("10%", "24", "0", "50%", "7.5")] == [20, 24, 0, 100, 7.5]
    for text in ("51%", "101", "wide", "-3", "nan"):
        assert "feather=" in refusal(lambda text=text: parse_feather(text, box))


def test_a_soft_edge_lies_inside_and_only_where_the_canvas_goes_on() -> None:
    box = Rect(Interval(0, 200), Interval(300, 500))
    weights = BoxArea.of(box, SHAPE, 20, MODES).weights(whole(*SHAPE))
    outside = np.ones(SHAPE, bool)
    outside[:200, 300:500] = False
    assert not weights[outside].any()
    # At the canvas' end it is hard, beside it and below soft.
    assert (weights[:180, 320:480] == 1).all()
    assert (np.diff(weights[50, 300:321]) > 0).all()
    assert 0 < weights[50, 300] < 0.01
    assert weights[199, 400] < 0.01
    # A canvas that wraps goes on everywhere.
    wrapping = BoxArea.of(box, SHAPE, 20, ("wrap", "wrap")).weights(whole(*SHAPE))
    assert wrapping[0, 400] < 0.01


def test_parts_of_weights_and_regions_are_the_whole() -> None:
    area = BoxArea.of(Rect(Interval(55, 255), Interval(301, 500)), SHAPE, 15, MODES)
    rect = Rect(Interval(40, 90), Interval(295, 340))
    np.testing.assert_array_equal(area.weights(rect), area.weights(whole(*SHAPE))[40:90, 295:340])
    small = (300, 500)
    region = area.region(small, whole(*small))
    np.testing.assert_array_equal(area.region(small, rect), region[40:90, 295:340])
    # Pixels that the box covers by half count by half.
    assert (region[27, 160], region[27, 150], region[60, 160], region[26, 160]) == (0.5, 0.25, 1, 0)
    np.testing.assert_allclose(region.sum() * 4, 200 * 199)


def test_a_painted_area_is_soft_inside_and_has_the_extent_of_what_is_painted(tmp_path: Path) -> None:
    painted = np.zeros((300, 500), np.uint8)
    painted[100:200, 150:350] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(painted).save(path)
    area = open_mask_area(str(path), SHAPE, SourceConfig(), "20%", MODES)
    assert area.box.rows.contains(Interval(200, 400))
    assert area.box.columns.contains(Interval(300, 700))
    assert area.box.rows.size <= 208
    assert area.feather == pytest.approx(40, abs=2)
    weights = area.weights(whole(*SHAPE))
    assert not weights[:199].any()
    assert not weights[401:].any()
    assert (weights[245:355, 345:655] > 0.97).all()
    assert weights[202, 500] < 0.2
    assert (np.diff(weights[201:240, 500]) >= 0).all()


@pytest.mark.parametrize(
    ("size", "value", "words"),
    [((500, 500), 255, "is 500 x 500 px and the canvas 1,000 x 600 px"), ((500, 300), 0, "black")],
)
def test_masks_of_another_shape_or_without_white_are_refused(
    size: tuple[int, int], value: int, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", size, value).save(path)
    assert words in refusal(lambda: open_mask_area(str(path), SHAPE, SourceConfig(), "10%", MODES))
