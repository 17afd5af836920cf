"""Colours beyond sRGB: from the source's file past the dream to pictures in wider spaces, and nowhere else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.config.schema import SourceConfig
from render.export.export import Style, export, export_panels
from render.export.metadata import Metadata, srgb_profile
from render.export.panels import cut_panels
from render.export.print_layout import PrintLayout
from render.export.profile import Profile, read_profile
from render.export.soft_proof import MIN_DIFFERENCE
from render.export.wide_canvas import WideCanvas, working_space
from render.geometry.geometry import BAND, Interval, Rect, whole
from render.source import source as sources
from render.source import wide_source as module
from render.source.colour_space import SRGB, matrix_to_xyz
from render.source.matrix_profile import matrix_profile
from render.source.photo import read_photo
from render.source.source import open_source
from render.source.wide_source import OpenedWideSource, wide_source
from render.storage.local import remove_abandoned, temporary_directory
from tests.conftest import TINY
from tests.export.test_colour import written
from tests.export.test_export import SHAPE, smooth, stored
from tests.support.icc_files import SPACES, rgb_profile

HOW = SourceConfig()


def strip(shape: tuple[int, int] = (180, 360), least: float = 0.0) -> np.ndarray:
    """(rows, columns, 3) uint8: all hues along the columns, from grey above to as saturated as can be below."""
    hue = np.linspace(0, 6, shape[1], endpoint=False)[None, :, None]
    pure = np.clip(np.abs((hue - np.array([0, 2, 4]) + 3) % 6 - 3) * -1 + 2, 0, 1)
    saturation = np.linspace(least, 1, shape[0])[:, None, None]
    return np.rint(230 * (1 - saturation * (1 - pure))).astype(np.uint8)


def saved(path: Path, pixels: np.ndarray, profile: bytes) -> Path:
    Image.fromarray(pixels).save(path, icc_profile=profile)
    return path


def lab(pixels: np.ndarray, name: str) -> pyvips.Image:
    """CIE L*a*b* of values 0..1 in a space of `SPACES`, by its standard's formulas."""
    chromaticities, gamma = SPACES[name]
    white = matrix_to_xyz(chromaticities) @ np.ones(3)
    xyz = pixels**gamma @ matrix_to_xyz(chromaticities).T / white
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    values = np.stack(
        [116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], -1
    )
    height, width = values.shape[:2]
    content = np.ascontiguousarray(values, np.float32)
    return pyvips.Image.new_from_memory(content.data, width, height, 3, "float").copy(interpretation="lab")


def difference(first: np.ndarray, second: np.ndarray, name: str) -> np.ndarray:
    """CIEDE2000 between two pictures, 0..1, of one space."""
    return lab(first, name).dE00(lab(second, name)).numpy()


def taken(picture: Path) -> np.ndarray:
    """Values 0..1 of a picture of 8 or 16 bits."""
    pixels = written(picture)
    return pixels / (255 if pixels.dtype == np.uint8 else 65535)


UNDREAMED = ("image=wide.png", "output.width=360", "octaves.steps=0", "output.dir=run", "output.format=tiff")


@pytest.mark.parametrize(("name", "bits"), [("adobe", 8), ("prophoto", 8), ("prophoto", 16), ("p3-gamma", 16)])
def test_what_is_not_dreamed_comes_back_in_its_own_space(name: str, bits: int, command, tmp_path: Path) -> None:
    """From file to file by the command, a strip of which sRGB lacks most."""
    saved(tmp_path / "wide.png", strip(), rgb_profile(name))
    (tmp_path / "own.icc").write_bytes(rgb_profile(name))
    done = command(*TINY, *UNDREAMED, f"output.bits={bits}", "output.profile=own.icc")
    assert done.code == 0, done.err
    error = difference(taken(tmp_path / "run" / "preview.tif"), strip() / 255, name)
    assert error.mean() < 1
    assert error.max() < 3
    (stored_at,) = (tmp_path / "run" / "canvas").glob("*/zarr.json")
    pixels = CanvasStore(stored_at.parent).read(whole(180, 360))
    assert (pixels.min(), pixels.max() <= 255) == (0, True), "the canvas itself is in sRGB, as the network sees it"
    clipped = difference(working_space(rgb_profile(name))(pixels) / 255, strip() / 255, name)
    assert clipped.mean() > 0.9, "without what lies beyond"
    assert clipped.max() > 8


def test_pictures_in_srgb_are_the_canvas_as_before(command, tmp_path: Path) -> None:
    """Also deep zoom, whose tiles carry no profile, beside a picture in a wider one."""
    saved(tmp_path / "wide.png", strip(), rgb_profile("adobe"))
    (tmp_path / "own.icc").write_bytes(rgb_profile("adobe"))
    words = (*TINY, *UNDREAMED, "output.quality=100", "output.dither=false")
    assert command(*words, "output.profile=own.icc", "output.also=[dzi]").code == 0
    assert command("export", "run=run", "output.path=srgb.png", "output.profile=srgb").code == 0
    (stored_at,) = (tmp_path / "run" / "canvas").glob("*/zarr.json")
    pixels = CanvasStore(stored_at.parent).read(whole(180, 360))
    np.testing.assert_array_equal(written(tmp_path / "srgb.png"), np.rint(pixels))
    assert np.abs(written(tmp_path / "run" / "preview.tif") - pixels).max() > 20
    level = max((tmp_path / "run" / "preview-zoom" / "dream_files").iterdir(), key=lambda path: int(path.name))
    with Image.open(level / "0_0.jpg") as tile:
        assert "icc_profile" not in tile.info
        shown = np.asarray(tile, float)
    assert np.abs(shown - pixels[: shown.shape[0], : shown.shape[1]]).mean() < 1


def test_a_source_within_srgb_has_nothing_beyond(tmp_path: Path) -> None:
    """Whether its profile is sRGB's, none, or one of grey."""
    colours, grey = strip(), strip()[..., 0]
    for number, (pixels, options) in enumerate(
        (
            (colours, {}),
            (colours, {"icc_profile": srgb_profile()}),
            (colours, {"icc_profile": matrix_profile("almost sRGB", SRGB, 2.2)}),
            (grey, {}),
        )
    ):
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path, **options)
        assert wide_source(path, "", HOW, None) is None
    for name in SPACES:
        assert wide_source(saved(tmp_path / "wide.png", colours, rgb_profile(name)), "", HOW, None) is not None


def opened(path: Path, shape: tuple[int, int], directory: Path) -> np.ndarray:
    """What is beyond sRGB in a canvas of `shape`; its parts are bit for bit those of the whole."""
    source = wide_source(path, open_source(str(path), 0, HOW).sha256, HOW, None)
    assert source is not None
    with source.opened(shape, directory) as pair:
        everything = pair.beyond(shape, whole(*shape))
        for rect in (Rect(Interval(3, 40), Interval(7, 39)), Rect(Interval(0, shape[0]), Interval(20, 21))):
            part = everything[slice(*rect.rows), slice(*rect.columns)]
            np.testing.assert_array_equal(pair.beyond(shape, rect), part)
    return everything


@pytest.mark.parametrize("shape", [(180, 360), (90, 180), (250, 500), (61, 93)])
def test_a_source_larger_than_memory_has_the_same_beyond(
    shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "wide.png", strip(), rgb_profile("prophoto"))
    in_memory = opened(path, shape, tmp_path)
    assert in_memory.min() < -50
    for place in (sources, module):
        monkeypatch.setattr(place, "MAX_IN_MEMORY_PX", 1000)
    on_disk = opened(path, shape, tmp_path)
    # Where a level is shrunk, another filter makes it small.
    limit = 0.02 if shape[0] > 90 else 12
    assert np.abs(on_disk - in_memory).max() < limit
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["wide.png"], "its levels are gone"


def test_turned_and_transparent_pictures_are_as_the_canvas_shows_them(tmp_path: Path) -> None:
    pixels = strip((40, 60))
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:, :30] = 0
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "wide.png"
    Image.fromarray(np.concatenate([pixels, alpha], 2)).save(path, icc_profile=rgb_profile("adobe"), exif=exif)
    beyond = opened(path, (60, 40), tmp_path)
    assert np.abs(beyond[:30]).max() == 0, "nothing is beyond where the background shows"
    assert np.abs(beyond[30:]).max() > 10


def test_inks_of_a_press_are_seen_as_the_canvas_sees_them(tmp_path: Path) -> None:
    """Where sRGB has their colours; elsewhere they are farther out in the same direction."""
    inks = np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8)
    path = tmp_path / "press.tif"
    Image.fromarray(inks, "CMYK").save(path, icc_profile=read_profile("cmyk").icc)
    canvas, beyond = read_photo(path, HOW), opened(path, (40, 60), tmp_path)
    assert beyond.min() < -30
    assert canvas[beyond < -3].max() < 20, "its 8 bits are converted by a coarse table"
    assert canvas[beyond < -3].mean() < 2


def test_parts_of_a_large_picture_are_those_of_the_whole(tmp_path: Path) -> None:
    """Chunk by chunk, strip by strip and panel by panel: the same bits."""
    assert SHAPE[0] * SHAPE[1] > BAND
    path = saved(tmp_path / "wide.png", strip(), rgb_profile("adobe"))
    source = wide_source(path, open_source(str(path), 0, HOW).sha256, HOW, None)
    canvas, profile = stored(tmp_path / "a", smooth(SHAPE)), Profile(rgb_profile("p3-gamma"))
    style = Style(16, profile=profile, wide_source=source, metadata=Metadata({}, dpi=100))
    assert source is not None
    with source.opened(SHAPE, tmp_path) as pair:
        extended = WideCanvas(canvas, pair).read(whole(*SHAPE))
    expected = to_integers(working_space(profile.icc)(extended), 16)
    export(canvas, tmp_path / "out.tif", "tiff", style)
    np.testing.assert_array_equal(written(tmp_path / "out.tif"), expected)
    panels = cut_panels(SHAPE, 100.0, width_cm=25, height_cm=25, overlap_mm=5)
    export_panels(canvas, tmp_path / "p", "tiff", style, panels, PrintLayout(canvas=SHAPE, tiles=SHAPE))
    for panel in panels.panels:
        part = expected[slice(*panel.rect.rows), slice(*panel.rect.columns)]
        np.testing.assert_array_equal(written(tmp_path / "p" / f"{panel.name}.tif"), part)


class Fixed:
    """A canvas or source of these pixels."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.rect = pixels, pixels.shape[:2], whole(*pixels.shape[:2])

    def read(self, _rect: Rect) -> np.ndarray:
        return self.pixels

    def at(self, _shape: tuple[int, int], _rect: Rect) -> np.ndarray:
        return self.pixels


levels = arrays.arrays(np.float32, (4, 5, 3), elements=st.floats(0, 255, width=32))


@given(levels, levels, arrays.arrays(np.float32, (4, 5, 3), elements=st.floats(-300, 300, width=32)))
def test_limits_are_the_sources_own_and_the_other_end(pixels, source, beyond) -> None:
    """A canvas stays between them, gets what was cut off where it was not dreamed, and the end where dreaming went."""

    def extended(canvas: np.ndarray) -> np.ndarray:
        wide = WideCanvas(Fixed(canvas), OpenedWideSource(Fixed(source), lambda _shape, _rect: beyond))
        return wide.read(whole(4, 5))

    np.testing.assert_array_equal(extended(source), source + beyond)
    values = extended(pixels)
    room = 1e-3
    assert (values >= np.minimum(0, beyond) - room).all()
    assert (values <= np.maximum(255, 255 + beyond) + room).all()
    other_end = np.where(beyond < 0, np.float32(255), np.float32(0))
    has_room = np.abs(other_end - source) > 1e-2
    np.testing.assert_allclose(extended(other_end)[has_room], other_end[has_room], atol=room)


@pytest.mark.parametrize("name", SPACES)
def test_the_working_space_is_what_little_cms_makes_of_srgb(name: str) -> None:
    profile = rgb_profile(name)
    pixels = strip((60, 90), 0.0)
    oracle = ImageCms.profileToProfile(
        Image.fromarray(pixels), ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    assert oracle is not None
    values = working_space(profile)(pixels.astype(np.float32))
    assert np.abs(values - np.asarray(oracle)).max() < 1.6
    assert np.abs(values - np.asarray(oracle)).mean() < 0.4


def test_a_press_shows_colours_that_srgb_lacks(command, tmp_path: Path) -> None:
    """Cyan ink is outside of sRGB; a profile of tables is converted by the colour engine."""
    saved(tmp_path / "wide.png", strip(), rgb_profile("adobe"))
    done = command(*TINY, *UNDREAMED, "output.profile=cmyk")
    assert "output.profile=cmyk is a generic CMYK and no press" in done.out + done.err
    wide = written(tmp_path / "run" / "preview.tif").astype(int)
    saved(tmp_path / "wide.png", np.rint(read_photo(tmp_path / "wide.png", HOW)).astype(np.uint8), srgb_profile())
    command(*TINY, *UNDREAMED, "output.dir=clipped", "output.profile=cmyk")
    clipped = written(tmp_path / "clipped" / "preview.tif").astype(int)
    row = 120
    assert np.abs(wide[:20] - clipped[:20]).max() < 8, "grey is the same"
    assert np.abs(wide[row] - clipped[row]).max() > 20


def test_a_source_that_is_gone_is_said_and_no_picture_is_replaced(command, tmp_path: Path) -> None:
    saved(tmp_path / "wide.png", strip(), rgb_profile("adobe"))
    assert command(*TINY, *UNDREAMED, "output.profile=p3").code == 0
    before = (tmp_path / "run" / "preview.tif").read_bytes()
    (tmp_path / "wide.png").unlink()
    done = command("export", "run=run")
    assert done.code == 0
    assert "writing" not in done.out
    assert (tmp_path / "run" / "preview.tif").read_bytes() == before
    done = command("export", "run=run", "output.path=p3.png", "output.profile=p3")
    assert "the image wide.png is gone or has changed" in done.out
    assert (tmp_path / "p3.png").exists()


def test_a_proof_marks_colours_of_the_source_that_a_smaller_space_lacks(command, tmp_path: Path) -> None:
    """Adobe RGB has primaries and curves, to which a canvas could be cut off before anything is compared."""
    saved(tmp_path / "wide.png", strip(), rgb_profile("prophoto"))
    for name in ("prophoto", "adobe"):
        (tmp_path / f"{name}.icc").write_bytes(rgb_profile(name))
    assert command(*TINY, *UNDREAMED).code == 0
    image = pyvips.Image.new_from_file(str(tmp_path / "wide.png"))
    before = image.icc_import(embedded=True, pcs="lab", intent="relative")
    adobe = image.icc_transform(str(tmp_path / "adobe.icc"), embedded=True, intent="relative", depth=16)
    lost = before.dE00(adobe.icc_import(embedded=True, pcs="lab", intent="relative")).numpy() > MIN_DIFFERENCE
    done = command("proof", "run=run", "profile=adobe.icc")
    share = float(done.out.partition(" %")[0].split()[-1]) / 100
    assert share == pytest.approx(lost.mean(), abs=0.03)
    assert share > 0.1
    done = command("proof", "run=run", "profile=prophoto.icc", "to=own.png")
    assert "0.0 % of the picture has colours that prophoto.icc lacks" in done.out


def test_a_wide_picture_goes_into_a_directory_that_is_not_there_yet(command, tmp_path: Path) -> None:
    saved(tmp_path / "wide.png", strip(), rgb_profile("adobe"))
    assert command(*TINY, *UNDREAMED).code == 0
    done = command("export", "run=run", "output.path=new/deep/p3.png", "output.profile=p3")
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "new" / "deep").iterdir()] == ["p3.png"]
    command("export", "run=run", "output.path=/proc/new/p3.png", "output.profile=p3").refused("/proc/new", "output.path")


def test_what_a_killed_export_of_a_large_wide_source_leaves_is_removed_later(tmp_path: Path) -> None:
    with temporary_directory(tmp_path / "run") as levels:
        # As another process would have named it that is gone.
        abandoned = levels.rename(levels.with_name(".render-999999999-0123abcd"))
    remove_abandoned(tmp_path / "run")
    assert not abandoned.exists()
