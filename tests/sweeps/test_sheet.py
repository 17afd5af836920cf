"""Contact sheets of any grid: every point in its place with its names, and nothing overlaps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render.export.labelled_sheet import LARGEST_SHEET
from render.export.lettering import EMPTY, GROUND, MIN_FONT, text_width
from render.export.metadata import read_settings
from render.export.picture import image_of
from render.geometry.geometry import whole
from render.sweeps.axes.definition import AxisValue, SweepAxis, axis_names
from render.sweeps.gallery import sheet as drawing
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint
from render.sweeps.gallery.sheet import check_sheets, write_sheets
from render.sweeps.gallery.sheet_blocks import MAX_SHEET_SIDE
from render.sweeps.gallery.sheet_layout import MIN_CELL_SIDE, ContactSheetLayout, lay_out
from render.sweeps.gallery.sheet_pages import pages_of
from render.sweeps.gallery.sheet_text import cell_texts
from render.sweeps.rendering.thumbnails import make_thumbnail
from tests.conftest import refusal

MADE = (("network", "inception_v3"), ("picture", "hubble"), ("settings", "640 px wide, 5 octaves at 1.4"))


def axis(key: str, labels: Sequence[object]) -> SweepAxis:
    """Return an axis with these labels."""
    return SweepAxis(key, tuple(AxisValue(str(label), (f"{key}={label}",)) for label in labels))


def point(at: tuple[int, ...], size: tuple[int, int] = (480, 640), **changes: object) -> ShownPoint:
    name = "points/" + "-".join(map(str, at))
    usual = ShownPoint(
        at, "done", "", name, f"{name}/me.png", f"{name}/me.png", f"{name}/thumbnail.webp", None, size, 1.0, (), "", ""
    )
    return replace(usual, **changes)


def exhibition(
    axes: Sequence[SweepAxis],
    rows: int | None = None,
    columns: int | None = None,
    sizes: Sequence[tuple[int, int]] = ((480, 640),),
) -> Exhibition:
    """Return the exhibition of a whole grid."""
    every = itertools.product(*(range(len(axis.values)) for axis in axes))
    points = tuple(point(at, sizes[number % len(sizes)]) for number, at in enumerate(every))
    return Exhibition("layers", tuple(axes), points, rows, columns, MADE, "make sweep conf=layers")


def check(shown: Exhibition, sheets: Sequence[ContactSheetLayout], largest: int = LARGEST_SHEET) -> None:
    """Check what holds for all contact sheets: every point once, nothing overlaps, text fits."""
    assert sorted(cell.point for sheet in sheets for cell in sheet.cells) == list(range(len(shown.points)))
    for sheet in sheets:
        assert max(sheet.shape) <= MAX_SHEET_SIDE
        rows = len({cell.rect.rows for cell in sheet.cells})
        assert rows == 1 or 3 * sheet.shape[0] * sheet.shape[1] <= largest
        rects = [text.rect for text in sheet.texts if text.lines] + [cell.rect for cell in sheet.cells]
        assert all(whole(*sheet.shape).intersect(rect) == rect for rect in rects)
        painted = np.zeros(sheet.shape, bool)
        for rect in rects:
            part = painted[slice(*rect.rows), slice(*rect.columns)]
            assert not part.any(), "nothing lies on anything else"
            part[:] = True
        for text in sheet.texts:
            assert text.size >= MIN_FONT
            assert len(text.lines) * text.size <= text.rect.rows.size
            assert all(text_width(line, text.size) <= text.rect.columns.size for line in text.lines)
        assert len({cell.rect.shape for cell in sheet.cells}) == 1


labels = st.lists(
    st.text("abc019_-/. é猫", min_size=1, max_size=60) | st.integers(0, 99).map(str), min_size=1, max_size=9, unique=True
)
sides = st.integers(1, 4000)


@settings(max_examples=60)
@given(
    values=st.lists(labels, min_size=1, max_size=3),
    laid=st.tuples(st.none() | st.integers(0, 2), st.none() | st.integers(0, 2)),
    sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=4),
    side=st.integers(32, 512),
    largest=st.integers(1_500_000, 20_000_000),
)
def test_every_point_has_a_place_of_its_own(
    values: list[list[str]],
    laid: tuple[int | None, int | None],
    sizes: list[tuple[int, int]],
    side: int,
    largest: int,
) -> None:
    axes = [axis(f"key{number}", some) for number, some in enumerate(values)]
    rows, columns = (None if one is None or one >= len(axes) else one for one in laid)
    shown = exhibition(axes, rows, None if columns == rows else columns, sizes)
    check(shown, lay_out(shown, side, largest), largest)


@pytest.mark.parametrize(
    ("shape", "most"),
    [((1, 2000), 2), ((2000, 1), 2), ((50, 40), 2), ((2, 2000), 4), ((2000, 2), 5), ((100, 100), 12), ((1, 1), 1)],
)
def test_grids_of_any_shape_make_few_sheets(shape: tuple[int, int], most: int) -> None:
    shown = exhibition([axis("seed", range(shape[0])), axis("channels", range(shape[1]))], 0, 1)
    begun = time.monotonic()
    sheets = lay_out(shown)
    assert time.monotonic() - begun < 10
    check(shown, sheets)
    assert len(sheets) <= most
    assert all(1 / 4 < sheet.shape[1] / sheet.shape[0] < 4 for sheet in sheets)


def test_a_grid_is_named_beside_and_above_on_every_sheet() -> None:
    """And a point stands where its row and its column cross."""
    shown = exhibition([axis("seed", [f"row{n}" for n in range(12)]), axis("step", [f"column{n}" for n in range(9)])], 0, 1)
    sheets = lay_out(shown, max_bytes=900_000)
    assert len(sheets) > 2
    for sheet in sheets:
        texts = {text.lines: text.rect for text in sheet.texts}
        assert {("seed",), ("step",)} <= texts.keys()
        for cell in sheet.cells:
            at = shown.points[cell.point].value_indices
            row, column = texts[(f"row{at[0]}",)], texts[(f"column{at[1]}",)]
            assert row.columns.stop <= cell.rect.columns.start
            assert cell.rect.rows.contains(row.rows)
            assert column.rows.stop <= cell.rect.rows.start
            assert cell.rect.columns.contains(column.columns)
    titles = [sheet.texts[0].lines[0] for sheet in sheets]
    assert titles == [f"layers ({number + 1} of {len(sheets)})" for number in range(len(sheets))]


def test_points_in_a_row_have_their_names_under_them() -> None:
    shown = exhibition([axis("objective.terms", [f"mixed{n}" for n in range(11)])], 0)
    (sheet,) = lay_out(shown)
    texts = {text.lines[0]: text.rect for text in sheet.texts}
    assert "by terms" in texts
    for cell in sheet.cells:
        name = texts[f"mixed{cell.point}"]
        assert cell.rect.columns.contains(name.columns)
        assert cell.rect.rows.stop <= name.rows.start < cell.rect.rows.stop + 20
    assert len({cell.rect.rows for cell in sheet.cells}) == 3


@pytest.mark.parametrize("size", [(100, 100), (213, 320), (2000, 3000)])
def test_three_points_are_a_row(size: tuple[int, int]) -> None:
    (sheet,) = lay_out(exhibition([axis("seed", range(3))], 0, sizes=[size]))
    assert len({cell.rect.rows for cell in sheet.cells}) == 1


def test_cells_have_the_aspect_of_their_own_page() -> None:
    """A page of wide pictures leaves no room for the high ones of another; a page of both is of squares."""
    axes = [axis("image", ["wide", "high"]), axis("seed", range(3)), axis("step", range(3))]
    sizes = [(60, 80)] * 9 + [(80, 60)] * 9
    shapes = [{cell.rect.shape for cell in sheet.cells} for sheet in lay_out(exhibition(axes, 1, 2, sizes))]
    assert shapes == [{(120, 160)}, {(160, 120)}]
    (both,) = lay_out(exhibition(axes[:2], 0, 1, [(60, 80)] * 3 + [(80, 60)] * 3))
    assert {cell.rect.shape for cell in both.cells} == {(160, 160)}


def test_further_axes_become_pages_whose_titles_name_their_values() -> None:
    axes = [axis("octaves.scale", [1.2, 1.4]), axis("a.steps", [1, 2, 3]), axis("seed", [5, 6, 7]), axis("b.steps", [8, 9])]
    shown = exhibition(axes, 2, 1)
    pages = pages_of(shown)
    assert [page.caption for page in pages] == [
        "scale = 1.2, b.steps = 8", "scale = 1.2, b.steps = 9", "scale = 1.4, b.steps = 8", "scale = 1.4, b.steps = 9",
    ]  # fmt: skip
    for page in pages:
        assert page.rows == ("5", "6", "7")
        assert page.columns == ("1", "2", "3")
        assert len(page.cells) == 9
    sheets = lay_out(shown)
    assert ["scale = 1.2, b.steps = 8" in str(sheet.texts) for sheet in sheets] == [True, False, False, False]
    check(shown, sheets)


def test_an_axis_of_one_value_takes_no_dimension() -> None:
    shown = exhibition([axis("model", ["googlenet"]), axis("seed", range(5))], 0, 1)
    (page,) = pages_of(shown)
    assert (page.rows, page.columns, page.caption) == ((), ("0", "1", "2", "3", "4"), "model = googlenet")
    assert axis_names([axis("a.steps", [1]), axis("b.steps", [1]), axis("c.scale", [1])]) == ["a.steps", "b.steps", "scale"]


def test_nothing_to_show_is_no_sheet(tmp_path: Path) -> None:
    assert write_sheets(tmp_path, Exhibition("none", (axis("seed", [1]),), (), None, None, (), "")) == []


def test_cells_are_as_large_as_sheets_allow() -> None:
    def longest(count: int, largest: int = LARGEST_SHEET) -> int:
        shown = exhibition([axis("seed", range(count)), axis("step", range(count))], 0, 1)
        return max(lay_out(shown, max_bytes=largest)[0].cells[0].rect.shape)

    assert longest(3) == longest(10) == 320
    shrinking = [longest(count) for count in (10, 20, 30, 40, 200)]
    assert shrinking == sorted(shrinking, reverse=True)
    assert longest(10, 1_000_000) >= MIN_CELL_SIDE
    tiny = exhibition([axis("seed", range(4))], 0, sizes=[(64, 64)])
    assert lay_out(tiny)[0].cells[0].rect.shape == (160, 160), "enlarged a little"


@given(reason=st.text(max_size=200), rows=st.integers(60, 320), columns=st.integers(72, 320), font=st.integers(12, 20))
def test_a_failure_is_told_within_its_cell(reason: str, rows: int, columns: int, font: int) -> None:
    rect = whole(rows, columns)
    texts = cell_texts(point((0,), state="failed", reason=reason), rect, font)
    assert texts[0].lines == ("failed",)
    bottom = 0
    for text in texts:
        assert rect.intersect(text.rect) == text.rect
        assert text.rect.rows.start >= bottom
        assert text.size >= MIN_FONT
        assert all(text_width(line, text.size) <= text.rect.columns.size for line in text.lines)
        bottom = text.rect.rows.stop


# Drawn


def write_pictures(directory: Path, shown: Exhibition) -> dict[int, np.ndarray]:
    """Write a picture and a thumbnail for every finished point; return the colours by point."""
    colours = {}
    for number, one in enumerate(shown.points):
        if one.state != "done" or one.picture is None:
            continue
        colours[number] = np.asarray([(40 + 67 * number) % 200 + 40, (90 + 31 * number) % 200, (170 + 113 * number) % 256])
        path = directory / one.picture
        path.parent.mkdir(parents=True)
        image_of(np.full((*one.size, 3), colours[number], np.uint8)).pngsave(str(path))
        make_thumbnail(path.parent, path, 320)
    return colours


def opened(path: Path) -> np.ndarray:
    """Return the pixels of an RGB file."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def test_the_sheet_shows_every_picture_and_what_became_of_the_others(tmp_path: Path) -> None:
    shown = exhibition([axis("seed", range(3)), axis("step", range(3))], 0, 1, sizes=[(60, 80), (80, 60)])
    points = list(shown.points)
    points[2] = replace(points[2], state="failed", reason="there is no such layer", thumbnail=None)
    points[3] = replace(points[3], state="waiting", thumbnail=None)
    points[4] = replace(points[4], picture=None)
    shown = replace(shown, points=tuple(points))
    colours = write_pictures(tmp_path, shown)
    assert write_sheets(tmp_path, shown) == [tmp_path / "sheet.png"]
    sheet = opened(tmp_path / "sheet.png")
    (layout,) = lay_out(shown)
    assert sheet.shape[:2] == layout.shape
    for cell in layout.cells:
        pixels = sheet[slice(*cell.rect.rows), slice(*cell.rect.columns)]
        if cell.point in colours:
            wide, high = shown.points[cell.point].size[1] > 60, shown.points[cell.point].size[0] > 60
            right = np.abs(pixels - colours[cell.point]).max(-1) < 8
            assert right[80, 80]
            assert right.mean() == pytest.approx(0.75, abs=0.02)
            assert (right[80].all(), right[:, 80].all()) == (wide, high)
            assert (right == right[::-1, ::-1]).mean() > 0.97
            # In the middle, with nothing on the other sides.
            assert (pixels[[0, -1]] == GROUND).all() == wide
            assert (pixels[:, [0, -1]] == GROUND).all() == high
        else:
            assert (pixels[[0, -1]] == EMPTY).all()
            assert 0.004 < (pixels != EMPTY).any(-1).mean() < 0.3
    settings = read_settings(tmp_path / "sheet.png")
    assert settings["command"] == "make sweep conf=layers"
    failed, waiting = (sheet[slice(*layout.cells[n].rect.rows), slice(*layout.cells[n].rect.columns)] for n in (2, 3))
    assert (failed != waiting).any()
    assert (failed[..., 0] - failed[..., 1] > 60).any(), "in another colour"


def test_only_sheets_that_change_are_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = exhibition([axis("seed", range(2)), axis("step", range(3)), axis("scale", range(2))], 0, 1, sizes=[(60, 80)])
    write_pictures(tmp_path, shown)
    paths = write_sheets(tmp_path, shown)
    assert [path.name for path in paths] == ["sheet-1.png", "sheet-2.png"]
    before = [path.stat().st_mtime_ns for path in paths]
    assert write_sheets(tmp_path, shown) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    changed = tmp_path / "points" / "1-2-1"
    image_of(np.zeros((60, 80, 3), np.uint8)).pngsave(str(changed / "me.png"))
    make_thumbnail(changed, changed / "me.png", 320)
    write_sheets(tmp_path, shown)
    assert [path.stat().st_mtime_ns == stamp for path, stamp in zip(paths, before, strict=True)] == [True, False]
    monkeypatch.setattr(drawing, "__version__", "0.0.0")
    write_sheets(tmp_path, shown)
    assert paths[0].stat().st_mtime_ns != before[0]


def test_older_sheets_go_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    axes = [axis("seed", range(2)), axis("step", range(2)), axis("scale", range(3))]
    three = exhibition(axes, 0, 1)
    (tmp_path / "sheet-of-mine.png").write_bytes(b"mine")
    assert len(write_sheets(tmp_path, three)) == 3
    one = exhibition(axes[:2], 0, 1)
    assert write_sheets(tmp_path, one) == [tmp_path / "sheet.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet-of-mine.png", "sheet.png"]
    (tmp_path / "sheet-2.png").write_bytes(b"mine")
    write_sheets(tmp_path, one)
    assert "sheet-2.png is no contact sheet" in refusal(lambda: check_sheets(tmp_path))
    message = refusal(lambda: write_sheets(tmp_path, three))
    assert "sheet-2.png" in message
    assert "move it away" in message
    assert (tmp_path / "sheet-2.png").read_bytes() == b"mine"
    assert not (tmp_path / "sheet-1.png").exists()


@pytest.mark.parametrize("length", [0, 10, 40, 70])
def test_a_thumbnail_that_cannot_be_read_spoils_no_sheet(length: int, tmp_path: Path) -> None:
    shown = exhibition([axis("seed", range(2))], 0, sizes=[(60, 80)])
    write_pictures(tmp_path, shown)
    thumbnail = tmp_path / "points" / "1" / "thumbnail.webp"
    thumbnail.write_bytes(thumbnail.read_bytes()[:length])
    write_sheets(tmp_path, shown)
    sheet, (layout,) = opened(tmp_path / "sheet.png"), lay_out(shown)
    corners = [sheet[cell.rect.rows.start, cell.rect.columns.start].tolist() for cell in layout.cells]
    assert corners[1] == list(EMPTY)
    assert corners[0] != list(EMPTY)
