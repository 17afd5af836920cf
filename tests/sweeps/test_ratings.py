"""Ratings on the page of a sweep, their file, downloads and news, in a real Chromium.

RENDER_SCREENSHOTS names a directory that gets what the browser shows, to be looked at.
"""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from render.sweeps.breeding.generation import define_sweep
from render.sweeps.gallery.exhibition import Exhibition, ShownPoint, SweepProgress
from render.sweeps.gallery.gallery_page import write_gallery
from tests.conftest import refusal
from tests.support import browser
from tests.support.exhibitions import FAILED, WAITING, axis, exhibition, write_pictures, write_sweep
from tests.support.http_server import answering
from tests.sweeps.test_gallery import choose, close, focused, links, look, point, press, text

PROGRESS = SweepProgress("running", 0.25, 2, 90.0, 0.0, 0.3)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Exhibition]:
    """Directory of a sweep of 24 points without a page, and what its page would show."""
    directory = tmp_path_factory.mktemp("sweep")
    return directory, write_sweep(directory)


@pytest.fixture
def written(tmp_path: Path, original: tuple[Path, Exhibition]) -> tuple[Path, Exhibition]:
    """Directory of a sweep that a test may change, with its page."""
    directory = shutil.copytree(original[0], tmp_path / "night #1")
    write_gallery(directory, original[1])
    return directory, original[1]


@pytest.fixture
def page(chromium: browser.Browser, written: tuple[Path, Exhibition]) -> Iterator[browser.Page]:
    page = chromium.page(1280, 800)
    page.open((written[0] / "index.html").as_uri())
    page.do("localStorage.clear()")
    page.open((written[0] / "index.html").as_uri() + "?again")
    yield page
    assert page.complaints == []
    here = written[0].as_uri()
    assert all(url.startswith((here, "data:", "blob:", "http://127.0.0.1:")) for url in page.requests), page.requests
    page.close()


def reopen(page: browser.Page) -> None:
    page.open(page.run("location.href").replace("?again", "?once-more"))


def rate(page: browser.Page, number: int, keys: str) -> None:
    """Press keys on a point of the page."""
    page.do(f"document.querySelector('.cell a[title={json.dumps(point(number))}]').focus()")
    for key in keys:
        page.key(key)


def name_of(page: browser.Page, number: int) -> str:
    return page.run(f"document.querySelector('.cell a[title={json.dumps(point(number))}]').ariaLabel")


def saved(page: browser.Page, directory: Path, control: str = "#export", pattern: str = "*.yaml") -> Path:
    """Return the file that a button saves."""
    return page.download(directory, pattern, lambda: page.do(f"document.querySelector('{control}').click()"))


def set_files(page: browser.Page, control: str, *paths: Path) -> None:
    """Choose files, or a folder, in a control of the page."""
    root = page.ask("DOM.getDocument")["root"]["nodeId"]
    node = page.ask("DOM.querySelector", nodeId=root, selector=control)["nodeId"]
    page.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])


def opened(page: browser.Page, path: Path) -> str:
    """Return what the page says about a file of ratings."""
    page.do("document.querySelector('#message-text').textContent = ''")
    set_files(page, "#import-file", path)
    page.until("document.querySelector('#message-text').textContent !== ''")
    return text(page, "#message-text")


# Rating


def test_keys_rate_points_on_the_page_and_the_browser_keeps_it(page: browser.Page) -> None:
    rate(page, 0, "5")
    rate(page, 3, "3f")
    rate(page, 6, "2x")
    rate(page, 7, "40")
    look(page, "ratings")
    reopen(page)
    names = [name_of(page, number) for number in (0, 3, 6, 7)]
    assert names == [
        f"{point(0)}, 5 stars",
        f"{point(3)}, 3 stars, favourite",
        f"{point(6)}, 2 stars, rejected",
        point(7),
    ]
    assert page.run("document.querySelector('.cell a').dataset.rating") == "★★★★★"
    rate(page, 6, "x")
    assert name_of(page, 6) == f"{point(6)}, 2 stars"


def test_the_large_view_rates_by_keys_and_buttons_and_takes_notes(page: browser.Page) -> None:
    page.click(".cell a")
    page.key("4")
    page.key("n")
    assert page.run("document.activeElement.id") == "large-note"
    # In a note, keys are letters.
    for letter in "fine 15 f?":
        page.key(letter)
    press(page, "Escape")
    assert page.run("document.querySelector('#large').open")
    assert page.run("document.activeElement.id") == "large-stage"
    look(page, "rated-point")
    page.key("ArrowRight")
    assert page.run("document.querySelector('#large-note').value") == ""
    page.click("#large [data-stars='2']")
    page.click("#large-rejected")
    pressed = "[...document.querySelectorAll('#large [data-stars][aria-pressed=true]')].map((one) => one.ariaLabel)"
    assert page.run(pressed) == ["2 stars"]
    page.click("#large [data-stars='2']")
    assert page.run(pressed) == []
    close(page)
    assert name_of(page, 0) == f"{point(0)}, 4 stars, has a note"
    assert name_of(page, 1) == f"{point(1)}, rejected"
    reopen(page)
    page.click(".cell a")
    assert page.run("document.querySelector('#large-note').value") == "fine 15 f?"
    # The note is found by the filter.
    close(page)
    choose(page, "#filter", "fine")
    assert links(page) == [point(0)]


def test_a_note_that_is_being_typed_is_kept_however_it_is_left(page: browser.Page) -> None:
    for leave in ("ArrowRight", "reload"):
        page.do("document.querySelector('.cell a').click()")
        page.key("n")
        page.key("ab"[leave == "reload"])
        if leave == "reload":
            page.do("history.replaceState(null, '', location.pathname)")
            page.open(page.run("location.href"))
        else:
            press(page, "Escape")
            page.key(leave)
            close(page)
        assert name_of(page, 0) == f"{point(0)}, has a note", leave
    page.do("document.querySelector('.cell a').click()")
    assert page.run("document.querySelector('#large-note').value") in ("ab", "ba")


def test_the_two_of_a_comparison_are_rated_by_plain_keys_and_with_shift(page: browser.Page) -> None:
    rate(page, 0, "c")
    rate(page, 3, "c")
    page.until("document.querySelector('#pair').open")
    page.key("4")
    page.ask("Input.dispatchKeyEvent", type="keyDown", key="%", code="Digit5", text="%", modifiers=8)
    page.ask("Input.dispatchKeyEvent", type="keyDown", key="X", code="KeyX", text="X", modifiers=8)
    assert page.run("[...document.querySelectorAll('.tag i')].map((one) => one.textContent)") == ["★★★★", "★★★★★ rejected"]
    look(page, "rated-pair")
    close(page)
    assert [name_of(page, number).removeprefix(point(number)) for number in (0, 3)] == [
        ", 4 stars, A of the comparison",
        ", 5 stars, rejected, B of the comparison",
    ]


# Filters and order


def test_points_are_left_by_stars_and_rejection_and_sorted_by_rating_or_an_axis(page: browser.Page) -> None:
    for number, keys in ((2, "3"), (4, "5"), (9, "3f"), (12, "1"), (1, "5x")):
        rate(page, number, keys)
    choose(page, "#stars", "3")
    assert links(page) == [point(number) for number in (1, 2, 4, 9)]
    page.click("#unrejected")
    assert links(page) == [point(number) for number in (2, 4, 9)]
    # The order goes through all points, best first, favourites before equals.
    choose(page, "#sort", "rating")
    assert links(page) == [point(number) for number in (4, 9, 2)]
    assert page.run("[rows.value, columns.value]") == ["", ""]
    assert page.run("location.hash") == "#rows=&columns=&sort=rating&stars=3&rejected=hidden"
    page.click("#direction")
    assert links(page) == [point(number) for number in (2, 9, 4)]
    reopen(page)
    assert links(page) == [point(number) for number in (2, 9, 4)]
    # A point that no longer fits leaves at once, and the focus goes on.
    rate(page, 9, "2")
    assert links(page) == [point(number) for number in (2, 4)]
    choose(page, "#stars", "0")
    assert len(links(page)) == 19
    page.do("document.querySelector('#clear').click()")
    assert len(links(page)) == 24
    choose(page, "#sort", "2")
    assert [at.rpartition(" ")[2] for at in links(page)] == ["1"] * 8 + ["1.5"] * 8 + ["2"] * 8
    look(page, "sorted")
    choose(page, "#sort", "rating")
    assert links(page)[:4] == [point(number) for number in (4, 2, 9, 12)]
    assert links(page)[-1] == point(1), "what is rejected comes last"
    # The grid comes back.
    choose(page, "#sort", "")
    assert len(page.run("[...document.querySelectorAll('.body')]")) == 8


def test_values_are_sorted_by_number_where_all_are_numbers(chromium: browser.Browser, tmp_path: Path) -> None:
    axes = (
        axis("step_size", {label: label for label in ("10", "2", "1e-1")}),
        axis("name", {"b": "b", "a10": "c", "a9": "d"}),
    )
    shown = exhibition(axes, lambda _, at: ShownPoint(at, "waiting", "", "", *4 * (None,), (0, 0), 0.0, (), "", ""), 0, 1)
    page = chromium.page(900, 600)
    page.open(write_gallery(tmp_path, shown).as_uri())
    choose(page, "#sort", "0")
    assert [at.split(", ")[0] for at in links(page)] == [
        f"step_size {step}" for step in ("1e-1", "2", "10") for _ in range(3)
    ]
    choose(page, "#sort", "1")
    assert [at.split(", ")[1] for at in links(page)] == [f"name {name}" for name in ("a9", "a10", "b") for _ in range(3)]
    page.close()


# The file


def test_the_file_of_ratings_is_opened_again_and_bred_from(
    page: browser.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = 'eyes: "good" # \u2028 <b> \U0001f600'
    for number, keys in ((0, "4"), (3, "2f"), (14, "3"), (16, "5x")):
        rate(page, number, keys)
    page.do("document.querySelector('.cell a').click()")
    page.do(f"(large_note => {{ large_note.value = {json.dumps(note)}; large_note.dispatchEvent(new Event('input')); }})"
            "(document.querySelector('#large-note'))")  # fmt: skip
    close(page)
    file = saved(page, tmp_path / "downloads")
    assert file.name == "ratings.yaml"
    content = yaml.safe_load(file.read_text())
    # What is chosen has four stars or is a favourite, and is not rejected.
    assert [(entry["image"], entry["objective.terms"]) for entry in content["points"]] == [
        ("sample:chelsea", "[mixed3]"),
        ("sample:chelsea", "[mixed4]"),
    ]
    assert {entry["point"].split(" ")[0]: entry["stars"] for entry in content["ratings"]} == {
        "chelsea-mixed3-1": 4, "chelsea-mixed4-1": 2, "hubble-mixed3-2": 3, "hubble-mixed4-1.5": 5,
    }  # fmt: skip
    assert content["ratings"][0]["note"] == note
    assert content["sweep"]["title"] == "layers-1a2b3c4d"
    monkeypatch.chdir(file.parent)
    bred = define_sweep("breed", ["from=ratings.yaml", "output.width=96", "sweep.breed.size=3"])
    assert bred.lineage is not None
    assert len(bred.lineage.parents) == 2
    # The default of a bred sweep is this file.
    assert define_sweep("breed", ["output.width=96", "sweep.breed.size=3"]).lineage == bred.lineage
    # Another browser opens it.
    page.do("localStorage.clear()")
    reopen(page)
    assert name_of(page, 0) == point(0)
    assert opened(page, file) == "ratings.yaml: 4 ratings read, 4 changed here"
    look(page, "opened")
    assert name_of(page, 16) == f"{point(16)}, 5 stars, rejected"
    page.do("document.querySelector('.cell a').click()")
    assert page.run("document.querySelector('#large-note').value") == note
    close(page)
    assert opened(page, file) == "ratings.yaml: 4 ratings read, nothing changed here"


def test_a_point_that_failed_is_rated_and_not_bred_from(page: browser.Page, tmp_path: Path) -> None:
    for number in (0, FAILED):
        rate(page, number, "5")
    content = yaml.safe_load(saved(page, tmp_path / "downloads").read_text())
    assert [len(content[part]) for part in ("points", "prints", "ratings")] == [1, 1, 2]
    assert content["points"][0]["objective.terms"] == "[mixed3]"


def edited(file: Path, directory: Path, **changes: Any) -> Path:
    """Return a copy of a file of ratings whose first rating has changed."""
    lines = file.read_text().splitlines()
    start = lines.index("ratings:") + 1
    lines[start] = f"- {json.dumps(json.loads(lines[start][2:]) | changes)}"
    copy = directory / "theirs.yaml"
    copy.write_text("\n".join(lines) + "\n")
    return copy


def test_opened_ratings_are_merged_and_can_be_taken_back(page: browser.Page, tmp_path: Path) -> None:
    rate(page, 0, "4")
    page.do("document.querySelector('.cell a').click()")
    page.key("n")
    for letter in "mine":
        page.key(letter)
    press(page, "Escape")
    close(page)
    rate(page, 5, "1")
    file = saved(page, tmp_path / "downloads")
    time_of = json.loads(page.run("Object.values(localStorage)[0]"))["ratings"][0]["time"]
    # Older stars do not replace newer ones, but its words are kept.
    older = edited(file, tmp_path, stars=1, note="theirs", time=time_of - 100)
    assert "1 changed here" in opened(page, older)
    assert name_of(page, 0) == f"{point(0)}, 4 stars, has a note"
    page.do("document.querySelector('.cell a').click()")
    assert page.run("document.querySelector('#large-note').value") == "theirs\nmine"
    close(page)
    # Newer ones do, even if their clock is ahead, until they are taken back; what is not in the file stays.
    newer = edited(file, tmp_path, stars=2, favourite=True, note="mine", time=time_of + 10**9)
    opened(page, newer)
    assert name_of(page, 0) == f"{point(0)}, 2 stars, favourite, has a note"
    assert name_of(page, 5) == f"{point(5)}, failed, 1 star"
    page.click("#message-undo")
    assert name_of(page, 0) == f"{point(0)}, 4 stars, has a note"
    rate(page, 0, "3")
    reopen(page)
    assert name_of(page, 0) == f"{point(0)}, 3 stars, has a note"


def test_files_that_are_not_this_sweep_s_ratings_are_refused_in_one_line(page: browser.Page, tmp_path: Path) -> None:
    rate(page, 0, "4")
    file = saved(page, tmp_path / "downloads")
    content, bad = file.read_text(), tmp_path / "bad.yaml"
    start = content.index("ratings:\n")
    head, rating = content[:start], json.loads(content[start:].splitlines()[1][2:])

    def with_rating(**changes: Any) -> str:
        return f"{head}ratings:\n- {json.dumps(rating | changes)}\n"

    other = content.replace('"id": "', '"id": "f').replace("layers-1a2b3c4d", "grid-5e6f")
    cases = {
        "": "bad.yaml: it has no ratings: open a file that “Save ratings” on a sweep's page has made",
        "- {step_size: 2}\n": "bad.yaml: it has no ratings: open a file that “Save ratings” on a sweep's page has made",
        other: "bad.yaml: it is of another sweep, grid-5e6f: open it on that page; this one is of layers-1a2b3c4d",
        with_rating(stars=6): "has stars that are not 0 to 5: nothing was taken from it",
        with_rating(stars="5"): "has stars that are not 0 to 5: nothing was taken from it",
        with_rating(note="x" * 2001): "has a note of more than 2000 characters: nothing was taken from it",
        with_rating(favourite="yes"): "has a favourite or rejected that is not true or false: nothing was taken from it",
        with_rating(point=""): "names no point: nothing was taken from it",
        with_rating(star=5): 'has "star", which no rating has: nothing was taken from it',
        with_rating(time=-1): "has a time that is no number of seconds: nothing was taken from it",
        f"{head}ratings:\n- {{point: x}}\n": "cannot be read: nothing was taken from it",
        f"{head}ratings:\n- [1]\n": "is no rating: nothing was taken from it",
        f"{head}ratings:\nmore: 1\n": "is no rating: nothing was taken from it",
        f"{head}ratings:\n- {'[' * 100_000}\n": "cannot be read: nothing was taken from it",
        "x" * 8_000_001: "bad.yaml: it is larger than 8 MB, which no file of ratings is",
        content + "".join(f'- {{"point": "{number}"}}\n' for number in range(20_001)): "more than a sweep has points",
    }
    for words, said in cases.items():
        bad.write_text(words)
        message = opened(page, bad)
        assert said in message, words[-200:]
        assert "\n" not in message
        assert message.startswith("bad.yaml: ")
    bad.write_bytes(bytes(range(256)) * 20)
    assert "it has no ratings" in opened(page, bad)
    look(page, "refused")
    assert page.run("[...document.querySelectorAll('[data-rating]')].map((one) => one.title)") == [point(0)]
    assert page.run("document.querySelector('#message').classList.contains('problem')")
    page.click("#message-close")
    assert not page.run("document.querySelector('#message').checkVisibility()")


def test_damaged_or_older_storage_of_the_browser_does_no_harm(page: browser.Page, written: tuple[Path, Exhibition]) -> None:
    data = json.loads(page.run("document.querySelector('#data').textContent"))
    first, second = data["points"][0]["id"], data["points"][1]["id"]
    entries = [{"point": first, "stars": 99}, {"point": second, "stars": 2}, None, 3, {"point": "__proto__", "stars": 1}]
    stored = json.dumps({"version": 1, "ratings": entries})
    for key, value, names in (
        (data["storage"]["ratings"], stored, [point(0), f"{point(1)}, 2 stars"]),
        (data["storage"]["ratings"], "{", [point(0), point(1)]),
        (data["storage"]["ratings"], "[1]", [point(0), point(1)]),
        # What pages of earlier versions stored.
        (data["storage"]["favourites"], json.dumps([first]), [f"{point(0)}, favourite", point(1)]),
    ):
        page.do("localStorage.clear()")
        page.do(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)})")
        reopen(page)
        assert [name_of(page, number) for number in (0, 1)] == names


def test_a_file_without_chosen_points_says_what_to_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rating = {"point": "a", "stars": 3, "favourite": False, "rejected": False, "note": "", "time": 1}
    document = {"version": "1", "sweep": {"id": "a", "title": "b"}, "points": [], "ratings": [rating]}
    Path("ratings.yaml").write_text(yaml.safe_dump(document))
    assert "give points 4 stars or more" in refusal(lambda: define_sweep("breed", ["from=ratings.yaml"]))
    for key in ("sweep", "ratings"):
        Path("ratings.yaml").write_text(yaml.safe_dump(document | {"points": [{"seed": 1}], key: 3}))
        assert f"its '{key}' is not what a gallery writes" in refusal(lambda: define_sweep("breed", ["from=ratings.yaml"]))


# Downloads


def contents(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def pictures(directory: Path, *numbers: int) -> dict[str, bytes]:
    """Return the pictures of points under the names that a download gives them."""
    folders = [next(directory.glob(f"points/*-{number:012x}")) for number in numbers]
    return {f"{folder.name}.png": (folder / "dream.png").read_bytes() for folder in folders}


def test_a_page_on_a_disk_packs_the_chosen_pictures_of_the_folder_that_is_chosen(
    page: browser.Page, written: tuple[Path, Exhibition], tmp_path: Path
) -> None:
    directory, _ = written
    page.key("d")
    assert "No point is chosen" in text(page, "#take-count")
    assert page.run("document.querySelector('#take-zip').disabled")
    press(page, "Escape")
    for number, keys in ((0, "4"), (3, "2f"), (16, "5x"), (WAITING, "5")):
        rate(page, number, keys)
    page.key("d")
    assert text(page, "#take-count") == "2 pictures"
    assert page.run("[...document.querySelectorAll('#take-links a')].map((one) => one.textContent)") == [
        f"chelsea \N{MIDDLE DOT} {layer} \N{MIDDLE DOT} 1" for layer in ("mixed3", "mixed4")
    ]
    look(page, "download")
    listed = saved(page, tmp_path / "lists", "#take-list", "*.txt").read_text().splitlines()
    assert [(directory / line).read_bytes() for line in listed] == list(pictures(directory, 0, 3).values())
    page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "zips"))
    set_files(page, "#take-folder", directory)
    page.until("document.querySelector('#take-count').textContent === '2 pictures are saved'")
    (file,) = wait_for(tmp_path / "zips", "*.zip")
    assert file.name == "layers-1a2b3c4d.zip"
    assert contents(file) == pictures(directory, 0, 3)
    # A folder without them saves nothing.
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").write_text("x")
    set_files(page, "#take-folder", tmp_path / "empty")
    page.until("document.querySelector('#take-count').textContent.startsWith('Nothing was saved: points/chelsea')")
    assert len(list((tmp_path / "zips").iterdir())) == 1


def wait_for(directory: Path, pattern: str) -> list[Path]:
    deadline = time.monotonic() + 20
    while not (files := list(directory.glob(pattern))) or not files[0].stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return files


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def test_a_page_on_a_server_packs_the_pictures_that_it_shows(
    page: browser.Page, written: tuple[Path, Exhibition], tmp_path: Path
) -> None:
    directory, _ = written
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=directory)) as server, answering(server):
        page.open(f"http://127.0.0.1:{server.server_port}/index.html")
        choose(page, "#filter", "mixed3 hubble")
        page.click("#take-open")
        choose(page, "#take-which", "shown")
        names = page.run("[...document.querySelectorAll('#take-links a')].map((one) => one.download)")
        assert names == list(pictures(directory, 12, 13, 14))
        file = saved(page, tmp_path / "zips", "#take-zip", "*.zip")
        page.until("document.querySelector('#take-count').textContent === '3 pictures are saved'")
        assert contents(file) == pictures(directory, 12, 13, 14)
        # One picture.
        press(page, "Escape")
        page.do("document.querySelector('.cell a').click()")
        single = saved(page, tmp_path / "single", "#large-file", "*.png")
        assert {single.name: single.read_bytes()} == pictures(directory, 12)
        # One that has gone.
        next(directory.glob("points/*-00000000000d")).joinpath("dream.png").unlink()
        page.complaints.clear()
        close(page)
        page.click("#take-open")
        choose(page, "#take-which", "shown")
        page.do("document.querySelector('#take-zip').click()")
        page.until("document.querySelector('#take-count').textContent.includes('cannot be fetched (404)')")
        page.complaints.clear()


# News


def test_the_page_follows_a_sweep_without_losing_the_place_or_a_note(
    page: browser.Page, written: tuple[Path, Exhibition]
) -> None:
    directory, exhibition = written
    write_gallery(directory, replace(exhibition, progress=replace(PROGRESS, time=time.time())))
    reopen(page)
    assert text(page, "#progress-text").startswith("25 % \N{MIDDLE DOT} 2 being dreamed \N{MIDDLE DOT} about 90 s left")
    look(page, "progress")
    choose(page, "#size", "400")
    page.do("document.querySelector('#scroller').scrollTo(100, 900)")
    page.do(f"document.querySelector('.cell a[title={json.dumps(point(WAITING))}]').click()")
    assert "has not been dreamed yet" in text(page, "#large-notice")
    page.key("n")
    for letter in "half a no":
        page.key(letter)
    page.do("window.isSamePage = true")
    points = list(exhibition.points)
    done = points[WAITING]
    size = write_pictures(directory / done.directory, done.value_indices)
    files = [f"{done.directory}/{name}" for name in ("dream.png", "thumbnail.webp")]
    points[WAITING] = replace(
        done, state="done", picture=files[0], large=files[0], thumbnail=files[1], size=size, seconds=3.0
    )
    points[FAILED] = replace(points[FAILED], reason="another reason")
    progress = replace(PROGRESS, state="running", share=0.5, running=1, seconds_left=None, time=time.time())
    write_gallery(directory, replace(exhibition, points=tuple(points), progress=progress))
    page.until("document.querySelector('#progress-text').textContent.startsWith('50 %')")
    page.until("document.querySelector('#large .pane img')?.naturalWidth === 450")
    assert text(page, "#progress-text") == "50 % \N{MIDDLE DOT} 1 being dreamed \N{MIDDLE DOT} time left not known yet"
    assert page.run("[isSamePage, document.activeElement.id, document.activeElement.value]") == [
        True,
        "large-note",
        "half a no",
    ]
    page.key("w")
    press(page, "Escape")
    close(page)
    assert page.run("document.querySelector('#scroller').scrollTop") > 500
    assert text(page, "#count") == "24 points \N{MIDDLE DOT} 1 failed"
    page.until(f"document.querySelector('.cell a[title={json.dumps(point(WAITING))}] img')?.naturalWidth > 0")
    assert name_of(page, WAITING) == f"{point(WAITING)}, has a note"
    choose(page, "#filter", '"another reason"')
    assert links(page) == [point(FAILED)]
    write_gallery(
        directory, replace(exhibition, points=tuple(points), progress=replace(progress, state="finished", share=1.0))
    )
    page.until("!document.querySelector('#progress').checkVisibility()")
    assert page.run("isSamePage")
    assert not page.run("document.querySelector('iframe')")


def test_the_page_says_when_a_sweep_was_broken_off_and_when_it_has_other_points(
    page: browser.Page, written: tuple[Path, Exhibition]
) -> None:
    directory, exhibition = written
    write_gallery(directory, replace(exhibition, progress=replace(PROGRESS, time=time.time() - 3600)))
    reopen(page)
    assert "no news since" in text(page, "#progress-text")
    assert "the same command goes on" in text(page, "#progress-text")
    rate(page, 0, "5")
    fewer = replace(
        exhibition, points=exhibition.points[:-1], progress=replace(PROGRESS, time=time.time(), state="interrupted")
    )
    write_gallery(directory, fewer)
    page.until("document.querySelector('#progress-reload').checkVisibility()")
    assert text(page, "#progress-text") == (
        "25 % \N{MIDDLE DOT} interrupted: the same command goes on \N{MIDDLE DOT} there are other points now"
    )
    page.click("#progress-reload")
    page.until("document.querySelectorAll('#grid .cell').length === 23")
    assert name_of(page, 0) == f"{point(0)}, 5 stars"


def test_a_page_on_a_server_follows_its_sweep_too(page: browser.Page, written: tuple[Path, Exhibition]) -> None:
    directory, exhibition = written
    write_gallery(directory, replace(exhibition, progress=replace(PROGRESS, time=time.time())))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=directory)) as server, answering(server):
        page.open(f"http://127.0.0.1:{server.server_port}/index.html")
        write_gallery(directory, replace(exhibition, progress=replace(PROGRESS, time=time.time(), share=0.75)))
        page.until("document.querySelector('#progress-text').textContent.startsWith('75 %')")
        write_gallery(directory, exhibition)
        page.until("!document.querySelector('#progress').checkVisibility()")


# For everybody


def test_a_phone_shows_every_column(chromium: browser.Browser, written: tuple[Path, Exhibition]) -> None:
    directory, exhibition = written
    write_gallery(directory, replace(exhibition, progress=replace(PROGRESS, time=time.time() - 3600)))
    page = chromium.page(390, 844)
    page.open((directory / "index.html").as_uri())
    look(page, "phone")

    def reach() -> float:
        return page.run(
            "Math.max(...[...document.querySelectorAll('.cell, .line > span')]"
            ".map((one) => one.getBoundingClientRect().right))"
        )

    assert reach() <= 390
    assert page.run("document.querySelector('#scroller').scrollWidth") <= 390
    page.click("#controls-toggle")
    look(page, "phone-controls")
    for control in ("#sort", "#stars", "#unrejected", "#favourites", "#take-open", "#export", "#import", "#keys-open"):
        x, _, width, _ = page.box(control)
        assert x >= 0, control
        assert x + width <= 390, control
    # Four columns fit with smaller pictures; what does not fit goes below each other, each with its value.
    choose(page, "#columns", "1")
    assert page.run("document.querySelectorAll('.table').length") == 2
    assert reach() <= 390
    page.resize(320, 700)
    page.until("document.querySelectorAll('.table').length === 0")
    look(page, "phone-small")
    assert text(page, ".flow .cell span").endswith("mixed3")
    assert reach() <= 320
    page.resize(390, 844)
    page.until("document.querySelectorAll('.table').length === 2")
    page.do("document.querySelector('.cell a').click()")
    look(page, "phone-point")
    for control in ("#large [data-stars='1']", "#large [data-stars='5']", "#large-rejected", "#large-take", "#large-note"):
        x, _, width, _ = page.box(control)
        assert x >= 0, control
        assert x + width <= 390, control
    close(page)
    page.key("?")
    look(page, "phone-keys")
    page.do("document.querySelector('#keys').close()")
    page.key("d")
    look(page, "phone-download")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.complaints == []
    page.close()


def test_the_keys_are_listed_and_every_control_is_named(page: browser.Page) -> None:
    page.key("?")
    assert page.run("document.querySelector('#keys').open")
    listed = page.run("[...document.querySelectorAll('#keys kbd')].map((one) => one.textContent)")
    for key in ("1", "5", "0", "F", "X", "N", "C", "D", "Z", "S", "E", "/", "?", "Shift", "Enter", "Esc"):
        assert key in listed, key
    look(page, "keys")
    press(page, "Escape")
    # The filter takes a question mark as a letter.
    page.key("/")
    page.key("?")
    assert page.run("[document.querySelector('#filter').value, document.querySelector('#keys').open]") == ["?", False]
    page.do("document.querySelector('#clear').click()")
    rate(page, 0, "5")
    for state in ("", "document.querySelector('.cell a').click()", "document.querySelector('#large-take').click()"):
        if state:
            page.do(state)
        tree = page.ask("Accessibility.getFullAXTree")["nodes"]
        roles = ("button", "slider", "link", "combobox", "searchbox", "textbox", "dialog", "progressbar")
        unnamed = [
            node["role"]["value"]
            for node in tree
            if not node.get("ignored") and node["role"]["value"] in roles and not node["name"]["value"]
        ]
        assert unnamed == [], state
    look(page, "download-one")
    assert text(page, "#take-count") == "1 picture"
    press(page, "Escape")
    # The focus is seen on every stop.
    close(page)
    for _ in range(24):
        press(page, "Tab")
        outline = page.run(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
        )
        assert page.run("document.activeElement === document.body") or outline == ["solid", "2px"], focused(page)
