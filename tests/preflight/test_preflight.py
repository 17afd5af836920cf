"""Preflight reports on files of every format with known content, and its refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from render.canvas.image import to_integers
from render.commands.preflight import parse
from render.errors import UserError
from render.export.metadata import srgb_profile
from render.export.print_layout import PrintLayout
from render.geometry.blocks import deal_blocks
from render.geometry.geometry import Axis, Grid
from render.preflight.facts import Clipping, Report
from render.preflight.header import Header, read_header
from render.preflight.inspection import Request, inspect
from render.preflight.print_report import report_data, report_lines, verdict, viewing_cm, warnings
from render.preflight.seams import Seams
from tests.conftest import ROOT, TINY
from tests.export.test_picture import write
from tests.preflight.test_seams import TILE, stepped, texture


def vips(pixels: np.ndarray, dpi: float | None = 150) -> pyvips.Image:
    picture = pyvips.Image.new_from_array(pixels)
    wide = pixels.dtype == np.uint16
    picture = picture.copy(interpretation="rgb16" if wide else "srgb")
    if dpi is not None:
        picture = picture.copy(xres=dpi / 25.4, yres=dpi / 25.4)
    picture = picture.copy()
    picture.set_type(pyvips.GValue.blob_type, "icc-profile-data", srgb_profile())
    return picture


def printed(path: Path, **options: Any) -> str:
    return "\n".join(report_lines(inspect(Request(path, **options))))


PIXELS = np.clip(to_integers(texture(2, (300, 420)), 8), 40, 215)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.tif", {"compression": "lzw"}, ["TIFF, LZW"]),
        ("b.tif", {"compression": "none", "bigtiff": True}, ["BigTIFF, uncompressed"]),
        (
            "c.tif",
            {"compression": "deflate", "bigtiff": True, "tile": True, "pyramid": True},
            ["BigTIFF, deflate, tiles of 128 x 128 px, pyramid of 3 levels"],
        ),
        ("d.tif", {"tile": True, "pyramid": True, "subifd": True}, ["pyramid of 3 levels"]),
        ("e.tif", {"compression": "jpeg", "Q": 95}, ["TIFF, JPEG"]),
        ("f.png", {}, ["PNG, deflate"]),
        ("g.jpg", {"Q": 98}, ["format       JPEG\n"]),
        ("h.webp", {"lossless": True}, ["WebP, lossless"]),
        ("i.webp", {"Q": 98}, ["WebP, lossy"]),
    ],
)
def test_every_format_is_read(name: str, options: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    vips(PIXELS).write_to_file(str(tmp_path / name), **options)
    text = printed(tmp_path / name, tile=(96, 96))
    for word in (*words, "420 x 300", "7.1 x 5.1 cm (2.8 x 2.0 in) at 150 dpi", "RGB, 8 bits", "sRGB", "along 7 borders"):
        assert word in text, (word, text)
    assert "verdict      ready to print" in text


def test_sixteen_bits_and_grey_and_cmyk(tmp_path: Path) -> None:
    vips(PIXELS.astype(np.uint16) * 257).tiffsave(str(tmp_path / "wide.tif"), compression="deflate")
    vips(PIXELS).icc_transform("cmyk", input_profile="srgb").tiffsave(str(tmp_path / "cmyk.tif"))
    vips(PIXELS)[0].pngsave(str(tmp_path / "grey.png"), keep="none")
    assert "RGB, 16 bits" in printed(tmp_path / "wide.tif")
    cmyk = inspect(Request(tmp_path / "cmyk.tif"))
    assert (cmyk.colour, len(cmyk.clipped), cmyk.has_profile) == ("CMYK", 4, True)
    assert cmyk.profile not in (None, "")
    grey = inspect(Request(tmp_path / "grey.png"))
    assert (grey.colour, grey.has_profile) == ("grey", False)


def test_clipped_pixels_are_counted(tmp_path: Path) -> None:
    """Clipping is counted exactly, by channel, in 8 and 16 bits, with and without transparency."""
    pixels = np.random.default_rng(3).integers(50, 210, (500, 400, 3), np.uint8)
    pixels[:100, :, 0] = 255
    pixels[:50, :, 1] = 0
    vips(pixels).pngsave(str(tmp_path / "a.png"))
    vips(pixels.astype(np.uint16) * 257).tiffsave(str(tmp_path / "b.tif"))
    clear = np.dstack([pixels, np.zeros((500, 400), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "c.png")
    for name in ("a.png", "b.tif", "c.png"):
        report = inspect(Request(tmp_path / name))
        assert report.clipped == (Clipping("red", 0, 0.2), Clipping("green", 0.1, 0), Clipping("blue", 0, 0)), name
        # Only where its neighbours differ has a channel lost tones, and 1 in 900 pixels has a neighbour like it.
        assert [warning[:19] for warning in warnings(report) if "clipped" in warning] == ["clipped: red 19.9 %"]
        assert report.transparent == (name == "c.png")


def test_a_picture_without_anything_is_warned_of(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "bare.jpg")
    report = inspect(Request(tmp_path / "bare.jpg"))
    assert warnings(report) == [
        "no resolution stated: the shop cannot know its size",
        "no ICC profile: colours are anybody's guess",
    ]
    assert verdict(report) == "2 things to look at before it is printed"
    assert "bleed        not stated" in report_lines(report)
    assert "seams        borders not known: say tile=PX, or run=DIR of the run that made it" in report_lines(report)


def test_a_tiff_of_libvips_without_resolution_states_none(tmp_path: Path) -> None:
    vips(PIXELS, None).tiffsave(str(tmp_path / "a.tif"))
    assert read_header(tmp_path / "a.tif") == Header("TIFF", "uncompressed", None)


def test_our_own_settings_say_where_the_borders_are(tmp_path: Path) -> None:
    """The settings decide: seams are found at their borders, and not where tiles end elsewhere."""
    pixels = to_integers(stepped(texture(3), 6), 8)
    layout = PrintLayout(canvas=(600, 720), tiles=(TILE, TILE), blocks=(2, 1), bleed_px=18, trim=(564, 684))
    settings = {"seed": 1, "tiles": {"size": TILE}, "print": layout.to_settings()}
    write(tmp_path / "a.png", pixels, "png", settings, dpi=150)
    report = inspect(Request(tmp_path / "a.png"))
    assert report.layout == layout
    assert report.seams is not None
    assert report.seams.are_present
    assert report.block_seams is not None
    assert report.block_seams.borders == (1, 0)
    assert "bleed        3.0 mm (18 px) on every side, trimmed to 11.6 x 9.5 cm (4.6 x 3.8 in)" in report_lines(report)
    assert any("seams along the borders of tiles" in warning for warning in warnings(report))
    other = inspect(Request(tmp_path / "a.png", tile=(80, 80)))
    assert other.seams is not None
    assert not other.seams.are_present


def test_a_panel_knows_where_it_was_cut_out(tmp_path: Path) -> None:
    pixels = to_integers(stepped(texture(3), 6), 8)
    for origin, has_seams in (((100, 50), True), ((120, 70), False)):
        layout = PrintLayout(canvas=(600, 720), tiles=(TILE, TILE), origin=origin)
        write(tmp_path / "panel.png", pixels[100:500, 50:600], "png", {"print": layout.to_settings()})
        report = inspect(Request(tmp_path / "panel.png"))
        assert report.seams is not None
        assert report.seams.are_present == has_seams


def test_the_first_panel_is_one_although_it_begins_where_the_print_does(tmp_path: Path) -> None:
    pixels = to_integers(stepped(texture(3), 6), 8)[:400, :500]
    layout = PrintLayout(canvas=(600, 720), tiles=(TILE, TILE), panel=(400, 500), bleed_px=18, trim=(564, 684))
    write(tmp_path / "panel.png", pixels, "png", {"print": layout.to_settings()})
    report = inspect(Request(tmp_path / "panel.png"))
    assert report.seams is not None
    assert report.seams.are_present
    assert any(
        "(18 px) around the whole print" in line or "18 px around the whole print" in line for line in report_lines(report)
    )
    write(tmp_path / "cut.png", pixels[:300], "png", {"print": layout.to_settings()})
    assert "resized or cut" in str(inspect(Request(tmp_path / "cut.png")).seams_note)


def test_a_resized_picture_is_not_measured(tmp_path: Path) -> None:
    layout = PrintLayout(canvas=(600, 840), tiles=(96, 96))
    write(tmp_path / "a.png", PIXELS, "png", {"print": layout.to_settings()})
    report = inspect(Request(tmp_path / "a.png"))
    assert report.seams is None
    assert report.seams_note is not None
    assert "840 x 600" in report.seams_note


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(32, 400), st.integers(32, 400), st.integers(1, 9))
def test_borders_are_the_grids_own(rows: int, columns: int, tall: int, wide: int, workers: int) -> None:
    """Borders from a record and from settings are those of the dreamed tiles and blocks."""
    axes = [Axis(rows, tall, 0, 32, 16, "reflect"), Axis(columns, wide, 0, 32, 16, "wrap")]
    grid = Grid(*axes)
    dealt = deal_blocks(grid, workers)
    plan = {"octaves": [{"grid": {"rows": vars(axes[0]), "columns": vars(axes[1])}}], "workers": workers}
    layout = PrintLayout.from_record(json.loads(json.dumps({"plan": plan})))
    assert layout == replace(PrintLayout.from_settings(json.loads(json.dumps({"print": layout.to_settings()}))))
    cores = [grid.rows.core(at).start for at in range(1, grid.rows.tiles)]
    assert layout.tile_borders((rows, columns))[0] == cores
    starts = {block.pixels.columns.start for block in dealt} - {0}
    assert layout.block_borders((rows, columns))[1] == sorted(starts)
    assert layout.lies_on_canvas((rows, columns))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"print": 3},
        {"print": {"tiles": [1]}},
        {"print": {"tiles": ["a", 2], "origin": None}},
        {"print": {"tiles": [0, 5]}},
    ],
)
def test_settings_of_others_are_no_layout(settings: dict[str, Any]) -> None:
    assert PrintLayout.from_settings(settings) == PrintLayout()
    assert PrintLayout.from_record(settings) == PrintLayout()


def test_warnings_and_verdict_follow_the_facts() -> None:
    good = Report(
        "a.tif", 10, Header("TIFF", "LZW", (150.0, 150.0)), (3000, 4000), 8, "RGB", False, False, "sRGB", True,
        PrintLayout(bleed_px=0), (Clipping("red", 0.0099, 0.0),), Seams(1.001, 0.004, 900, (3, 4)), None, None,
    )  # fmt: skip
    assert warnings(good) == []
    assert verdict(good) == "ready to print"
    assert any("ratio 1.001 +- 0.004: no seam along 7 borders" in line for line in report_lines(good))
    for changes, word in (
        ({"header": Header("TIFF", "LZW", (72.0, 72.0))}, "72 dpi is under 100: for viewing from 121 cm"),
        ({"header": Header("TIFF", "LZW", (150.0, 300.0))}, "not square"),
        ({"header": Header("TIFF", "LZW", (150.0, 150.0), pages=3)}, "3 pages"),
        ({"has_profile": False, "profile": None}, "no ICC profile"),
        ({"profile": None}, "cannot be read"),
        ({"transparent": True}, "transparent"),
        ({"turned": True}, "EXIF"),
        ({"clipped": (Clipping("red", 0.0, 0.0501),)}, "clipped: red 5.0 %"),
        ({"seams": Seams(1.17, 0.02, 300, (3, 4))}, "tiles.halo=exact"),
        ({"block_seams": Seams(1.17, 0.02, 300, (1, 0))}, "blocks"),
    ):
        bad = replace(good, **changes)
        assert len(warnings(bad)) == 1
        assert word in warnings(bad)[0]
        assert verdict(bad) == "1 thing to look at before it is printed"
        assert json.loads(json.dumps(report_data(bad)))["warnings"] == warnings(bad)
    unsure = replace(good, seams=Seams(1.03, 0.05, 20, (1, 1)))
    assert any("too little border to be sure" in line for line in report_lines(unsure))


def test_sharpness_is_a_minute_of_arc() -> None:
    """The rule of printers: 300 dpi at arm's length."""
    assert viewing_cm(300) == pytest.approx(29.1, abs=0.1)


# Bad input


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], ["file=PICTURE"]),
        (["file=nowhere.png"], ["nowhere.png", "No such file"]),
        (["file=folder"], ["directory", "run=folder"]),
        (["file=notes.txt"], ["no whole PNG, JPEG, WebP or TIFF"]),
        (["file=empty.png"], ["empty.png", "no whole"]),
        (["file=dream.dzi"], ["pyramid for screens"]),
        (["file=float.tif"], ["float", "8 or 16 bit"]),
        (["file=good.png", "tile=x"], ["tile=x", "WIDTHxHEIGHT"]),
        (["file=good.png", "tile=8"], ["tile=8", "at least 32"]),
        (["file=good.png", "json=maybe"], ["json=maybe"]),
        (["file=good.png", "run=folder"], ["run=folder", "run.json"]),
        (["run=nowhere"], ["run=nowhere"]),
        (["run=young"], ["no finished picture"]),
        (["image=good.png"], ["'image'", "file="]),
    ],
)
def test_bad_input_is_refused_in_one_line(
    words: list[str], says: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for directory in ("folder", "young"):
        Path(directory).mkdir()
    config = {"name": "dream", "image": "noise", "model": {"name": "inception_v3"}, "output": {}}
    record = {"digest": "1234", "status": "running", "picture": "dream.png", "config": config}
    Path("young/run.json").write_text(json.dumps(record))
    Path("notes.txt").write_text("no picture")
    Path("empty.png").write_bytes(b"")
    Path("dream.dzi").write_text("<Image/>")
    Image.fromarray(PIXELS).save("good.png")
    pyvips.Image.new_from_array(PIXELS.astype(np.float32)).tiffsave("float.tif")
    with pytest.raises(UserError) as caught:
        inspect(parse(words))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in says:
        assert word in message


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "tiled.tif"])
@pytest.mark.parametrize("share", [0.02, 0.6])
def test_a_truncated_picture_is_refused(name: str, share: float, tmp_path: Path) -> None:
    options = {"tile": True, "bigtiff": True, "compression": "lzw"} if name == "tiled.tif" else {}
    vips(PIXELS).write_to_file(str(tmp_path / name), **options)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"no whole|cannot be read"):
        inspect(Request(tmp_path / name))


@given(st.binary(max_size=200))
def test_no_header_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "header"
    for magic in (
        b"",
        b"II*\0\x08\0\0\0",
        b"MM\0+\0\x08\0\0",
        b"\xff\xd8\xff",
        b"RIFF\0\0\0\0WEBPVP8X",
        b"\x89PNG\r\n\x1a\n",
    ):
        path.write_bytes(magic + content)
        header = read_header(path)
        assert header is None or (header.levels >= 1 and (header.dpi is None or min(header.dpi) > 1))


def test_a_broken_profile_is_said_to_be(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", icc_profile=b"no profile at all" * 20)
    report = inspect(Request(tmp_path / "a.tif"))
    if report.has_profile:
        assert "the ICC profile cannot be read" in warnings(report)
    good = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PIXELS).save(tmp_path / "b.tif", icc_profile=good)
    assert inspect(Request(tmp_path / "b.tif")).profile == "sRGB built-in"


# As a user runs it


def test_the_picture_of_a_run(command: Any, tmp_path: Path) -> None:
    assert command("render", *TINY, "tiles.size=48", "output.dir=run", "quiet=true").code == 0
    finished = command("preflight", "run=run")
    assert finished.code == 0, finished.err
    assert "borders of tiles of 48 x" in finished.out
    assert finished.out.splitlines()[-1].startswith("verdict ")
    machine = command("preflight", "run=run", "json=true")
    assert json.loads(machine.out)["width"] == 96
    command("preflight", "file=gone.png").refused("gone.png")


def test_a_run_whose_picture_is_no_picture_file_is_checked_by_another_one(command: Any, tmp_path: Path) -> None:
    assert command("render", *TINY, "output.format=pdf", "output.also=[dzi]", "output.dir=run", "quiet=true").code == 0
    command("preflight", "run=run").refused("preview.pdf", "preview-zoom", "make export run=run output.format=tiff")
    assert command("export", "run=run", "output.format=tiff").code == 0
    assert command("preflight", "run=run").out.startswith("file         run/preview.tif")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell whose memory it is")
def test_memory_stays_flat_as_the_picture_grows(tmp_path: Path) -> None:
    """BigTIFFs of 108 and 324 MB (9,000 x 4,000 and 9,000 x 12,000 px) take the same memory."""
    script = """
import sys, threading, time
from pathlib import Path
from render.preflight.inspection import Request, inspect

def anonymous():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) / 1000

before, peak, finished = anonymous(), 0, threading.Event()
def watch():
    global peak
    while not finished.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.01)
thread = threading.Thread(target=watch)
thread.start()
inspect(Request(Path(sys.argv[1]), tile=(1024, 1024)))
finished.set()
thread.join()
print(peak - before)
"""
    peaks = []
    for rows in (4000, 12_000):
        picture = pyvips.Image.xyz(9000, rows).cast("uchar").bandjoin(pyvips.Image.black(9000, rows))
        picture.copy(interpretation="srgb").tiffsave(str(tmp_path / "big.tif"), bigtiff=True, tile=True)
        process = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "big.tif")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.returncode == 0, process.stderr
        peaks.append(float(process.stdout))
    assert peaks[1] < 280
    assert peaks[1] < 1.1 * peaks[0] + 20
