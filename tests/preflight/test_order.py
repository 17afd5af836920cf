"""Orders: the specs that ship, those of users, the words before them, and what is refused of either."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from render.commands.preflight import parse
from render.export.metadata import srgb_profile
from render.preflight.order import KEYS
from render.preflight.order_files import read_order, spec_names
from tests.conftest import ROOT, refusal
from tests.preflight.pictures import BAD, GOOD, press_profile
from tests.preflight.scenes import photograph

SPECS = sorted((ROOT / "conf" / "spec").glob("*.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_is_an_order_and_says_what_for(path: Path) -> None:
    order = read_order(path.stem, {})
    assert order is not None
    assert order.spec == path.stem
    lines = path.read_text().splitlines()
    assert re.match(r"# [A-Z].{5,110}$", lines[0])
    assert all(re.search(r" # \S", line) for line in lines[1:]), path
    assert set(yaml.safe_load(path.read_text())) <= set(KEYS)
    tac = re.search(r"-tac(\d+)$", path.stem)
    assert order.tac == (float(tac[1]) if tac else None)


def test_there_is_no_order_without_a_word() -> None:
    assert spec_names() == [path.stem for path in SPECS]
    assert read_order(None, {}) is None


def test_words_come_before_the_spec(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("tac: 280\ncolour: [rgb, cmyk]\nbleed_mm: 3\ninterlaced: false\n")
    order = read_order(str(tmp_path / "shop.yaml"), {"tac": "260", "bleed_mm": "null", "interlaced": "true"})
    assert order is not None
    assert (order.tac, order.colour, order.bleed_mm, order.interlaced) == (260, ("rgb", "cmyk"), None, True)
    words = read_order(None, {"colour": "cmyk,grey", "bits": "[8,16]", "width_cm": "50", "bleed_mm": "5", "dpi": "200"})
    assert words is not None
    assert (words.colour, words.bits) == (("cmyk", "grey"), ("8", "16"))
    assert words.sides_cm == (51, None)
    assert words.sides_px[0] == pytest.approx(51 / 2.54 * 200)


def test_a_spec_names_a_profile_beside_it_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "press.icc").write_bytes(press_profile())
    (tmp_path / "shop.yaml").write_text("profile: press.icc\n")
    order = read_order(str(tmp_path / "shop.yaml"), {})
    assert order is not None
    assert order.profile is not None
    assert order.profile.content == press_profile()
    for path in ("/etc/passwd", "../press.icc", "~/press.icc", "s3://bucket/press.icc"):
        (tmp_path / "shop.yaml").write_text(f"profile: {path}\n")
        assert "a file beside it" in refusal(lambda: read_order(str(tmp_path / "shop.yaml"), {}))
    (tmp_path / "rgb.icc").write_bytes(srgb_profile())
    (tmp_path / "shop.yaml").write_text("profile: rgb.icc\n")
    assert "name the profile of a press" in refusal(lambda: read_order(str(tmp_path / "shop.yaml"), {}))
    (tmp_path / "shop.yaml").write_text("profile: gone.icc\n")
    assert "No such file" in refusal(lambda: read_order(str(tmp_path / "shop.yaml"), {}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tca: 300", ["tca", "did you mean tac?"]),
        ("tac: many", ["tac=many", "from 1 to 400"]),
        ("tac: .nan", ["from 1 to 400"]),
        ("tac: true", ["from 1 to 400"]),
        ("width_cm: -3", ["width_cm=-3"]),
        ("colour: lab", ["lab", "cmyk, rgb, grey"]),
        ("colour: {a: b}", ["must be a word"]),
        ("colour: []", ["must be a word"]),
        ("interlaced: 3", ["true or false"]),
        ("black: rich", ["choose from k, any"]),
        ("profile: 3", ["must be cmyk, or the name"]),
        ("icc: [[a]]", ["must be a word"]),
        ("- tac", ["no keys with values"]),
        ("tac: !!python/name:os.system", ["not valid YAML"]),
        ("tac: 1\ntac: 2", ["not valid YAML", "twice"]),
        ("a: &a [x, x]\nb: [*a, *a", ["not valid YAML"]),
        ("", ["no keys with values"]),
        ("icc: ${oc.env:HOME}/{a}", []),
    ],
)
def test_a_bad_spec_is_refused_in_one_line(text: str, says: list[str], tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    if not says:  # Plain text, whatever it looks like.
        order = read_order(str(path), {})
        assert order is not None
        assert order.icc == ("${oc.env:HOME}/{a}",)
        return
    message = refusal(lambda: read_order(str(path), {}))
    for word in says:
        assert word in message


def test_a_large_spec_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("#" * 100_000)
    assert "larger than" in refusal(lambda: read_order(str(tmp_path / "shop.yaml"), {}))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["spec=fogra93"], ["there is no spec 'fogra93'", "newsprint-tac240", ".yaml"]),
        (["spec=fogra39-tac30"], ["did you mean fogra39-tac300?"]),
        (["spec=gone.yaml"], ["there is no such file", "fogra39-tac300"]),
        (["spec=../../etc/passwd"], ["there is no spec"]),
        (["spec.tca=300"], ["spec.tca", "did you mean tac?"]),
        (["spec.tac=0"], ["spec.tac=0", "from 1 to 400"]),
        (["spec.=3"], ["no such key"]),
        (["spec.spec=x"], ["no such key"]),
        (["spec.profile=gone.icc"], ["spec.profile=gone.icc", "No such file"]),
        (["spec.profile=srgb"], ["spec.profile=srgb", "CMYK"]),
        (["spec.tac"], ["preflight does not know"]),
    ],
)
def test_bad_words_are_refused_in_one_line(
    words: list[str], says: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photograph("chelsea")).save("a.png")
    message = refusal(lambda: parse(["file=a.png", *words]))
    for word in says:
        assert word in message


# As a user runs it


def test_the_exit_code_says_whether_a_file_is_as_ordered(command: Any, tmp_path: Path) -> None:
    GOOD["cmyk"].write(tmp_path / "good.tif")
    BAD["330-percent-for-300"].write(tmp_path / "bad.tif")
    bare = command("preflight", "file=bad.tif")
    assert bare.code == 0
    assert "\norder " not in bare.out
    good = command("preflight", "file=good.tif", "spec.colour=cmyk", "spec.tac=300")
    assert (good.code, good.err) == (0, "")
    assert "order        as said: colour=cmyk tac=300" in good.out
    assert good.out.splitlines()[-1] == "verdict      ready to print"
    bad = command("preflight", "file=bad.tif", "spec=swop-tac300", "spec.icc=null", "spec.tac=300")
    assert (bad.code, bad.err) == (1, "")
    assert re.search(r"warning      up to 330 % ink, and over 300 % on 6\.\d+ % of the area", bad.out)
    assert bad.out.splitlines()[-1] == "verdict      not as ordered: 1 thing to change"
    machine = command("preflight", "file=bad.tif", "spec=swop-tac300", "spec.icc=null", "json=true")
    assert machine.code == 1
    report = json.loads(machine.out)
    assert report["order"] | {"spec": "swop-tac300", "tac": 300, "met": False} == report["order"]
    assert [fault["kind"] for fault in report["faults"]] == ["ink"]
    assert 0.06 < report["ink"]["over_tac"] < 0.07
    other_size = command("preflight", "file=good.tif", "spec.width_cm=1234")
    assert re.search(r"warning      at its stated dpi it is [\d.]+ x [\d.]+ cm, ordered is 1234.0 cm wide", other_size.out)
    command("plan", "spec=fogra39-tac300").refused("unknown config key 'spec'")
    command("preflight", "file=good.tif", "spec=none-such").refused("there is no spec", "fogra39-tac300")
