"""The page to choose from, in a real Chromium and on real picture files.

RENDER_SCREENSHOTS names a directory that gets what the browser shows, to be looked at.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from render.config.compose import load_config
from render.config.octave_settings import listed_octaves
from render.config.schema import Config, picture_width
from render.sweeps.axes.definition import axis_names
from render.sweeps.axes.parsing import parse_sweep
from render.sweeps.axes.points import expand
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint
from render.sweeps.gallery.gallery_page import gallery_html, write_gallery
from render.sweeps.gallery.make_commands import FavouritePrints, favourites_as_prints, point_command, poster_command
from tests.conftest import refusal
from tests.pages.test_browser import contrast
from tests.support import browser
from tests.support.exhibitions import FAILED, LAYERS, STEPS, WAITING, axis, exhibition, write_many, write_sweep

TITLES = {"chelsea": "image chelsea", "hubble": "image hubble"}


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a sweep, moved since the page was written."""
    directory = tmp_path_factory.mktemp("a sweep, (50 %) #1") / "before"
    directory.mkdir()
    assert write_gallery(directory, write_sweep(directory)) == directory / "index.html"
    return directory.rename(directory.with_name("after"))


@pytest.fixture
def shown(chromium: browser.Browser, sweep: Path) -> Iterator[browser.Page]:
    page = chromium.page(1280, 800)
    page.open((sweep / "index.html").as_uri())
    page.do("localStorage.clear()")
    page.open((sweep / "index.html").as_uri() + "?again")
    yield page
    assert page.complaints == []
    here = sweep.as_uri()
    assert all(url.startswith((here, "data:", "blob:")) for url in page.requests), page.requests
    page.close()


#: Runs what is given when the next frame has been drawn.
DRAWN = "((then) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(then, 30))))"


def look(page: browser.Page, name: str, *, wait: bool = True) -> np.ndarray:
    """Return what the browser shows, once it is drawn."""
    if wait:
        page.run(f"new Promise((done) => {DRAWN}(done))")
    directory = os.environ.get("RENDER_SCREENSHOTS")
    return page.screenshot(Path(directory) / f"gallery-{name}.png" if directory else None)


def text(page: browser.Page, selector: str) -> str:
    """Return the text of an element."""
    return page.run(f"document.querySelector({json.dumps(selector)}).textContent")


def links(page: browser.Page, inside: str = "#grid") -> list[str]:
    """Return the points in an element, in the order of the page."""
    return page.run(f"[...document.querySelectorAll('{inside} .cell a')].map((one) => one.title)")


def point(number: int) -> str:
    image, rest = divmod(number, len(LAYERS) * len(STEPS))
    layer, step = divmod(rest, len(STEPS))
    return f"image {('chelsea', 'hubble')[image]}, terms {LAYERS[layer]}, step_size {STEPS[step]}"


def choose(page: browser.Page, control: str, value: str) -> None:
    """Choose an option of a menu."""
    page.do(
        f"((one) => {{ one.value = {json.dumps(value)};"
        "one.dispatchEvent(new Event(one.tagName === 'SELECT' ? 'change' : 'input', { bubbles: true })); })"
        f"(document.querySelector('{control}'))"
    )
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def focus(page: browser.Page, number: int) -> None:
    page.do(f"document.querySelectorAll('.cell a')[{number}].focus()")


def focused(page: browser.Page) -> str:
    return page.run("document.activeElement.title || document.activeElement.id")


def press(page: browser.Page, name: str, code: int = 0, **more: Any) -> None:
    """Press a key with its default action: Tab, Enter, Escape, Space."""
    code = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}.get(name, code)
    page.ask("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, **more)
    page.ask("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)


def close(page: browser.Page) -> None:
    """Close the dialog, and wait until the page has noticed."""
    press(page, "Escape")
    page.until("!document.querySelector('dialog[open]') && !/point=|compare=/.test(location.hash)")


# The grid


def test_points_lie_where_their_axes_say(shown: browser.Page) -> None:
    """Rows are layers, columns step sizes; the third axis makes a section for each of its values."""
    shown.until("[...document.images].filter((one) => one.closest('.cell')).slice(0, 9).every((one) => one.naturalWidth)")
    look(shown, "grid")
    assert shown.run("[...document.querySelectorAll('section h2')].map((one) => one.textContent)") == [
        f"{title} \N{MIDDLE DOT} 12" for title in TITLES.values()
    ]
    heads = shown.run("[...document.querySelectorAll('section:first-of-type .heads b')].map((one) => one.textContent)")
    assert heads[2:] == list(STEPS)
    rows = shown.run(
        "[...document.querySelectorAll('.body')].map((row) => [row.firstChild.textContent,"
        "[...row.querySelectorAll('a')].map((one) => one.title)])"
    )
    assert rows == [
        [layer, [point(image * 12 + at * 3 + step) for step in range(3)]]
        for image in range(2)
        for at, layer in enumerate(LAYERS)
    ]
    # And on the screen: every point is below its column's head and beside its row's.
    boxes = shown.run(
        "[...document.querySelectorAll('section:first-of-type .line')].map((line) => [...line.children].map((one) => {"
        "const b = one.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }))"
    )
    centres = np.array(boxes)
    assert np.ptp(centres[:, 1:, 0], axis=0).max() < 1
    assert np.ptp(centres[:, :, 1], axis=1).max() < 1


def test_heads_stay_in_view(shown: browser.Page) -> None:
    choose(shown, "#size", "400")
    shown.do("document.querySelector('#scroller').scrollTo(500, 700)")
    screen = look(shown, "scrolled")
    assert screen.shape == (800, 1280, 3)
    top = shown.box("#scroller")[1]
    assert shown.box("section .heads")[1] == pytest.approx(top, abs=1)
    assert shown.box("section .body:nth-child(4) > span")[0] == pytest.approx(0, abs=1)
    found = shown.run(f"document.elementFromPoint(30, {top + 20}).closest('.heads') !== null")
    assert found


def test_any_axes_can_be_rows_and_columns(shown: browser.Page) -> None:
    choose(shown, "#rows", "2")  # step_size lay across: the two change places
    assert (shown.run("rows.value"), shown.run("columns.value")) == ("2", "1")
    assert links(shown, ".body:nth-of-type(2)")[:4] == [point(at * 3) for at in range(4)]
    choose(shown, "#rows", "")
    heads = shown.run("[...document.querySelectorAll('.body > span')].map((one) => one.textContent)")
    assert heads == [f"{image} \N{MIDDLE DOT} {step}" for image in TITLES for step in STEPS]
    choose(shown, "#columns", "")
    assert links(shown) == [point(number) for number in range(24)]
    assert text(shown, ".flow .cell span") == "chelsea \N{MIDDLE DOT} mixed3 \N{MIDDLE DOT} 1"
    look(shown, "flow")
    choose(shown, "#rows", "1")
    titles = shown.run("[...document.querySelectorAll('section h2')].map((one) => one.firstChild.textContent)")
    assert titles == [f"terms {layer}" for layer in LAYERS]
    assert links(shown, "section:nth-child(2)") == [point(number) for number in (3, 4, 5, 15, 16, 17)]
    assert text(shown, ".flow .cell span") == "chelsea \N{MIDDLE DOT} 1"
    # The address says so, to whoever follows it.
    assert shown.run("location.hash") == "#columns="
    before = links(shown)
    shown.open(shown.run("location.href").replace("again", "once-more"))
    assert links(shown) == before


def test_filters_leave_what_is_asked_for(shown: browser.Page) -> None:
    def left(words: str) -> list[int]:
        choose(shown, "#filter", words)
        found = links(shown)
        return [number for number in range(24) if point(number) in found]

    assert left("step_size=2 mixed4") == [5, 17]
    assert text(shown, "#count") == "2 of 24 points \N{MIDDLE DOT} 1 failed \N{MIDDLE DOT} 1 waiting"
    assert left("step_size=1") == [number for number in range(24) if number % 3 == 0]  # not 1.5
    assert left("step_size=1.") == [number for number in range(24) if number % 3 == 1]  # as it is typed
    assert left("step_size=1,2 image=hubble") == [number for number in range(12, 24) if number % 3 != 1]
    assert left("objective.terms=mixed5") == left("TERMS=mixed5") == [6, 7, 8, 18, 19, 20]
    assert left("failed") == [FAILED]
    assert left('"no layer"') == [FAILED]
    assert left("waiting") == [WAITING]
    assert left("nothing") == []
    assert shown.run("!document.querySelector('#none').hidden")
    shown.click("#clear")
    assert len(links(shown)) == 24
    assert text(shown, "#count").startswith("24 points")


def test_values_are_chosen_one_by_one(shown: browser.Page) -> None:
    shown.click(".menu:nth-child(2) summary")
    shown.until("document.querySelectorAll('.menu:nth-child(2) li').length === 4")
    look(shown, "menu")
    shown.click(".menu:nth-child(2) li:nth-child(2) input")
    assert len(links(shown)) == 18
    assert text(shown, ".menu:nth-child(2) summary") == "termsmixed3, mixed5, mixed6"
    assert "not.objective.terms=mixed4" in shown.run("location.hash")
    shown.click(".menu:nth-child(2) li:nth-child(4) button")
    assert links(shown) == [point(number) for number in (9, 10, 11, 21, 22, 23)]
    press(shown, "Escape")
    assert not shown.run("document.querySelector('.menu:nth-child(2)').open")
    shown.open(shown.run("location.href").replace("again", "once-more"))
    assert links(shown) == [point(number) for number in (9, 10, 11, 21, 22, 23)]
    shown.click(".menu:nth-child(2) summary")
    shown.click(".menu:nth-child(2) .group button:last-child")
    assert links(shown) == []
    shown.click(".menu:nth-child(2) .group button")
    assert len(links(shown)) == 24


# One point


def test_a_point_is_enlarged_with_all_that_is_known_of_it(shown: browser.Page, sweep: Path) -> None:
    shown.click(".cell a")
    shown.until("document.querySelector('#large').open && document.querySelector('#large .pane img').naturalWidth === 450")
    look(shown, "point")
    assert text(shown, "#large-title") == point(0)
    assert shown.run("document.querySelector('#large .pane img').alt") == point(0)
    assert shown.run("new URLSearchParams(location.hash.slice(1)).get('point')") == "chelsea-mixed3-1 #1-000000000000"
    said = shown.run("document.querySelector('aside').innerText")
    for words in ("450 \N{MULTIPLICATION SIGN} 300 px", "12.3 s", "dream.png", "objective.terms=[mixed3]"):
        assert words in said
    commands = shown.run("[...document.querySelectorAll('#commands pre')].map((one) => one.textContent)")
    assert commands == [
        "make render image=sample:chelsea objective.terms=[mixed3] step_size=1",
        "make render conf=poster image=sample:chelsea objective.terms=[mixed3] step_size=1 octaves.count=13",
    ]
    shown.click("#commands button.copy")
    shown.until("/Copied|Selected/.test(document.querySelector('#commands button.copy').textContent)")
    assert shown.run("getSelection().toString()") in ("", commands[0])
    shown.do("getSelection().removeAllRanges()")
    files = shown.run("[document.querySelector('#large-file').href, document.querySelector('#large-deep').href]")
    folder = sweep / "points" / "chelsea-mixed3-1 #1-000000000000"
    assert files == [(folder / "dream.png").as_uri(), (folder / "dream-zoom" / "index.html").as_uri()]
    shown.key("ArrowRight")
    assert not shown.run("document.querySelector('#large-deep').checkVisibility()")
    shown.click("#large .close")
    shown.until("!document.querySelector('#large').open && location.hash === ''")
    assert focused(shown) == point(1)
    # Going back is closing, too.
    shown.do("document.querySelector('.cell a').click()")
    shown.key("ArrowDown")
    shown.do("history.back()")
    shown.until("!document.querySelector('#large').open && location.hash === ''")


def test_arrows_go_along_the_axes(shown: browser.Page) -> None:
    shown.click(".cell a")
    moves = [("ArrowRight", 1), ("ArrowDown", 4), ("ArrowDown", 7), ("ArrowLeft", 6), ("ArrowUp", 3), ("End", 5)]
    moves += [("Home", 3), ("PageDown", 15), ("ArrowUp", 12), ("ArrowUp", 9), ("PageUp", 9), ("ArrowLeft", 9)]
    for key, number in moves:
        shown.key(key)
        assert text(shown, "#large-title") == point(number), key
    shown.click("#next")
    assert text(shown, "#large-title") == point(10)
    # Or by the settings themselves.
    choose(shown, "#settings tr:nth-child(1) select", "22")
    assert text(shown, "#large-title") == point(22)
    assert shown.run("document.activeElement.ariaLabel") == "image"
    # The way is the one that the view has.
    press(shown, "Escape")
    choose(shown, "#rows", "0")
    focus(shown, 0)
    for key, number in (("ArrowDown", 12), ("ArrowRight", 13)):
        shown.key(key)
        assert focused(shown) == point(number)


def test_what_failed_or_waits_says_so(shown: browser.Page) -> None:
    failed, waiting = (f"document.querySelector('[title={json.dumps(point(at))}]')" for at in (FAILED, WAITING))
    assert shown.run(f"{failed}.innerText") == "failed"
    assert shown.run(f"{waiting}.innerText") == "not dreamed yet"
    shown.do(f"{failed}.click()")
    assert "no layer 'mixed99': did you mean mixed9?" in text(shown, "#large-notice")
    look(shown, "failed")
    assert shown.run("document.querySelectorAll('#large .pane img').length") == 0
    assert "make render image" in text(shown, "#commands")
    shown.key("ArrowLeft")
    assert text(shown, "#large-notice") == ""
    press(shown, "Escape")
    shown.do(f"{waiting}.click()")
    assert "has not been dreamed yet" in text(shown, "#large-notice")


def test_a_picture_is_shown_pixel_by_pixel(shown: browser.Page, sweep: Path) -> None:
    shown.click(".cell a")
    shown.until("document.querySelector('#large .pane img').naturalWidth === 450")
    fit = shown.box("#large .pane img")
    stage = shown.box("#large-stage")
    assert fit[2] == pytest.approx(stage[2], abs=1)
    shown.key("z")
    screen = look(shown, "pixels")
    x, y, width, height = map(round, shown.box("#large .pane img"))
    assert (width, height) == (450, 300)
    picture = np.asarray(Image.open(next(sweep.glob("points/chelsea-mixed3-1 *")) / "dream.png"))
    np.testing.assert_array_equal(screen[y : y + height, x : x + width], picture)
    assert text(shown, "#large-zoom") == "100 %"
    # Zoomed with the wheel where the picture fills the stage, what is under the pointer stays.
    for _ in range(5):
        shown.key("+")
    x, y, width, height = shown.box("#large .pane img")
    assert width == pytest.approx(450 * 1.25**5, rel=1e-3)
    at = (stage[0] + 300, stage[1] + 200)
    held = (at[0] - x) / width, (at[1] - y) / height
    for _ in range(6):
        shown.ask("Input.dispatchMouseEvent", type="mouseWheel", x=at[0], y=at[1], deltaX=0, deltaY=-200)
    shown.until("document.querySelector('#large .pane img').getBoundingClientRect().width > 4000")
    left, top, width, height = shown.box("#large .pane img")
    assert ((at[0] - left) / width, (at[1] - top) / height) == pytest.approx(held, abs=2e-3)
    shown.drag(at, (at[0] + 120, at[1] - 40))
    assert shown.box("#large .pane img")[:2] == pytest.approx((left + 120, top - 40), abs=1.5)
    shown.key("z")
    assert shown.box("#large .pane img") == pytest.approx(fit)


# Two points


def pairs(page: browser.Page, first: int, second: int) -> None:
    focus(page, first)
    page.key("c")
    assert text(page, "#tray-text").startswith(point(first).split()[1].rstrip(","))
    focus(page, second)
    page.key("c")
    page.until("document.querySelector('#pair').open")
    page.until("[...document.querySelectorAll('#pair .pane img')].every((one) => one.complete && one.naturalWidth)")


def place(page: browser.Page, number: int, spot: tuple[float, float] = (0.5, 0.5)) -> tuple[float, float]:
    """Return the point of a pane's picture, in parts of its sides, that is shown at a spot of the pane."""
    pane = page.box(f"#pair .pane:nth-child({number})")
    image = page.box(f"#pair .pane:nth-child({number}) img")
    x, y = pane[0] + spot[0] * pane[2], pane[1] + spot[1] * pane[3]
    return (x - image[0]) / image[2], (y - image[1]) / image[3]


def test_two_points_are_zoomed_and_moved_as_one(shown: browser.Page) -> None:
    """Though their sizes and aspects differ."""
    pairs(shown, 0, 16)
    look(shown, "side")
    assert [text(shown, f"#pair .pane:nth-child({at}) .tag span") for at in (1, 2)] == [
        "A: chelsea \N{MIDDLE DOT} mixed3 \N{MIDDLE DOT} 1",
        "B: hubble \N{MIDDLE DOT} mixed4 \N{MIDDLE DOT} 1.5",
    ]
    differences = shown.run("[...document.querySelectorAll('#differences td')].map((one) => one.textContent)")
    assert differences == ["chelsea", "hubble", "mixed3", "mixed4", "1", "1.5"]
    fits = [shown.box(f"#pair .pane:nth-child({at}) img")[2] for at in (1, 2)]
    for _ in range(3):
        shown.key("+")  # until the pictures fill their panes
    x, y, width, height = shown.box("#pair .pane:nth-child(2)")
    at = (x + 0.6 * width, y + 0.4 * height)
    held = place(shown, 2, (0.6, 0.4))
    for _ in range(5):
        shown.ask("Input.dispatchMouseEvent", type="mouseWheel", x=at[0], y=at[1], deltaX=0, deltaY=-150)
    shown.until(f"document.querySelector('#pair .pane img').getBoundingClientRect().width > {3 * fits[0]}")
    assert place(shown, 2, (0.6, 0.4)) == pytest.approx(held, abs=3e-3)
    for _ in range(2):
        zooms = [shown.box(f"#pair .pane:nth-child({at}) img")[2] / fit for at, fit in zip((1, 2), fits, strict=True)]
        assert zooms[0] == pytest.approx(zooms[1], rel=1e-3)
        assert place(shown, 1) == pytest.approx(place(shown, 2), abs=3e-3)
        shown.drag(at, (at[0] - 90, at[1] - 60))
    moved = place(shown, 1)
    shown.key("ArrowRight")
    assert place(shown, 1)[0] > moved[0]
    assert place(shown, 1) == pytest.approx(place(shown, 2), abs=3e-3)
    look(shown, "side-zoomed")
    shown.key("z")
    assert place(shown, 1) == pytest.approx((0.5, 0.5), abs=3e-3)


def test_a_swipe_shows_one_left_and_the_other_right(shown: browser.Page) -> None:
    def screen(number: int) -> np.ndarray:
        """Return what the stage shows of a single point."""
        shown.do(f"location.hash = '#point=' + encodeURIComponent({json.dumps(names[number])})")
        shown.until(f"document.querySelector('#large-title').textContent === {json.dumps(point(number))}")
        return look(shown, "")

    names = {0: "chelsea-mixed3-1 #1-000000000000", 3: "chelsea-mixed4-1 #1-000000000003"}
    pairs(shown, 0, 3)
    shown.key("s")
    half = look(shown, "swipe").astype(float)
    assert focused(shown) == "divider"
    x, y, width, height = map(round, shown.box("#pair-stage"))
    rows, middle = slice(y + 60, y + height - 10), x + width // 2
    for key, times, share in (("ArrowRight", 5, 0.6), ("Home", 1, 0.0), ("End", 1, 1.0), ("PageDown", 5, 0.5)):
        for _ in range(times):
            shown.key(key)
        assert float(shown.run("divider.getAttribute('aria-valuenow')")) == pytest.approx(100 * share)
        if key == "Home":
            second = look(shown, "").astype(float)
        if key == "End":
            first = look(shown, "").astype(float)
    assert np.abs(first[rows, x + 150 : x + width - 150] - second[rows, x + 150 : x + width - 150]).mean() > 10
    np.testing.assert_array_equal(half[rows, x + 30 : middle - 30], first[rows, x + 30 : middle - 30])
    np.testing.assert_array_equal(half[rows, middle + 30 : x + width - 30], second[rows, middle + 30 : x + width - 30])
    shown.drag((middle, y + height / 2), (x + width / 4, y + height / 2))
    assert float(shown.run("divider.getAttribute('aria-valuenow')")) == pytest.approx(25, abs=1)
    # The address holds all of it.
    assert shown.run("new URLSearchParams(location.hash.slice(1)).getAll('compare')") == list(names.values())
    shown.open(shown.run("location.href").replace("again", "once-more"))
    shown.until("document.querySelector('#pair').open && !document.querySelector('#divider').hidden")
    shown.key("e")
    assert text(shown, "#pair .pane .tag span") == "A: chelsea \N{MIDDLE DOT} mixed4 \N{MIDDLE DOT} 1"
    press(shown, "Escape")
    shown.until("!document.querySelector('#pair').open && location.hash === ''")
    assert focused(shown) == point(0)
    assert screen(0).shape == (800, 1280, 3)


def test_the_first_mark_stays_for_others_to_be_compared_with(shown: browser.Page) -> None:
    pairs(shown, 1, 4)
    close(shown)
    look(shown, "tray")
    marked = "[...document.querySelectorAll('[data-mark]')].map((one) => [one.dataset.mark, one.firstChild.title])"
    assert sorted(shown.run(marked)) == [["A", point(1)], ["B", point(4)]]
    shown.do(f"document.querySelector('[title={json.dumps(point(7))}]').click()")
    shown.key("c")
    shown.until("document.querySelector('#pair').open && !document.querySelector('#large').open")
    close(shown)
    assert sorted(shown.run(marked)) == [["A", point(1)], ["B", point(7)]]
    shown.click("#tray-clear")
    assert shown.run(marked) == []
    assert shown.run("document.querySelector('#tray').hidden")


# Favourites


def downloaded(page: browser.Page, directory: Path) -> str:
    """Return the text of the downloaded file."""
    file = page.download(directory, "*.yaml", lambda: page.click("#export"))
    assert [path.name for path in directory.iterdir()] == ["ratings.yaml"]
    return file.read_text()


def test_favourites_are_kept_and_exported(shown: browser.Page, tmp_path: Path) -> None:
    for number in (14, 2):
        focus(shown, number)
        shown.key("f")
    focus(shown, 0)
    shown.click(".cell a")
    shown.click("#large-favourite")
    assert shown.run("document.querySelector('#large-favourite').getAttribute('aria-pressed')") == "true"
    close(shown)
    shown.open(shown.run("location.href").replace("again", "once-more"))
    assert shown.run("[...document.querySelectorAll('.favourite a')].map((one) => one.title)") == [
        point(number) for number in (0, 2, 14)
    ]
    look(shown, "favourites")
    shown.click("#favourites")
    assert links(shown) == [point(number) for number in (0, 2, 14)]
    assert shown.run("location.hash") == "#favourites=only"
    content = downloaded(shown, tmp_path)
    assert content.splitlines()[:4] == [
        "# Ratings of layers-1a2b3c4d. Its points have 4 stars or more, or are favourites: 3. This dreams them as prints:",
        "#   make sweep conf=poster sweep.points=ratings.yaml octaves.count=13",
        "# This breeds new points from them:",
        "#   make sweep conf=breed from=ratings.yaml",
    ]
    exported = yaml.safe_load(content)
    assert (
        exported["points"]
        == exported["prints"]
        == [
            {"image": f"sample:{image}", "objective.terms": f"[{layer}]", "step_size": step}
            for image, layer, step in (("chelsea", "mixed3", "1"), ("chelsea", "mixed3", "2"), ("hubble", "mixed3", "2"))
        ]
    )
    for item in exported["prints"]:
        config = load_config("poster", [f"{key}={value}" for key, value in item.items()])
        assert (config.image, config.objective.terms) == (item["image"], [item["objective.terms"][1:-1]])
    # One that is no favourite any more leaves the page, and the next has the focus.
    focus(shown, 0)
    shown.key("f")
    assert links(shown) == [point(2), point(14)]
    assert focused(shown) == point(2)


def test_the_buttons_on_a_point_say_what_keys_did(shown: browser.Page) -> None:
    def pressed(tool: str) -> str:
        return shown.run(f"document.querySelector('[data-tool={tool}]').getAttribute('aria-pressed')")

    press(shown, "Tab")  # the focus is seen, so that the buttons come
    focus(shown, 3)
    for key, tool in (("f", "favourite"), ("c", "mark")):
        assert pressed(tool) == "false"
        shown.key(key)
        assert pressed(tool) == "true"
        shown.key(key)
        assert pressed(tool) == "false"


def test_pictures_are_as_large_as_there_is_room_until_someone_says_how_large(shown: browser.Page) -> None:
    def width() -> int:
        return int(shown.run("size.value"))

    assert width() == 256  # three across
    choose(shown, "#columns", "")
    choose(shown, "#rows", "")
    choose(shown, "#columns", "1")
    assert width() == 256  # four
    shown.resize(960, 800)
    choose(shown, "#rows", "0")
    assert width() == 200
    choose(shown, "#size", "128")
    choose(shown, "#columns", "2")
    assert width() == 128


def test_a_page_works_where_nothing_is_kept(chromium: browser.Browser, sweep: Path, tmp_path: Path) -> None:
    page = chromium.page(1280, 800)
    blocked = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    page.ask("Page.addScriptToEvaluateOnNewDocument", source=blocked)
    page.open((sweep / "index.html").as_uri())
    focus(page, 3)
    page.key("f")
    assert "only while the page is open" in text(page, "#said")
    assert yaml.safe_load(downloaded(page, tmp_path))["points"] == [
        {"image": "sample:chelsea", "objective.terms": "[mixed4]", "step_size": "1"}
    ]
    assert page.complaints == []
    page.close()


NASTY = "</script><b>\"&'{{cells}} #1\u2028%\U0001f600\\"


def test_text_stays_text_to_the_end(chromium: browser.Browser, tmp_path: Path) -> None:
    """On the page, in its addresses and in the file of favourites."""
    axes = (axis("image", {NASTY: NASTY, "b": "b"}), axis("name", {NASTY: NASTY}))

    def shown(number: int, at: tuple[int, ...]) -> ShownPoint:
        words = tuple(word for one, value in zip(axes, at, strict=True) for word in one.values[value].words)
        (tmp_path / str(number)).mkdir()
        Image.new("RGB", (40, 30), (200, 60, 60)).save(tmp_path / str(number) / "a b#1%.png")
        name = f"{number}/a b#1%.png"
        return ShownPoint(
            at, "done", "", f"points/{NASTY}{number}", name, name, name, None, (30, 40), 1.0, words, NASTY, NASTY
        )

    made = exhibition(axes, shown, 0, None)
    made = replace(made, title=NASTY, settings=((NASTY, NASTY),), command=NASTY, favourites_command=NASTY)
    markup = gallery_html(made)
    assert "<b>" not in markup
    assert markup.count("</script>") == 2
    opened = chromium.page(1000, 700)
    opened.open(write_gallery(tmp_path, made).as_uri())
    opened.until("[...document.querySelectorAll('.cell img')].filter((one) => one.naturalWidth === 40).length === 2")
    assert opened.run("document.title") == text(opened, "h1") == NASTY
    focus(opened, 0)
    opened.key("f")
    press(opened, "Enter")
    assert text(opened, "#large-title") == f"image {NASTY}, name {NASTY}"
    assert text(opened, "#commands pre") == NASTY
    address = opened.run("location.href")
    opened.open(address.replace("index.html", "index.html?again"))
    opened.until("document.querySelector('#large').open")
    assert text(opened, "#large-title") == f"image {NASTY}, name {NASTY}"
    press(opened, "Escape")
    (tmp_path / "downloads").mkdir()
    content = downloaded(opened, tmp_path / "downloads")
    assert yaml.safe_load(content)["points"] == [{"image": NASTY, "name": NASTY}]
    assert opened.complaints == []
    opened.close()


# For everybody


def test_the_page_is_reached_by_keys_alone(shown: browser.Page) -> None:
    reached = []
    for _ in range(21):
        press(shown, "Tab")
        reached.append(
            shown.run("document.activeElement.id || document.activeElement.title || document.activeElement.tagName")
        )
    assert reached[:4] == ["filter", "rows", "columns", "sort"]
    assert reached[4:10] == ["SUMMARY", "SUMMARY", "SUMMARY", "stars", "unrejected", "size"]
    # All points are one stop.
    assert [name for name in reached if name.startswith("image ")] == [point(0)]
    focus(shown, 0)
    press(shown, "Enter", text="\r")
    shown.until("document.querySelector('#large').open")
    close(shown)
    assert focused(shown) == point(0)
    shown.key("/")
    assert focused(shown) == "filter"
    for letter in "hubble":
        shown.key(letter)
    shown.until("document.querySelectorAll('#grid .cell').length === 12")
    press(shown, "Enter")
    assert text(shown, "#large-title") == point(12)


def test_everything_has_a_name_and_can_be_read(shown: browser.Page) -> None:
    pairs(shown, 0, 1)
    close(shown)
    for state in ("", "document.querySelector('.cell a').click()", "document.querySelector('#tray-open').click()"):
        if state:
            shown.do(state)
        tree = shown.ask("Accessibility.getFullAXTree")["nodes"]
        roles = ("button", "slider", "link", "grid", "gridcell", "combobox", "searchbox", "checkbox", "dialog", "image")
        named = [
            (node["role"]["value"], node["name"]["value"])
            for node in tree
            if not node.get("ignored") and node["role"]["value"] in roles
        ]
        assert len(named) > 8
        assert [role for role, name in named if not name] == []
        if not state:
            assert ("link", point(FAILED) + ", failed") in named
            assert len([role for role, _ in named if role == "gridcell"]) == 24
        elif "tray" not in state:
            close(shown)
    press(shown, "Escape")
    selectors = ("h1", "#count", "label", ".menu summary b", ".line > span", ".failed", ".waiting", "#export", "footer th")
    for selector in (*selectors, "#tray-text", "aside h3", "aside th", "#commands pre", ".tag span", "#swipe"):
        assert contrast(shown, selector) >= 4.5, selector


def test_a_narrow_screen_has_room_for_everything(shown: browser.Page, sweep: Path) -> None:
    shown.resize(360, 720)
    shown.open((sweep / "index.html").as_uri() + "?narrow")
    look(shown, "narrow")
    assert shown.run("document.documentElement.scrollWidth") <= 360
    assert not shown.run("document.querySelector('#rows').checkVisibility()")
    shown.click("#controls-toggle")
    shown.click(".menu:nth-child(2) summary")
    look(shown, "narrow-controls")

    def inside(*selectors: str) -> None:
        for selector in selectors:
            x, _, width, _ = shown.box(selector)
            assert x >= 0, selector
            assert x + width <= 360, selector

    inside("#filter", "#rows", "#columns", "#size", "#favourites", "#export", ".menu:nth-child(2) > div")
    shown.click("#controls-toggle")
    pairs(shown, 0, 12)
    look(shown, "narrow-side")
    panes = [shown.box(f"#pair .pane:nth-child({at})") for at in (1, 2)]
    assert panes[0][1] + panes[0][3] <= panes[1][1]
    assert min(pane[3] for pane in panes) > 120
    inside("#side", "#swipe", "#exchange", "#pair .close")
    assert shown.box("#pair > header")[3] < 96, "two lines"
    close(shown)
    shown.do("document.querySelector('.cell a').click()")
    look(shown, "narrow-point")
    inside(
        "#large-title",
        "#previous",
        "#next",
        "#large .close",
        "#large-stage",
        "#large-file",
        "#commands pre",
        "#commands .copy",
    )
    assert shown.run("document.documentElement.scrollWidth") <= 360


def test_without_scripts_the_pictures_are_there(chromium: browser.Browser, sweep: Path) -> None:
    page = chromium.page(1000, 800)
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    page.open((sweep / "index.html").as_uri())
    page.until("[...document.images].slice(0, 5).every((one) => one.naturalWidth > 0)")
    look(page, "no-script", wait=False)
    assert "Without JavaScript" in page.run("document.body.innerText")
    assert "did you mean mixed9?" in page.run("document.querySelector('noscript').innerText"), "why a point failed"
    assert page.run("document.querySelector('.cell a').href").endswith("/dream.png")
    assert page.run("[...document.querySelectorAll('input, select, dialog')].some((one) => one.checkVisibility())") is False
    page.close()


# Sizes


def test_two_thousand_points_open_and_filter_within_a_second(chromium: browser.Browser, tmp_path: Path) -> None:
    path = write_gallery(tmp_path, write_many(tmp_path, 2000))
    opened = chromium.page(1280, 800)
    opening, filtering = [], []
    in_view = (
        "[...document.querySelectorAll('.cell img')].filter((one) => { const b = one.getBoundingClientRect();"
        "return b.width && b.top < innerHeight && b.left < innerWidth; })"
    )
    for attempt in range(3):
        begun = time.monotonic()
        opened.open(f"{path.as_uri()}?{attempt}")
        opened.until(f"(found => found.length > 15 && found.every((one) => one.complete && one.naturalWidth))({in_view})")
        opening.append(time.monotonic() - begun)
    for words, count in (("step_size=2.5", 40), ("mixed4:1", 550), ("", 2000), ("step_size=0.1,0.3 mixed4:3", 22)):
        filtering.append(
            opened.run(
                "new Promise((done) => { const begun = performance.now(), filter = document.querySelector('#filter');"
                f"filter.value = {json.dumps(words)}; filter.dispatchEvent(new Event('input'));"
                f"{DRAWN}(() => done(performance.now() - begun)); }})"
            )
        )
        assert opened.run("document.querySelectorAll('#grid .cell').length") == count
    look(opened, "many")
    choose(opened, "#filter", "")
    look(opened, "many-all")
    flowing = opened.run(
        "new Promise((done) => { const begun = performance.now();"
        "for (const one of [rows, columns]) { one.value = ''; one.dispatchEvent(new Event('change')); }"
        f"{DRAWN}(() => done(performance.now() - begun)); }})"
    )
    rated = opened.run(
        "new Promise((done) => { const begun = performance.now(), link = document.querySelector('.cell a'); link.focus();"
        "link.dispatchEvent(new KeyboardEvent('keydown', { key: '5', bubbles: true }));"
        "sort.value = 'rating'; sort.dispatchEvent(new Event('change'));"
        f"{DRAWN}(() => done(performance.now() - begun)); }})"
    )
    print(
        f"open {[round(one, 2) for one in opening]} s, filter {[round(one) for one in filtering]} ms, "
        f"flow {flowing:.0f} ms, rate and sort {rated:.0f} ms"
    )
    assert statistics.median(opening) < 1
    assert statistics.median(filtering) < 1000
    assert flowing < 1000
    assert rated < 1000
    assert opened.complaints == []
    opened.close()


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, None, None), (7, None, None), (300, 0, None), (300, None, 0), (0, 0, None)]
)
def test_one_axis_of_any_length_can_be_shown(
    chromium: browser.Browser, tmp_path: Path, count: int, rows: int | None, columns: int | None
) -> None:
    axes = (axis("seed", {str(number): str(number) for number in range(count)}),)
    Image.new("RGB", (64, 40), (60, 90, 160)).save(tmp_path / "small.webp")

    def shown(number: int, at: tuple[int, ...]) -> ShownPoint:
        name = "small.webp"
        return ShownPoint(
            at, "done", "", f"points/{number}", name, name, name, None, (40, 64), 1.0, (f"seed={number}",), "", ""
        )

    opened = chromium.page(900, 600)
    opened.open(write_gallery(tmp_path, exhibition(axes, shown, rows, columns)).as_uri())
    look(opened, f"one-axis-{count}-{rows}-{columns}")
    assert text(opened, "#count") == f"{count} point{'' if count == 1 else 's'}"
    assert len(links(opened)) == count
    if count > 1:
        focus(opened, 0)
        opened.key("ArrowDown" if rows == 0 and columns is None else "ArrowRight")
        assert focused(opened) == "seed 1"
    assert opened.complaints == []
    opened.close()


def test_axes_that_would_be_called_the_same_have_their_whole_keys() -> None:
    axes = tuple(axis(key, {"a": "a"}) for key in ("model.name", "name", "step_size"))
    assert axis_names(axes) == ["model.name", "name", "step_size"]
    assert axis_names(axes[1:]) == ["name", "step_size"]


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").mkdir()
    (tmp_path / "index.html" / "kept").touch()
    empty: Exhibition = exhibition(
        (), lambda number, at: ShownPoint(at, "waiting", "", "", *4 * (None,), (0, 0), 0.0, (), "", ""), None, None
    )
    assert "index.html cannot be written" in refusal(lambda: write_gallery(tmp_path, empty))
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    shutil.rmtree(tmp_path / "index.html")
    assert write_gallery(tmp_path, empty).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


# Commands


def composed(command: str) -> tuple[str, Config]:
    """Return the root config, and the config that a shell command makes."""
    make, what, *words = shlex.split(command)
    assert make == "make"
    root = next((word.removeprefix("conf=") for word in words if word.startswith("conf=")), "preview")
    return what, load_config(root, [word for word in words if not word.startswith(("conf=", "sweep."))])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["objective=eyes", "step_size=2.5"],
        ["model=googlenet", "objective=dogs", "octaves.scale=1.2"],
        ["objective.terms=[mixed3,0.5*mixed5]", "octaves.count=3", "boundary.mode=wrap"],
        ["image=a $HOME 'photo'.jpg", "objective.mask={image:m.png,feather:3}", "output.saturation=1.2"],
        ["output.width_cm=10", "output.width=null", "output.dpi=100", "output.bleed_mm=3", "output.bits=16"],
        ["image=noise", "output.width=128", "output.height=256", "tiles.size=64"],
        ["output.width=9000"],
    ],
)
@pytest.mark.parametrize("octaves", [[], ["octaves.count=5"]], ids=["auto", "5 octaves"])
def test_the_print_of_a_point_is_the_same_dream(octaves: list[str], words: list[str]) -> None:
    """The settings are the point's, the size the poster's, and the coarsest octave about as wide as the point's."""
    config = load_config("preview", [*octaves, *words])
    bleed = round(3 / 25.4 * 100) if config.output.bleed_mm else 0
    trim = picture_width(config.output) or 0
    height = config.output.height or 301
    what, poster = composed(poster_command(config, (height + 2 * bleed, trim + 2 * bleed)))
    assert what == "render"
    usual = load_config("poster", [])
    assert (poster.name, poster.output.width_cm, poster.output.dpi) == ("poster", 90, 150)
    wide = picture_width(poster.output) or 0
    assert wide == picture_width(usual.output) == 5315
    for key in ("image", "seed", "model", "objective", "step_size", "conditioning", "boundary", "source", "jitter"):
        assert getattr(poster, key) == getattr(config, key), key
    for key in ("bits", "saturation", "bleed_mm", "fit"):
        assert getattr(poster.output, key) == getattr(config.output, key), key
    assert poster.octaves.scale == config.octaves.scale
    assert poster.tiles == usual.tiles
    if config.output.height is not None:
        assert poster.output.height == round(wide * config.output.height / trim)
    else:
        assert poster.output.height is None
    if config.octaves.count == "auto":
        assert poster.octaves.count == "auto"
        return
    coarsest = [
        one / config.octaves.scale ** (count - 1)
        for one, count in ((trim, config.octaves.count), (wide, poster.octaves.count))
    ]
    assert abs(np.log(coarsest[0] / coarsest[1])) <= np.log(config.octaves.scale) / 2 + 1e-9


@pytest.mark.parametrize(
    "word",
    [
        "octaves.steps=[8,8,8,8,12]",
        "step_size=[2,2,1,1,1]",
        "objective.terms=[[mixed3],[mixed3],[mixed4],[mixed4],[mixed5]]",
        "objective.regions=[{mask:a.png,terms:[[mixed3],[mixed3],[mixed4],[mixed4],[mixed5]]}]",
        "conditioning.pull=[0,0,0,0,0.1]",
    ],
)
def test_a_print_has_the_octaves_that_settings_list(word: str) -> None:
    config = load_config("preview", [word])
    _, poster = composed(poster_command(config, (400, 720)))
    assert listed_octaves(poster) == 5
    assert poster.octaves.count == "auto"
    assert (poster.objective, poster.octaves.steps, poster.step_size) == (
        config.objective,
        config.octaves.steps,
        config.step_size,
    )


def test_a_point_that_asks_for_impossible_octaves_gets_what_the_schema_allows() -> None:
    _, finest = composed(poster_command(load_config("preview", ["octaves.count=5", "octaves.scale=1.001"]), (64, 96)))
    assert finest.octaves.count == 1000
    _, coarsest = composed(poster_command(load_config("preview", ["octaves.count=1"]), (20_000, 30_000)))
    assert coarsest.octaves.count == 1


def prints(root: str, words: list[str], sizes: list[tuple[int, int]]) -> tuple[FavouritePrints, list[Config]]:
    """Return how points become prints, and their configs as prints; `sizes` are their pictures', in turn."""
    points = [point for point in expand(parse_sweep(root, words)) if point.config is not None]
    given = [(point.words, point.config, sizes[point.number % len(sizes)]) for point in points]
    return favourites_as_prints(given), [composed(poster_command(config, size))[1] for _, config, size in given]


def read_back(made: FavouritePrints, directory: Path) -> list[Config]:
    """Return the configs that the command reads from a file of all points, each once as the page lists them."""
    file = directory / "ratings.yaml"
    points = [dict(word.split("=", 1) for word in words) for words in dict.fromkeys(made.words)]
    file.write_text(yaml.safe_dump(points), encoding="utf-8")
    words = shlex.split(made.command)[3:]
    assert words[0] == "sweep.points=ratings.yaml"
    points = expand(parse_sweep("poster", [f"sweep.points={file}", *words[1:]]))
    return [point.config for point in points if point.config is not None]


def test_favourites_become_prints_with_what_all_points_share() -> None:
    words = ["objective=eyes,dogs", "step_size=2,3", "seed=3", "image=me.jpg"]
    command = "make sweep conf=poster sweep.points=ratings.yaml seed=3 image=me.jpg"
    for octaves, more in ([], ""), (["octaves.count=5"], " octaves.count=11"):
        made, _ = prints("preview", [*words, *octaves], [(400, 720)])
        assert made.command == command + more
        assert made.words[1] == ("objective=eyes", "step_size=3")


@pytest.mark.parametrize(
    ("root", "words", "sizes"),
    [
        ("grid", ["step_size=2"], [(213, 320)]),  # with octave scales
        ("preview", ["output.width=96,320", "objective=eyes,dogs"], [(64, 96), (64, 96), (213, 320), (213, 320)]),
        ("preview", ["octaves.count=2,5"], [(213, 320)]),
        ("preview", ["image=sample:chelsea,sample:hubble", "output.height=200"], [(200, 300), (200, 240)]),
        ("preview", ["model=inception_v3,googlenet", "seed=1,2", "output.format=tiff", "output.bits=16"], [(213, 320)]),
    ],
)
def test_favourites_become_the_prints_that_their_own_commands_make(
    root: str, words: list[str], sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    made, posters = prints(root, words, sizes)
    different = [poster for number, poster in enumerate(posters) if poster not in posters[:number]]
    assert read_back(made, tmp_path) == different


def test_favourites_of_favourites_are_prints_too(tmp_path: Path) -> None:
    """The keys of a file's points are theirs alone: the command does not repeat them."""
    (tmp_path / "chosen.yaml").write_text('- {step_size: "2", seed: "1"}\n- {octaves.scale: "1.2"}\n')
    made, posters = prints("preview", [f"sweep.points={tmp_path / 'chosen.yaml'}", "jitter=3"], [(213, 320)])
    assert "step_size" not in made.command
    assert "jitter=3" in made.command
    assert read_back(made, tmp_path) == posters


def test_a_point_is_made_again_by_the_command_of_its_config() -> None:
    command = point_command({"name": "layers", "seed": 4, "step_size": 2.0})
    assert re.fullmatch(r"make render name=layers seed=4 step_size=2", command)
