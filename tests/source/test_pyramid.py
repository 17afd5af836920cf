"""Sources larger than memory: levels that agree with the photo in memory, whole or not there, the same in any order."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from render.config.compose import load_config
from render.config.schema import OutputConfig, SourceConfig
from render.dreaming.resample import Pixels
from render.errors import UserError
from render.farm.events import Event, OctaveStarted, Saved
from render.geometry.geometry import BOUNDARY_MODES, Interval, Rect, whole
from render.job import job as jobs
from render.planning.layout import lay_out
from render.source import levels
from render.source import source as source_module
from render.source.photo import PhotoSource
from render.source.pyramid import PyramidSource
from render.source.sampling import Sampling
from render.source.source import open_source, sample_path
from render.source.streaming import open_shrunk
from tests.conftest import INLINE, ROOT
from tests.farm.test_checkpoint import free, small_disk
from tests.source.test_source import LOSSLESS, chunk, encode_png, p3_profile, random_pixels
from tests.support.farm_job import stored

GREENISH = SourceConfig(background=[10, 200, 30])
#: Octaves of the same picture, made from levels 1, 1, 2, 2, 4 and 8.
SCALES = (1.0, 0.7, 0.5, 0.31, 0.16, 0.1)


@pytest.fixture(autouse=True, scope="module")
def nobody_waits_for_the_disk() -> Iterator[None]:
    """No power fails here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def photo(height: int = 601, width: int = 443) -> np.ndarray:
    """A smooth uint8 picture of soft waves, of sides that no shrinking divides."""
    rows, columns = np.mgrid[0:1:height * 1j, 0:1:width * 1j]  # fmt: skip
    channels = [
        0.5 + 0.45 * np.sin(9 * rows + 4 * columns),
        0.5 + 0.45 * np.cos(7 * columns - 3 * rows),
        0.2 + 0.6 * rows * columns,
    ]
    return np.rint(255 * np.stack(channels, -1)).astype(np.uint8)


def both(path: Path, source_config: SourceConfig | None = None) -> tuple[PhotoSource, PyramidSource]:
    """The file as it is held in memory, and as levels."""
    source_config = source_config or SourceConfig()
    small = open_source(str(path), 0, source_config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "MAX_IN_MEMORY_PX", 0)
        large = open_source(str(path), 0, source_config)
    assert isinstance(small, PhotoSource)
    assert isinstance(large, PyramidSource)
    assert (small.size, small.sha256) == (large.size, large.sha256)
    return small, large.laid_out(None, path.parent / "source")


def octave(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def at(source: PhotoSource | PyramidSource, shape: tuple[int, int]) -> Pixels:
    source.prepare(shape)
    return source.at(shape, whole(*shape))


def agree(path: Path, source_config: SourceConfig | None = None, *, largest: float = 1.5, mean: float = 0.5) -> None:
    """The same picture at every octave: to `largest` levels of 255 but for one pixel in 200, to `mean` levels in the mean,
    no colour shifted by more than a quarter of a level in all.
    """
    small, large = both(path, source_config)
    for scale in SCALES:
        shape = octave(small.size, scale)
        difference = at(large, shape) - at(small, shape)
        assert np.percentile(np.abs(difference), 99.5) <= largest, scale
        assert np.abs(difference).mean() <= mean, scale
        assert np.abs(difference.mean((0, 1))).max() <= 0.25, scale
    assert {path.name for path in (path.parent / "source").iterdir()} == {f"level-{shrink}" for shrink in (1, 2, 4, 8)}


# The same picture as in memory


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_agrees_with_the_photo_in_memory(form: str, orientation: int, tmp_path: Path) -> None:
    """In every format, turned as EXIF says: decoders that shrink while they decode may be a level off the mean."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = LOSSLESS.get(form, {"quality": 97, "subsampling": "4:4:4"})
    path = tmp_path / f"photo.{form}"
    Image.fromarray(photo()).save(path, exif=exif, **options)
    agree(path, largest=3 if form in ("jpeg", "webp") else 1.5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["png", "tiff"])
def test_at_its_own_size_it_is_the_photo_in_memory_to_the_bit(form: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{form}"
    Image.fromarray(random_pixels(90, 70, 3)).save(path, exif=exif, **LOSSLESS[form])
    small, large = both(path)
    for scale in (1.0, 0.77, 1.6):
        shape = octave(small.size, scale)
        assert at(large, shape).tobytes() == at(small, shape).tobytes()


def write_alpha(path: Path) -> None:
    alpha = np.rint(255 * np.clip(np.linspace(-0.5, 1.5, 601), 0, 1)).astype(np.uint8)
    Image.fromarray(np.dstack([photo(), np.repeat(alpha[:, None], 443, 1)])).save(path)


def write_alpha_webp(path: Path) -> None:
    """Its invisible colours are loud: they must not be averaged in."""
    pixels = np.dstack([photo(), np.full((601, 443), 255, np.uint8)])
    pixels[100:200] = (255, 0, 255, 0)
    Image.fromarray(pixels).save(path, format="webp", lossless=True, exact=True)


def write_deep_png(path: Path) -> None:
    iccp = chunk(b"iCCP", b"p3\0\0" + zlib.compress(p3_profile()))
    path.write_bytes(encode_png(np.rint(photo().astype(float) * 257).astype(np.uint16), 16, 2, iccp))


def write_grey(path: Path) -> None:
    Image.fromarray(photo()[..., 0]).save(path, format="jpeg", quality=97)


def write_profiled(path: Path) -> None:
    Image.fromarray(photo()).save(path, format="jpeg", quality=97, subsampling="4:4:4", icc_profile=p3_profile())


def write_inks(path: Path) -> None:
    Image.fromarray(photo()).convert("CMYK").save(path, format="jpeg", quality=97)


def write_deep_tiff(path: Path) -> None:
    tifffile.imwrite(
        path, photo().astype(np.uint16) * 200, photometric="rgb", tile=(64, 64), compression="zlib", bigtiff=True
    )


def write_planes(path: Path) -> None:
    tifffile.imwrite(path, photo().transpose(2, 0, 1), photometric="rgb", planarconfig="separate")


def write_palette(path: Path) -> None:
    Image.fromarray(photo()).quantize(64).save(path, format="png")


def write_progressive(path: Path) -> None:
    Image.fromarray(photo()).save(path, format="jpeg", quality=97, progressive=True)


@pytest.mark.parametrize(
    ("write", "largest"),
    [
        (write_alpha, 2),
        (write_deep_png, 2),
        (write_grey, 2),
        (write_profiled, 4),
        (write_inks, 4),
        (write_deep_tiff, 1.5),
        (write_planes, 1.5),
        (write_progressive, 4),
    ],
    ids=lambda value: value.__name__.removeprefix("write_") if callable(value) else None,
)
def test_colours_are_those_of_the_photo_in_memory(write: Callable[[Path], None], largest: float, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    write(path)
    agree(path, GREENISH, largest=largest)


@pytest.mark.parametrize("write", [write_alpha_webp, write_palette])
def test_sharp_edges_and_dither_are_averaged_over_what_is_seen(write: Callable[[Path], None], tmp_path: Path) -> None:
    """A box and Lanczos may differ much at single pixels, but not in the mean."""
    path = tmp_path / "photo.png"
    write(path)
    small, large = both(path, GREENISH)
    for scale in SCALES:
        shape = octave(small.size, scale)
        difference = at(large, shape) - at(small, shape)
        assert np.abs(difference.mean((0, 1))).max() < 0.7, scale
        assert np.abs(difference).mean() < 2.5, scale


@pytest.mark.parametrize("name", ["hubble", "chelsea", "coffee"])
def test_photographs_keep_their_colours_and_nearly_their_pixels(name: str, tmp_path: Path) -> None:
    """Half a level in the mean; a sharp star may differ more, for a box is not Lanczos."""
    path = tmp_path / sample_path(name).name
    shutil.copy(sample_path(name), path)
    small, large = both(path)
    for scale in (0.7, 0.5, 0.3, 0.15):
        shape = octave(small.size, scale)
        difference = at(large, shape) - at(small, shape)
        assert np.abs(difference.mean((0, 1))).max() < 0.15, scale
        assert np.abs(difference).mean() < 1.5, scale


@pytest.mark.parametrize(
    ("output", "mode"),
    [
        (OutputConfig(width=200, height=200), "reflect"),
        (OutputConfig(width=200, height=200, fit="contain"), "reflect"),
        (OutputConfig(width=150, height=60, fit="stretch"), "reflect"),
        (OutputConfig(width=222, bleed_mm=20, dpi=25.4), "reflect"),
        (OutputConfig(width=100, bleed_mm=30, dpi=25.4), "reflect"),
        (OutputConfig(width=100, height=50, bleed_mm=70, dpi=25.4), "reflect"),
        (OutputConfig(width=60, height=90, bleed_mm=10, dpi=25.4, fit="contain"), "reflect"),
        (OutputConfig(width=100), "wrap"),
        (OutputConfig(width=100, height=100), "wrap_x"),
    ],
    ids=str,
)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_every_layout_agrees_with_the_photo_in_memory(
    output: OutputConfig, mode: str, orientation: int, tmp_path: Path
) -> None:
    """Also where a mirrored or wrapped sample falls between two, or a sample is half background."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    rows, columns = np.mgrid[0:601, 0:443] * 2 * np.pi / np.array([601, 443])[:, None, None]
    # What wraps should be worth it.
    periodic = np.stack([np.sin(2 * rows + columns), np.cos(columns - rows), np.sin(2 * columns)], -1)
    pixels = photo() if mode == "reflect" else np.rint(128 + 110 * periodic).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    small, large = both(tmp_path / "photo.png", GREENISH)
    layout = lay_out(output, small.size, BOUNDARY_MODES[mode])
    small, large = (source.laid_out(layout.window, tmp_path / "source") for source in (small, large))
    # A background's edge, which crosses a sample, is as sharp as edges get; and what wraps does so within a sample.
    inside = mode == "reflect" and output.fit != "contain"
    for scale in (1.0, 0.6, 0.35):
        shape = octave(layout.shape, scale)
        difference = np.abs(at(large, shape) - at(small, shape))
        assert difference.mean() < (0.35 if inside else 0.8), scale
        assert np.percentile(difference, 95) < (1.2 if inside else 4.5), scale


# Parts, order, and what levels are made of


@pytest.fixture(scope="module")
def through_chunks(tmp_path_factory: pytest.TempPathFactory) -> tuple[PyramidSource, dict[tuple[int, int], Pixels]]:
    """A turned picture with bleed, stored in many chunks, and all of it at three octaves."""
    directory = tmp_path_factory.mktemp("pyramid")
    exif = Image.Exif()
    exif[0x0112] = 7
    Image.fromarray(random_pixels(301, 222, 3)).save(directory / "photo.png", exif=exif)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "CHUNK", 64)
        _, large = both(directory / "photo.png")
        layout = lay_out(OutputConfig(width=150, bleed_mm=12, dpi=25.4), large.size)
        large = large.laid_out(layout.window, directory / "source")
        return large, {shape: at(large, shape) for shape in (octave(layout.shape, scale) for scale in (1.7, 1.0, 0.4))}


@settings(max_examples=40)
@given(data=st.data(), piece=st.sampled_from([50, 3000, 10**6]), narrowest=st.sampled_from([7, 64]))
def test_any_rectangle_is_bit_identical_to_that_part_of_the_whole(
    through_chunks: tuple[PyramidSource, dict[tuple[int, int], Pixels]], data: st.DataObject, piece: int, narrowest: int
) -> None:
    """In whatever pieces it is worked on."""
    large, complete = through_chunks
    shape = data.draw(st.sampled_from(sorted(complete)))
    cuts = [sorted(data.draw(st.lists(st.integers(0, side), min_size=2, max_size=2, unique=True))) for side in shape]
    rect = Rect(*(Interval(*cut) for cut in cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "CHUNK", 64)
        patch.setattr("render.source.pyramid._MAX_PIECE_PX", piece)
        patch.setattr("render.source.pyramid._MIN_PIECE_COLUMNS", narrowest)
        actual = large.at(shape, rect)
    assert actual.tobytes() == complete[shape][slice(*rect.rows), slice(*rect.columns)].tobytes()


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_levels_are_the_same_whatever_others_are_there(form: str, tmp_path: Path) -> None:
    """Coarse to fine, as a render makes them, fine to coarse, or one alone, as one that goes on does."""
    arrays = {}
    for name, order in (("up", (8, 4, 2, 1)), ("down", (1, 2, 4, 8)), ("alone", (2,))):
        path = tmp_path / name / f"photo.{form}"
        path.parent.mkdir()
        Image.fromarray(random_pixels(333, 250, 3)).save(path, **LOSSLESS.get(form, {}))
        _, large = both(path)
        for shrink in order:
            large.prepare((333 // shrink, 250 // shrink))
            arrays[name, shrink] = zarr.open_array(str(large._level_path(shrink)), mode="r")[:]
    for shrink in (1, 2, 4, 8):
        np.testing.assert_array_equal(arrays["up", shrink], arrays["down", shrink])
    np.testing.assert_array_equal(arrays["up", 2], arrays["alone", 2])


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("shrink", [1, 2, 4, 16])
def test_a_level_is_the_mean_over_squares(form: str, shrink: int, tmp_path: Path) -> None:
    """Of the file's own pixels, in steps of 1/257 level; at the far ends over as many as there are."""
    pixels = random_pixels(83, 70, 3)
    Image.fromarray(pixels).save(tmp_path / f"photo.{form}")
    (rows,) = [np.concatenate(list(open_shrunk(tmp_path / f"photo.{form}", (0, 0, 0), shrink).rows()))]
    assert rows.shape == (-(-83 // shrink), -(-70 // shrink), 3)
    inside = pixels[: 83 // shrink * shrink, : 70 // shrink * shrink].astype(float)
    means = inside.reshape(83 // shrink, shrink, 70 // shrink, shrink, 3).mean((1, 3))
    np.testing.assert_allclose(rows[: 83 // shrink, : 70 // shrink] / 257, means, atol=1.01 / 257)


def test_the_smallest_level_that_is_not_smaller_than_the_octave_is_taken(tmp_path: Path) -> None:
    Image.fromarray(photo(400, 320)).save(tmp_path / "photo.png")
    _, large = both(tmp_path / "photo.png")
    for shape, shrink in (((800, 640), 1), ((400, 320), 1), ((201, 160), 1), ((200, 160), 2), ((101, 80), 2), ((3, 3), 64)):
        assert large.shrink_for(shape) == shrink
    assert large.disk_bytes([(400, 320), (201, 160), (200, 160)]) == 2 * 512 * 512 * 6
    cropped = large.laid_out(lay_out(OutputConfig(width=100, height=10), (400, 320)).window, tmp_path)
    assert cropped.shrink_for((10, 100)) == 2


def test_disk_is_what_was_said(tmp_path: Path) -> None:
    Image.fromarray(random_pixels(700, 1100, 3)).save(tmp_path / "photo.png")
    _, large = both(tmp_path / "photo.png")
    shapes = [(700, 1100), (400, 600), (300, 500), (80, 100)]
    for shape in shapes:
        large.prepare(shape)
    disk_bytes = sum(path.stat().st_size for path in (tmp_path / "source").rglob("*") if path.is_file())
    assert abs(disk_bytes - large.disk_bytes(shapes)) < 20_000


@pytest.mark.parametrize("subifds", [False, True])
def test_a_pyramidal_tiffs_own_pages_are_read(subifds: bool, tmp_path: Path) -> None:
    """Their colours differ here, to tell which was taken."""
    pages = [np.full((256 >> level, 384 >> level, 3), 40 + 60 * level, np.uint8) for level in range(3)]
    with tifffile.TiffWriter(tmp_path / "photo.tif") as file:
        file.write(pages[0], photometric="rgb", tile=(64, 64), subifds=2 if subifds else 0)
        for page in pages[1:]:
            file.write(page, photometric="rgb", tile=(64, 64), subfiletype=1)
    _, large = both(tmp_path / "photo.tif")
    for shrink, value in ((1, 40), (2, 100), (4, 160), (8, 160)):
        np.testing.assert_allclose(at(large, (256 // shrink, 384 // shrink)), value, atol=0.01)


def test_pages_that_are_no_pyramid_are_other_pictures(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "photo.tif") as file:
        file.write(photo(), photometric="rgb")
        file.write(255 - photo(), photometric="rgb")
    agree(tmp_path / "photo.tif")


@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 8]), st.sampled_from(["mirror", "wrap"]), st.booleans())
def test_samples_beyond_the_ends_lie_inside(length: int, shrink: int, beyond: Any, flipped: bool) -> None:
    count = -(-length // shrink)
    sampling = Sampling(length, count, shrink, length - count * shrink if flipped else 0)
    positions = sampling.inside_positions(Interval(-50, 90), beyond)
    assert ((positions >= 0) & (positions <= count - 1)).all()
    np.testing.assert_array_equal(positions[50 : 50 + count], np.arange(count))
    if shrink == 1:
        mode = "reflect" if beyond == "mirror" else "wrap"
        np.testing.assert_array_equal(positions, np.pad(np.arange(length), (50, 90 - length), mode=mode))


# On disk


def large_source(directory: Path, side: int = 300) -> PyramidSource:
    Image.fromarray(random_pixels(side, side, 3)).save(directory / "photo.png")
    return both(directory / "photo.png")[1]


def test_a_level_is_made_once_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = large_source(tmp_path)
    said: list[str] = []
    large.prepare((150, 150), said.append)
    assert said == ["reading photo.png at 1/2 of its size ..."]
    monkeypatch.setattr("render.source.pyramid.write_level", lambda *_: pytest.fail("made again"))
    large.prepare((150, 150), said.append)
    large.prepare((120, 140), said.append)
    assert len(said) == 1


def test_a_source_is_small_on_its_way_to_a_worker(tmp_path: Path) -> None:
    large = large_source(tmp_path)
    expected = at(large, (300, 300))
    sent = pickle.dumps(large)
    assert len(sent) < 2000
    arrived = pickle.loads(sent)
    np.testing.assert_array_equal(arrived.at((300, 300), whole(300, 300)), expected)
    assert large.nbytes == 0


def line(caught: pytest.ExceptionInfo[UserError]) -> str:
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_a_truncated_picture_is_refused_and_nothing_is_left(form: str, share: float, tmp_path: Path) -> None:
    whole_file, path = tmp_path / "whole", tmp_path / f"photo.{form}"
    Image.fromarray(random_pixels(300, 280, 3)).save(whole_file, format=form, **LOSSLESS.get(form, {}))
    content = whole_file.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for shrink in (8, 1):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError) as caught:
            patch.setattr(source_module, "MAX_IN_MEMORY_PX", 0)
            large = open_source(str(path), 0, SourceConfig()).laid_out(None, tmp_path / "source")
            large.prepare((300 // shrink, 280 // shrink))
        assert "no whole PNG, JPEG, WebP or TIFF picture" in line(caught)
        assert not [left for left in tmp_path.rglob("*") if "level" in left.name]


def test_a_picture_that_changed_since_is_refused(tmp_path: Path) -> None:
    large = large_source(tmp_path)
    large.prepare((75, 75))
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    with pytest.raises(UserError) as caught:
        large.prepare((300, 300))
    assert "has changed since the run began" in line(caught)
    (tmp_path / "photo.png").unlink()
    with pytest.raises(UserError) as caught:
        large.prepare((300, 300))
    assert "cannot be read any more" in line(caught)
    large.prepare((75, 75))


@pytest.mark.parametrize("other", ["picture", "background", "rule", "damage"])
def test_a_level_of_anything_else_is_made_anew(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = large_source(tmp_path)
    expected = at(large, (300, 300))
    source_config = SourceConfig()
    if other == "picture":
        Image.fromarray(255 - random_pixels(300, 300, 3)).save(tmp_path / "photo.png")
        expected = 255 - expected
    elif other == "background":
        source_config = GREENISH
    elif other == "rule":
        monkeypatch.setattr("render.source.pyramid._RULE_VERSION", -1)
    else:
        (tmp_path / "source" / "level-1" / "zarr.json").write_text("{")
    before = (tmp_path / "source" / "level-1").stat().st_ino
    _, again = both(tmp_path / "photo.png", source_config)
    with pytest.raises(UserError, match="missing or of another picture"):
        again.at((300, 300), whole(300, 300))
    np.testing.assert_array_equal(at(again, (300, 300)), expected)
    assert (tmp_path / "source" / "level-1").stat().st_ino != before


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "empty"])
def test_a_damaged_chunk_is_named(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "CHUNK", 128)
    large = large_source(tmp_path)
    expected = at(large, (300, 300))
    chunk_file = tmp_path / "source" / "level-1" / "c" / "1" / "1" / "0"
    content = bytearray(chunk_file.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "flip": lambda: chunk_file.write_bytes(content),
        "cut": lambda: chunk_file.write_bytes(content[:-9]),
        "empty": lambda: chunk_file.write_bytes(b""),
        "remove": chunk_file.unlink,
    }[harm]()
    again = pickle.loads(pickle.dumps(large))
    with pytest.raises(UserError) as caught:
        again.at((300, 300), whole(300, 300))
    assert "level-1 has a damaged chunk" in line(caught)
    assert "remove" in line(caught)
    away = Rect(Interval(0, 90), Interval(0, 300))
    np.testing.assert_array_equal(again.at((300, 300), away), expected[:90])


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    large = large_source(tmp_path, side=1100)
    with small_disk(tmp_path / "disk", "4m") as disk:
        on_it = large.laid_out(None, disk / "source")
        with pytest.raises(UserError) as caught:
            on_it.prepare((1100, 1100))
        assert "free some space" in line(caught)
        assert list((disk / "source").iterdir()) == []
        assert free(disk) > 3_900_000
        on_it.prepare((250, 250))


def test_ctrl_c_ends_the_reading_and_leaves_nothing(tmp_path: Path) -> None:
    """Within moments, however long the file is: the decoder is stopped in the middle."""
    script = f"""
import os, signal, sys, threading, time
from pathlib import Path
from render.system import interrupts
from render.source import source
from render.config.schema import SourceConfig
source.MAX_IN_MEMORY_PX = 0
interrupts.install(); interrupts.hold()
here = Path({str(tmp_path)!r})
large = source.open_source(str(here / "photo.tif"), 0, SourceConfig()).laid_out(None, here / "source")
def stop():
    while not list(here.glob("source/.level*/c/0")): time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=stop).start()
try:
    with interrupts.deferred(quiet=True): large.prepare((20000, 4000))
except KeyboardInterrupt: print("stopped", "decoder" in [thread.name for thread in threading.enumerate()])
"""
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((20000, 4000, 3), np.uint8), photometric="rgb", compression="zlib")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("stopped False\n", "")
    assert list((tmp_path / "source").iterdir()) == []


def test_what_a_killed_run_left_half_made_is_cleared_away(tmp_path: Path) -> None:
    large = large_source(tmp_path)
    (tmp_path / "source" / ".level-1.partial" / "c").mkdir(parents=True)
    at(large, (300, 300))
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["level-1"]


def test_discarding_leaves_what_is_not_the_sources(tmp_path: Path) -> None:
    large = large_source(tmp_path)
    large.prepare((300, 300))
    (tmp_path / "source" / "level-headed.txt").write_text("mine")
    (tmp_path / "source" / ".level-2.partial").mkdir()
    large.discard()
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["level-headed.txt"]
    (tmp_path / "source" / "level-headed.txt").unlink()
    large.discard()
    assert not (tmp_path / "source").exists()


# Whole renders


TINY = (
    "output.width=120",
    "output.height=90",
    "output.bleed_mm=5",
    "output.dpi=25.4",
    "octaves.count=3",
    "octaves.scale=1.5",
    "octaves.steps=2",
    "objective.terms=[mixed0]",
    "tiles.size=64",
    "checkpoint.every=0",
    "quiet=true",
    INLINE,
)


def dreamed(run: Path, image: Path, *words: str, stop: Callable[[Event], bool] | None = None) -> jobs.Job:
    """Renders to the end, or until an event says stop."""
    with jobs.prepared(jobs.draft(load_config("preview", [*TINY, f"image={image}", f"output.dir={run}", *words]))) as job:
        if stop is None:
            jobs.render(job)
            return job
        with job.resolved.directory.opened():
            job.resolved.directory.start_record()
            events = job.conductor().run(job.resolved.seed)
            next(event for event in events if stop(event))
    return job


@pytest.mark.parametrize("moment", [(1, 0), (1, 1)])
def test_a_render_that_goes_on_comes_to_the_same_bytes(
    moment: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the levels that an interrupted run left, with none of them, and with half a one."""
    monkeypatch.setattr(source_module, "MAX_IN_MEMORY_PX", 0)
    image = tmp_path / "photo.jpg"
    Image.fromarray(photo(500, 620)).save(image, quality=95)
    job = dreamed(tmp_path / "whole", image)
    assert isinstance(job.resolved.source, PyramidSource)
    assert job.plan.final.shape == (100, 130)
    expected = stored(tmp_path / "whole")

    def reached(event: Event) -> bool:
        if isinstance(event, OctaveStarted):
            return moment[1] == 0 and event.octave.index == moment[0]
        return isinstance(event, Saved) and (event.octave.index, event.steps) == moment

    for name in ("kept", "lost"):
        run = tmp_path / name
        dreamed(run, image, stop=reached)
        left = list((run / "source").iterdir())
        assert left
        if name == "lost":
            shutil.rmtree(run / "source")
            (run / "source" / ".level-2.partial").mkdir(parents=True)
        dreamed(run, image)
        assert json.loads((run / "run.json").read_text())["resumed"]
        assert stored(run).tobytes() == expected.tobytes()
        assert (run / "preview.png").read_bytes() == (tmp_path / "whole" / "preview.png").read_bytes()
        assert not (run / "source").exists(), "a finished run needs no levels"


def test_the_plan_counts_the_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(photo(500, 620)).save(tmp_path / "photo.png")
    words = [*TINY, f"image={tmp_path / 'photo.png'}", f"output.dir={tmp_path / 'run'}"]
    plain = jobs.draft(load_config("preview", words))
    monkeypatch.setattr(source_module, "MAX_IN_MEMORY_PX", 0)
    large = jobs.draft(load_config("preview", words))
    shapes = [octave.shape for octave in large.plan.octaves]
    assert large.resolved.source.disk_bytes(shapes) > 0
    assert large.plan.disk_bytes == plain.plan.disk_bytes + large.resolved.source.disk_bytes(shapes)


def test_a_truncated_source_ends_a_render_with_one_line(command, tmp_path: Path) -> None:
    """Above the size that is decoded at once."""
    pyvips.Image.gaussnoise(8000, 4001, mean=128).cast("uchar").jpegsave(str(tmp_path / "whole.jpg"))
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(content[: len(content) * 2 // 3])
    words = [word for word in TINY if not word.startswith("quiet")]
    result = command(*words, "image=photo.jpg", "output.dir=run")
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("render: image")
    assert "photo.jpg' is no whole" in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "run" / "source").exists() or not list((tmp_path / "run" / "source").iterdir())


# Size


MEASURE = """
import re, sys, threading, time
from pathlib import Path
from render.source.source import open_source
from render.config.schema import SourceConfig
from render.geometry.geometry import whole

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

most = [0.0]
def watch():
    while True:
        most[0] = max(most[0], anonymous())
        time.sleep(0.005)

threading.Thread(target=watch, daemon=True).start()
large = open_source(sys.argv[1], 0, SourceConfig()).laid_out(None, Path(sys.argv[2]))
for shape in ((900, 1300), large.size):
    most[0] = 0.0
    begun = time.perf_counter()
    large.prepare(shape, lambda line: None)
    prepared, first = time.perf_counter() - begun, most[0]
    most[0] = 0.0
    large.at(shape, next(whole(*shape).bands()))
    print(large.shrink_for(shape), round(prepared, 2), round(first), round(most[0]))
"""


@pytest.mark.slow
def test_a_large_jpeg_is_prepared_in_little_memory(tmp_path: Path) -> None:
    """152 megapixels, 455 MB as bytes and 1.8 GB as floats: the levels take a fraction, and the first no whole decoding."""
    path = tmp_path / "large.jpg"
    tile = pyvips.Image.new_from_file(str(sample_path("hubble")))
    tile.resize(4).replicate(4, 4).crop(0, 0, 15000, 10100).jpegsave(str(path), Q=80)
    words = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "source")]
    result = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    print(
        "shrink, s, MB of memory while a level is prepared, and while a strip is read",
        *result.stdout.splitlines(),
        sep="\n",
    )
    megabytes = {int(words[0]): [float(word) for word in words[1:]] for words in map(str.split, result.stdout.splitlines())}
    assert sorted(megabytes) == [1, 8]
    assert all(preparing < 400 and reading < 450 for _, preparing, reading in megabytes.values())
    # A whole decoding would take as long as the full size does.
    assert megabytes[8][0] < megabytes[1][0] / 3
    assert megabytes[8][1] < 150
