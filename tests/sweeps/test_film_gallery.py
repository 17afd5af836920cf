"""The page of a sweep of films in a real Chromium: it moves, stands still for those who prefer that, and plays films.

RENDER_SCREENSHOTS names a directory that gets what the browser shows, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from render.export.picture import image_of
from render.film.video.encoding import encode_segment
from render.film.video.film_formats import choose
from render.film.video.segment_joining import constant, join_segments
from render.source.source import sample_path
from render.sweeps.gallery.exhibition import ShownPoint
from render.sweeps.gallery.gallery_page import gallery_html, write_gallery
from render.sweeps.rendering.film_thumbnails import animated_webp
from tests.support import browser
from tests.support.exhibitions import axis, exhibition, write_many

ROWS, COLUMNS, FRAMES, RATE = 96, 144, 24, Fraction(8)
#: Point whose film no browser can play.
BROKEN = 3
_REDUCED = "prefers-reduced-motion"


def frames(zoom: float) -> list[np.ndarray]:
    """Return the frames of a zoom into a photo."""
    picture = Image.open(sample_path("hubble")).convert("RGB").resize((COLUMNS * 2, ROWS * 2))
    shown = []
    for number in range(FRAMES):
        width, height = COLUMNS * 2 / zoom ** (number / RATE), ROWS * 2 / zoom ** (number / RATE)
        box = (COLUMNS - width / 2, ROWS - height / 2, COLUMNS + width / 2, ROWS + height / 2)
        shown.append(np.asarray(picture.resize((COLUMNS, ROWS), box=box)))
    return shown


def write_film(directory: Path, zoom: float) -> None:
    """Write a film and its thumbnails as a worker leaves them."""
    directory.mkdir(parents=True)
    pictures, settings = frames(zoom), choose("webm", None, 8, (ROWS, COLUMNS), rate=RATE)
    encode_segment(directory / "part.mkv", iter(pictures), settings, 0)
    join_segments(directory / "zoom.webm", [directory / "part.mkv"], settings, constant(RATE, FRAMES), overwrite=True)
    images = [image_of(picture).thumbnail_image(96) for picture in pictures]
    (directory / "motion.webp").write_bytes(animated_webp(images, [125] * FRAMES))
    images[FRAMES // 2].write_to_file(str(directory / "thumbnail.webp"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the page of four films."""
    directory = tmp_path_factory.mktemp("films")
    zooms = ("1.1", "1.3")
    axes = axis("film.zoom", {zoom: zoom for zoom in zooms}), axis("film.turn", {turn: turn for turn in ("0", "20")})

    def shown(number: int, at: tuple[int, ...]) -> ShownPoint:
        folder = f"points/{number} #1"
        write_film(directory / folder, float(zooms[at[0]]))
        if number == BROKEN:
            (directory / folder / "zoom.webm").write_bytes(b"no film")
        words = tuple(word for one, value in zip(axes, at, strict=True) for word in one.values[value].words)
        files = [f"{folder}/{name}" for name in ("zoom.webm", "motion.webp", "thumbnail.webp")]
        return ShownPoint(
            at, "done", "", folder, *files, None, (ROWS, COLUMNS), 3.5, words, "make film", "make film output.width=1280",
            motion=files[1], film=files[0],
        )  # fmt: skip

    write_gallery(directory, replace(exhibition(axes, shown, 0, 1), has_films=True))
    return directory


@pytest.fixture(params=["no-preference", "reduce"])
def shown(request: pytest.FixtureRequest, chromium: browser.Browser, sweep: Path) -> Iterator[tuple[browser.Page, str]]:
    page = chromium.page(1280, 800)
    page.ask("Emulation.setEmulatedMedia", features=[{"name": _REDUCED, "value": request.param}])
    page.open((sweep / "index.html").as_uri())
    yield page, request.param
    assert page.complaints == []
    assert all(url.startswith((sweep.as_uri(), "data:")) for url in page.requests), page.requests
    page.close()


def look(page: browser.Page, name: str) -> np.ndarray:
    """Return what the browser shows."""
    directory = os.environ.get("RENDER_SCREENSHOTS")
    return page.screenshot(Path(directory) / f"films-{name}.png" if directory else None)


def open_point(page: browser.Page, number: int) -> None:
    page.do(f"document.querySelectorAll('.cell a')[{number}].click()")
    page.until("document.querySelector('#large').open")


def test_thumbnails_move_unless_a_person_prefers_that_they_do_not(shown: tuple[browser.Page, str]) -> None:
    page, motion = shown
    page.until("[...document.querySelectorAll('.cell img')].filter((one) => one.complete && one.naturalWidth).length === 4")
    still = motion == "reduce"
    sources = page.run("[...document.querySelectorAll('.cell img')].map((one) => one.src.split('/').pop())")
    assert sources == ["thumbnail.webp" if still else "motion.webp"] * 4
    first = look(page, f"page-{motion}")
    page.run("new Promise((done) => setTimeout(done, 700))")
    moved = np.abs(first.astype(int) - look(page, f"page-{motion}-later")).max()
    assert bool(moved < 8) is still
    if not still:
        # The page follows when the preference changes.
        page.ask("Emulation.setEmulatedMedia", features=[{"name": _REDUCED, "value": "reduce"}])
        page.until("[...document.querySelectorAll('.cell img')].every((one) => one.src.endsWith('thumbnail.webp'))")


def test_the_large_view_plays_the_film(shown: tuple[browser.Page, str]) -> None:
    page, motion = shown
    open_point(page, 0)
    film = "document.querySelector('#large-stage video')"
    page.until(f"{film}?.readyState >= 2")
    assert page.run(f"[{film}.loop, {film}.muted, decodeURIComponent({film}.src.split('/').pop())]") == [
        True,
        True,
        "zoom.webm",
    ]
    assert page.run("document.querySelector('#commands h3:nth-of-type(2)').textContent") == "Make it larger"
    if motion == "reduce":
        assert page.run(f"{film}.paused")
        assert page.run("document.querySelector('#large-play').textContent") == "Play"
        page.click("#large-play")
    page.until(f"!{film}.paused && {film}.currentTime > 0.2")
    assert page.run("document.querySelector('#large-play').textContent") == "Pause"
    look(page, f"large-{motion}")
    page.do("document.querySelector('#large-stage').focus()")
    page.key(" ")
    page.until(f"{film}.paused")
    page.key("+")
    assert page.box("#large-stage video")[2] > 1.2 * COLUMNS
    page.key("ArrowRight")
    page.until(f"{film}.src.includes('1%20%231')")


def test_a_cell_leads_to_the_film(shown: tuple[browser.Page, str]) -> None:
    page, _ = shown
    assert page.run("document.querySelector('.cell a').getAttribute('href')").endswith("/zoom.webm")


def test_downloads_speak_of_films(shown: tuple[browser.Page, str]) -> None:
    page, _ = shown
    page.do("document.querySelector('#take-open').click()")
    page.do("document.querySelector('#take-which').value = 'shown'")
    page.do("document.querySelector('#take-which').dispatchEvent(new Event('change'))")
    assert page.run("document.querySelector('#take-count').textContent") == "4 films"
    assert "picture" not in page.run("document.querySelector('#take').innerText")
    assert page.run("document.querySelector('#take-open').title") == "Download films (D)"


def test_films_are_compared_side_by_side(shown: tuple[browser.Page, str]) -> None:
    page, motion = shown
    for number in (0, 2):
        page.do(f"document.querySelectorAll('.cell a')[{number}].focus()")
        page.key("c")
    page.until("[...document.querySelectorAll('#pair video')].filter((film) => film.readyState >= 2).length === 2")
    if motion == "reduce":
        page.click("#pair-play")
    page.until("[...document.querySelectorAll('#pair video')].every((film) => !film.paused && film.currentTime > 0)")
    look(page, f"pair-{motion}")
    page.do("document.querySelector('#pair').close()")
    page.until("[...document.querySelectorAll('#pair video')].every((film) => film.paused)")


def test_a_film_that_the_browser_cannot_play_is_shown_by_its_thumbnail(shown: tuple[browser.Page, str]) -> None:
    page, motion = shown
    open_point(page, BROKEN)
    name = "thumbnail.webp" if motion == "reduce" else "motion.webp"
    page.until(f"document.querySelector('#large-stage img')?.src.endsWith('{name}')")
    assert page.run("document.querySelector('#large-play').hidden")


def test_without_scripts_the_page_shows_films_too(sweep: Path) -> None:
    page = (sweep / "index.html").read_text().partition("<noscript>")[2].partition("</noscript>")[0]
    assert page.count("<picture>") == 4
    assert page.count(f'media="({_REDUCED}: no-preference)"') == 4
    assert page.count('href="points/0%20%231/zoom.webm"') == 1


def test_only_films_in_view_are_loaded(chromium: browser.Browser, tmp_path: Path) -> None:
    many = write_many(tmp_path, 2000)
    points = tuple(replace(point, motion=point.thumbnail, thumbnail="still.webp") for point in many.points)
    write_gallery(tmp_path, replace(many, points=points, has_films=True))
    page = chromium.page(1280, 800)
    page.ask("Emulation.setEmulatedMedia", features=[{"name": _REDUCED, "value": "no-preference"}])
    page.open((tmp_path / "index.html").as_uri())
    page.until("[...document.querySelectorAll('.cell img')].filter((one) => one.complete && one.naturalWidth).length > 20")
    assert 20 < len([url for url in page.requests if url.endswith(".webp")]) < 300
    assert page.complaints == []
    page.close()


def test_a_page_of_pictures_says_nothing_of_films(tmp_path: Path) -> None:
    page = gallery_html(write_many(tmp_path, 50))
    assert "Make it as a print" in page
    assert "<picture>" not in page
