"""Axes of a sweep from its words: Hydra's grammar, file names, the sweep section, and one-line refusals of the rest."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from render.config.compose import load, load_config, root_configs, schema_keys
from render.config.root_kinds import SWEEP
from render.config.sweep_schema import BreedConfig, SweepConfig, SweepJob
from render.errors import UserError
from render.networks.weights import MODELS
from render.sweeps.axes.definition import SweepDefinition, point_label
from render.sweeps.axes.file_names import listed_names, natural_key
from render.sweeps.axes.parsing import parse_sweep
from render.sweeps.axes.points import expand, point_count
from render.sweeps.axes.values import ValueText, labels, values_of_config
from tests import conftest
from tests.config.test_config import keys_in
from tests.conftest import ROOT

CONF = ROOT / "conf"
SWEEPS = ("channels", "grid", "layers")


def definition_of(*words: str, root: str = "preview") -> SweepDefinition:
    """Return the sweep that words define."""
    return parse_sweep(root, words)


def labelled(*words: str, root: str = "preview") -> dict[str, list[str]]:
    """Return the labels of the values of each axis, by key."""
    return {axis.key: [value.label for value in axis.values] for axis in definition_of(*words, root=root).axes}


def value_words(*words: str) -> list[str]:
    """Return the words of the values of the only axis."""
    (axis,) = definition_of(*words).axes
    return [word for value in axis.values for word in value.words]


def refusal(*words: str, root: str = "preview") -> str:
    """Return the error with which words are refused."""
    return conftest.refusal(lambda: parse_sweep(root, words))


# Hydra's grammar


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("step_size=1,2,4", ["1", "2", "4"]),
        ("step_size=1.0,2.50", ["1", "2.5"]),
        ("step_size=choice(3)", ["3"]),
        ("step_size=sort(4,1,2)", ["1", "2", "4"]),
        ("seed=range(2,6)", ["2", "3", "4", "5"]),
        ("seed=range(5,2,-1)", ["5", "4", "3"]),
        ("step_size=range(1.8,2,0.1)", ["1.8", "1.9"]),
        ("model=inception_v3,googlenet", ["inception_v3", "googlenet"]),
        ("model=glob(*)", sorted(MODELS)),
        ("objective=glob(*,exclude=[a*,b*,c*,d*,e*,f*,i*,k*,l*,m*,o*,p*,s*,v*])", ["jewels"]),
        ("boundary.mode=reflect,wrap", ["reflect", "wrap"]),
        ("conditioning.luminance_only=true,false", ["true", "false"]),
        ("output.width=null,640", ["null", "640"]),
        ("octaves.steps=[3,2],[10,5]", ["3, 2", "10, 5"]),
        ("objective.terms=[mixed4],[mixed3,0.5*mixed5]", ["mixed4", "mixed3 + 0.5*mixed5"]),
        ("objective.terms=[[mixed5],[mixed3]],[mixed4]", ["mixed5 | mixed3", "mixed4"]),
        ("objective.terms=[{layer: mixed4, strongest: 5}],['mixed4:12']", ["mixed4 strongest=5", "mixed4:12"]),
        (
            "objective.terms=[{layers: [mixed0, mixed1], texture: b.png, weight: 0.5}],[{layer: mixed0, texture: b.png}]",
            ["layers=mixed0, mixed1 texture=b.png weight=0.5", "mixed0 texture=b.png"],
        ),
        ("octaves={count: 2},{count: 3, steps: 4}", ["count=2", "count=3 steps=4"]),
        ("name='a','b c'", ["a", "b c"]),
        ("+step_size=1,2", ["1", "2"]),
    ],
)
def test_hydras_multirun_words_are_axes(word: str, names: list[str]) -> None:
    key = word.partition("=")[0].lstrip("+")
    assert labelled(word) == {key: names}


def test_a_values_words_mean_the_value() -> None:
    """Types and quotes survive: a value's word alone gives the same value as in the list."""
    assert value_words("step_size=1.0,2") == ["step_size=1.0", "step_size=2"]
    for word in value_words("objective.terms=[mixed3,0.5*mixed5:1+2],['mixed4:12'],[{layer: mixed4, channels: [3]}]"):
        assert load_config("preview", [word]).objective.terms
    words = value_words("""output.title='a, "b"','it\\'s'""")
    assert [load_config("preview", [word]).output.title for word in words] == ['a, "b"', "it's"]


def test_shuffled_values_come_in_the_same_order_every_time() -> None:
    (first,) = labelled("seed=shuffle(range(0,20))").values()
    assert first != sorted(first, key=int)
    assert sorted(map(int, first)) == list(range(20))
    assert labelled("seed=shuffle(range(0,20))") == {"seed": first}


def test_sums_of_steps_have_no_noise_in_their_last_digits() -> None:
    assert value_words("step_size=range(1,2,0.1)")[-1] == "step_size=1.9"


def test_axes_come_as_they_are_written_and_other_words_are_fixed() -> None:
    definition = definition_of(
        "step_size=1,2", "octaves.steps=3", "image=sample:coffee,sample:chelsea", "sweep.max=9", "model=googlenet"
    )
    assert [axis.key for axis in definition.axes] == ["step_size", "image"]
    assert definition.fixed_words == ("octaves.steps=3", "sweep.max=9", "model=googlenet")
    assert (definition.config.octaves.steps, definition.config.model.name, definition.config.sweep.max) == (
        3,
        "googlenet",
        9,
    )


def test_the_last_word_for_a_key_counts() -> None:
    again = labelled("step_size=1,2", "seed=1,2", "step_size=3,4")
    assert list(again.items()) == [("seed", ["1", "2"]), ("step_size", ["3", "4"])]
    assert labelled("step_size=3", "step_size=1,2") == {"step_size": ["1", "2"]}
    assert labelled("step_size=1,2", "step_size=3", "seed=1,2") == {"seed": ["1", "2"]}


# File names


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with files of unusual names."""
    for name in ("10.jpg", "2.jpg", "1.png", "b,c.jpg", "sub/2.jpg", "sub/deep/x.jpg", ".hidden.jpg", "[odd].jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "directory.jpg").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.jpg,b.jpg", ["a.jpg", "b.jpg"]),
        ("[a.jpg, b (1).jpg]", ["a.jpg", "b (1).jpg"]),
        ("[a.jpg]", ["a.jpg"]),
        ("sample:chelsea,sample:hubble", ["sample:chelsea", "sample:hubble"]),
        ("noise,a=b.jpg", ["noise", "a=b.jpg"]),
        ("it's.png,they're.png", ["it's.png", "they're.png"]),
        ("""'a,b.jpg',c.jpg""", ["a,b.jpg", "c.jpg"]),
        ("""'a,b.jpg',"c d.jpg\"""", ["a,b.jpg", "c d.jpg"]),
        ("photos/b,c.jpg,d.jpg", ["photos/b,c.jpg", "d.jpg"]),
        ("photos/*.jpg", ["photos/2.jpg", "photos/10.jpg", "photos/[odd].jpg", "photos/b,c.jpg"]),
        ("[photos/*.png]", ["photos/1.png"]),
        ("photos/?.*", ["photos/1.png", "photos/2.jpg"]),
        ("photos/**/2.jpg", ["photos/2.jpg", "photos/sub/2.jpg"]),
        ("photos/*.png,photos/[12].*,x.jpg", ["photos/1.png", "photos/2.jpg", "x.jpg"]),
    ],
)
def test_lists_and_patterns_of_file_names_are_axes(photos: Path, text: str, names: list[str]) -> None:
    words = value_words(f"image={text}")
    assert [load_config("preview", [word]).image for word in words] == names


@pytest.mark.parametrize(
    "text", ["a.jpg", "photos/b,c.jpg", "photos/[odd].jpg", "'a,b.jpg'", "a b.jpg", "[a].png", "sample:hubble"]
)
def test_one_name_is_no_axis(photos: Path, text: str) -> None:
    assert listed_names("image", text) is None or text.startswith("'")
    assert [axis.key for axis in definition_of(f"image={text}", "seed=1,2").axes] == ["seed"]


def test_free_text_with_commas_is_no_axis() -> None:
    definition = definition_of("output.title=Night, and a garden", "seed=1,2", "sweep.dir=a,b")
    assert (definition.config.output.title, definition.config.sweep.dir) == ("Night, and a garden", "a,b")
    assert len(definition.axes) == 1


def test_files_are_called_by_the_shortest_name_that_tells_them_apart(photos: Path) -> None:
    (names,) = labelled("image=photos/**/*.jpg,sample:hubble").values()
    assert names == ["photos/2.jpg", "10", "[odd]", "b,c", "sub/2.jpg", "x", "hubble"]


def test_homes_and_absolute_patterns_are_found(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos))
    assert labelled("image=~/sub/*.jpg") == labelled(f"image={photos}/sub/*.jpg") == {"image": ["2"]}


odd = st.sampled_from("'\"()[],=:;*?~#@!& $\\{}")


@settings(max_examples=12)
@given(st.lists(st.text(odd | st.characters(exclude_categories=["C"]), min_size=1), min_size=1, max_size=4, unique=True))
def test_a_list_in_yaml_holds_any_names(names: list[str]) -> None:
    assume(not any(set("*?") & set(name) or name.strip() != name or name in ("???", "null") for name in names))
    words = [f"image={value.text}" for value in values_of_config("image", names, {})]
    assert [load_config("preview", [word]).image for word in words] == names


@given(st.lists(st.text("aB1029 ", max_size=6)))
def test_natural_order_is_an_order_of_numbers(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    assert sorted(ordered) == sorted(names)
    assert sorted((f"a{number}b" for number in range(30)), key=natural_key) == [f"a{number}b" for number in range(30)]


@given(st.lists(st.lists(st.text("ab \n", max_size=2), max_size=3).map(tuple), max_size=8))
def test_labels_tell_values_apart(names: list[tuple[str, ...]]) -> None:
    unique_labels = labels([ValueText(f"text{number % 3}", variants) for number, variants in enumerate(names)])
    assert len(set(unique_labels)) == len(unique_labels) == len(names)
    assert all(label.strip() and label.isprintable() for label in unique_labels)


# The sweep section


def root_config(path: Path, section: str, more: str = "") -> str:
    """Write a root config with a sweep section; return its path."""
    file = path / "mine.yaml"
    file.write_text(
        "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, _self_]\n"
        f"name: mine\nsweep: {section}\n{more}\n"
    )
    return str(file)


@pytest.mark.parametrize(
    ("section", "axes"),
    [
        ("{axes: {step_size: [1, 2.0]}}", {"step_size": ["1", "2"]}),
        ("{axes: {step_size: '1,2', seed: 'range(0,3)'}}", {"step_size": ["1", "2"], "seed": ["0", "1", "2"]}),
        ("{axes: {step_size: 3}}", {"step_size": ["3"]}),
        ("{axes: {step_size: null, seed: [1]}}", {"seed": ["1"]}),
        (
            "{axes: {octaves.scale: [1.2, 1.4], octaves: {count: [2, 3]}}}",
            {"octaves.scale": ["1.2", "1.4"], "octaves.count": ["2", "3"]},
        ),
        ("{axes: {objective: [eyes, dogs]}}", {"objective": ["eyes", "dogs"]}),
        ("{axes: {image: ['sample:chelsea', 'sample:hubble']}}", {"image": ["chelsea", "hubble"]}),
        ("{axes: {image: 'sample:chelsea,sample:hubble'}}", {"image": ["chelsea", "hubble"]}),
        ("{axes: {objective.terms: [[mixed3], [mixed4, mixed5]]}}", {"objective.terms": ["mixed3", "mixed4 + mixed5"]}),
        (
            "{axes: {objective.mask: [null, {image: a.png, feather: 2}]}}",
            {"objective.mask": ["null", "image=a.png feather=2"]},
        ),
        ("{layers: [mixed3, mixed4]}", {"objective.terms": ["mixed3", "mixed4"]}),
        ("{layers: 'mixed3, mixed4'}", {"objective.terms": ["mixed3", "mixed4"]}),
        (
            "{channels: 'mixed4:0-2,70', axes: {seed: [1, 2]}}",
            {"objective.terms": ["0", "1", "2", "70"], "seed": ["1", "2"]},
        ),
    ],
)
def test_the_section_gives_axes(tmp_path: Path, section: str, axes: dict[str, list[str]]) -> None:
    assert labelled(root=root_config(tmp_path, section)) == axes


def test_all_layers_are_the_blocks_of_the_model_in_order() -> None:
    blocks = [f"mixed{number}" for number in range(11)]
    assert labelled("sweep.layers=all") == {"objective.terms": blocks}
    names = labelled("sweep.layers=all", "model=googlenet")["objective.terms"]
    assert names == [f"inception_{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]


def test_channels_are_those_of_the_layer() -> None:
    assert labelled("sweep.channels=mixed4")["objective.terms"] == [str(number) for number in range(768)]
    (axis,) = definition_of("sweep.channels=mixed4:12").axes
    assert load_config("preview", axis.values[0].words).objective.terms == ["mixed4:12"]


def test_words_replace_an_axis_of_the_config_and_one_value_removes_it() -> None:
    keys = list(labelled(root="grid"))
    assert keys == ["objective.terms", "step_size", "octaves.scale"]
    assert labelled("step_size=7,8", "seed=1,2", root="grid") | {"step_size": ["7", "8"]} == labelled(
        "step_size=7,8", "seed=1,2", root="grid"
    )
    assert list(labelled("seed=1,2", "step_size=7,8", root="grid")) == [*keys, "seed"]
    definition = definition_of("step_size=7", "objective.terms=[mixed4]", root="grid")
    assert [axis.key for axis in definition.axes] == ["octaves.scale"]
    # What the config says of rows and columns goes with its axes.
    assert definition.table_axes() == (None, None)
    assert (definition.config.step_size, definition.config.objective.terms) == (7, ["mixed4"])
    assert labelled("sweep.axes.step_size=[7,8]", root="grid")["step_size"] == ["7", "8"]
    assert list(labelled("sweep.axes.step_size=null", root="grid")) == ["objective.terms", "octaves.scale"]
    assert labelled("sweep.channels=mixed4:5", root="layers") == {"objective.terms": ["5"]}
    assert labelled("sweep.layers=null", "seed=1,2", root="layers") == {"seed": ["1", "2"]}


# Points


def points_file(path: Path, content: str) -> str:
    """Write a file of points; return its path."""
    file = path / "my points.yaml"
    file.write_text(content)
    return str(file)


def test_a_file_of_points_is_one_axis(tmp_path: Path) -> None:
    path = points_file(
        tmp_path,
        "# make sweep sweep.points=favourites.yaml\n"
        '- {objective.terms: "[mixed4]", step_size: "2", image: "a,b.jpg"}\n'
        "- {objective.terms: [mixed3, 0.5*mixed5], step_size: 4.0, image: 'a,b.jpg'}\n",
    )
    (axis, seeds) = definition_of(f"sweep.points={path}", "seed=1,2").axes
    assert (axis.key, seeds.key) == ("point", "seed")
    assert [value.label for value in axis.values] == ["terms=mixed4 step_size=2", "terms=mixed3 + 0.5*mixed5 step_size=4"]
    assert axis.values[0].words == ("objective.terms=[mixed4]", "step_size=2", "image=a,b.jpg")
    config = load_config("preview", axis.values[1].words)
    assert (config.objective.terms, config.step_size, config.image) == (["mixed3", "0.5*mixed5"], 4.0, "a,b.jpg")


def test_points_stand_before_the_axes_of_the_config(tmp_path: Path) -> None:
    path = points_file(tmp_path, "- {objective.terms: '[mixed4]', step_size: 2}\n- {step_size: 3}\n")
    assert list(labelled(f"sweep.points={path}", root="grid")) == ["point", "octaves.scale"]
    assert labelled(f"sweep.points={path}", root="grid")["point"] == ["terms=mixed4 step_size=2", "step_size=3"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["lists no points"]),
        ("[]", ["lists no points"]),
        ("step_size: 2", ["no list of points"]),
        ("- 3", ["point 1", "no mapping"]),
        ("- {}", ["point 1", "no mapping"]),
        ("- {step_size: 2}\n- {stepsize: 3}", ["point 2", "stepsize", "did you mean 'step_size'"]),
        ("- {step_size: '1,2'}", ["point 1", "several values"]),
        ("- {step_size: '[1'}", ["point 1", "cannot be read"]),
        ("- {step_size: 2}\n- {step_size: 2}", ["step_size=2 twice"]),
        ("- {farm.workers: 2}", ["farm.workers cannot be an axis"]),
        ("- {output.path: a.png}", ["output.path cannot be an axis"]),
        ("- {step_size: 2", ["not valid YAML"]),
        ("- {seed: 1}", ["seed", "of their own"]),
    ],
)
def test_a_faulty_file_of_points_is_one_line(tmp_path: Path, content: str, words: list[str]) -> None:
    message = refusal(f"sweep.points={points_file(tmp_path, content)}", "seed=5")
    for word in words:
        assert word in message


def test_a_file_of_points_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no such file" in refusal("sweep.points=nowhere.yaml")
    assert "sweep.points" in refusal(f"sweep.points={tmp_path}")


# Refusals


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["nothing to sweep", "step_size=1,2,4"]),
        (["step_size=2"], ["nothing to sweep"]),
        (["stepsize=1,2"], ["stepsize", "did you mean 'step_size'"]),
        (["sweep.axes.stepsize=[1,2]"], ["stepsize", "did you mean 'step_size'"]),
        (["sweep.axis.step_size=[1,2]"], ["sweep.axis.step_size"]),
        (["sweep.layer=all"], ["did you mean 'sweep.layers'"]),
        (["step_size="], ["step_size= has no value"]),
        (["objective="], ["objective= has no value"]),
        (["image=[]"], ["image=[]", "at least one"]),
        (["image= "], ["has no value"]),
        (["image=a.jpg,,b.jpg"], ["a comma"]),
        (["image=a.jpg,"], ["a comma"]),
        (["image=[a.jpg,a.jpg]"], ["a.jpg twice"]),
        (["sweep.axes.step_size=[]"], ["sweep.axes.step_size has no values"]),
        (["sweep.axes.step_size=''"], ["sweep.axes.step_size is empty"]),
        (["step_size=range(3,3)"], ["step_size=range(3,3) has no values"]),
        (["step_size=range(1,3,0)"], ["step_size=range(1,3,0)"]),
        (["step_size=range(1.5,3,0)"], ["step_size=range(1.5,3,0)"]),
        (["step_size=choice()"], ["step_size=choice()"]),
        (["seed=range(0,1000000000000)"], ["100,000"]),
        (["step_size=range(0,1,1e-12)"], ["100,000"]),
        (["step_size=1,2,1"], ["1 twice"]),
        (["seed=interval(0,3)"], ["interval", "range(START,STOP,STEP)"]),
        (["seed=choice(1,choice(2,3))"], ["choice(1,choice(2,3))", "write all values in one"]),
        (["output.format=png,jpeg"], ["output.format=png,jpeg", "output.also=[dzi]"]),
        (["model@x=inception_v3,googlenet"], ["model@x"]),
        (["seed=glob(*)"], ["glob is for groups"]),
        (["model=glob(z*)"], ["no values"]),
        (["sweep.axes.conf=[layers,grid]"], ["conf cannot be an axis"]),
        (["farm.workers=1,2"], ["farm.workers cannot be an axis"]),
        (["farm.worker.memory_gb=1,2"], ["farm.worker.memory_gb cannot be an axis"]),
        (["checkpoint.every=1,2"], ["checkpoint.every cannot be an axis"]),
        (["quiet=true,false"], ["quiet cannot be an axis"]),
        (["log=text,json"], ["log cannot be an axis"]),
        (["fresh=true,false"], ["fresh cannot be an axis"]),
        (["overwrite=true,false"], ["overwrite cannot be an axis"]),
        (["output.also=[dzi],[webp]"], ["output.also cannot be an axis"]),
        (["sweep.max=1,2"], ["sweep.max", "one value"]),
        (["sweep.layers=mixed3,mixed4"], ["sweep.layers=[A,B]"]),
        (["sweep.axes.output.path=[a.png,b.png]"], ["output.path cannot be an axis"]),
        (["output.path=a.png", "seed=1,2"], ["output.path=a.png", "sweep.dir"]),
        (["output.dir=a", "seed=1,2"], ["output.dir=a", "sweep.dir"]),
        (["output.also=[dzi,a.png]", "seed=1,2"], ["a.png", "[dzi]"]),
        (["seed=1,2", "sweep.rows=step_size"], ["sweep.rows=step_size", "there is seed"]),
        (["seed=1,2", "step_size=1,2", "sweep.columns=x"], ["sweep.columns=x", "there are seed, step_size"]),
        (["seed=1,2", "step_size=1,2", "sweep.columns=seed", "sweep.rows=seed"], ["both seed"]),
        (["seed=1,2", "sweep.first=['seed=3']"], ["seed=3", "there is seed"]),
        (["seed=1,2", "sweep.first=[seed=2]"], ["sweep.first=[seed=2]", "['step_size=2','seed=1']"]),
        (["sweep.layers=[]"], ["sweep.layers has no values"]),
        (["sweep.layers=[3]"], ["sweep.layers=[3]"]),
        (["sweep.layers={a: b}"], ["sweep.layers"]),
        (["sweep.layers=all", "model=inception_v3,googlenet"], ["sweep.layers=all", "models"]),
        (["sweep.channels=mixed4", "model=inception_v3,googlenet"], ["sweep.channels=mixed4", "models"]),
        (["sweep.channels=mixd4"], ["did you mean mixed4"]),
        (["sweep.channels=mixed4:0-900"], ["sweep.channels=mixed4:0-900", "0 to 767"]),
        (["sweep.channels=mixed4:"], ["sweep.channels=mixed4:", "is empty"]),
        (["sweep.channels=mixed4:9-3"], ["write 3-9"]),
        (["sweep.layers=all", "sweep.channels=mixed4"], ["sweep.layers and sweep.channels", "objective.terms"]),
        (["sweep.layers=all", "objective.terms=[mixed4],[mixed5]"], ["sweep.layers and objective.terms"]),
        (["seed=1,2", "sweep.max=0"], ["sweep.max=0"]),
        (["seed=1,2", "sweep.thumbnail=3"], ["sweep.thumbnail=3"]),
        (["seed=1,2", "sweep.retries=-1"], ["sweep.retries=-1"]),
        (["seed=1,2", "octaves.scale=many"], ["octaves.scale"]),
        (["seed"], ["'seed' is not key=value"]),
    ],
)  # fmt: skip
def test_what_cannot_be_swept_is_refused_with_the_way_out(words: list[str], parts: list[str]) -> None:
    message = refusal(*words)
    for part in parts:
        assert part in message


letters = st.sampled_from("12,'\"[]{}()=:*?/~\\$\n aé\0")
bits = st.sampled_from(["range(", "glob(*)", "choice(", "null", "${seed}", "???", "mixed4", "a.jpg", "sort(", "nan", "all"])
KEYS = (
    *(
        "image",
        "seed",
        "objective",
        "objective@x",
        "objective.terms",
        "octaves",
        "name",
        "output.profile",
        "~seed",
        "+seed",
    ),
    *("sweep", "sweep.axes", "sweep.axes.step_size", "sweep.axes.image", "sweep.layers", "sweep.channels", "sweep.points"),
)


@settings(max_examples=60)
@given(st.sampled_from(KEYS), st.lists(letters | bits, max_size=6).map("".join))
def test_any_word_is_an_axis_a_value_or_one_line(key: str, text: str) -> None:
    try:
        definition = parse_sweep("preview", [f"{key}={text}", "step_size=1,2"])
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return
    for axis in definition.axes:
        names = [value.label for value in axis.values]
        assert len(set(names)) == len(names) > 0
        assert all(name.isprintable() for name in names)
    for point in islice(expand(definition), 2):
        assert (point.config is None) == (len(point.error.splitlines()) == 1)


def test_a_pattern_without_a_match_says_where_it_looked(photos: Path) -> None:
    message = refusal("image=photos/*.tif")
    assert "image=photos/*.tif: matches no file" in message
    assert str(photos) in message
    assert f"no such directory; looked in {photos.parent / 'nowhere'}" in refusal("image=nowhere/*/a*.jpg")


def test_configs_cannot_be_an_axis() -> None:
    assert "conf cannot be an axis" in refusal("seed=1,2", root="layers,grid")
    assert "did you mean layers" in refusal("seed=1,2", root="layrs")


# Rows and columns


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["seed=1,2"], (None, None)),
        (["seed=1,2", "sweep.rows=seed"], (0, None)),
        (["seed=1,2", "sweep.columns=seed"], (None, 0)),
        (["seed=1,2", "step_size=1,2"], (0, 1)),
        (["seed=1,2", "step_size=1,2", "sweep.columns=seed"], (1, 0)),
        (["seed=1,2", "step_size=1,2", "octaves.scale=2,3"], (1, 2)),
        (["seed=1,2", "step_size=1,2", "octaves.scale=2,3", "sweep.rows=scale"], (2, 1)),
        (["seed=1,2", "step_size=1,2", "octaves.scale=2,3", "sweep.rows=seed", "sweep.columns=octaves.scale"], (0, 2)),
    ],
)
def test_rows_and_columns_are_the_ones_asked_for_or_the_last(words: list[str], numbers: tuple[int, int]) -> None:
    assert definition_of(*words).table_axes() == numbers


def test_a_point_is_called_by_its_values() -> None:
    definition = definition_of("output.width=64,128", "octaves.scale=2,3", "output.panels.width_cm=10,20")
    assert point_label(definition.axes, (0, 1, 0)) == "width 64, scale 3, width_cm 10"
    two = definition_of("octaves.count=2,3", "objective.terms=[mixed3],[mixed4]")
    assert point_label(two.axes, (1, 1)) == "count 3, terms mixed4"


# Sweeps in conf/


@pytest.mark.parametrize("root", SWEEPS)
def test_every_sweep_that_ships_has_points_that_work(root: str) -> None:
    definition = parse_sweep(root, [])
    assert definition.config.name == root
    assert 10 < point_count(definition) <= definition.config.sweep.max
    assert [point.error for point in expand(definition) if point.config is None] == []


@pytest.mark.parametrize("root", SWEEPS)
def test_every_sweep_says_what_it_is_for_and_how_to_run_it(root: str) -> None:
    lines = [line for line in (CONF / f"{root}.yaml").read_text().splitlines() if line.startswith("#")]
    assert any(f"make sweep conf={root}" in line for line in lines)
    for line in lines:
        words = re.fullmatch(rf"#   make sweep conf={root}(.*)", line)
        if words:
            words_of_line = [word.replace("me.jpg", "sample:coffee") for word in words[1].split()]
            assert parse_sweep(root, words_of_line).axes, line


def test_sweeps_are_root_configs_of_their_own() -> None:
    bred_or_swept = (*SWEEPS, "breed")
    assert set(bred_or_swept) == set(root_configs(SWEEP)) - set(root_configs())
    for root in bred_or_swept:
        assert f"make sweep conf={root}" in conftest.refusal(lambda root=root: load_config(root, []))


def test_render_says_that_a_sweep_is_one(tmp_path: Path) -> None:
    path = root_config(tmp_path, "{layers: all}")
    assert f"make sweep conf={path}" in conftest.refusal(lambda: load_config(path, []))
    assert "make sweep sweep.max=3" in conftest.refusal(lambda: load_config("preview", ["sweep.max=3"]))
    assert "make sweep" in conftest.refusal(lambda: load_config("preview", ["step_size=1,2"]))


def test_defaults_of_the_section_are_documented_once_and_are_the_schemas() -> None:
    path = CONF / "sweep" / "default.yaml"
    section = yaml.safe_load(path.read_text())
    assert SweepConfig(**{**section, "breed": BreedConfig(**section["breed"])}) == SweepConfig()
    assert [f"sweep.{key}" for key in keys_in(path)] == [key for key in schema_keys(SWEEP) if key.startswith("sweep.")]
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(keys_in(path)) + len(["breed:"])
    assert all(re.search(r" # \S", line) for line in lines)


def test_a_job_may_be_swept_without_a_section() -> None:
    job = load(SWEEP, "poster", [])
    assert isinstance(job, SweepJob)
    assert job.sweep == SweepConfig()
    assert job.job() == load_config("poster", [])
