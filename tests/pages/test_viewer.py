"""The page that shows deep-zoom pictures: what is filled in stays data, and its script comes from where it should."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import stat
import subprocess
import tarfile
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from render.config.command_words import render_command
from render.config.compose import load_config
from render.config.schema import Config
from render.errors import UserError
from render.pages import openseadragon
from render.pages.templates import script_json
from render.pages.zoom_levels import Pyramid
from render.pages.zoom_page import ViewerFacts, page, read_descriptor, setting_text, write_viewer

FACTS = ViewerFacts("night", 300, 200, 100.0, {"octaves": {"count": 3}, "image": "me.jpg", "none": None}, "make render")


class Parsed(HTMLParser):
    """What a browser finds in a page: elements, addresses that they load, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self.title = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        if self._inside == "title":
            self.title += data


def deep_zoom(
    directory: Path, stem: str = "dream", shape: tuple[int, int] = (200, 300), suffix: str = ".jpg"
) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    directory.mkdir(exist_ok=True)
    pyvips.Image.new_from_array(pixels).copy(interpretation="srgb").dzsave(
        str(directory / stem), suffix=suffix, keep="none"
    )
    return pixels


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that stands in for OpenSeadragon."""
    path = tmp_path / "my openseadragon.min.js"
    path.write_text("function OpenSeadragon() {}")
    monkeypatch.setenv("RENDER_OPENSEADRAGON", str(path))
    return path


# ---- Filling the page


@given(title=st.text(max_size=40), value=st.text(max_size=40), command=st.text(max_size=40))
def test_no_text_in_a_config_becomes_markup_or_script(title: str, value: str, command: str) -> None:
    facts = ViewerFacts(title, 1, 1, None, {"key": value, value: "key"}, command)
    plain, filled = Parsed(page(FACTS, {})), Parsed(page(facts, {}))
    assert filled.elements == plain.elements
    assert filled.scripts[2] == plain.scripts[2]
    data = json.loads(filled.scripts[0])
    assert data["title"] == title
    assert data["command"] == command
    assert ["key", value] in data["parameters"]


@pytest.mark.parametrize(
    "attack", ["</script><script>alert(1)</script>", "<!--<script>", "{{data}}", "{{script}}", "&lt;", "\u2028"]
)
def test_attacks_stay_text(attack: str) -> None:
    text = page(ViewerFacts(attack, 1, 1, None, {attack: attack}, attack), {})
    assert Parsed(text).elements == Parsed(page(FACTS, {})).elements
    assert json.loads(Parsed(text).scripts[0])["title"] == attack
    assert f"<title>{html.escape(attack)}</title>" in text


def test_the_page_loads_nothing_from_elsewhere() -> None:
    addresses = Parsed(page(FACTS, {})).addresses
    assert addresses == ["data:,", "openseadragon.min.js"]
    # The namespace of Deep Zoom is a name, not an address, and comes with the data only.
    assert not re.search(r"https?://", page(FACTS, {}))


def test_the_page_says_how_large_the_print_is() -> None:
    plain = FACTS.plain()
    assert plain["print"]["width"] == pytest.approx(7.62)
    assert plain["print"]["dpi"] == "100"
    assert plain["parameters"] == [["octaves.count", "3"], ["image", "me.jpg"]]
    assert ViewerFacts("x", 1, 1, None, {}, "").plain()["print"] is None


def test_settings_read_as_in_a_config() -> None:
    values = [None, True, 0.1, 400.0, ["mixed3", 1], {}, "text", float("nan")]
    assert [setting_text(value) for value in values] == ["null", "true", "0.1", "400", "[mixed3, 1]", "{}", "text", "nan"]


def test_json_in_a_script_holds_no_angle_brackets() -> None:
    assert json.loads(script_json({"a": "<&>"})) == {"a": "<&>"}
    assert not set("<>&") & set(script_json({"a": "<&>"}))


# ---- Beside an export


def test_the_viewer_lies_beside_the_tiles_and_names_them(tmp_path: Path, script: Path) -> None:
    deep_zoom(tmp_path / "zoom")
    deep_zoom(tmp_path / "zoom", "source", (100, 150), ".png")
    assert write_viewer(tmp_path / "zoom", FACTS) is None
    assert (tmp_path / "zoom" / "openseadragon.min.js").read_bytes() == script.read_bytes()
    images = json.loads(Parsed((tmp_path / "zoom" / "index.html").read_text()).scripts[0])["images"]
    assert images["dream"]["Image"] == {
        "xmlns": "http://schemas.microsoft.com/deepzoom/2008",
        "Url": "dream_files/",
        "Format": "jpg",
        "Overlap": "1",
        "TileSize": "254",
        "Size": {"Height": "200", "Width": "300"},
    }
    assert images["source"]["Image"]["Format"] == "png"
    assert not list((tmp_path / "zoom").glob(".*"))


def test_without_the_script_the_page_is_written_and_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep_zoom(tmp_path / "zoom")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = write_viewer(tmp_path / "zoom", FACTS)
    assert said is not None
    assert "\n" not in said
    for word in ("there is no npm", "npm pack openseadragon@", "openseadragon.min.js beside index.html"):
        assert word in said
    assert (tmp_path / "zoom" / "index.html").exists()


def test_without_a_picture_there_is_no_page(tmp_path: Path, script: Path) -> None:
    with pytest.raises(UserError, match=r"holds no dream\.dzi"):
        write_viewer(tmp_path, FACTS)
    (tmp_path / "dream.dzi").write_text("<Image/>")
    with pytest.raises(UserError, match="no deep-zoom picture"):
        write_viewer(tmp_path, FACTS)
    assert not (tmp_path / "index.html").exists()


# ---- OpenSeadragon


def npm_that(directory: Path, body: str) -> None:
    """Puts a program called npm into a directory."""
    path = directory / "npm"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RENDER_OPENSEADRAGON", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "cache"


def test_the_script_is_fetched_once_checked_and_kept(empty_cache: Path, tmp_path: Path) -> None:
    try:
        first = openseadragon.load()
    except UserError as error:
        pytest.skip(f"needs npm and its registry: {error}")
    assert set(first.files) == {"openseadragon.min.js", "openseadragon-license.txt"}
    npm_that(tmp_path, "echo 'npm error code ECONNREFUSED' >&2; exit 1")
    assert openseadragon.load() == first
    # A damaged copy is no copy.
    (kept,) = (empty_cache / "pareidolia" / "viewer").glob("*.js")
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(UserError, match="npm says ECONNREFUSED"):
        openseadragon.load()


def test_a_package_with_another_content_is_not_used(empty_cache: Path, tmp_path: Path) -> None:
    package = packed(tmp_path, {"build/openseadragon/openseadragon.min.js": b"OpenSeadragon, but not ours"})
    npm_that(tmp_path, f"cp {shlex.quote(str(package))} .")
    with pytest.raises(UserError, match=r"another openseadragon\.min\.js than expected"):
        openseadragon.load()
    assert not list((empty_cache / "pareidolia" / "viewer").glob("*.js"))


def packed(directory: Path, files: dict[str, bytes]) -> Path:
    content = directory / "package"
    for name, data in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(data)
    path = directory / "openseadragon.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(content, "package")
    return path


def test_the_user_may_name_the_package_or_the_script(tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert openseadragon.load().script == script.read_bytes()
    files = {"build/openseadragon/openseadragon.min.js": b"OpenSeadragon 5", "LICENSE.txt": b"BSD"}
    monkeypatch.setenv("RENDER_OPENSEADRAGON", str(packed(tmp_path, files)))
    assert openseadragon.load().files == {
        "openseadragon.min.js": b"OpenSeadragon 5",
        "openseadragon-license.txt": b"BSD",
    }


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("no.js", None, "No such file"),
        ("a.js", b"alert(1)", "is not OpenSeadragon"),
        ("a.tgz", b"no archive", "no package of npm's"),
    ],
)
def test_a_wrong_file_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("RENDER_OPENSEADRAGON", str(tmp_path / name))
    with pytest.raises(UserError, match=says) as refused:
        openseadragon.load()
    assert name in str(refused.value)


# ---- Levels and tiles


SIDES = st.integers(1, 5000)


@given(height=SIDES, width=SIDES, tile=st.sampled_from([254, 64, 256]), overlap=st.integers(0, 2))
def test_every_pixel_of_every_level_is_in_one_tile_but_for_the_overlap(
    height: int, width: int, tile: int, overlap: int
) -> None:
    pyramid = Pyramid(height, width, tile, overlap)
    assert pyramid.shape(pyramid.top) == (height, width)
    assert pyramid.shape(0) == (1, 1)
    for level in range(pyramid.top + 1):
        shape, counts = pyramid.shape(level), pyramid.tiles(level)
        for axis in (0, 1):
            spans = [pyramid.rect(level, *((i, 0) if axis == 0 else (0, i)))[axis] for i in range(counts[axis])]
            assert spans[0].start == 0
            assert spans[-1].stop == shape[axis]
            for before, after in zip(spans, spans[1:], strict=False):
                assert before.stop - after.start == min(2 * overlap, shape[axis] - after.start)
            if level:
                assert -(-shape[axis] // 2) == pyramid.shape(level - 1)[axis]
        whole_level = pyramid.rect(level, counts[0] - 1, counts[1] - 1)
        covered = pyramid.covered(level, whole_level)
        assert (covered.rows.stop, covered.columns.stop) == (height, width)
        assert pyramid.has(level, counts[0] - 1, counts[1] - 1)
        assert not pyramid.has(level, counts[0], 0)
        assert not pyramid.has(level, 0, counts[1])
    assert not pyramid.has(pyramid.top + 1, 0, 0)


@settings(max_examples=12)
@given(height=st.integers(1, 700), width=st.integers(1, 700))
def test_levels_and_tiles_are_those_that_libvips_writes(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    directory = tmp_path_factory.mktemp("dzi")
    pyvips.Image.black(width, height, bands=3).dzsave(str(directory / "dream"), suffix=".png")
    pyramid = Pyramid(height, width)
    expected = {}
    for level in range(pyramid.top + 1):
        rows, columns = pyramid.tiles(level)
        for row in range(rows):
            for column in range(columns):
                expected[f"{level}/{column}_{row}.png"] = pyramid.rect(level, row, column).shape
    files = directory / "dream_files"
    found = {}
    for path in files.rglob("*.png"):
        tile = pyvips.Image.new_from_file(str(path))
        found[str(path.relative_to(files))] = (tile.height, tile.width)
    assert found == expected
    assert read_descriptor(directory, "dream") == pyramid.descriptor("dream_files/", "png")


# ---- The command that makes the picture again


KEYS = {
    "name": st.sampled_from(["dream", "poster", "noise", "a b & c", "'quoted'", "null", "it's $5"]),
    "seed": st.integers(0, 2**63 - 1),
    "image": st.sampled_from(["sample:hubble", "noise", "my picture, (1) $x.jpg", "a=b.png", '"x"', "tüb\\.jpg"]),
    "step_size": st.floats(1e-6, 255),
    "objective.terms": st.sampled_from([None, ["mixed4"], ["mixed3", "0.5*mixed5"], ["mixed4:12+40"], ["a b'\"c", "true"]]),
    "octaves.scale": st.floats(1.01, 4),
    "tiles.halo": st.sampled_from(["exact", "balanced", 0, 64]),
    "output.width_cm": st.none() | st.floats(1, 400),
    "output.dpi": st.floats(1, 600),
    "model.weights": st.sampled_from([None, "w eights.npz"]),
}


@settings(max_examples=12)
@given(values=st.fixed_dictionaries({}, optional=KEYS))
def test_the_command_makes_the_same_picture(values: dict[str, object]) -> None:
    wanted = load_config("preview", [])
    for key, value in {"output.dpi": 100.0, **values}.items():
        section, _, name = key.rpartition(".")
        setattr(getattr(wanted, section) if section else wanted, name, value)
    if wanted.output.width_cm is not None:
        wanted.output.width = None
    shell = subprocess.run(["sh", "-c", f"printf '%s\\n' {render_command(asdict(wanted))}"], capture_output=True, text=True)
    make, render, *words = shell.stdout.splitlines()
    assert (make, render) == ("make", "render")
    root = next((word.removeprefix("conf=") for word in words if word.startswith("conf=")), "preview")
    again = load_config(root, [word for word in words if not word.startswith("conf=")])
    assert again.picture_settings() == wanted.picture_settings()


def test_the_command_spells_out_only_what_differs() -> None:
    config = asdict(load_config("poster", ["image=me.jpg", "farm.workers=2", "output.dir=there", "quiet=true"]))
    assert render_command(config) == "make render conf=poster image=me.jpg"
    assert render_command(asdict(load_config("preview", []))) == "make render"
    assert "unknown" not in render_command({**asdict(Config()), "unknown": 1})


@pytest.mark.parametrize(
    "words",
    [
        ["objective=eyes"],
        ["objective=dogs", "model=googlenet"],
        ["objective=eyes", "objective.terms=[mixed3]"],
        ["objective.by_model={inception_v3:[mixed4:1+2,0.5*mixed5]}"],
        ["objective.mask={image:m.png,feather:2,invert:true}"],
        ["objective.regions=[{mask:{image:a.png},terms:[[mixed3],[mixed4]]}]"],
    ],
)
def test_the_command_keeps_what_is_dreamed_and_where(words: list[str]) -> None:
    """Settings that are mappings are spelled out whole, and an objective that ships is called by its name."""
    wanted = load_config("preview", words)
    _, _, *again = shlex.split(render_command(asdict(wanted)))
    assert load_config("preview", again).picture_settings() == wanted.picture_settings()
    assert [word for word in again if "by_model" in word] == [word for word in words if "by_model" in word]
