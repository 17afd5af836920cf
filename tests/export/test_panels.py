"""Panels cover the print, fit the press and overlap as asked; their map names every one of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from render.errors import UserError
from render.export.panel_map import caption, map_picture
from render.export.panels import Panels, cut_panels, row_name

sides = st.integers(1, 4000)
resolutions = st.floats(20, 600)
presses = st.none() | st.floats(20, 300)
overlaps = st.floats(0, 60)


@given(sides, sides, resolutions, presses, presses, overlaps)
def test_panels_cover_the_print_fit_the_press_and_overlap_as_asked(
    rows: int, columns: int, dpi: float, width_cm: float | None, height_cm: float | None, overlap_mm: float
) -> None:
    cut = cut_panels((rows, columns), dpi, width_cm=width_cm, height_cm=height_cm, overlap_mm=overlap_mm)
    for cuts, length, limit_cm in ((cut.rows, rows, height_cm), (cut.columns, columns, width_cm)):
        assert cuts[0].start == 0
        assert cuts[-1].stop == length
        assert len({one.size for one in cuts}) == 1, "all of one size"
        if limit_cm is None:
            assert len(cuts) == 1
        else:
            assert cuts[0].size / dpi * 2.54 <= limit_cm * (1 + 1e-6)
        for one, after in zip(cuts, cuts[1:], strict=False):
            assert one.start < after.start
            assert (one.stop - after.start) / dpi * 25.4 >= overlap_mm - 1e-3
            assert one.stop > after.start or overlap_mm < 1e-3
    assert all(panel.rect.shape == cut.panel_shape for panel in cut.panels)


@given(st.integers(2, 60_000), st.floats(50, 300), st.floats(5, 100), st.floats(0, 40))
def test_there_are_as_few_panels_as_can_be(length: int, dpi: float, width_cm: float, overlap_mm: float) -> None:
    cut = cut_panels((10, length), dpi, width_cm=width_cm, overlap_mm=overlap_mm)
    press, overlap = math.floor(width_cm / 2.54 * dpi), math.ceil(overlap_mm / 25.4 * dpi)
    fewer = len(cut.columns) - 1
    # So many sheets as large as the press takes do not reach across.
    assert fewer == 0 or fewer * press - (fewer - 1) * overlap < length + 2 * fewer


def test_a_poster_for_a_narrow_press() -> None:
    """150 cm at 100 dpi on a press of 61 cm: three sheets that share just over 1 cm."""
    cut = cut_panels((3937, 5906), 100, width_cm=61)
    assert [panel.name for panel in cut.panels] == ["A1", "A2", "A3"]
    assert [panel.rect.columns for panel in cut.panels] == [(0, 1996), (1955, 3951), (3910, 5906)]
    assert cut.overlaps == (None, 41)
    assert caption(cut).splitlines() == [
        "3 panels of 50.7 x 100.0 cm (1996 x 3937 px), 3 across and 1 down.",
        "Print 150.0 x 100.0 cm (5906 x 3937 px at 100 dpi).",
        "Neighbours overlap by 10.4 mm across, the pale bands.",
    ]


def test_a_print_as_wide_as_the_press_is_one_panel() -> None:
    """In floats, 61 cm at 100 dpi are a little more or less than they are."""
    assert len(cut_panels((100, 2540), 100, width_cm=64.516).panels) == 1
    assert len(cut_panels((100, 2541), 100, width_cm=64.516).panels) == 2


def test_names_go_row_by_row() -> None:
    cut = cut_panels((1000, 1000), 25.4, width_cm=40, height_cm=60, overlap_mm=0)
    assert [panel.name for panel in cut.panels] == ["A1", "A2", "A3", "B1", "B2", "B3"]
    assert [row_name(row) for row in (0, 25, 26, 27, 51, 52, 701, 702)] == ["A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dpi": None}, ["output.dpi"]),
        ({"dpi": 0.0}, ["output.dpi=0", "above 0"]),
        ({"width_cm": -3.0}, ["panels.width_cm=-3", "above 0"]),
        ({"height_cm": math.nan}, ["panels.height_cm=nan"]),
        ({"width_cm": math.inf}, ["panels.width_cm=inf"]),
        ({"overlap_mm": -1.0}, ["panels.overlap_mm=-1"]),
        ({"width_cm": 5.0, "overlap_mm": 50.0}, ["panels.width_cm=5", "panels.overlap_mm=50", "larger than the overlap"]),
        ({"height_cm": 1e-9}, ["panels.height_cm", "0 px", "larger than the overlap"]),
        ({"width_cm": 0.5, "height_cm": 0.5, "overlap_mm": 1.0}, ["panels", "2,000 is the most"]),
    ],
)
def test_nonsense_is_refused_in_one_line(options: dict[str, float | None], words: list[str]) -> None:
    settings: dict[str, float | None] = {"dpi": 100.0, "width_cm": 50.0} | options
    with pytest.raises(UserError) as caught:
        cut_panels((3000, 4000), settings.pop("dpi"), **settings)  # type: ignore[arg-type]
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message


# The map


def mapped(cut: Panels) -> Image.Image:
    rows, columns = cut.shape
    scale = 200 / max(cut.shape)
    thumbnail = np.full((max(1, round(rows * scale)), max(1, round(columns * scale)), 3), 90, np.uint8)
    return map_picture(cut, thumbnail)


@pytest.mark.parametrize("shape", [(8720, 10_000), (500, 30_000), (30_000, 500), (900, 900)])
@pytest.mark.parametrize("press", [None, 200.0, 61.0, 12.0])
def test_the_map_is_small_whatever_it_shows(shape: tuple[int, int], press: float | None) -> None:
    picture = mapped(cut_panels(shape, 150, width_cm=press, height_cm=press))
    assert picture.mode == "RGB"
    assert max(picture.size) <= 1200
    assert min(picture.size) >= 240


def test_every_panel_has_its_outline_where_it_lies() -> None:
    """A white line, cased in black, at the panels' edges on a grey picture; none in the middle of a panel."""
    cut = cut_panels((1000, 1000), 25.4, width_cm=55, height_cm=105, overlap_mm=100)
    assert [panel.rect.columns for panel in cut.panels] == [(0, 550), (450, 1000)]
    pixels = np.asarray(mapped(cut))
    across = pixels[500].astype(int).sum(axis=1)
    left = int(np.argmax(across < 90))
    for edge in (450, 550):
        near = across[left + edge - 5 : left + edge + 5]
        assert near.max() == 3 * 255, edge
        assert near.min() < 60, edge
    body = 90 + 0.18 * (255 - 90)
    overlap = 90 + 0.62 * (255 - 90)
    assert abs(across[left + 100] / 3 - body) < 2
    assert abs(across[left + 500] / 3 - overlap) < 2


def test_a_name_is_written_on_its_panel() -> None:
    """The maps of two cuts that differ in nothing but the order of panels' names do not look alike in the middle."""
    cut = cut_panels((1000, 1000), 25.4, width_cm=50, height_cm=50, overlap_mm=0)
    pixels = np.asarray(mapped(cut))
    white = (pixels == 255).all(axis=2)
    names = [white[top : top + 100, left : left + 100] for top in (230, 730) for left in (230, 730)]
    assert all(name.sum() > 200 for name in names)
    assert len({name.tobytes() for name in names}) == 4
