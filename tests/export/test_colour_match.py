"""Colours of pictures brought to those of the source or of another picture; the canvas stays what was dreamed."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.config.compose import load_config
from render.export import colour_match
from render.export.colour import ColourAdjustment, measure_adjustment
from render.export.colour_match import ColourStatistics, colour_map, measure_canvas, measure_pixels
from render.export.export import Style, export, export_panels
from render.export.metadata import Metadata, read_settings
from render.export.panels import cut_panels
from render.export.print_layout import PrintLayout
from render.geometry.geometry import whole
from render.job.job import draft
from render.job.reexport import export_run
from render.source import source as sources
from render.source.source import sample_path
from render.system.paths import file_sha256
from tests.conftest import TINY, refusal
from tests.export.test_colour import SMALL, pale, written
from tests.export.test_export import SHAPE, stored

COFFEE = np.asarray(Image.open(sample_path("coffee")).convert("RGB"), np.float32)


def moments(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance by NumPy's own functions."""
    flat = pixels.reshape(-1, 3).astype(float)
    return flat.mean(0), np.cov(flat.T, bias=True)


@pytest.mark.parametrize("shape", [SMALL, SHAPE], ids=["at once", "strip by strip"])
def test_the_statistics_are_those_of_the_whole_canvas(shape: tuple[int, int], tmp_path: Path) -> None:
    pixels = pale(shape)
    pixels[shape[0] // 2 :] += 40
    statistics = measure_canvas(stored(tmp_path / "a", pixels))
    mean, covariance = moments(pixels)
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(statistics.covariance, covariance, rtol=1e-4, atol=1e-3)


def test_a_large_canvas_is_measured_as_its_small_image(tmp_path: Path) -> None:
    """Squares lie where they lie in the whole, though strips are read; what is left over at the ends is dropped."""
    pixels = pale((1100, 1531))
    canvas = stored(tmp_path / "a", pixels)
    with mock.patch.object(colour_match, "MAX_SIDE", 200):
        assert colour_match.shrink_factor(canvas.shape) == 8
        rows, columns = colour_match.measured_shape(canvas.shape)
        statistics = measure_canvas(canvas)
    small = pixels[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8, 3).mean((1, 3))
    mean, covariance = moments(small)
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(statistics.covariance, covariance, rtol=1e-3, atol=1e-2)


@given(st.integers(0, 2**32 - 1))
def test_the_map_gives_mean_and_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, reference = (
        (rng.uniform(60, 190, 3) + rng.normal(size=(50, 60, 3)) @ rng.normal(0, 12, (3, 3))).astype(np.float32)
        for _ in range(2)
    )
    mapped = colour_map(measure_pixels(pixels), measure_pixels(reference))
    matrix = np.asarray(mapped.matrix)
    # Symmetric, with no negative stretch: no hue is turned round, and black and white are not exchanged.
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9
    np.testing.assert_allclose(moments(mapped(pixels))[0], moments(reference)[0], atol=0.01)
    if np.linalg.eigvalsh(matrix).max() < 3.99:
        np.testing.assert_allclose(moments(mapped(pixels))[1], moments(reference)[1], rtol=0.01, atol=0.5)


def test_a_picture_matched_with_itself_is_itself() -> None:
    pixels = pale(SMALL)
    statistics = measure_pixels(pixels)
    np.testing.assert_allclose(colour_map(statistics, statistics)(pixels), pixels, atol=1e-2)


@pytest.mark.parametrize("kind", ["flat", "grey", "two colours"])
def test_what_has_no_colour_gets_no_noise(kind: str) -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((40, 50, 3), 90, np.float32)
    if kind == "grey":
        pixels += rng.normal(0, 20, (40, 50, 1)).astype(np.float32)
    elif kind == "two colours":
        pixels[:20] = (200, 40, 90)
    mapped = colour_map(measure_pixels(pixels), measure_pixels(COFFEE))(pixels)
    assert np.isfinite(mapped).all()
    np.testing.assert_allclose(mapped.mean((0, 1)), COFFEE.mean((0, 1)), atol=0.05)
    # Equal pixels stay equal, and nothing is spread more than fourfold.
    assert np.ptp(mapped, axis=(0, 1)).max() <= 4.01 * np.linalg.norm(np.ptp(pixels, axis=(0, 1))) + 0.1
    flat = measure_pixels(np.full((4, 4, 3), 30, np.float32))
    np.testing.assert_allclose(colour_map(measure_pixels(COFFEE), flat)(COFFEE), 30, atol=0.1)


@pytest.fixture(scope="module")
def canvas(tmp_path_factory: pytest.TempPathFactory) -> CanvasStore:
    return stored(tmp_path_factory.mktemp("canvas") / "a", pale(SMALL))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("form", ["png", "tiff", "bigtiff", "jpeg", "webp"])
def test_the_written_picture_has_the_colours_of_the_reference(
    form: str, bits: int, canvas: CanvasStore, tmp_path: Path
) -> None:
    if bits == 16 and form in ("jpeg", "webp"):
        pytest.skip("holds 8 bits")
    reference = measure_pixels(COFFEE)
    colour = ColourAdjustment(match=colour_map(measure_canvas(canvas), reference))
    export(canvas, tmp_path / "out", form, Style(bits, colour=colour))
    shown = colour(canvas.read(canvas.rect))
    if form in ("jpeg", "webp"):
        with Image.open(tmp_path / "out") as picture:
            assert np.abs(np.asarray(picture, float) - np.clip(shown, 0, 255)).mean() < 3
    else:
        np.testing.assert_array_equal(written(tmp_path / "out"), to_integers(shown, bits))
    np.testing.assert_allclose(moments(shown)[0], reference.mean, atol=0.01)


def test_panels_are_matched_as_the_whole_print(canvas: CanvasStore, tmp_path: Path) -> None:
    colour = ColourAdjustment(match=colour_map(measure_canvas(canvas), measure_pixels(COFFEE)))
    panels = cut_panels(SMALL, 100.0, width_cm=5, height_cm=4, overlap_mm=5)
    style = Style(16, colour=colour, metadata=Metadata({}, dpi=100))
    export_panels(canvas, tmp_path / "p", "tiff", style, panels, PrintLayout(canvas=SMALL, tiles=SMALL))
    whole = np.full((*SMALL, 3), -1, int)
    for panel in panels.panels:
        whole[slice(*panel.rect.rows), slice(*panel.rect.columns)] = written(tmp_path / "p" / f"{panel.name}.tif")
    np.testing.assert_array_equal(whole, to_integers(colour(canvas.read(canvas.rect)), 16))


def test_contrast_is_measured_of_the_matched_colours(canvas: CanvasStore) -> None:
    match = colour_map(measure_canvas(canvas), measure_pixels(COFFEE))
    both = measure_adjustment(canvas, 0.5, (5, 95), match)
    assert both.match == match
    luma = match(canvas.read(canvas.rect)) @ np.array([0.2126, 0.7152, 0.0722])
    assert np.percentile(np.clip(luma, 0, 255), (5, 95)) == pytest.approx((both.black, both.white), abs=0.05)


def test_statistics_are_plain_numbers() -> None:
    statistics = measure_pixels(pale((5, 6)))
    assert isinstance(statistics, ColourStatistics)
    assert json.loads(json.dumps([statistics.mean, statistics.covariance]))


def test_a_source_larger_than_memory_is_measured_alike(tmp_path: Path) -> None:
    """And noise, which has no size of its own; cropped as the canvas shows it."""
    shape = (120, 160)
    for image in ("sample:chelsea", "noise"):
        words = [*TINY, f"image={image}", "output.match=source", "output.width=160", "output.height=120"]
        config = load_config("preview", words)
        resolved = draft(config).resolved
        assert resolved.reference is not None
        statistics = resolved.reference.measure(shape)
        expected = measure_pixels(resolved.source.at(shape, whole(*shape)))
        assert statistics == expected
        with mock.patch.object(sources, "MAX_IN_MEMORY_PX", 1000):
            streamed = resolved.reference.measure(shape)
        np.testing.assert_allclose(streamed.mean, expected.mean, atol=0.5)
        np.testing.assert_allclose(streamed.covariance, expected.covariance, rtol=0.05, atol=5)


# The command


def canvas_of(run: Path) -> np.ndarray:
    (place,) = (run / "canvas").glob("*/zarr.json")
    store = CanvasStore(place.parent)
    return store.read(store.rect)


def test_a_run_is_matched_with_its_source_and_with_a_picture(command, tmp_path: Path) -> None:
    """While it is made, and again without dreaming; zarr is the canvas, and the canvas is the same."""
    done = command(*TINY, "output.dir=run", "output.match=source", "output.also=[zarr]")
    assert done.code == 0, done.err
    pixels = canvas_of(tmp_path / "run")
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "run" / "preview.zarr"), mode="r")[:], pixels)
    matched = written(tmp_path / "run" / "preview.png").astype(float)
    with Image.open(sample_path("chelsea")) as picture:
        cat = np.asarray(picture.convert("RGB").resize(matched.shape[1::-1]), float)
    np.testing.assert_allclose(matched.mean((0, 1)), cat.mean((0, 1)), atol=2)
    np.testing.assert_allclose(moments(matched)[1], moments(cat)[1], rtol=0.1)
    assert read_settings(tmp_path / "run" / "preview.png")["output"]["match"] == "source"
    before = (tmp_path / "run" / "preview.png").read_bytes()
    log = (tmp_path / "run" / "render.log").read_text().count("mean|g|")

    result = command("export", "run=run", "output.match=sample:coffee", "output.path=coffee.png")
    assert result.code == 0, result.err
    assert "output.match" in result.out
    shown = written(tmp_path / "coffee.png").astype(float)
    np.testing.assert_allclose(shown.mean((0, 1)), COFFEE.mean((0, 1)), atol=8)
    settings = read_settings(tmp_path / "coffee.png")
    assert len(settings["match_sha256"]) == 64
    # The same words again find the picture as it is; without a match it is as dreamed.
    assert command("export", "run=run", "output.match=source", "output.path=again.png").code == 0
    assert (tmp_path / "again.png").read_bytes() == before
    assert command("export", "run=run", "output.match=null", "output.path=plain.png", "output.dither=false").code == 0
    np.testing.assert_array_equal(written(tmp_path / "plain.png"), to_integers(pixels, 8))
    assert "match" not in read_settings(tmp_path / "plain.png")["output"]
    assert (tmp_path / "run" / "render.log").read_text().count("mean|g|") == log
    np.testing.assert_array_equal(canvas_of(tmp_path / "run"), pixels)
    check_refusals(tmp_path)


def check_refusals(tmp_path: Path) -> None:
    """Each in one line, before anything is dreamed or written."""
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "directory").mkdir()
    Image.new("RGB", (3000, 2000)).save(tmp_path / "huge.png")
    other = tmp_path / "other"
    for value, *words in (
        (tmp_path / "none.png", "does not exist", "source, a path or sample:NAME"),
        (tmp_path / "text.png", "no whole PNG, JPEG, WebP or TIFF picture"),
        (tmp_path / "directory", "is a directory"),
        ("sample:cofee", "sample:coffee"),
        ("noise", "does not exist"),
    ):
        exported = refusal(lambda value=value: export_run(tmp_path / "run", [f"output.match={value}"], print))
        drafted = refusal(
            lambda value=value: draft(load_config("preview", [*TINY, f"output.dir={other}", f"output.match={value}"]))
        )
        for message in (exported, drafted):
            assert message.startswith("output.match") and "\n" not in message
            assert all(word in message for word in words)
    # The picture to match is not what is written.
    words = [f"output.match={tmp_path}/huge.png", f"output.path={tmp_path}/huge.png", "overwrite=true"]
    assert "is the output.match itself" in refusal(lambda words=words: export_run(tmp_path / "run", words, print))
    directory = draft(load_config("preview", [*TINY, f"output.dir={other}", *words])).resolved.directory
    assert "is the output.match itself" in refusal(directory.check)
    words = [*TINY, f"output.match={tmp_path}/huge.png", "source.max_megapixels=5"]
    assert "over the limit source.max_megapixels=5" in refusal(lambda: draft(load_config("preview", words)))
    assert not other.exists()
    # The source that is gone, and one that has become another picture.
    record_path = tmp_path / "run" / "run.json"
    record = json.loads(record_path.read_text())
    for image in ("/nowhere/cat.png", "sample:coffee", "s3://theirs/cat.png"):
        record["config"]["image"] = image
        record_path.write_text(json.dumps(record))
        words = ["output.match=source", f"output.path={tmp_path}/gone.png"]
        assert "is gone or has changed" in refusal(lambda words=words: export_run(tmp_path / "run", words, print))
    # A picture that only the record names is not read, unless it is the one that the run used.
    record["config"]["output"]["match"] = str(tmp_path / "coffee.png")
    record_path.write_text(json.dumps(record))
    words = [f"output.path={tmp_path}/theirs.png"]
    assert "not read unasked" in refusal(lambda: export_run(tmp_path / "run", words, print))
    record["match_sha256"] = file_sha256(tmp_path / "coffee.png")
    record_path.write_text(json.dumps(record))
    assert export_run(tmp_path / "run", words, print)
    assert not (tmp_path / "gone.png").exists()
