"""Pictures of 8 bits without bands: by position alone, in every format, and only where a run is not older than that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from render.canvas.image import to_integers
from render.export.dither import PERIOD, thresholds
from render.export.export import Style, export, export_panels
from render.export.metadata import Metadata, read_settings
from render.export.panels import cut_panels
from render.export.print_layout import PrintLayout
from render.export.profile import read_profile
from tests.conftest import TINY
from tests.export.test_colour import written
from tests.export.test_export import SHAPE, stored

DITHERED = Style(dither=True)


def ramp(shape: tuple[int, int], start: float = 100.0, end: float = 103.0) -> np.ndarray:
    """A canvas that brightens by a few levels from left to right: three bands if it is only rounded."""
    line = np.linspace(start, end, shape[1], dtype=np.float32)
    return np.broadcast_to(line[None, :, None], (*shape, 3)).copy()


def band_error(picture: np.ndarray, pixels: np.ndarray) -> float:
    """The largest error, in levels, of the mean of strips that are 1/24 of the width."""
    difference = picture.astype(np.float64) - pixels
    return max(abs(float(strip.mean())) for strip in np.array_split(difference, 24, axis=1))


def test_a_ramp_has_no_bands_and_keeps_its_mean(tmp_path: Path) -> None:
    pixels = ramp(SHAPE)
    canvas = stored(tmp_path / "a", pixels)
    export(canvas, tmp_path / "plain.png", "png", Style())
    export(canvas, tmp_path / "dithered.png", "png", DITHERED)
    plain, dithered = (written(tmp_path / name) for name in ("plain.png", "dithered.png"))
    assert band_error(plain, pixels) > 0.4
    assert band_error(dithered, pixels) < 0.02
    assert abs(float((dithered - pixels).mean())) < 0.002
    assert np.abs(dithered - pixels).max() < 1


def test_whole_levels_stay_as_they_are(tmp_path: Path) -> None:
    """What was not dreamed comes back bit for bit."""
    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.float32)
    export(stored(tmp_path / "a", pixels), tmp_path / "out.png", "png", DITHERED)
    np.testing.assert_array_equal(written(tmp_path / "out.png"), pixels)


def test_thresholds_are_spread_evenly_and_apart_in_every_channel() -> None:
    for channels in (1, 3, 4):
        square = thresholds(channels)
        assert square.shape == (PERIOD, PERIOD, channels)
        counts = np.bincount(square.ravel(), minlength=257)
        assert len(counts) == 257
        assert counts.std() < 1.1 * np.sqrt(counts.mean()), "as chance has it"
    numbers = thresholds(4).reshape(-1, 4).astype(float)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.005
    for step in ((0, 1), (1, 0), (1, 1), (8, 0), (512, 512)):
        moved = np.roll(thresholds(1), step, (0, 1))
        assert abs(np.corrcoef(moved.ravel(), thresholds(1).ravel())[0, 1]) < 0.005


@pytest.mark.parametrize("profile", ["srgb", "p3"])
def test_every_format_and_every_panel_has_the_same_pixels(profile: str, tmp_path: Path) -> None:
    """Whichever strips and tiles it is written in, and more pixels than the thresholds' period."""
    assert SHAPE[0] > PERIOD
    canvas = stored(tmp_path / "a", ramp(SHAPE))
    style = Style(dither=True, profile=read_profile(profile), metadata=Metadata({}, dpi=100))
    for form in ("png", "tiff", "bigtiff"):
        export(canvas, tmp_path / f"out.{form}", form, style)
    export(canvas, tmp_path / "again.tiff", "tiff", style)
    assert (tmp_path / "out.tiff").read_bytes() == (tmp_path / "again.tiff").read_bytes()
    whole = written(tmp_path / "out.png")
    assert (whole.dtype, len(np.unique(whole[..., 0])) > 2) == (np.uint8, True)
    for form in ("tiff", "bigtiff"):
        np.testing.assert_array_equal(written(tmp_path / f"out.{form}"), whole)
    panels = cut_panels(SHAPE, 100.0, width_cm=20, height_cm=20, overlap_mm=5)
    export_panels(canvas, tmp_path / "p", "tiff", style, panels, PrintLayout(canvas=SHAPE, tiles=SHAPE))
    for panel in panels.panels:
        part = whole[slice(*panel.rect.rows), slice(*panel.rect.columns)]
        np.testing.assert_array_equal(written(tmp_path / "p" / f"{panel.name}.tif"), part)


def test_a_press_picture_is_dithered_in_its_inks(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "a", ramp((240, 1400), 120, 124))
    fine, press = tmp_path / "fine.tif", read_profile("cmyk")
    export(canvas, fine, "tiff", Style(16, profile=press))
    inks = pyvips.Image.new_from_file(str(fine)).numpy() / 257
    for dither, is_close in ((False, False), (True, True)):
        export(canvas, tmp_path / "out.tif", "tiff", Style(profile=press, dither=dither))
        with Image.open(tmp_path / "out.tif") as read:
            assert read.mode == "CMYK"
            assert (band_error(np.asarray(read), inks) < 0.05) == is_close


def test_sixteen_bits_are_not_dithered(tmp_path: Path) -> None:
    canvas = stored(tmp_path / "a", ramp((200, 300)))
    for number, style in enumerate((Style(16), Style(16, dither=True))):
        export(canvas, tmp_path / f"{number}.png", "png", style)
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_a_run_is_dithered_unless_it_is_older_than_the_key(command, tmp_path: Path) -> None:
    """An older run keeps the bytes of its pictures, whichever command makes or exports them."""
    assert command(*TINY, "output.dir=run").code == 0
    picture = tmp_path / "run" / "preview.png"
    dithered = picture.read_bytes()
    assert read_settings(picture)["output"]["dither"] is True
    assert command(*TINY, "output.dir=plain", "output.dither=false").code == 0
    plain = written(tmp_path / "plain" / "preview.png").astype(int)
    assert 0 < np.abs(written(picture) - plain).max() <= 1
    assert "writing" not in command(*TINY, "output.dir=run").out

    # As an older version would have left it.
    assert command("export", "run=run", "output.dither=false").code == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    for key in ("dither", "intent"):
        del record["config"]["output"][key]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    command("export", "run=run", "output.path=older.png")
    np.testing.assert_array_equal(written(tmp_path / "older.png"), plain)
    assert "dither" not in read_settings(tmp_path / "older.png")["output"]
    command("export", "run=run", "output.path=newer.png", "output.dither=true")
    assert (tmp_path / "newer.png").read_bytes() == dithered
    command("export", "run=run", "output.dither=often").refused("output.dither=often: must be auto, true or false")


def test_rounding_is_as_it_was_without(tmp_path: Path) -> None:
    pixels = ramp((200, 300))
    export(stored(tmp_path / "a", pixels), tmp_path / "out.png", "png", Style())
    np.testing.assert_array_equal(written(tmp_path / "out.png"), to_integers(pixels, 8))
