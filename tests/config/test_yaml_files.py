"""YAML of others: bombs, circles and what is no YAML are refused in one line, soon; plain documents mean what they say."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from render.config.compose import is_sweep, load_config
from render.config.yaml_files import MAX_DEPTH, UnsafeYaml, check_yaml, load_all_yaml, load_yaml
from render.sweeps.axes.points_file import read_points
from tests.conftest import SHARED, needs, refusal

DEFAULTS = "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, _self_]\n"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)
MERGES = "a0: &a0 {k: 1, l: 2}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}\n" for level in range(1, 9)
)


def config_refusal(tmp_path: Path, text: str | bytes, name: str = "c") -> str:
    """The one line with which a config is refused, within seconds."""
    path = tmp_path / f"{name}.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    begun = time.monotonic()
    message = refusal(lambda: load_config(str(path), []))
    assert time.monotonic() - begun < 10
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "holds more than 50,000 values"),
        (MERGES, "holds more than 50,000 values"),
        ("objective: {terms: " + "[" * 20000 + "]" * 20000 + "}\n", f"nested more than {MAX_DEPTH} deep"),
        ("objective: " + "{a: " * 5000 + "1" + "}" * 5000 + "\n", f"nested more than {MAX_DEPTH} deep"),
        ("objective: &a {terms: *a}\n", "*a stands inside what it stands for"),
        ("name: a\nname: b\n", "line 3: the key 'name' is there twice"),
        ("name: !!python/object/apply:os.system ['touch OWNED']\n", "has the tag 'tag:yaml.org,2002:python/object"),
        ("name: !!binary aGVsbG8=\n", "has the tag"),
        ("seed: " + "9" * 5000 + "\n", "a number of 5,000 characters is too long"),
        ("seed: 0x" + "f" * 5000 + "\n", "a number of 5,002 characters is too long"),
        ("name: " + "${" * 2000 + "a" + "}" * 2000 + "\n", "more than 64 references"),
        ("octaves:\n\tcount: 1\n", "line 3"),
        # What libyaml takes, and PyYAML's own parser does not.
        ("a: {j?b: 1}\n", "is not valid YAML"),
        ("[1, 2]: 3\n", "a key is a mapping or a list"),
        ("---\nseed: 1\n", "another document begins"),
    ],
)
def test_too_much_or_odd_yaml_is_refused_soon(text: str, said: str, tmp_path: Path) -> None:
    assert said in config_refusal(tmp_path, DEFAULTS + text)
    assert not Path("OWNED").exists()


def test_the_reported_bomb_is_refused_soon(tmp_path: Path) -> None:
    assert "50,000 values" in config_refusal(tmp_path, needs(SHARED / "cases" / "conf-bomb.yaml").read_bytes())


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ("5", "defaults=5 is no list"),
        ("null", "defaults=None is no list"),
        ("job", "defaults='job' is no list"),
        ("{a: 1}", "is no list"),
        ("[5]", "has 5, which names no config"),
        ("[[job]]", "names no config"),
        ("[null]", "names no config"),
        ("['???']", "names no config"),
        ("[c, _self_]", "in a circle: c > c"),
        ("[other]", "in a circle: c > other > c"),
        ("[two]", "over 100 configs"),
    ],
)
def test_defaults_that_are_no_list_of_others_are_refused(defaults: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("defaults: [c]\n")
    (tmp_path / "two.yaml").write_text("defaults: [d0@x, d0@y]\n")
    for level in range(12):
        (tmp_path / f"d{level}.yaml").write_text(f"defaults: [d{level + 1}@x, d{level + 1}@y]\n")
    (tmp_path / "d12.yaml").write_text("seed: 1\n")
    assert said in config_refusal(tmp_path, f"defaults: {defaults}\n")


@pytest.mark.parametrize("text", ["hello\n", "5\n", "[1, 2]\n", '"a text"\n'])
def test_what_is_no_mapping_is_no_config(text: str, tmp_path: Path) -> None:
    assert "holds no keys with values" in config_refusal(tmp_path, text)


@pytest.mark.parametrize("content", [b"\xff\xfes\x00e\x00", DEFAULTS.encode() + b"name: caf\xe9\n", b"\x00\x01\x02" * 999])
def test_what_is_no_text_is_no_yaml(content: bytes, tmp_path: Path) -> None:
    assert "is not valid YAML" in config_refusal(tmp_path, content)


def test_references_that_come_to_too_much_are_refused(tmp_path: Path) -> None:
    texts, lists = "", ""
    for level in range(1, 9):
        before = f"${{objective.by_model.a{level - 1}}}"
        texts += f"    a{level}: '{before * 10}'\n"
        lists += f"    a{level}: {[before] * 10}\n"
    for first, rest in (("xxxxxxxxxx", texts), ("[1, 2, 3]", lists)):
        text = f"{DEFAULTS}objective:\n  by_model:\n    a0: {first}\n{rest}"
        assert "come to over 1,000,000 letters" in config_refusal(tmp_path, text)
    assert "inside another" in config_refusal(tmp_path, DEFAULTS + "name: ${output.${seed}}\n")


def test_a_reference_still_means_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(DEFAULTS + "seed: 7\nname: dream-${seed}\noutput: {title: '${name} ${oc.select:seed,1}'}\n")
    config = load_config(str(path), [])
    assert (config.name, config.output.title) == ("dream-7", "dream-7 7")


def test_aliases_and_merges_of_a_plain_document_are_kept() -> None:
    assert load_yaml("a: &a [1, 2]\nb: {<<: {c: 1}, d: *a}\n") == {"a": [1, 2], "b": {"c": 1, "d": [1, 2]}}
    assert load_yaml("") is None
    assert load_all_yaml("1\n---\n2\n") == [1, 2]


def test_nodes_are_counted_with_what_aliases_stand_for() -> None:
    # The mapping, two keys, the list with three and its alias once more.
    text = "a: &a [1, 2, 3]\nb: *a\n"
    check_yaml(text, max_nodes=11)
    with pytest.raises(UnsafeYaml, match="more than 10 values"):
        check_yaml(text, max_nodes=10)


def test_files_without_end_are_not_begun(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(1 << 30)
    for name, said in (
        ("pipe", "a device, a pipe or a socket"),
        ("zero", "a device, a pipe"),
        ("large", "larger than 8 MiB"),
    ):
        path = str(tmp_path / f"{name}.yaml")
        assert said in refusal(lambda path=path: read_points(path, {}))
        assert len(refusal(lambda path=path: load_config(path, []))) < 300
    assert not is_sweep(str(tmp_path / "large.yaml"), [])
