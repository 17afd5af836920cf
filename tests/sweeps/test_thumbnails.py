"""Small pictures of every format: the same colours, the right size, whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from render.canvas.image import CanvasImage
from render.canvas.store import CanvasStore, create
from render.config.formats import FORMATS
from render.config.schema import OutputConfig
from render.export.export import Style, export, write_zoom
from render.export.metadata import Metadata
from render.export.picture import image_of, write_picture
from render.export.profile import convert, read_profile
from render.job.targets import targets
from render.source.loaders import open_stream
from render.sweeps.rendering import thumbnails as module
from render.sweeps.rendering.thumbnails import make_thumbnail, shown_files
from tests.conftest import refusal

SHAPE = (420, 700)


def scene(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(rows, columns, 3) float32, smooth and of every hue, with fine stripes on the right whose mean is grey."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / np.asarray(shape)[:, None, None]
    pixels = np.stack([30 + 190 * columns, 220 - 180 * rows, 60 + 120 * rows * columns], -1)
    striped = columns > 0.75
    pixels[striped] = 230 * (np.arange(shape[1]) % 2)[np.newaxis, :, np.newaxis].repeat(shape[0], 0)[striped]
    return pixels.astype(np.float32)


def averaged(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the mean of each area that a pixel of a smaller picture covers; sizes must divide."""
    return pixels.reshape(rows, pixels.shape[0] // rows, columns, -1, 3).mean((1, 3))


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "WEBP"
        assert image.mode == "RGB"
        assert not image.info.get("icc_profile")
        return np.asarray(image, float)


def exported(directory: Path, form: str, pixels: np.ndarray) -> Path:
    """Write the canvas as a run exports it in a format."""
    create(directory / "canvas", pixels.shape[:2], "token")
    store = CanvasStore(directory / "canvas", mode="r+")
    store.write(store.rect, pixels)
    (target,) = targets(directory, "a [1] dream", OutputConfig(format=form))
    export(store, target.path, form, Style())
    return target.path


@pytest.mark.parametrize("form", [form.name for form in FORMATS.values() if form.is_read])
def test_a_picture_of_any_format_has_a_thumbnail(form: str, tmp_path: Path) -> None:
    picture = exported(tmp_path, form, scene())
    make_thumbnail(tmp_path, picture, 140)
    small = opened(tmp_path / "thumbnail.webp")
    assert small.shape == (84, 140, 3)
    # WebP keeps colours in half the resolution, so not at the border of the stripes.
    difference = np.abs(small - averaged(scene(), 84, 140))
    assert difference[:, :100].mean() < 3
    assert np.abs(small[:, 110:] - 115).mean() < 3, "stripes become their mean"
    is_large = form not in ("png", "jpeg", "webp")
    assert (tmp_path / "large.webp").exists() == is_large
    if is_large:
        assert opened(tmp_path / "large.webp").shape == (*SHAPE, 3), "nothing is enlarged"


def test_colours_are_those_that_the_file_means(tmp_path: Path) -> None:
    """Pictures for a press, for a wide screen, of 16 bits, grey, half transparent, lying on their side."""
    pixels = np.empty((60, 80, 3), np.uint8)
    pixels[:] = 200, 90, 60
    plain = image_of(pixels)
    sixteen = (plain.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    for name, form in (("cmyk", "tiff"), ("p3", "png")):
        profile = read_profile(name)
        write_picture(tmp_path / name, convert(sixteen, profile, 8), form, Metadata(profile=profile.icc))
    write_picture(tmp_path / "sixteen", sixteen, "png")
    plain[1].copy(interpretation="b-w").pngsave(str(tmp_path / "grey"))
    (plain.bandjoin(51)).pngsave(str(tmp_path / "transparent"))
    lying = plain.copy()
    lying.set_type(pyvips.GValue.gint_type, "orientation", 6)
    lying.jpegsave(str(tmp_path / "lying"), Q=95)
    tolerance = {"cmyk": 14}
    for name in ("cmyk", "p3", "sixteen", "grey", "transparent", "lying"):
        make_thumbnail(tmp_path, tmp_path / name, 40)
        small = opened(tmp_path / "thumbnail.webp")
        expected = {"grey": (90, 90, 90), "transparent": (244, 222, 216)}.get(name, (200, 90, 60))
        assert small.shape == ((40, 30, 3) if name == "lying" else (30, 40, 3))
        assert np.abs(small[15, 15] - expected).max() <= tolerance.get(name, 4), (name, small[15, 15])
        assert (tmp_path / "large.webp").exists() == (name == "cmyk")


def test_what_is_too_large_for_a_browser_has_a_large_one_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BROWSER_PIXELS", 10_000)
    monkeypatch.setattr(module, "MAX_LARGE_SIDE", 200)
    picture = exported(tmp_path, "png", scene())
    make_thumbnail(tmp_path, picture, 100)
    assert opened(tmp_path / "large.webp").shape == (120, 200, 3)
    assert opened(tmp_path / "thumbnail.webp").shape == (60, 100, 3)
    monkeypatch.undo()
    make_thumbnail(tmp_path, picture, 64)
    assert not (tmp_path / "large.webp").exists()
    assert opened(tmp_path / "thumbnail.webp").shape == (38, 64, 3)


def test_a_pyramid_is_read_from_the_level_that_serves(tmp_path: Path) -> None:
    picture = exported(tmp_path, "bigtiff", scene())
    flat = exported(tmp_path / "flat", "tiff", scene())
    for side, width in ((140, 175), (176, 350), (350, 350), (351, 700), (2560, 700)):
        assert module._level(picture, open_stream(picture), side).width == width
        assert module._level(flat, open_stream(flat), side).width == 700


@pytest.mark.parametrize("side", [40, 300, 1000])
def test_a_deep_zoom_picture_is_put_together_from_the_level_that_serves(side: int, tmp_path: Path) -> None:
    """Without seam or shift, although its tiles overlap."""
    rows, columns = np.mgrid[:600, :1000]
    waves = 128 + 50 * np.sin(rows / 5) + 50 * np.sin(columns / 4)
    pixels = np.stack([waves, waves, 255 - waves], -1).round().astype(np.uint8)
    (tmp_path / "me-zoom").mkdir()
    write_zoom(CanvasImage(image_of(pixels)), tmp_path / "me-zoom" / "dream", 95)
    read: list[str] = []
    monkey = pyvips.Source.new_from_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pyvips.Source, "new_from_file", lambda name: read.append(Path(os.fsdecode(name)).parent.name) or monkey(name)
        )
        level_image = module._zoom_level(tmp_path / "me-zoom", side)
    expected = image_of(pixels).thumbnail_image(side, height=side).numpy().astype(float)
    actual = level_image.numpy()
    assert actual.shape == expected.shape
    # Levels are halved again and again, so that what is finer than a pixel comes out another way.
    assert np.abs(actual - expected).max() < (20 if side == 40 else 10)
    assert set(read) == {{40: "6", 300: "9", 1000: "10"}[side]}


def test_what_cannot_be_read_is_said_in_a_line_and_what_was_there_stays(tmp_path: Path) -> None:
    picture = exported(tmp_path, "png", scene())
    make_thumbnail(tmp_path, picture, 64)
    before = (tmp_path / "thumbnail.webp").read_bytes()
    picture.write_bytes(picture.read_bytes()[:5000])
    assert "cannot be read" in refusal(lambda: make_thumbnail(tmp_path, picture, 64))
    assert "cannot be read" in refusal(lambda: make_thumbnail(tmp_path, tmp_path / "none.png", 64))
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png cannot be read" in refusal(lambda: make_thumbnail(tmp_path, tmp_path / "text.png", 64))
    assert "cannot be read" in refusal(lambda: make_thumbnail(tmp_path, tmp_path, 64))
    zarr = exported(tmp_path / "other", "zarr", scene())
    next(path for path in (zarr / "c").rglob("0") if path.is_file()).write_bytes(b"damage")
    assert "cannot be read" in refusal(lambda: make_thumbnail(tmp_path, zarr, 64))
    zoom = exported(tmp_path / "third", "dzi", scene())
    next((zoom / "dream_files" / "10").iterdir()).unlink()
    assert "cannot be read" in refusal(lambda: make_thumbnail(tmp_path, zoom, 64))
    assert (tmp_path / "thumbnail.webp").read_bytes() == before
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".render")]
    image_of(scene().astype(np.uint8)).pngsave(str(picture))
    (tmp_path / "file").touch()
    assert "cannot be written" in refusal(lambda: make_thumbnail(tmp_path / "file", picture, 64))


def test_names_are_those_of_what_there_is(tmp_path: Path) -> None:
    run = tmp_path / "points" / "eyes-1a2b"
    picture = exported(run, "png", scene())
    assert shown_files(run, picture) == ("points/eyes-1a2b/a [1] dream.png",) * 2 + (None, None)
    make_thumbnail(run, picture, 64)
    (run / "a [1] dream-zoom").mkdir()
    (run / "a [1] dream-zoom" / "index.html").touch()
    assert shown_files(run, picture)[2:] == (
        "points/eyes-1a2b/thumbnail.webp",
        "points/eyes-1a2b/a [1] dream-zoom/index.html",
    )
    assert shown_files(run, picture, run)[2] == "thumbnail.webp"
    assert shown_files(run, run / "gone.png") == (None, None, "points/eyes-1a2b/thumbnail.webp", None)
    other = tmp_path / "points" / "dogs-3c4d"
    print_file = exported(other, "tiff", scene())
    assert shown_files(other, print_file)[1] is None
    make_thumbnail(other, print_file, 64)
    assert shown_files(other, print_file)[1] == "points/dogs-3c4d/large.webp"
    third = tmp_path / "points" / "zoom-5e6f"
    zoom = exported(third, "dzi", scene())
    (zoom / "index.html").touch()
    make_thumbnail(third, zoom, 64)
    assert shown_files(third, zoom) == tuple(
        f"points/zoom-5e6f/{name}"
        for name in ("a [1] dream-zoom", "large.webp", "thumbnail.webp", "a [1] dream-zoom/index.html")
    )


def test_a_tiny_picture_takes_no_time(tmp_path: Path) -> None:
    picture = tmp_path / "tiny.png"
    write_picture(picture, image_of(scene((64, 64)).astype(np.uint8)), "png")
    took = []
    for _ in range(15):
        begun = time.perf_counter()
        make_thumbnail(tmp_path, picture, 320)
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.01, took  # others share these cores
