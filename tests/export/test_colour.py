"""Saturation and contrast of what is written, on real exports; the canvas itself stays what was dreamed."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import pyvips
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.errors import DamagedCheckpoint
from render.export.colour import ColourAdjustment, luma, measure_adjustment
from render.export.export import Style, export, export_panels
from render.export.metadata import Metadata, read_settings
from render.export.panels import cut_panels
from render.export.print_layout import PrintLayout
from render.export.profile import read_profile
from render.geometry.geometry import BAND
from tests.config.test_config import load
from tests.conftest import TINY
from tests.export.test_export import SHAPE, smooth, stored
from tests.export.test_picture import names
from tests.support.damage import damage

SMALL = (301, 407)
PERCENTILES = (0.5, 99.5)


def pale(shape: tuple[int, int]) -> np.ndarray:
    """A picture of little contrast and faint colours, whose stretched channels hardly leave 0..255."""
    pixels = smooth(shape)
    grey = pixels.mean(axis=2, keepdims=True)
    return (90 + 0.25 * grey + 0.03 * (pixels - grey)).astype(np.float32)


def written(path: Path) -> np.ndarray:
    return pyvips.Image.new_from_file(str(path)).numpy()


@pytest.fixture(scope="module", params=[SMALL, SHAPE], ids=["at once", "chunk by chunk"])
def canvas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CanvasStore:
    assert (SMALL[0] * SMALL[1] <= BAND) and (SHAPE[0] * SHAPE[1] > BAND)
    return stored(tmp_path_factory.mktemp("canvas") / "a", pale(request.param))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("percentiles", [PERCENTILES, (2.0, 90.0)])
@pytest.mark.parametrize("saturation", [0.0, 1.0])
def test_the_percentiles_of_the_written_picture_are_black_and_white(
    saturation: float, percentiles: tuple[float, float], bits: int, canvas: CanvasStore, tmp_path: Path
) -> None:
    colour = measure_adjustment(canvas, saturation, percentiles)
    exact = luma(canvas.read(canvas.rect))
    assert np.percentile(exact, percentiles) == pytest.approx((colour.black, colour.white), abs=0.01)
    export(canvas, tmp_path / "out.png", "png", Style(bits, colour=colour))
    pixels = (written(tmp_path / "out.png") / (1 if bits == 8 else 257)).astype(np.float32)
    actual = luma(pixels)
    # A channel that leaves 0..255 is cut off, so where there is colour luma comes a little short of the ends.
    short = 0.1 if saturation == 0 else 8
    assert np.percentile(actual, percentiles) == pytest.approx((0, 255), abs=short)
    # In between, it is the line from black to white.
    reference = (exact - colour.black) / (colour.white - colour.black) * 255
    inside = ((pixels > 0) & (pixels < 255)).all(axis=2)
    assert inside.mean() > 0.75
    assert np.abs(actual - reference)[inside].max() < (0.6 if bits == 8 else 0.02)


def test_contrast_keeps_the_hue(canvas: CanvasStore, tmp_path: Path) -> None:
    before = canvas.read(canvas.rect)
    export(canvas, tmp_path / "out.png", "png", Style(16, colour=measure_adjustment(canvas, 1.0, PERCENTILES)))
    after = written(tmp_path / "out.png") / 65535
    inside = np.flatnonzero(((after > 0) & (after < 1)).all(axis=2) & (np.ptp(after, axis=2) > 0.01))
    assert len(inside) > 1000
    for at in inside[:: len(inside) // 300]:
        hue, *_ = colorsys.rgb_to_hsv(*(before.reshape(-1, 3)[at] / 255).tolist())
        hue_after, *_ = colorsys.rgb_to_hsv(*after.reshape(-1, 3)[at].tolist())
        assert abs((hue_after - hue + 0.5) % 1 - 0.5) < 0.002


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff", "bigtiff", "dzi"])
def test_every_format_has_the_colours(form: str, canvas: CanvasStore, tmp_path: Path) -> None:
    """Grey and stretched: its levels are those asked for, and its channels are alike."""
    colour = measure_adjustment(canvas, 0.0, PERCENTILES)
    export(canvas, tmp_path / "out", form, Style(colour=colour))
    # Of a deep zoom page, its largest level: one tile of it here.
    path = max((tmp_path / "out").glob("dream_files/*/1_0.jpg"), key=lambda tile: int(tile.parent.name), default=None)
    with Image.open(path or tmp_path / "out") as read:
        actual = np.asarray(read, float)
    assert np.ptp(actual, axis=2).max() <= (0 if form not in ("jpeg", "webp", "dzi") else 3)
    reference = to_integers(colour(canvas.read(canvas.rect)), 8)
    if path is not None:
        reference = reference[: actual.shape[0], 253 : 253 + actual.shape[1]]
    assert np.abs(actual - reference).mean() < 2
    assert reference.std() > 15, "three times what the canvas has"


@pytest.mark.parametrize("bits", [8, 16])
def test_no_saturation_is_grey_of_the_same_luma(bits: int, canvas: CanvasStore, tmp_path: Path) -> None:
    export(canvas, tmp_path / "out.tif", "tiff", Style(bits, colour=ColourAdjustment(0.0)))
    actual = written(tmp_path / "out.tif")
    assert (np.ptp(actual, axis=2) == 0).all()
    exact = luma(canvas.read(canvas.rect)) * (1 if bits == 8 else 257)
    assert np.abs(actual[..., 0] - exact).max() < 0.6


def test_saturation_multiplies_what_tells_a_pixel_from_grey(canvas: CanvasStore, tmp_path: Path) -> None:
    export(canvas, tmp_path / "out.tif", "tiff", Style(16, colour=ColourAdjustment(2.5)))
    before, after = canvas.read(canvas.rect), (written(tmp_path / "out.tif") / 257).astype(np.float32)
    assert after.max() < 255, "nothing was cut off"
    np.testing.assert_allclose(luma(after), luma(before), atol=0.02)
    np.testing.assert_allclose(after - luma(after)[..., None], 2.5 * (before - luma(before)[..., None]), atol=0.02)


def test_colours_as_dreamed_are_the_same_bytes(canvas: CanvasStore, tmp_path: Path) -> None:
    for bits in (8, 16):
        export(canvas, tmp_path / "a", "png", Style(bits))
        export(canvas, tmp_path / "b", "png", Style(bits, colour=measure_adjustment(canvas, 1.0, None)))
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        np.testing.assert_array_equal(written(tmp_path / "a"), to_integers(canvas.read(canvas.rect), bits))


@given(
    arrays.arrays(np.float32, (5, 8, 3), elements=st.floats(0, 255, width=32)),
    st.floats(0, 5),
    st.floats(0, 100),
    st.floats(120, 255),
    st.integers(0, 4),
    st.integers(0, 7),
)
def test_a_pixels_colour_depends_on_no_other(pixels, saturation, black, white, row: int, column: int) -> None:
    colour = ColourAdjustment(saturation, black, white)
    part = slice(row, row + 1), slice(column, column + 1)
    np.testing.assert_array_equal(colour(pixels[part]), colour(pixels)[part])
    # Before it is cut off, luma is where contrast alone puts it, whatever the saturation.
    line = (luma(pixels) - black) / (white - black) * 255
    np.testing.assert_allclose(luma(colour(pixels)), line, atol=0.05)


def test_a_flat_canvas_stays_as_it_is(tmp_path: Path) -> None:
    """Nothing to stretch, and nothing to divide by; also where all but a few pixels are of one level."""
    pixels = np.full((64, 80, 3), (200.3, 30.2, 90.1), np.float32)
    for number in range(2):
        pixels[:number, :3] = 250
        canvas = stored(tmp_path / f"{number}", pixels)
        assert measure_adjustment(canvas, 1.0, PERCENTILES) == ColourAdjustment()
        export(canvas, tmp_path / "out.png", "png", Style(colour=measure_adjustment(canvas, 1.0, PERCENTILES)))
        np.testing.assert_array_equal(written(tmp_path / "out.png"), to_integers(pixels, 8))
    assert measure_adjustment(canvas, 0.5, (0.0, 100.0)).white == pytest.approx(250, abs=0.01)
    for level in (0, 255):
        assert (
            measure_adjustment(stored(tmp_path / f"level {level}", np.full((9, 9, 3), level, np.float32)), 1.0, (0, 100))
            == ColourAdjustment()
        )


def test_percentiles_are_of_the_whole_canvas_and_not_of_its_parts(tmp_path: Path) -> None:
    """Dark above and bright below, more than is read at once."""
    pixels = np.full((1600, 1500, 3), 60, np.float32)
    pixels[1280:] = 160
    canvas = stored(tmp_path / "a", pixels)
    colour = measure_adjustment(canvas, 1.0, (10, 90))
    assert (colour.black, colour.white) == pytest.approx((60, 160))
    # A fifth of it is bright.
    assert measure_adjustment(canvas, 1.0, (10, 79)) == ColourAdjustment()
    assert measure_adjustment(canvas, 1.0, (10, 81)) == colour


def test_panels_put_together_are_the_print_in_its_colours(tmp_path: Path) -> None:
    """Percentiles of the whole print, not of each panel, and the map shows the same."""
    canvas = stored(tmp_path / "a", pale(SMALL))
    colour = measure_adjustment(canvas, 1.6, PERCENTILES)
    panels = cut_panels(SMALL, 100.0, width_cm=5, height_cm=4, overlap_mm=5)
    assert len(panels.panels) > 3
    style = Style(16, colour=colour, metadata=Metadata({}, dpi=100))
    export_panels(canvas, tmp_path / "p", "tiff", style, panels, PrintLayout(canvas=SMALL, tiles=SMALL))
    whole = np.full((*SMALL, 3), -1, int)
    for panel in panels.panels:
        whole[slice(*panel.rect.rows), slice(*panel.rect.columns)] = written(tmp_path / "p" / f"{panel.name}.tif")
    np.testing.assert_array_equal(whole, to_integers(colour(canvas.read(canvas.rect)), 16))
    with Image.open(tmp_path / "p" / "map.png") as read:
        shown = np.asarray(read.convert("L"), float)
    assert np.percentile(shown, 80) - np.percentile(shown, 20) > 60, "a map of the pale canvas would have little"


def test_profiles_are_of_the_shown_colours(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "a", pale(SMALL))
    export(canvas, tmp_path / "out.tif", "tiff", Style(colour=ColourAdjustment(0.0), profile=read_profile("p3")))
    assert np.ptp(written(tmp_path / "out.tif").astype(int), axis=2).max() <= 1, "grey is grey there, too"


def test_zarr_is_the_canvas_as_it_was_dreamed(canvas: CanvasStore, tmp_path: Path) -> None:
    settings = {"seed": 3, "output": {"dpi": 100, "saturation": 0.0, "contrast": [1, 99]}}
    export(
        canvas, tmp_path / "out.zarr", "zarr", Style(colour=ColourAdjustment(0.0, 100, 120), metadata=Metadata(settings))
    )
    array = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    np.testing.assert_array_equal(array[:], canvas.read(canvas.rect))
    assert array.attrs["settings"] == {"seed": 3, "output": {"dpi": 100}}


def test_a_damaged_chunk_is_noticed_while_luma_is_measured(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "a", pale(SMALL))
    chunk = tmp_path / "a" / "c" / "0" / "0" / "0"
    damage(chunk)
    with pytest.raises(DamagedCheckpoint, match="damaged chunk"):
        measure_adjustment(canvas, 1.0, PERCENTILES)


# The command


def test_colours_are_of_the_picture_and_not_of_the_canvas() -> None:
    plain, strong = load(), load("output.saturation=1.5", "output.contrast=[0.5,99.5]")
    assert (plain.output.saturation, plain.output.contrast) == (1, None)
    assert (strong.output.saturation, strong.output.contrast) == (1.5, [0.5, 99.5])
    assert strong.canvas_settings() == plain.canvas_settings()
    assert strong.picture_settings()["output"]["contrast"] == [0.5, 99.5]


def test_a_run_is_exported_in_other_colours_without_dreaming(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run", "output.dither=false").code == 0
    (stored_at,) = (tmp_path / "run" / "canvas").glob("*/zarr.json")
    canvas = CanvasStore(stored_at.parent)
    pixels = canvas.read(canvas.rect)
    log = (tmp_path / "run" / "render.log").read_text().count("mean|g|")
    before = (tmp_path / "run" / "preview.png").read_bytes()
    np.testing.assert_array_equal(written(tmp_path / "run" / "preview.png"), to_integers(pixels, 8))

    reference = ("output.contrast=[0.5,99.5]", "output.saturation=0", "output.also=[zarr]")
    result = command("export", "run=run", "output.format=png", *reference)
    assert result.code == 0, result.err
    shown = to_integers(measure_adjustment(canvas, 0.0, PERCENTILES)(pixels), 8)
    np.testing.assert_array_equal(written(tmp_path / "run" / "preview.png"), shown)
    settings = read_settings(tmp_path / "run" / "preview.png")["output"]
    assert (settings["contrast"], settings["saturation"]) == ([0.5, 99.5], 0)
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "run" / "preview.zarr"), mode="r")[:], pixels)
    assert (tmp_path / "run" / "render.log").read_text().count("mean|g|") == log
    # Once more it is there; and as dreamed it is, byte for byte, what it was.
    assert "writing" not in command("export", "run=run", "output.format=png", *reference).out
    assert command("export", "run=run").code == 0
    assert (tmp_path / "run" / "preview.png").read_bytes() == before
    assert {"preview.png", "preview.zarr"} <= set(names(tmp_path / "run"))
    command("export", "run=run", "output.contrast=[99,1]").refused("output.contrast=[99", "percentiles")
