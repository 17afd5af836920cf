"""The page of a film in Chromium: it plays, shows every frame to the pixel, its source, and what is newly finished.

RENDER_SCREENSHOTS names a directory for screenshots.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.storage.locking import lock_directory
from render.viewer import live_film
from tests.support import browser
from tests.support.tiny_film import SHAPE, TinyFilm, frame, shown


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    executable = browser.find()
    if executable is None:
        pytest.skip("needs Chromium")
    with browser.opened(executable, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def page(chromium: browser.Browser) -> Iterator[browser.Page]:
    page = chromium.page(1280, 900)
    yield page
    page.close()


def until_frame(page: browser.Page, number: int) -> None:
    page.until(f"document.querySelector('#frame').dataset.number === '{number}' && document.querySelector('#video').hidden")


def pixels_of(page: browser.Page, element: str) -> np.ndarray:
    """Return the pixels of a picture or video as the page has them, at its own size."""
    url = page.run(
        f"(() => {{ const e = document.querySelector('{element}'), c = document.createElement('canvas');"
        "c.width = e.naturalWidth || e.videoWidth; c.height = e.naturalHeight || e.videoHeight;"
        "c.getContext('2d').drawImage(e, 0, 0); return c.toDataURL(); })()"
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def screenshot(page: browser.Page, name: str) -> None:
    directory = os.environ.get("RENDER_SCREENSHOTS")
    if directory:
        page.screenshot(Path(directory) / f"{name}.png")


def test_the_scrubber_shows_every_frame_to_the_pixel(page: browser.Page, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film")
    film.finish()
    with shown(film) as server:
        page.open(server.url)
        until_frame(page, 0)
        assert (pixels_of(page, "#frame") == frame(0)).all()
        for key, number in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 11), ("Home", 0)):
            page.key(key)
            until_frame(page, number)
            stored = np.asarray(Image.open(film.directory / "frames" / f"{number:06}.png"))
            assert (pixels_of(page, "#frame") == stored).all()
            assert page.run("document.querySelector('#number').value") == str(number)
        page.do("(() => { const n = document.querySelector('#number'); n.value = '7'; n.onchange(); })()")
        until_frame(page, 7)
        assert page.run("document.querySelector('#time').textContent") == "0:00.88 of 0:01.50"
        x, y, width, height = page.box("#scrubber")
        page.drag((x + width * 7 / 11, y + height / 2), (x + width - 4, y + height / 2))
        until_frame(page, 11)
        assert (pixels_of(page, "#frame") == frame(11)).all()
        screenshot(page, "film")
        assert page.complaints == []
        assert all(url.startswith((server.url, "data:")) for url in page.requests)


@pytest.mark.parametrize(("format", "codec"), [("mp4", None), ("webm", "vp9")])
def test_the_film_s_file_is_played_from_the_frame_that_is_shown(
    page: browser.Page, tmp_path: Path, format: str, codec: str | None
) -> None:
    film = TinyFilm(tmp_path / "film", 24)
    film.finish(format, codec)
    with shown(film) as server:
        page.open(server.url)
        until_frame(page, 0)
        page.until("document.querySelector('#video').videoWidth === 144")
        page.do("(() => { const n = document.querySelector('#number'); n.value = '10'; n.onchange(); })()")
        until_frame(page, 10)
        page.key(" ")
        page.until("!document.querySelector('#video').hidden && document.querySelector('#video').currentTime > 1.5")
        assert page.run("document.querySelector('#frame').hidden")
        screenshot(page, f"playing-{format}")
        page.key(" ")
        number = int(page.run("document.querySelector('#number').value"))
        assert 11 <= number < 24
        until_frame(page, number)
        assert (pixels_of(page, "#frame") == frame(number)).all()
        # The video stands where the frame's picture is.
        difference = pixels_of(page, "#video").astype(int) - frame(number)
        assert np.abs(difference[8:-8, 8:-8]).mean() < 10
        assert page.complaints == []


def test_a_finished_film_can_be_downloaded(page: browser.Page, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film")
    film.finish()
    with shown(film) as server:
        page.open(server.url)
        until_frame(page, 0)
        file = page.download(tmp_path / "downloads", "zoom.mp4", lambda: page.key("d"))
    assert file.read_bytes() == (film.directory / "zoom.mp4").read_bytes()
    assert page.complaints == []


def test_a_film_that_no_browser_plays_is_played_by_its_pictures(page: browser.Page, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film")
    film.finish("mov", "prores")
    with shown(film) as server:
        page.open(server.url)
        until_frame(page, 0)
        page.key(" ")
        page.until("document.querySelector('#play').getAttribute('aria-label') === 'Pause'")
        page.until("document.querySelector('#play').getAttribute('aria-label') === 'Play'")
        until_frame(page, 11)
        assert (pixels_of(page, "#frame") == frame(11)).all()


def test_frames_appear_as_they_are_finished(page: browser.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_film, "_POLL_MS", 200)
    film = TinyFilm(tmp_path / "film")
    progress = {
        "finished": 3,
        "frames": 12,
        "rate": 0.5,
        "left": 18.0,
        "within": "octave 1 step 2/2",
        "time": 1.0,
        "first": 0,
    }
    with lock_directory(film.directory, "the test"), shown(film) as server:
        page.open(server.url)
        page.until("document.querySelector('#state').textContent.startsWith('0 of 12 frames finished')")
        assert not page.run("document.querySelector('#notice').hidden")
        screenshot(page, "waiting")
        film.make(3)
        (film.directory / "film-progress.json").write_text(json.dumps(progress))
        until_frame(page, 2)
        words = "3 of 12 frames finished, octave 1 step 2/2, about 18 s left"
        page.until(f"document.querySelector('#state').textContent === '{words}'")
        screenshot(page, "running")
        page.key("ArrowLeft")
        until_frame(page, 1)
        film.make(2)
        page.until("document.querySelector('#scrubber').max === '4'")
        # Whoever looks at a frame is not taken from it.
        until_frame(page, 1)
        page.key("n")
        until_frame(page, 4)
        film.finish()
        page.until("document.querySelector('#state').textContent === 'finished'")
        until_frame(page, 11)
        page.until("document.querySelector('#video').videoWidth === 144")
        page.key("Home")
        page.key(" ")
        page.until("!document.querySelector('#video').hidden")


def test_the_source_follows_the_camera(page: browser.Page, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film", 12)
    film.finish()
    with shown(film) as server:
        page.open(server.url)
        page.until("document.querySelector('#source').dataset.number === '0'")
        first = pixels_of(page, "#source").astype(float)
        page.key("End")
        page.until("document.querySelector('#source').dataset.number === '11'")
        last = pixels_of(page, "#source")
        # At twice the size a second, the last frame is the middle of the first, enlarged.
        share = 2 ** (-11 / 8)
        rows, columns = SHAPE
        box = (columns * (1 - share) / 2, rows * (1 - share) / 2, columns * (1 + share) / 2, rows * (1 + share) / 2)
        enlarged = Image.fromarray(first.astype(np.uint8)).resize((columns, rows), Image.Resampling.BICUBIC, box)
        assert np.abs(last - np.asarray(enlarged, float)).mean() < 6
        assert np.abs(last - first).mean() > 20
        page.key("c")
        assert page.run("document.querySelector('#source-side').hidden")


def test_the_page_fits_a_telephone(page: browser.Page, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film", name="a_" * 60)
    film.finish()
    page.resize(390, 844)
    with shown(film) as server:
        page.open(server.url)
        until_frame(page, 0)
        page.until("document.querySelector('#source').dataset.number === '0'")
        screenshot(page, "telephone")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("document.querySelector('#play').getBoundingClientRect().bottom") <= 844


def test_names_of_others_are_text(page: browser.Page, tmp_path: Path) -> None:
    film = TinyFilm(tmp_path / "film")
    film.finish()
    evil = "</title></script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>{{data}}"
    film.record["config"] |= {"name": evil, "image": evil, "look": evil}
    film.record["identity"]["objective"] = evil
    film.record["film"]["of"] = evil
    film.save(film_file=evil)
    with shown(film) as server:
        page.open(server.url)
        until_frame(page, 0)
        assert page.run("window.evil") is None
        assert page.run("document.querySelector('h1').textContent") == evil
