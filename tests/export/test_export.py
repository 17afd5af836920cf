"""From the canvas on disk to files: every format read back by somebody else's program, and nothing left of what fails."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import pyvips
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from render.canvas import image as module
from render.canvas import store as stores
from render.canvas.image import canvas_image, to_integers
from render.canvas.store import CanvasStore
from render.dreaming.resample import resample_array
from render.errors import DamagedCheckpoint, UserError
from render.export import picture_directory
from render.export.export import Style, export, export_panels
from render.export.metadata import Metadata, read_settings, srgb_profile
from render.export.panels import cut_panels
from render.export.picture import Encoding
from render.export.picture_directory import replacing_directory
from render.export.print_layout import PrintLayout
from render.export.profile import Profile, read_profile
from render.farm.checkpoint import Checkpoints
from render.storage.markers import MARKER
from tests.conftest import INLINE, ROOT, TINY, rendered
from tests.export.test_picture import names
from tests.source.test_source import photo
from tests.support.damage import damage

SETTINGS = {"seed": 3, "image": "a (1).png"}
#: More than is read at once, with chunks that the edges cut, and of odd sizes.
SHAPE = (1237, 1809)
FILES = ("png", "jpeg", "webp", "tiff", "bigtiff")


def smooth(shape: tuple[int, int]) -> np.ndarray:
    """(rows, columns, 3) float32 of a picture whose values lie between whole numbers."""
    return np.clip(resample_array(photo(60, 83).astype(np.float32), shape), 0, 255)


def stored(path: Path, pixels: np.ndarray) -> CanvasStore:
    stores.create(path, pixels.shape[:2], "token")
    canvas = CanvasStore(path, mode="r+")
    canvas.write(canvas.rect, pixels)
    return CanvasStore(path)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return smooth(SHAPE)


@pytest.fixture(scope="module")
def canvas(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> CanvasStore:
    return stored(tmp_path_factory.mktemp("canvas") / "a", pixels)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("random", [False, True])
def test_libvips_sees_the_canvas(bits: int, random: bool, canvas: CanvasStore, pixels: np.ndarray) -> None:
    assert SHAPE[0] * SHAPE[1] > module.BAND, "else it is read in one go"
    with canvas_image(canvas, bits, random_access=random) as picture:
        image = picture.image
        assert (image.height, image.width, image.bands) == (*SHAPE, 3)
        np.testing.assert_array_equal(image.numpy(), to_integers(pixels, bits))
    with canvas_image(canvas, bits, random_access=True) as picture:
        # From the end back to the start, as a viewer may ask.
        for top, left in ((1000, 1700), (511, 512), (0, 0)):
            part = picture.image.crop(left, top, 100, 200).numpy()
            np.testing.assert_array_equal(part, to_integers(pixels[top : top + 200, left : left + 100], bits))


@given(st.integers(1, 1200), st.integers(1, 1200), st.sampled_from([8, 16]))
@settings(max_examples=15)
def test_libvips_sees_canvases_of_any_size(height: int, width: int, bits: int) -> None:
    """Also those that are small enough to be read in one go, and one that is a single chunk."""
    import tempfile

    pixels = np.random.default_rng(height * width).uniform(0, 255, (height, width, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        canvas = stored(Path(directory) / "a", pixels)
        for limit in (module.BAND, 250_000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "BAND", limit)
                with canvas_image(canvas, bits) as picture:
                    np.testing.assert_array_equal(picture.image.numpy(), to_integers(pixels, bits))


def test_sixteen_bits_are_finer_than_eight_and_agree_with_them() -> None:
    ramp = np.linspace(0, 255, 70_000, dtype=np.float32)[None, :, None].repeat(3, 2)
    fine = to_integers(ramp, 16)
    assert len(np.unique(fine)) > 65_000
    assert (fine.min(), fine.max()) == (0, 65535)
    assert np.abs(fine / 257 - ramp).max() <= 0.5 / 257 + 1e-4
    assert np.abs(fine / 257 - to_integers(ramp, 8)).max() <= 0.502


@pytest.mark.parametrize("form", FILES)
def test_every_file_opens_elsewhere_with_pixels_size_profile_and_settings(
    form: str, canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / f"out.{form}"
    export(canvas, path, form, Style(metadata=Metadata(SETTINGS, "Title", "Author", 240.0)))
    with Image.open(path) as read:
        assert (read.size, read.mode) == (SHAPE[::-1], "RGB")
        actual = np.asarray(read)
        assert read.info["icc_profile"] == srgb_profile()
        dpi = read.getexif()[282] if form == "webp" else read.info["dpi"][0]
    assert float(dpi) == pytest.approx(240, abs=0.02)
    reference = to_integers(pixels, 8)
    if form in ("jpeg", "webp"):
        assert np.abs(actual.astype(float) - reference).mean() < 1.5
    else:
        np.testing.assert_array_equal(actual, reference)
    assert read_settings(path) == SETTINGS
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("compression", ["lzw", "deflate", "none"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("form", ["tiff", "bigtiff"])
def test_tiffs_of_every_kind_are_whole_and_of_their_kind(
    form: str, bits: int, compression: str, canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "out.tif"
    export(canvas, path, form, Style(bits, encoding=Encoding(compression=compression)))
    with tifffile.TiffFile(path) as read:
        assert read.is_bigtiff == (form == "bigtiff")
        page = read.pages[0]
        assert page.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert page.is_tiled == (form == "bigtiff")
        assert len(read.pages) == (4 if form == "bigtiff" else 1)
        halves = [(SHAPE[0] >> level, SHAPE[1] >> level, 3) for level in range(len(read.pages))]
        assert [one.shape for one in read.pages] == halves
        if compression != "lzw":  # tifffile leaves LZW to another package.
            np.testing.assert_array_equal(page.asarray(), to_integers(pixels, bits))
    image = pyvips.Image.new_from_file(str(path))
    np.testing.assert_array_equal(image.numpy(), to_integers(pixels, bits))


def test_a_png_of_sixteen_bits(canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    export(canvas, tmp_path / "out.png", "png", Style(16))
    assert (tmp_path / "out.png").read_bytes()[24] == 16, "the header's bit depth"
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(tmp_path / "out.png")).numpy(), to_integers(pixels, 16))


def test_deep_zoom_is_a_pyramid_of_tiles(canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "zoom"
    export(canvas, path, "dzi", Style(encoding=Encoding(quality=100)))
    root = ElementTree.parse(path / "dream.dzi").getroot()
    assert (root.get("TileSize"), root.get("Overlap"), root.get("Format")) == ("254", "1", "jpg")
    assert [root[0].get(key) for key in ("Width", "Height")] == ["1809", "1237"]
    levels = sorted(int(level.name) for level in (path / "dream_files").iterdir())
    assert levels == list(range(12)), "from one pixel to all, halving: 2^11 is the first power of two beyond 1809"
    full = np.zeros((*SHAPE, 3))
    for tile in (path / "dream_files" / "11").iterdir():
        column, row = (int(word) for word in tile.stem.split("_"))
        top, left = max(0, 254 * row - 1), max(0, 254 * column - 1)
        with Image.open(tile) as read:
            full[top : top + read.height, left : left + read.width] = np.asarray(read)
    assert np.abs(full - pixels).mean() < 1
    with Image.open(path / "dream_files" / "0" / "0_0.jpg") as read:
        assert read.size == (1, 1)
    assert names(tmp_path) == ["zoom"]


def test_zarr_is_the_float_canvas(canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    export(canvas, tmp_path / "out.zarr", "zarr", Style(metadata=Metadata(SETTINGS)))
    array = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    np.testing.assert_array_equal(array[:], pixels)
    assert array.attrs["settings"] == SETTINGS


def test_a_press_profile_is_what_little_cms_makes_of_it(tmp_path: Path) -> None:
    """CMYK, against Pillow's conversion with the same intent; and back to sRGB it is the picture that it was."""
    pixels = smooth((240, 320)) * 0.6 + 50  # within what ink can show
    canvas, profile = stored(tmp_path / "a", pixels), read_profile("cmyk")
    assert (profile.space, profile.channels) == ("CMYK", 4)
    export(canvas, tmp_path / "out.tif", "tiff", Style(profile=profile))
    with Image.open(tmp_path / "out.tif") as read:
        assert read.mode == "CMYK"
        assert read.info["icc_profile"] == profile.content
        actual = np.asarray(read, float)
    press = ImageCms.ImageCmsProfile(io.BytesIO(profile.icc))
    oracle = ImageCms.profileToProfile(
        Image.fromarray(to_integers(pixels, 8)), ImageCms.createProfile("sRGB"), press,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="CMYK",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    assert oracle is not None
    assert np.abs(actual - np.asarray(oracle, float)).mean() < 2
    assert np.abs(actual - np.asarray(oracle, float)).max() < 12


def test_a_wide_profile_keeps_the_colours_in_sixteen_bits(tmp_path: Path) -> None:
    pixels = smooth((240, 320))
    canvas = stored(tmp_path / "a", pixels)
    export(canvas, tmp_path / "out.tif", "tiff", Style(16, profile=read_profile("p3")))
    image = pyvips.Image.new_from_file(str(tmp_path / "out.tif"))
    assert image.format == "ushort"
    colours_after = image.numpy() / 257
    assert np.abs(colours_after - pixels).max() > 5, "the same colours have other numbers there"
    lab = image.icc_import(embedded=True, pcs="lab", intent="relative")
    back = lab.icc_export(output_profile="srgb", depth=16, intent="relative").numpy() / 257
    assert np.abs(back - pixels).mean() < 0.1
    assert np.abs(back - pixels).max() < 2, "at the edge of what both can show"


@pytest.mark.parametrize("name", ["/dev/zero", "pipe.icc", "endless.icc", "."])
def test_a_profile_without_end_is_refused_and_not_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device, one by another name, a pipe that nobody writes to, a file of holes larger than any profile."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.icc")
    Path("endless.icc").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="not a file"):
        read_profile(name)
    with Path("holes.icc").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match="larger than 64 MiB"):
        read_profile("holes.icc")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no ICC profile"),
        (b"not a profile" * 50, "no ICC profile"),
        # Its class, and its colour space, in bytes that are no letters.
        *((srgb_profile()[:at] + b"\xff\xa6\x84 " + srgb_profile()[at + 4 :], "no ICC profile") for at in (12, 16)),
    ],
)
def test_a_file_that_is_no_profile(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.icc").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_profile(str(tmp_path / "x.icc"))
    with pytest.raises(UserError, match="No such file"):
        read_profile(str(tmp_path / "y.icc"))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    (tmp_path / "lab.icc").write_bytes(lab)
    with pytest.raises(UserError, match="an abstract profile, which no picture can be in"):
        read_profile(str(tmp_path / "lab.icc"))
    assert read_profile(None) == read_profile("srgb") == Profile()


# What goes wrong


@pytest.mark.parametrize("form", [*FILES, "dzi", "zarr"])
def test_a_damaged_chunk_ends_the_export_and_leaves_what_was_there(form: str, canvas: CanvasStore, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(canvas._path, broken)
    chunk = broken / "c" / "1" / "2" / "0"
    damage(chunk)
    out = tmp_path / "out"
    export(canvas, out, form, Style())
    before = {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}
    with pytest.raises(DamagedCheckpoint, match="damaged chunk"):
        export(CanvasStore(broken), out, form, Style())
    assert {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]} == before
    assert names(tmp_path) == ["broken", "out"]


@pytest.mark.parametrize("form", [*FILES, "dzi", "zarr", "pdf", "psb", "iiif"])
def test_a_disk_that_fills_up_leaves_nothing(form: str, canvas: CanvasStore, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12k", "none", str(small)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(UserError, match=r"No space left on device\): free some space"):
            export(canvas, small / "out", form, Style())
        assert names(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_is_still_being_written_after_a_failure_is_removed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zarr writes chunks in threads, and does not wait for the others when one has failed."""
    late = ["0", "1"]

    def sleep(_seconds: float) -> None:
        """Another thread writes once more."""
        if late:
            (directory / "c" / late.pop()).mkdir(parents=True)

    monkeypatch.setattr(picture_directory.time, "sleep", sleep)
    with pytest.raises(UserError, match="disk"), replacing_directory(tmp_path / "out") as directory:
        raise UserError("the disk is full")
    assert not late
    assert names(tmp_path) == []


def test_a_descriptor_that_is_cut_short_is_a_full_disk(
    canvas: CanvasStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvips says nothing where the disk was full for the descriptor alone."""
    save = getattr(pyvips.Image, "dzsave", None) or (
        lambda image, stem, **options: pyvips.Operation.call("dzsave", image, stem, **options)
    )

    def cut(image: pyvips.Image, stem: bytes, **options: object) -> None:
        save(image, stem, **options)
        Path(f"{os.fsdecode(stem)}.dzi").write_bytes(b"")

    monkeypatch.setattr(pyvips.Image, "dzsave", cut, raising=False)
    with pytest.raises(UserError, match=r"out cannot be written \(No space left on device\): free some space"):
        export(canvas, tmp_path / "out", "dzi", Style())
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell whose memory it is")
@pytest.mark.parametrize("form", ["png", "bigtiff", "dzi", "pdf"])
def test_memory_does_not_grow_with_the_canvas(form: str, tmp_path: Path) -> None:
    """Three times the pixels, in a process of its own, take about the same memory."""
    script = """
import sys, threading, time
from pathlib import Path
from render.export.export import Style, export
from render.canvas.store import CanvasStore

peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) / 1000)
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
export(CanvasStore(Path(sys.argv[1])), Path("out"), sys.argv[2], Style())
print(peak)
"""
    peaks = []
    for rows in (2048, 6144):
        path = tmp_path / f"{rows}"
        stores.create(path, (rows, 4096), "token")
        canvas, part = CanvasStore(path, mode="r+"), smooth((512, 4096))
        for rect in canvas.rect.bands(512 * 4096, 512):
            canvas.write(rect, part)
        result = subprocess.run(
            [sys.executable, "-c", script, str(path), form], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        peaks.append(float(result.stdout))
    assert peaks[1] < 1.25 * peaks[0] + 20
    assert peaks[1] < 600


# The command


def test_a_run_is_exported_again_without_dreaming(command, tmp_path: Path) -> None:
    words = (*TINY, "output.dir=run", "output.also=[tiff,deep/me.dzi]", "output.dpi=100")
    assert command(*words).code == 0
    assert {"preview.png", "preview.tif", "preview-zoom"} <= set(names(tmp_path / "run"))
    assert (tmp_path / "deep" / "me" / "dream.dzi").exists()
    log = (tmp_path / "run" / "render.log").read_text()
    pyramid = ("output.format=bigtiff", "output.bits=16", "output.dpi=200")
    result = command("export", "run=run", *pyramid, "output.also=[web/me.jpg]")
    assert result.code == 0, result.err
    assert result.out.strip().splitlines()[-2:] == ["run/preview.btf", str(tmp_path / "web" / "me.jpg")]
    assert (tmp_path / "run" / "render.log").read_text().count("mean|g|") == log.count("mean|g|")
    canvas = Checkpoints(tmp_path / "run" / "canvas")
    read = canvas.read()
    assert read is not None
    pixels = CanvasStore(canvas.path(read[1][0])).read(CanvasStore(canvas.path(read[1][0])).rect)
    image = pyvips.Image.new_from_file(str(tmp_path / "run" / "preview.btf"))
    np.testing.assert_array_equal(image.numpy(), to_integers(pixels, 16))
    with Image.open(tmp_path / "web" / "me.jpg") as jpeg:
        assert jpeg.info["dpi"] == (200, 200)
    # The same once more writes nothing; the render itself finds its pictures as they were.
    before = (tmp_path / "run" / "preview.btf").stat().st_mtime_ns
    assert command("export", "run=run", *pyramid).code == 0
    assert (tmp_path / "run" / "preview.btf").stat().st_mtime_ns == before
    again = command(*words)
    assert "already finished" in again.out
    assert "writing" not in again.out


def test_a_run_that_is_not_finished_is_exported_under_a_name_that_says_so(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    result = command("export", "run=run", "output.format=webp")
    assert result.code == 0, result.err
    assert "not finished: as saved at octave 1, step 1" in result.out
    assert result.out.strip().splitlines()[-1] == "run/preview-octave-1-step-1.webp"
    command("export", "run=run", "output.format=webp").refused("preview-octave-1-step-1.webp", "overwrite=true")
    assert command("export", "run=run", "output.format=webp", "overwrite=true").code == 0
    assert "not finished: as saved at octave 1, step 1" in command("proof", "run=run", "profile=cmyk").out


def test_bad_words_to_export(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run").code == 0
    (tmp_path / "mine.jpg").write_bytes(b"precious")
    (tmp_path / "empty").mkdir()
    for words, expected in (
        ((), ("run=DIR",)),
        (("run=",), ("run=DIR",)),
        (("run=nowhere",), ("nowhere", "no run")),
        (("run=empty",), ("empty", "no run")),
        (("run=run", "octaves.steps=3"), ("octaves.steps", "dreaming again")),
        (("run=run", "output.widht=3"), ("output.widht",)),
        (("run=run", "output.width_cm=45"), ("output.width_cm", "dreaming again", "output.dpi")),
        (("run=run", "output.format=gif"), ("gif", "bigtiff")),
        (("run=run", "output.path=mine.jpg"), ("mine.jpg", "overwrite=true")),
        (("run=run", "output.format=png", "output.profile=cmyk"), ("CMYK", "output.format=tiff")),
        (("run=run", "output.profile=no.icc"), ("no.icc", "No such file")),
        (("run=run", "output.dpi=-3"), ("output.dpi=-3",)),
        (("run=run", "output.bits=16", "output.format=jpeg"), ("output.bits=16", "jpeg")),
    ):
        command("export", *words).refused(*expected)
    assert (tmp_path / "mine.jpg").read_bytes() == b"precious"
    assert names(tmp_path / "run") == [".lock", "canvas", "preview.png", "previews", "render.log", "run.json"]


def test_a_directory_of_the_users_is_not_replaced_even_when_asked(command, tmp_path: Path) -> None:
    """photos.dzi becomes the directory photos: what if that is where the photos are?"""
    assert command(*TINY, "output.dir=run").code == 0
    for name in ("photos", "photos.zarr"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "me.jpg").write_bytes(b"precious")
    for suffix in ("dzi", "zarr"):
        words = ("export", "run=run", f"output.path=photos.{suffix}", "overwrite=true")
        command(*words).refused("photos", "never replaced", "output.path")
    assert [path.read_bytes() for path in tmp_path.glob("photos*/*")] == [b"precious"] * 2
    (tmp_path / "photos" / "me.jpg").unlink()
    for _ in range(2):
        assert command("export", "run=run", "output.path=photos.dzi", "overwrite=true").code == 0
    assert (tmp_path / "photos" / "dream.dzi").exists()


def test_a_canvas_that_is_gone_or_damaged_is_said_to_be(command, tmp_path: Path) -> None:
    assert command(*TINY, "output.dir=run", INLINE).code == 0
    (chunk,) = (tmp_path / "run" / "canvas").glob("*/c/0/0/0")
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    command("export", "run=run", "output.format=tiff").refused("canvas cannot be read", "damaged", "fresh=true")
    shutil.rmtree(tmp_path / "run" / "canvas")
    command("export", "run=run", "output.format=tiff").refused("run holds no canvas")
    assert not (tmp_path / "run" / "preview.tif").exists()


@pytest.mark.parametrize("form", ["tiff", "png"])
def test_panels_put_together_are_the_print(form: str, canvas: CanvasStore, pixels: np.ndarray, tmp_path: Path) -> None:
    """Every panel holds its own pixels, says where it lies, and all of them leave nothing out."""
    panels = cut_panels(SHAPE, 100.0, width_cm=20, height_cm=18, overlap_mm=12)
    assert len(panels.panels) == 6
    layout = PrintLayout(canvas=SHAPE, tiles=(200, 300))
    export_panels(canvas, tmp_path / "p", form, Style(16, metadata=Metadata(SETTINGS, dpi=100)), panels, layout)
    ending = ".tif" if form == "tiff" else ".png"
    assert names(tmp_path / "p") == sorted([MARKER, *(f"{panel.name}{ending}" for panel in panels.panels), "map.png"])
    whole = np.full((*SHAPE, 3), -1, int)
    for panel in panels.panels:
        path = tmp_path / "p" / f"{panel.name}{ending}"
        whole[slice(*panel.rect.rows), slice(*panel.rect.columns)] = pyvips.Image.new_from_file(str(path)).numpy()
        panel_layout = PrintLayout.from_settings(read_settings(path))
        assert (panel_layout.origin, panel_layout.canvas) == ((panel.rect.rows.start, panel.rect.columns.start), SHAPE)
    np.testing.assert_array_equal(whole, to_integers(pixels, 16))


def test_a_print_comes_in_panels_when_the_config_says_so(command, tmp_path: Path) -> None:
    words = (
        *TINY,
        "output.dir=run",
        "output.dpi=100",
        "output.format=tiff",
        "output.panels.width_cm=1",
        "output.panels.overlap_mm=2",
    )
    result = command(*words)
    assert result.code == 0, result.err
    assert result.out.strip().splitlines()[-1] == "run/preview-panels"
    assert names(tmp_path / "run" / "preview-panels") == [MARKER, "A1.tif", "A2.tif", "A3.tif", "map.png"]
    command(*words, "output.panels.overlap_mm=10", "fresh=true").refused("overlap", "larger than the overlap")
    command("export", "run=run", "output.panels.width_cm=0.2").refused("output.panels.width_cm=0.2", "overlap")


@pytest.mark.parametrize("name", ["o.dzi", "o.png", "o.tif"])
def test_a_stopped_export_leaves_nothing(name: str, tmp_path: Path) -> None:
    """The signal comes while libvips reads the canvas, through which no exception passes."""
    rendered(tmp_path / "run", *TINY, "octaves.steps=0", "output.width=1100")
    program = (
        "import os, signal, sys, time\n"
        "from render.system import interrupts\n"
        "from render.__main__ import main\n"
        "from render.canvas import image\n"
        "image.BAND, whole = 0, image._VirtualTiff._tile\n"
        "def stopped(self, number):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    while not interrupts.is_stop_requested(): time.sleep(0.01)\n"
        "    return whole(self, number)\n"
        "image._VirtualTiff._tile = stopped\n"
        f"sys.exit(main(['export', 'run=run', 'output.path=out/{name}']))\n"
    )
    (tmp_path / "out").mkdir()
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RENDER_OVERRIDES": ""},
    )  # fmt: skip
    assert result.returncode == 130, result.stderr
    assert result.stderr.splitlines()[-1] == "render: interrupted"
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
