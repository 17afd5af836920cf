"""Names of classes: their source, the forms that a user may write, and what is refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from render.networks.labels import ClassName, class_names, describe_classes, find_class, top_classes
from tests.conftest import ROOT, SHARED, needs, refusal

SHA256 = "acf75ef0abe89694b19056e0796401068b459c457baa30335f240c7692857355"


def names() -> tuple[tuple[str, ...], ...]:
    return class_names("googlenet")


# --- where they come from -----------------------------------------------------------------------------------------------

#: A process that looks a class up, and reports every process and connection it makes, and whether JAX or Ray came along.
WATCHED = """
import sys
from render.networks.labels import find_class

def report(event, arguments):
    if event in ("subprocess.Popen", "socket.connect"):
        print(event, flush=True)

sys.addaudithook(report)
print("ready", flush=True)
sys.stdin.readline()
print(find_class(sys.argv[1], "googlenet").name, *(name for name in ("jax", "ray") if name in sys.modules))
"""


def start(written: str, cache: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WATCHED, written],
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def looked_up(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate("go\n", timeout=120)
    assert process.returncode == 0, err
    return [word for word in out.split() if word != "ready"]


def cut_off(empty: Path) -> dict[str, str]:
    """An environment in which pip has nowhere to look."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(empty), "PIP_CONFIG_FILE": os.devnull}


def test_names_are_those_that_imagenet_published() -> None:
    lines = needs(SHARED / "weights" / "imagenet_synset_words.txt").read_text().splitlines()
    assert [", ".join(synonyms) for synonyms in names()] == [line.split(" ", 1)[1] for line in lines]
    assert class_names("inception_v3_slim") == (("dummy",), *names())


def test_two_at_once_fetch_once_and_later_ones_not_at_all(tmp_path: Path) -> None:
    """Nor does any of them import JAX or Ray."""
    both = [start("tench", tmp_path) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(word for process in both for word in looked_up(process)) == ["subprocess.Popen", "tench", "tench"]
    (cached,) = (path for path in (tmp_path / "pareidolia" / "labels").iterdir() if path.suffix != ".lock")
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == SHA256
    assert looked_up(start("tench", tmp_path, **cut_off(tmp_path))) == ["tench"]


def test_a_damaged_file_is_noticed_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "pareidolia" / "labels" / f"imagenet-{SHA256[:12]}.txt"
    cached.parent.mkdir(parents=True)
    cached.write_text("n01440764 trench\n" * 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with monkeypatch.context() as without:
        for key, value in cut_off(tmp_path).items():
            without.setenv(key, value)
        message = refusal(lambda: find_class("tench", "googlenet"))
        assert "class names package timm" in message
        assert message.endswith("connect to a package index once, or give the class by its index")
        # By index, names are not needed, and a wrong one is not taken from the damaged file.
        assert find_class(281, "googlenet") == ClassName(281, "class 281")
    assert find_class("tench", "googlenet") == ClassName(0, "tench")
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == SHA256
    assert find_class(281, "googlenet") == ClassName(281, "tabby")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["imagenet_synsets.txt", "imagenet_synset_to_lemma.txt"], "other class names than expected: not used"),
        (["imagenet_synsets.txt"], "holds no readable"),
    ],
)
def test_a_wheel_that_holds_something_else_is_not_used(
    members: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "timm-1.0.31-py3-none-any.whl", "w") as wheel:
        for member in members:
            wheel.writestr(f"timm/data/_info/{member}", "n01440764\ttrench\n")
        wheel.writestr("timm-1.0.31.dist-info/METADATA", "Metadata-Version: 2.1\nName: timm\nVersion: 1.0.31\n")
        wheel.writestr("timm-1.0.31.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("timm-1.0.31.dist-info/RECORD", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for key, value in cut_off(wheels).items():
        monkeypatch.setenv(key, value)
    assert said in refusal(lambda: class_names("googlenet"))
    assert [path.suffix for path in (tmp_path / "cache" / "pareidolia" / "labels").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    message = refusal(lambda: class_names("googlenet"))
    assert str(tmp_path / "file") in message
    assert "set XDG_CACHE_HOME" in message


# --- what a user may write ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "index"),
    [
        ("tabby", 281),
        ("Egyptian cat", 285),
        ("egyptian_cat", 285),
        ("GREAT-WHITE  shark", 2),
        ("man eating shark", 2),
        ("Tinca tinca", 0),
        ("indigo", 14),  # of "indigo bunting"
        ("shark white", 2),  # of "great white shark", and of "white shark"
        (281, 281),
        ("281", 281),
        (" 281 ", 281),
    ],
)
def test_a_class_is_found(written: str | int, index: int) -> None:
    assert find_class(written, "googlenet") == ClassName(index, names()[index][0])
    shifted = index if str(written).strip().isdecimal() else index + 1
    assert find_class(written, "inception_v3_slim").index == shifted


@given(index=st.integers(0, 1000))
def test_every_class_is_found_by_its_index(index: int) -> None:
    expected = ClassName(index, class_names("inception_v3_slim")[index][0])
    assert find_class(index, "inception_v3_slim") == find_class(str(index), "inception_v3_slim") == expected


@given(index=st.integers(0, 999))
@example(134).via("a crane")
@example(638).via("a maillot")
@example(388).via("a panda")
@example(594).via("a harp")
def test_every_synonym_finds_its_class_or_is_refused_as_ambiguous(index: int) -> None:
    """In any case, with any blanks."""
    for synonym in names()[index]:
        for written in (synonym, synonym.upper(), synonym.replace(" ", "_").lower()):
            sharing = [i for i, synonyms in enumerate(names()) if synonym.lower() in map(str.lower, synonyms)]
            usual = [i for i in sharing if names()[i][0].lower() == synonym.lower()]
            if len(sharing) == 1 or len(usual) == 1:
                expected = (usual or sharing)[0]
                assert find_class(written, "googlenet") == ClassName(expected, names()[expected][0])
            else:
                message = refusal(lambda written=written: find_class(written, "googlenet"))
                assert (f"({index})" in message) == (index in (usual or sharing))


def test_a_name_of_several_classes_is_refused_naming_them() -> None:
    assert refusal(lambda: find_class("crane", "googlenet")).endswith("may be crane (134), crane (517): give its index")
    assert "maillot (639), maillot (640): give its index" in refusal(lambda: find_class("maillot", "inception_v3_slim"))
    assert "lesser panda (387), giant panda (388): give more" in refusal(lambda: find_class("panda", "googlenet"))
    message = refusal(lambda: find_class("cat", "googlenet"))
    assert "tabby (281), tiger cat (282), Persian cat (283), Siamese cat (284), Egyptian cat (285) and 2 more" in message


@pytest.mark.parametrize("near", ["egiptian cat", "Egyptain-Cat"])
def test_an_unknown_name_is_refused_suggesting_the_nearest(near: str) -> None:
    message = refusal(lambda: find_class(near, "googlenet"))
    assert f"googlenet has no class {near!r}: did you mean Egyptian cat (285)" in message


@pytest.mark.parametrize("written", ["", "  ", "xyzzyx", "a\nb" * 30, "-", "9" * 5000])
def test_what_is_near_no_name_is_refused(written: str) -> None:
    assert "an index from 0 to 999" in refusal(lambda: find_class(written, "googlenet"))


@pytest.mark.parametrize("index", [-1, 1000, "-1", "1000"])
def test_an_index_out_of_range_is_refused(index: int | str) -> None:
    assert f"has no class {index}: its classes are 0 to 999" in refusal(lambda: find_class(index, "googlenet"))
    if int(index) == 1000:
        assert find_class(index, "inception_v3_slim").name == "toilet tissue"


def test_a_model_without_a_classifier_names_those_with_one() -> None:
    for call in (lambda: find_class("tabby", "inception_v3"), lambda: class_names("inception_v3")):
        message = refusal(call)
        assert "inception_v3 has no classes" in message
        assert "model=inception_v3_slim or model=googlenet" in message


def test_classes_are_described_in_words() -> None:
    assert describe_classes("inception_v3") == "no classes"
    assert describe_classes("googlenet") == "1000 classes, 0 to 999"
    assert describe_classes("inception_v3_slim") == "1000 classes, 1 to 1000; 0 is a dummy"


# --- the likeliest --------------------------------------------------------------------------------------------------------


@given(
    logits=hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-1000, 1000, width=32)),
    count=st.integers(1, 25),
)
def test_top_classes_are_the_largest_of_a_softmax(logits: np.ndarray, count: int) -> None:
    best = top_classes(logits, [(f"class {index}", "other") for index in range(len(logits))], count)
    shares = softmax(logits.astype(np.float64))
    assert len(best) == min(count, len(logits))
    assert [share for _, _, share in best] == pytest.approx(sorted(shares, reverse=True)[:count])
    for index, name, share in best:
        assert name == f"class {index}"
        assert share == pytest.approx(shares[index])


def test_logits_of_another_network_are_no_match_for_the_names() -> None:
    with pytest.raises(ValueError, match="1000 names for logits of shape"):
        top_classes(np.zeros(1001, np.float32), names())
