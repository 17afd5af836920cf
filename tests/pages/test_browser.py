"""The viewer in Chromium: from files, from a plain server, and from `view` while a run goes on.

RENDER_SCREENSHOTS names a directory for screenshots.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from render.canvas.image import to_integers
from render.errors import UserError
from render.export.profile import read_profile
from render.export.soft_proof import proof
from render.pages import openseadragon
from render.pages.zoom_page import ViewerFacts, write_viewer
from render.source.source import sample_path
from render.system.paths import file_sha256
from render.viewer import live_run as live
from render.viewer.live_run import LiveRun
from render.viewer.tile_proof import TileProof
from tests.support import browser
from tests.support.http_server import answering
from tests.support.live_run import LiveJob, smooth
from tests.viewer.test_view import JPEG_LEVELS, says_progress, served

FACTS = ViewerFacts(
    "hubble <b>&amp;</b>",
    1000,
    872,
    100.0,
    {"image": "sample:hubble", "octaves": {"count": 5}},
    "make render image=sample:hubble",
)
SHAPE = (872, 1000)
TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture(scope="session")
def script() -> bytes:
    try:
        return openseadragon.load().script
    except UserError as error:
        pytest.skip(f"needs OpenSeadragon: {error}")


@pytest.fixture(scope="session")
def source() -> np.ndarray:
    return pyvips.Image.new_from_file(str(sample_path("hubble"))).numpy()


@pytest.fixture(scope="session")
def dream(source: np.ndarray) -> np.ndarray:
    """A picture of the same size that differs from the source at every pixel."""
    return 255 - source[:, ::-1]


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, script: bytes, source: np.ndarray, dream: np.ndarray) -> Path:
    """An export as a render leaves it; PNG tiles, so that pixels can be compared, and a source of half the size."""
    directory = tmp_path_factory.mktemp("a print, (50 %) #1") / "hubble-zoom"
    directory.mkdir()
    for stem, pixels, suffix in (("dream", dream, ".png"), ("source", source[::2, ::2], ".jpg[Q=95]")):
        picture = pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).copy(interpretation="srgb")
        picture.dzsave(str(directory / stem), suffix=suffix, keep="none")
    assert write_viewer(directory, FACTS) is None
    return directory


@pytest.fixture(params=["file", "server"])
def address(request: pytest.FixtureRequest, export: Path) -> Iterator[str]:
    if request.param == "file":
        yield (export / "index.html").as_uri()
        return

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(export))) as server, answering(server):
        yield f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture
def page(chromium: browser.Browser) -> Iterator[browser.Page]:
    page = chromium.page(1000, 720)
    yield page
    page.close()


def shown(page: browser.Page, name: str = "") -> np.ndarray:
    """Return a screenshot of the stage at rest; store it if RENDER_SCREENSHOTS is set."""
    page.settled()
    directory = os.environ.get("RENDER_SCREENSHOTS")
    screen = page.screenshot(Path(directory) / f"{name}.png" if directory and name else None)
    x, y, width, height = map(int, page.box("#stage"))
    return screen[y : y + height, x : x + width]


def beginning(page: browser.Page) -> tuple[float, float]:
    """(row, column) of the stage at which the picture begins, px."""
    page.do("window.at = dreamViewer.viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true)")
    return page.run("at.y"), page.run("at.x")


def corner(page: browser.Page) -> tuple[int, int]:
    """Return the same at 1:1, in whole px."""
    y, x = beginning(page)
    assert abs(x - round(x)) < 1e-3
    assert abs(y - round(y)) < 1e-3
    return round(y), round(x)


def expected_at(picture: np.ndarray, at: tuple[int, int], size: tuple[int, int]) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Return the visible part of a picture whose corner lies `at`, and its place on a stage of `size`."""
    rows, columns = (
        (max(0, start), min(length, start + extent))
        for start, length, extent in zip(at, size, picture.shape[:2], strict=True)
    )
    part = picture[rows[0] - at[0] : rows[1] - at[0], columns[0] - at[1] : columns[1] - at[1]]
    return part, (slice(*rows), slice(*columns))


def test_the_picture_is_there_whole_and_to_the_pixel(page: browser.Page, address: str, dream: np.ndarray) -> None:
    """Fitted, all of it is in view; at 1:1, at any position, the screen has its exact pixels."""
    page.open(address)
    fit = shown(page, "fit")
    left, right = fit[:, fit.shape[1] // 2 - 200 : fit.shape[1] // 2], fit[:, fit.shape[1] // 2 : fit.shape[1] // 2 + 200]
    assert left.std() > 5
    assert right.std() > 5
    for move in ((), ("ArrowRight", "ArrowDown"), ("ArrowLeft",) * 4):
        page.click("#pixels")
        for key in move:
            page.key(key)
        stage = shown(page, "full-zoom" if not move else "")
        part, where = expected_at(dream, corner(page), stage.shape[:2])
        assert part.size > 100_000
        np.testing.assert_array_equal(stage[where], part)
    assert page.run("document.querySelector('#zoom').textContent") == "100 %"
    page.key("f")
    np.testing.assert_array_equal(shown(page), fit)
    assert page.complaints == []
    here = address.rpartition("/")[0]
    assert all(url.startswith((here, "data:")) for url in page.requests), page.requests
    assert len([url for url in page.requests if "/dream_files/" in url]) > 10


def test_pixels_are_squares_when_enlarged(page: browser.Page, address: str, dream: np.ndarray) -> None:
    page.open(address)
    page.settled()
    page.do("dreamViewer.viewport.zoomTo(1000 * 16 / dreamViewer.viewport.getContainerSize().x, null, true)")
    stage = shown(page, "squares")
    y, x = beginning(page)
    rows, columns = np.arange(40, stage.shape[0] - 40, 7), np.arange(40, stage.shape[1] - 40, 7)
    at_rows, at_columns = (rows + 0.5 - y) / 16, (columns + 0.5 - x) / 16
    # Away from the borders of the squares, where half a pixel more or less decides.
    rows, at_rows = rows[abs(at_rows % 1 - 0.5) < 0.4], at_rows[abs(at_rows % 1 - 0.5) < 0.4]
    columns, at_columns = columns[abs(at_columns % 1 - 0.5) < 0.4], at_columns[abs(at_columns % 1 - 0.5) < 0.4]
    expected = dream[np.ix_(at_rows.astype(int), at_columns.astype(int))]
    np.testing.assert_array_equal(stage[np.ix_(rows, columns)], expected)


def test_the_divider_swipes_between_source_and_dream(page: browser.Page, address: str, source: np.ndarray) -> None:
    page.open(address)
    page.settled()
    page.key("1")
    dream_only = shown(page)
    page.click("#compare")
    half = shown(page, "compare")
    middle, width = half.shape[1] // 2, half.shape[1]
    row, column = corner(page)
    calm = slice(80, half.shape[0] - 80)  # neither the words source and dream
    handle = abs(np.arange(width) - middle) > 30

    def like_source(stage: np.ndarray, columns: slice) -> bool:
        part, where = expected_at(source, (row, column), stage.shape[:2])
        full = np.zeros(stage.shape)
        full[where] = part
        # The source lies there at half its size.
        return bool(np.abs(stage[calm, columns].astype(float) - full[calm, columns]).mean() < 15)

    right = slice(middle + 31, width)
    np.testing.assert_array_equal(half[calm, right], dream_only[calm, right])
    assert like_source(half, slice(0, middle - 31))
    assert not like_source(dream_only, slice(0, middle - 31))
    assert handle.sum() > 500

    x, y, w, h = page.box("#divider")
    page.drag((x + w / 2, y + h / 2), (x + w / 2 - 300, y + h / 2 + 5))
    dragged = shown(page)
    assert page.run("document.querySelector('#divider').getAttribute('aria-valuenow')") == str(
        round((middle - 300) / width * 100)
    )
    np.testing.assert_array_equal(dragged[calm, middle - 269 :], dream_only[calm, middle - 269 :])
    assert like_source(dragged, slice(0, middle - 331))

    page.run("document.querySelector('#divider').focus()")
    page.key("End")
    assert like_source(shown(page), slice(0, width - 31))
    page.key("Home")
    np.testing.assert_array_equal(shown(page)[calm, 31:], dream_only[calm, 31:])
    page.key("c")
    np.testing.assert_array_equal(shown(page), dream_only)
    assert page.complaints == []


def test_the_source_shows_as_long_as_it_is_held(page: browser.Page, address: str) -> None:
    page.open(address)
    before = shown(page)
    page.key("s", up=False)
    held = shown(page)
    assert np.abs(held[100:-100].astype(float) - before[100:-100]).mean() > 20
    page.key("s", down=False)
    np.testing.assert_array_equal(shown(page), before)
    x, y, width, height = page.box("#hold")
    page.mouse("mousePressed", (x + width / 2, y + height / 2))
    np.testing.assert_array_equal(shown(page), held)
    page.mouse("mouseReleased", (x + width / 2, y + height / 2))
    np.testing.assert_array_equal(shown(page), before)
    assert page.complaints == []


def test_the_scale_bar_is_as_long_as_it_says(page: browser.Page, address: str) -> None:
    """The bar states centimetres of the print, at every zoom."""
    page.open(address)
    page.settled()
    units = {"mm": 0.1, "cm": 1.0, "m": 100.0}
    seen = set()
    for _ in range(9):
        number, unit = page.run("document.querySelector('#scale-text').textContent").split()
        seen.add(number + unit)
        length = page.run("parseFloat(document.querySelector('#bar').style.width)")
        across = page.run("dreamViewer.viewport.getZoom(true) * dreamViewer.viewport.getContainerSize().x")
        assert float(number) * units[unit] / length == pytest.approx(FACTS.width / 100 * 2.54 / across, rel=1e-4)
        assert 50 < length <= 180
        page.key("+")
        page.settled()
    assert len(seen) > 3


def test_the_page_says_what_made_the_picture(page: browser.Page, address: str) -> None:
    page.open(address)
    page.settled()
    assert page.run("document.title") == page.run("document.querySelector('h1').textContent") == FACTS.title
    page.key("i")
    text = page.run("document.querySelector('#panel').innerText")
    for words in (f"1000 {TIMES} 872 px", f"25.4 {TIMES} 22.1 cm at 100 dpi", FACTS.command, "octaves.count\t5"):
        assert words in text
    shown(page, "details")
    page.click("#details")
    assert page.run("document.querySelector('#panel').hidden")


def test_everything_can_be_reached_and_has_a_name(page: browser.Page, address: str) -> None:
    """The tab key reaches everything in the page's order, and colours have enough contrast."""
    page.open(address)
    page.settled()
    page.key("c")
    page.key("i")
    page.until("!document.querySelector('#divider').hidden")
    reached = []
    for _ in range(14):
        page.key("Tab")
        reached.append(page.run("document.activeElement.id || document.activeElement.className"))
    for control in (
        "compare",
        "hold",
        "details",
        "openseadragon-canvas",
        "divider",
        "command",
        "copy",
        "zoom-out",
        "fit",
        "pixels",
    ):
        assert control in reached
    tree = page.ask("Accessibility.getFullAXTree")["nodes"]
    unnamed = [
        node["role"]["value"]
        for node in tree
        if not node.get("ignored")
        and node["role"]["value"] in ("button", "slider", "application")
        and not node["name"]["value"]
    ]
    assert unnamed == []
    for element in ("h1", "#size", "#zoom", "#scale-text", "#compare", "#parameters th", "#parameters td", "#command"):
        assert contrast(page, element) >= 4.5, element


def contrast(page: browser.Page, selector: str) -> float:
    """Return the contrast of an element's text with its background (WCAG 2.2, 1.4.3)."""
    colours = page.run(
        f"""(() => {{
        let element = document.querySelector({json.dumps(selector)}), colour = getComputedStyle(element).color, ground;
        do {{ ground = getComputedStyle(element).backgroundColor; element = element.parentElement; }}
        while (element && /, 0\\)/.test(ground));
        return [colour, ground].map((text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number));
        }})()"""
    )
    channels = np.array(colours) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    light, dark = sorted(linear @ [0.2126, 0.7152, 0.0722], reverse=True)
    return float((light + 0.05) / (dark + 0.05))


def test_a_narrow_screen_has_room_for_everything(page: browser.Page, address: str) -> None:
    page.resize(360, 640)
    page.open(address)
    page.settled()
    page.key("c")
    page.key("i")
    shown(page, "narrow")
    assert page.run("document.documentElement.scrollWidth") <= 360
    for control in ("#compare", "#hold", "#details", "#fit", "#pixels", "#panel"):
        x, _, width, _ = page.box(control)
        assert x >= 0
        assert x + width <= 360, control
    assert page.box("#stage")[3] > 150


def test_without_the_script_the_page_says_what_to_do_and_shows_a_small_picture(page: browser.Page, export: Path) -> None:
    script = export / "openseadragon.min.js"
    kept = script.rename(export / "away.js")
    try:
        page.open((export / "index.html").as_uri())
        page.until("document.querySelector('#notice img')?.complete")
        text = page.run("document.querySelector('#notice').innerText")
        assert "npm pack openseadragon@" in text
        assert page.run("document.querySelector('#notice img').naturalWidth") == 250
        directory = os.environ.get("RENDER_SCREENSHOTS")
        page.screenshot(Path(directory) / "no-script.png" if directory else None)
    finally:
        kept.rename(script)


# ---- A run


@contextmanager
def replaced(page: browser.Page) -> Iterator[None]:
    """At its end, waits until another picture has replaced the one that was shown at its start."""
    page.do("window.previous = dreamViewer.world.getItemAt(0)")
    yield
    page.until("dreamViewer.world.getItemCount() === 1 && dreamViewer.world.getItemAt(0) !== previous")


def test_a_run_is_followed_from_nothing_to_its_end(
    page: browser.Page, script: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page waits, shows the first checkpoint, and replaces it by each that follows."""
    monkeypatch.setattr(live, "_POLL_MS", 300)
    job = LiveJob(tmp_path / "run", (327, 375), SHAPE)
    run = LiveRun(tmp_path / "run")
    with served(run, script) as server:
        page.open(server.url)
        page.until("document.querySelector('#notice').innerText.includes('No checkpoint yet')")
        directory = os.environ.get("RENDER_SCREENSHOTS")
        page.screenshot(Path(directory) / "waiting.png" if directory else None)

        job.save(0, 3, smooth(327, 375))
        page.until(f"document.querySelector('#size').textContent === '375 {TIMES} 327 px'")
        page.settled()
        assert "octave 1 of 2, step 3 of 3" in page.run("document.querySelector('#state').textContent")
        page.do("dreamViewer.viewport.zoomBy(2.5, null, true)")
        page.settled()
        before = page.run("dreamViewer.viewport.getBounds(true)")

        canvas = smooth(*SHAPE, seed=2)
        with replaced(page):
            job.save(1, 1, canvas)
            page.until(f"document.querySelector('#size').textContent === '1000 {TIMES} 872 px'")
        shown(page, "live")
        assert page.run("dreamViewer.viewport.getBounds(true)") == before

        page.key("1")
        stage = shown(page)
        part, where = expected_at(canvas, corner(page), stage.shape[:2])
        assert np.abs(stage[where] - part).max() <= JPEG_LEVELS

        last = smooth(*SHAPE, seed=3)
        with replaced(page):
            job.save(1, 3, last)
            job.finish()
            page.until("document.querySelector('#state').textContent === 'finished'")
        stage = shown(page)
        part, where = expected_at(last, corner(page), stage.shape[:2])
        assert np.abs(stage[where] - part).max() <= JPEG_LEVELS
        assert page.complaints == []
        assert all(url.startswith((server.url, "data:")) for url in page.requests)


def test_a_run_shows_how_much_is_left_and_offers_its_pictures_at_the_end(
    page: browser.Page, script: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_POLL_MS", 300)
    job = LiveJob(tmp_path / "run", SHAPE)
    job.save(0, 1, smooth(*SHAPE))
    says_progress(job.directory, share=0.4, left=200.0)
    with served(LiveRun(job.directory), script) as server:
        page.open(server.url)
        page.until("document.querySelector('#state').textContent.includes('about 3 min')")
        page.until("document.querySelector('#progress').getAttribute('aria-valuenow') === '40'")
        stage, bar = page.box("#stage"), page.box("#progress div")
        assert bar[2] == pytest.approx(0.4 * stage[2], abs=1)
        shown(page, "progress")
        assert not page.run("document.querySelector('#download').checkVisibility()")
        (job.directory / "dream.tif").write_bytes(b"tiff" * 1000)
        (job.directory / "dream.png").write_bytes(b"png")
        entry = {"sha256": "", "style": ""}
        job.record |= {"picture": "dream.tif", "pictures": {"dream.png": entry, "dream.tif": entry}}
        job.finish()
        page.until("document.querySelector('#download').checkVisibility()")
        assert not page.run("document.querySelector('#progress').checkVisibility()")
        page.key("?")
        files = page.run(
            "[...document.querySelectorAll('#files tr')].map((row) => [row.cells[0].innerText, row.cells[1].innerText])"
        )
        assert files == [["dream.tif", "4 kB"], ["dream.png", "3 bytes"]]
        shown(page, "finished")
        file = page.download(tmp_path / "downloads", "dream.tif", lambda: page.key("d"))
        assert file.read_bytes() == b"tiff" * 1000
        assert contrast(page, "#download") >= 4.5
        page.resize(390, 844)
        shown(page, "narrow-finished")
        x, _, width, _ = page.box("#download")
        assert x >= 0
        assert x + width <= 390
        assert page.complaints == []


def test_a_box_drawn_on_a_finished_run_becomes_a_command(page: browser.Page, script: bytes, tmp_path: Path) -> None:
    """Drawn with the mouse or taken from the view; too small a box becomes none; a run that goes on has no button."""
    job = LiveJob(tmp_path / "a run", SHAPE)
    job.save(0, 3, smooth(*SHAPE))
    with served(LiveRun(tmp_path / "a run"), script) as server:
        page.open(server.url)
        page.settled()
        page.until("document.querySelector('#state').textContent.startsWith('octave 1')")
        assert page.run("document.querySelector('#touch').hidden")
        job.finish()
        page.open(server.url)
        page.until("!document.querySelector('#touch').hidden")
        page.key("1")
        page.settled()
        top, left = beginning(page)
        x, y, _, _ = page.box("#stage")
        page.click("#touch")
        page.drag((x + left + 300, y + top + 250), (x + left + 640, y + top + 430))
        shown(page, "touch")
        told = page.run("document.querySelector('#touch-command').textContent")
        name, _, box = told.partition(" box=")
        assert name == f"make touch run='{tmp_path}/a run'"
        np.testing.assert_allclose([int(number) for number in box.split(",")], [300, 250, 340, 180], atol=2)
        drawn = page.box("#box")
        np.testing.assert_allclose(drawn, [x + left + 300, y + top + 250, 340, 180], atol=3)
        page.drag((x + left + 300, y + top + 250), (x + left + 310, y + top + 430))
        assert page.run("document.querySelector('#touch-command').hidden")
        assert "too small" in page.run("document.querySelector('#touch-text').textContent")
        page.key("f")
        page.settled()
        page.key("Enter")
        box = page.run("document.querySelector('#touch-command').textContent").partition(" box=")[2]
        np.testing.assert_allclose([int(number) for number in box.split(",")], [100, 87, 800, 698], atol=2)
        page.key("Escape")
        assert page.run("document.querySelector('#touch-bar').hidden")
        assert page.complaints == []
        page.resize(390, 720)
        page.key("t")
        shown(page, "touch-phone")
        assert page.run("document.documentElement.scrollWidth") <= 390


def test_a_soft_proof_takes_the_dreams_place_and_goes_again(page: browser.Page, script: bytes, tmp_path: Path) -> None:
    job = LiveJob(tmp_path / "run", SHAPE)
    canvas = smooth(*SHAPE)
    job.save(0, 3, canvas)
    job.finish()
    profile = read_profile("cmyk")
    image = pyvips.Image.new_from_array(to_integers(canvas, 16)).copy(interpretation="rgb16")
    expected = proof(image, profile, "relative")
    with served(LiveRun(job.directory, TileProof(profile, "relative")), script) as server:
        page.open(server.url)
        page.settled()
        assert page.run("document.querySelector('#dream-tag').hidden")
        page.key("1")
        page.settled()
        for name, tag, pixels in (
            ("proof", "soft proof", expected.shown),
            ("gamut", "beyond the print", expected.warning),
            ("dream", "dream", canvas),
        ):
            with replaced(page):
                page.key("p")
            page.settled()
            assert page.run("document.querySelector('#dream-tag').textContent") == tag
            assert page.run("document.querySelector('#dream-tag').hidden") == (name == "dream")
            assert page.run("document.querySelector('#proof').ariaPressed") == str(name != "dream").lower()
            stage = shown(page, name)
            part, where = expected_at(pixels.astype(np.float32), corner(page), stage.shape[:2])
            assert np.median(np.abs(stage[where] - part)) < 4, name
        assert page.complaints == []


def test_a_run_is_compared_with_its_source(page: browser.Page, script: bytes, tmp_path: Path, source: np.ndarray) -> None:
    job = LiveJob(tmp_path / "run", SHAPE, image="sample:hubble", image_sha256=file_sha256(sample_path("hubble")))
    job.save(0, 3, smooth(*SHAPE))
    job.finish()
    with served(LiveRun(tmp_path / "run"), script) as server:
        page.open(server.url)
        page.until("!!window.dreamViewer?.world.getItemCount()")
        page.key("1")
        page.key("s", up=False)
        page.until("dreamViewer.world.getItemCount() === 2")
        stage = shown(page)
        part, where = expected_at(source, corner(page), stage.shape[:2])
        difference = np.abs(stage[where][100:-100].astype(float) - part[100:-100])
        assert difference.mean() < 3
        assert page.complaints == []
