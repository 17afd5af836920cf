"""From words on the command line and YAML files to a validated config; and one line for everything that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from render.__main__ import make_overrides
from render.config.compose import load_config, root_configs, schema_keys
from render.config.hydra_text import hydra_text
from render.config.schema import LATER_KEYS, Config, OutputConfig, dotted, picture_format, picture_width
from render.config.validation import validate
from render.dreaming.term_syntax import parse_term
from render.dreaming.terms import Energy
from render.errors import UserError
from render.networks.weights import MODELS
from tests.conftest import ROOT

CONF = ROOT / "conf"
#: Root configs of other commands.
OTHERS = {"atlas", "breed", "channels", "classes", "flight", "footage", "grid", "layers", "zoom"}
ROOTS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in OTHERS)
GROUPS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name not in ("film", "spec", "sweep")
}

#: Keys that DESIGN promises to keep.
PROMISED = {
    *("name", "seed", "image", "model.name", "objective.terms", "step_size", "overwrite", "fresh"),
    *("octaves.count", "octaves.scale", "octaves.steps", "tiles.size", "tiles.halo", "boundary.mode", "boundary.fill"),
    *("output.dir", "output.path", "output.format", "output.width", "output.width_cm", "output.width_in", "output.dpi"),
    *("farm.executor", "farm.workers", "farm.address", "checkpoint.every"),
}


def load(*overrides: str, root: str = "preview") -> Config:
    return load_config(root, overrides)


def refusal(*overrides: str, root: str = "preview") -> str:
    """The one line with which a config is refused."""
    with pytest.raises(UserError) as caught:
        load_config(root, overrides)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


def keys_in(path: Path) -> dict[str, Any]:
    """The leaves of a YAML file, dotted, without Hydra's defaults list."""
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    content.pop("defaults", None)

    def leaves(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict) or (prefix and not value):
            return {prefix[:-1]: value}
        return {
            leaf: leaf_value
            for key, inner in value.items()
            for leaf, leaf_value in leaves(inner, f"{prefix}{key}.").items()
        }

    return leaves(content, "")


# What ships


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_config_composes_and_validates(root: str) -> None:
    config = load(root=root)
    assert config.name == root
    assert config.model.name in MODELS
    assert load("seed=5", root=root) == replace(config, seed=5)


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_config_says_what_it_is_for_and_how_to_run_it(root: str) -> None:
    lines = (CONF / f"{root}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert any("make render" in line for line in lines if line.startswith("#"))


def test_root_configs_are_those_that_ship() -> None:
    assert root_configs() == ROOTS
    assert {"preview", "poster", "panorama", "noise"} <= set(ROOTS)


@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in GROUPS for choice in GROUPS[group]])
def test_every_choice_of_every_group_composes(group: str, choice: str) -> None:
    config = load(f"{group}={choice}")
    if group in ("model", "node"):
        assert getattr(config, group).name == choice


def shipped_keys() -> dict[str, Path]:
    """Every key that conf/ documents, and where."""
    paths = dict.fromkeys(keys_in(CONF / "job" / "default.yaml"), CONF / "job" / "default.yaml")
    for group, pattern in (("model", "*.yaml"), ("node", "*.yaml"), ("objective", "auto.yaml")):
        for path in (CONF / group).glob(pattern):
            paths |= {f"{group}.{key}": path for key in keys_in(path)}
    return paths


def test_a_preset_says_what_it_is_and_names_terms_for_models() -> None:
    for path in set((CONF / "objective").glob("*.yaml")) - {CONF / "objective" / "auto.yaml"}:
        assert re.match(r"# [A-Z].{5,80}\n", path.read_text()), path
        preset = yaml.safe_load(path.read_text())
        assert preset.keys() == {"terms", "by_model"}
        assert preset["terms"] is None
        assert set(preset["by_model"]) <= set(MODELS)


def test_conf_documents_every_key_of_the_schema_and_no_other() -> None:
    """All but the name, which is each root config's own."""
    assert set(shipped_keys()) - {"name"} == set(schema_keys()) - {"name"}
    assert all(keys_in(CONF / f"{root}.yaml")["name"] == root for root in ROOTS)


def test_every_key_has_a_comment() -> None:
    """On its line, or right above it."""
    for path in sorted(set(shipped_keys().values())):
        lines = path.read_text().splitlines()
        keys = 0
        for above, line in zip(["", *lines], lines, strict=False):
            if re.match(r"\s*\w+: *[^#\s]", line):
                keys += 1
                assert re.search(r" # \S", line) or above.lstrip().startswith("# "), f"{path.name}: {line}"
        assert keys == len(keys_in(path)), path


def test_defaults_in_conf_and_in_the_schema_are_the_same(tmp_path: Path) -> None:
    """A config without a defaults list means what one with `job: default` means."""
    (tmp_path / "bare.yaml").write_text("name: mine\n")
    (tmp_path / "full.yaml").write_text(
        "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, _self_]\nname: mine\n"
    )
    assert load(root=str(tmp_path / "bare.yaml")) == load(root=str(tmp_path / "full.yaml")) == Config(name="mine")


def test_the_keys_that_stay_put_are_there() -> None:
    assert set(schema_keys()) >= PROMISED


# Overrides


@pytest.mark.parametrize(
    ("overrides", "get", "expected"),
    [
        (["octaves.steps=3"], lambda c: c.octaves.steps, 3),
        (["octaves.scale=2"], lambda c: c.octaves.scale, 2.0),
        (["octaves={count: 3, steps: 2}"], lambda c: (c.octaves.count, c.octaves.steps, c.octaves.scale), (3, 2, 1.4)),
        (["seed=12"], lambda c: c.seed, 12),
        (["seed=9223372036854775807"], lambda c: c.seed, 2**63 - 1),
        (["seed=1", "seed=2"], lambda c: c.seed, 2),
        (["step_size=1e-3"], lambda c: c.step_size, 0.001),
        (["model=googlenet"], lambda c: c.model.name, "googlenet"),
        (["model=googlenet", "model.weights=a.npz"], lambda c: (c.model.name, c.model.weights), ("googlenet", "a.npz")),
        (["output.width=null"], lambda c: c.output.width, None),
        (["output.dir=x", "output.dir=null"], lambda c: c.output.dir, None),
        (["output.dir=null", "output.dir=x"], lambda c: c.output.dir, "x"),
        (["model.weights=null"], lambda c: c.model.weights, None),
        (["tiles.size=256"], lambda c: c.tiles.size, 256),
        (["tiles.size=auto"], lambda c: c.tiles.size, "auto"),
        (["tiles.halo=balanced"], lambda c: c.tiles.halo, "balanced"),
        (["tiles.halo=0"], lambda c: c.tiles.halo, 0),
        (["tiles.parallel=8"], lambda c: c.tiles.parallel, 8),
        (["farm.workers=null"], lambda c: c.farm.workers, None),
        (["farm.workers=4"], lambda c: c.farm.workers, 4),
        (["farm.executor=inline"], lambda c: (c.farm.executor, c.farm.address), ("inline", None)),
        (["farm.address=auto"], lambda c: (c.farm.executor, c.farm.address), ("auto", "auto")),
        (["farm.address=10.0.0.7:6379"], lambda c: c.farm.address, "10.0.0.7:6379"),
        (["farm.worker.num_gpus=0.5"], lambda c: c.farm.worker.num_gpus, 0.5),
        (["farm.worker.num_gpus=4"], lambda c: c.farm.worker.num_gpus, 4.0),
        (["farm.worker.resources={TPU: 4}"], lambda c: c.farm.worker.resources, {"TPU": 4.0}),
        (["farm.worker.num_gpus=0"], lambda c: c.farm.worker.num_gpus, 0.0),
        (["farm.worker.resources={TPU: 1}"], lambda c: c.farm.worker.resources, {"TPU": 1.0}),
        (["farm.worker={num_cpus: 2, memory_gb: 1.5}"], lambda c: c.farm.worker.memory_gb, 1.5),
        (["farm.worker.threads=2"], lambda c: c.farm.worker.threads, 2),
        (["farm.worker.resident=true"], lambda c: c.farm.worker.resident, True),
        (["farm.worker.deterministic=auto"], lambda c: c.farm.worker.deterministic, "auto"),
        (["farm.worker.batch=8"], lambda c: c.farm.worker.batch, 8),
        (["farm.retries=0", "farm.timeout=0"], lambda c: (c.farm.retries, c.farm.timeout), (0, 0.0)),
        (["farm.dashboard=true"], lambda c: c.farm.dashboard, True),
        (["checkpoint.every=0"], lambda c: c.checkpoint.every, 0.0),
        (["checkpoint.every=2.5"], lambda c: c.checkpoint.every, 2.5),
        (["boundary.mode=wrap_x"], lambda c: c.boundary.mode, "wrap_x"),
        (["source.background=[1,2,3]"], lambda c: c.source.background, [1, 2, 3]),
        (["objective.terms=[mixed4]"], lambda c: c.objective.terms, ["mixed4"]),
        (["objective.terms=[mixed3,0.5*mixed5]"], lambda c: c.objective.terms, ["mixed3", "0.5*mixed5"]),
        (["objective.terms=[mixed4:12+40]"], lambda c: c.objective.terms, ["mixed4:12+40"]),
        (["objective.terms=['mixed4:12+40', -1*mixed3]"], lambda c: c.objective.terms, ["mixed4:12+40", "-1*mixed3"]),
        (["objective.terms=null"], lambda c: c.objective.terms, None),
        (
            ["objective.terms=[{layer: mixed4, channels: [12], weight: 2}]"],
            lambda c: c.objective.terms,
            [{"layer": "mixed4", "channels": [12], "weight": 2}],
        ),
        (["overwrite=true", "fresh=yes", "quiet=on"], lambda c: (c.overwrite, c.fresh, c.quiet), (True, True, True)),
        (["++octaves.steps=3"], lambda c: c.octaves.steps, 3),
        (["~octaves.steps"], lambda c: c.octaves.steps, 10),
        (["step_size=${octaves.scale}"], lambda c: c.step_size, 1.4),
        (["output.width=null", "output.width_cm=90", "output.dpi=200"], lambda c: picture_width(c.output), 7087),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_overrides_change_the_config(overrides: list[str], get: Callable[[Config], Any], expected: Any) -> None:
    assert get(load(*overrides)) == expected


def test_overrides_change_nothing_else() -> None:
    plain = load()
    changed = load("octaves.steps=3", "seed=4")
    assert changed == replace(plain, seed=4, octaves=replace(plain.octaves, steps=3))


def test_terms_from_the_command_line_parse() -> None:
    config = load("objective.terms=[mixed3,0.5*mixed5:1+2,{layer: mixed4, channels: [12], weight: 2}]")
    assert config.objective.terms is not None
    assert [parse_term(term) for term in config.objective.terms] == [
        Energy("mixed3"),
        Energy("mixed5", (1, 2), weight=0.5),
        Energy("mixed4", (12,), weight=2.0),
    ]


NAMES = [
    "a b.png",
    "holiday (1).png",
    "a,b.png",
    "it's.png",
    'the "best".png',
    "'half.png",
    "Müller 猫.png",
    "a=b.png",
    "a$b.png",
    "a${b}.png",
    "${oc.env:HOME}.png",
    "~/me.png",
    "C:\\pictures\\me.png",
    "[a].png",
    "{a: b}.png",
    "a\\",
    "\\\\${x}.png",
    "2024_01_05",
    "1e3",
    "1.50",
    "true",
    "0x10",
    "range(3)",
    "#hash;semi|colon&more*.png",
    " blanks ",
    "$(rm -rf .).png",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_file_names_mean_what_they_say(name: str) -> None:
    words = ("image", "output.dir", "model.weights", "model.labels", "farm.scratch")
    config = load(*(f"{key}={name}" for key in words), f"output.path=x{name}.png")
    assert config.image == config.output.dir == config.model.weights == config.model.labels == name
    assert config.farm.scratch == name
    assert config.output.path == f"x{name}.png"


odd = st.sampled_from("${}\\'\"()[],=:;*?~#@!& \t|<>`%+-_./")


@settings(max_examples=30)
@given(st.text(odd | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12))
def test_any_text_is_a_file_name(name: str) -> None:
    # A name in quotes is Hydra's; ??? is its word for a value that is missing.
    in_quotes = len(name) > 1 and name[0] in "'\"" and name[-1] == name[0]
    assume(not in_quotes and name not in ("null", "???"))
    config = load(f"image={name}", f"output.path={name}x.jpg")
    assert config.image == name
    assert config.output.path == f"{name}x.jpg"


def test_quotes_hand_a_file_name_to_hydra() -> None:
    assert load("image='a b.png'").image == "a b.png"
    assert load('image="it\'s.png"').image == "it's.png"
    assert load("name='dream-${seed}'", "seed=7").name == "dream-7"


# A user's own YAML


@pytest.mark.parametrize("name", ["mine", "my dream (1)", "it's, a=b", "träume $x", "a.b"])
def test_a_users_own_yaml_with_our_groups(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "my configs, (new) = it's $5"
    folder.mkdir()
    path = folder / f"{name}.yaml"
    path.write_text(
        "defaults:\n  - job: default\n  - model: googlenet\n  - objective: auto\n  - _self_\n"
        "name: mine\noctaves:\n  steps: 3\nobjective:\n  terms: [inception_4c]\n"
    )
    config = load(root=str(path))
    assert (config.name, config.model.name, config.octaves.steps) == ("mine", "googlenet", 3)
    assert config.objective.terms == ["inception_4c"]
    assert load("model=inception_v3", "octaves.steps=4", root=str(path)).model.name == "inception_v3"


@pytest.mark.parametrize(
    "content", ["name: mine\n", "defaults: [{job: default}, {model: googlenet}, _self_]\nname: mine\n"]
)
def test_a_users_own_yaml_that_says_nothing_of_nodes_takes_one(content: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    config = load("node=aws_p5", "node.price_per_hour=30", root=str(tmp_path / "mine.yaml"))
    assert (config.node.name, config.node.workers, config.node.price_per_hour) == ("aws_p5", 8, 30)


def test_a_users_own_yaml_by_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 3\n")
    monkeypatch.chdir(tmp_path)
    assert load(root="mine.yaml").seed == 3
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(root="~/mine.yaml").seed == 3


def test_a_short_yaml_takes_every_override(tmp_path: Path) -> None:
    """Keys that the file leaves out are set as well as those in it."""
    (tmp_path / "short.yaml").write_text("seed: 3\n")
    words = ["octaves.steps=2", "image=a (1).png", "objective.terms=[mixed4]", "output.width=64", "seed=4"]
    config = load(*words, root=str(tmp_path / "short.yaml"))
    assert (config.octaves.steps, config.image, config.output.width, config.seed) == (2, "a (1).png", 64, 4)
    assert config.objective.terms == ["mixed4"]


def test_a_users_own_group_stands_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tuned.yaml").write_text("name: googlenet\nweights: tuned.npz\n")
    (tmp_path / "mine.yaml").write_text("defaults: [{job: default}, {model: tuned}, _self_]\n")
    root = str(tmp_path / "mine.yaml")
    assert load(root=root).model.weights == "tuned.npz"
    assert load("model=googlenet", root=root).model.weights is None
    assert "tuned" in refusal("model=other", root=root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ocatves:\n  steps: 3\n", ["ocatves.steps", "octaves.steps"]),
        (b"octaves:\n  steps: many\n", ["octaves.steps", "many"]),
        (b"octaves: {steps: -1}\n", ["octaves.steps=-1"]),
        (b"seed: ???\n", ["seed", "???"]),
        (b"seed: ${nope}\n", ["seed", "nope"]),
        (b"seed: 3\nseed: 4\n", ["YAML", "seed", "line 2"]),
        (b"seed: [1\n", ["YAML", "line"]),
        (b"\xff\xfe\0", ["YAML"]),
        (b"- 1\n- 2\n", ["mine.yaml"]),
        (b"defaults: [{model: nope}]\n", ["model/nope", "googlenet"]),
        (b"3: 4\n", ["3"]),
        (b"output: {width: 10, width_cm: 5}\n", ["output.width", "output.width_cm"]),
    ],
)
def test_a_faulty_yaml_is_one_line(content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    message = refusal(root=str(tmp_path / "mine.yaml"))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("postr", ["postr", "did you mean poster"]),
        ("prevew", ["did you mean preview"]),
        ("zzzz", ["zzzz", "preview", ".yaml"]),
        ("", ["preview"]),
        ("nowhere/mine.yaml", ["nowhere/mine.yaml", "no such file"]),
        ("~nobody-of-this-name/mine.yaml", ["~nobody-of-this-name/mine.yaml", "home"]),
        ("x" * 300 + ".yaml", ["too long"]),
    ],
)
def test_a_root_config_that_is_not_there(root: str, words: list[str]) -> None:
    message = refusal(root=root)
    for word in words:
        assert word in message


def test_yml_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Hydra looks for .yaml only."""
    (tmp_path / "mine.yml").write_text("seed: 3\n")
    assert "ends in .yaml" in refusal(root=str(tmp_path / "mine.yml"))


# Bad values

BAD_VALUES = [
    ("model.precision", "float16"),
    ("model.precision", "bf16"),
    ("model.precision", "tf32"),
    ("model.precision", "null"),
    ("objective.mask", "5"),
    ("objective.mask", "''"),
    ("objective.mask", "[a.png]"),
    ("objective.regions", "[a.png]"),
    ("objective.regions", "[{mask: a.png}]"),
    ("jitter", "-1"),
    ("jitter", "1.5"),
    ("conditioning.normalize", "max"),
    ("conditioning.laplacian", "-1"),
    ("conditioning.laplacian", "10"),
    ("conditioning.smoothing", "nan"),
    ("conditioning.total_variation", "-0.1"),
    ("conditioning.pull", "1.1"),
    ("conditioning.luminance_only", "1"),
    ("conditioning.decorrelate", "true"),
    ("conditioning.shoulder", "-1"),
    ("optimizer.name", "sgd"),
    ("optimizer.momentum", "1"),
    ("optimizer.momentum", "inf"),
    ("optimizer.decay", "-0.5"),
    ("name", "a/b"),
    ("name", ""),
    ("name", "..."),
    ("name", "x" * 250),
    ("name", "a\nb"),
    ("seed", "-1"),
    ("seed", "9223372036854775808"),
    ("seed", "1.5"),
    ("seed", "many"),
    ("seed", "null"),
    ("image", "null"),
    ("image", "???"),
    ("step_size", "0"),
    ("step_size", "-1"),
    ("step_size", "nan"),
    ("step_size", "inf"),
    ("step_size", "1e400"),
    ("step_size", "256"),
    ("step_size", "fast"),
    ("octaves.count", "0"),
    ("octaves.count", "-1"),
    ("octaves.count", "many"),
    ("octaves.count", "2.5"),
    ("octaves.count", "true"),
    ("octaves.count", "null"),
    ("octaves.count", "1000000000"),
    ("octaves.scale", "1"),
    ("octaves.scale", "0.5"),
    ("octaves.scale", "nan"),
    ("octaves.scale", "inf"),
    ("octaves.steps", "-1"),
    ("octaves.steps", ""),
    ("octaves.steps", "[1,-2]"),
    ("octaves.steps", "{a: 1}"),
    ("tiles.size", "0"),
    ("tiles.size", "-64"),
    ("tiles.size", "15"),
    ("tiles.size", "big"),
    ("tiles.size", "12.5"),
    ("tiles.size", "true"),
    ("tiles.size", ""),
    ("tiles.halo", "-1"),
    ("tiles.halo", "foo"),
    ("tiles.halo", "null"),
    ("tiles.parallel", "0"),
    ("tiles.parallel", "-1"),
    ("tiles.parallel", "1.5"),
    ("tiles.parallel", "auto"),
    ("tiles.parallel", "null"),
    ("tiles.parallel", "1000000000"),
    ("boundary.mode", "mirror"),
    ("boundary.mode", ""),
    ("boundary.fill", "-1"),
    ("boundary.fill", "5000"),
    ("source.background", "[1,2]"),
    ("source.background", "[1,2,3,4]"),
    ("source.background", "[1,2,300]"),
    ("source.background", "[-1,2,3]"),
    ("source.background", "[a,b,c]"),
    ("source.background", "[1.5,2,3]"),
    ("source.background", "white"),
    ("source.max_megapixels", "0"),
    ("source.max_megapixels", "-1"),
    ("source.max_megapixels", "nan"),
    ("output.width", "0"),
    ("output.width", "-800"),
    ("output.width", "100.5"),
    ("output.width", "wide"),
    ("output.width", "1000000000000"),
    ("output.height", "0"),
    ("output.height", "-1"),
    ("output.height", "1000000000000"),
    ("output.dpi", "0"),
    ("output.dpi", "-300"),
    ("output.dpi", "nan"),
    ("output.dpi", "1e300"),
    ("output.fit", "cover"),
    ("output.fit", ""),
    ("output.bleed_mm", "-1"),
    ("output.bleed_mm", "nan"),
    ("output.bleed_mm", "101"),
    ("output.marks", "true"),
    ("output.marks", "corners"),
    ("output.iiif_id", "example.org"),
    ("output.iiif_id", "https://example.org/"),
    ("output.iiif_id", "'https://example.org/\"x'"),
    ("output.quality", "0"),
    ("output.quality", "101"),
    ("output.format", "bmp"),
    ("output.format", ""),
    ("output.bits", "12"),
    ("output.bits", "deep"),
    ("output.compression", "zip"),
    ("output.also", "[gif]"),
    ("output.also", "[a.bmp]"),
    ("output.also", "dzi"),
    ("output.panels.overlap_mm", "-1"),
    ("output.saturation", "-0.1"),
    ("output.saturation", "101"),
    ("output.saturation", "nan"),
    ("output.saturation", "strong"),
    ("output.contrast", "[99,1]"),
    ("output.contrast", "[5,5]"),
    ("output.contrast", "[-1,50]"),
    ("output.contrast", "[1,100.5]"),
    ("output.contrast", "[nan,50]"),
    ("output.contrast", "[1,nan]"),
    ("output.contrast", "[]"),
    ("output.contrast", "[1,50,99]"),
    ("output.contrast", "high"),
    ("output.match", ""),
    ("output.intent", "best"),
    ("output.dither", "often"),
    ("output.path", "picture"),
    ("output.path", "picture.bmp"),
    ("output.path", "folder.png/picture"),
    ("output.path", "png"),
    ("output.path", ".png"),
    ("output.path", ""),
    ("farm.executor", "nobody"),
    ("farm.executor", "dask"),
    ("farm.executor", "Ray"),
    ("farm.executor", "null"),
    ("farm.workers", "0"),
    ("farm.workers", "-2"),
    ("farm.workers", "2.5"),
    ("farm.workers", "auto"),
    ("farm.workers", "1000000000"),
    ("farm.worker.num_gpus", "1.5"),
    ("farm.worker.num_gpus", "-1"),
    ("farm.worker.num_gpus", "nan"),
    ("farm.worker.num_gpus", "all"),
    ("farm.worker.num_cpus", "-1"),
    ("farm.worker.num_cpus", "inf"),
    ("farm.worker.num_cpus", "all"),
    ("farm.worker.resources", "{TPU: 0}"),
    ("farm.worker.resources", "{TPU: 0.5}"),
    ("farm.worker.resources", "{TPU: 3}"),
    ("farm.worker.resources", "{TPU: 16}"),
    ("farm.worker.resources", "{TPU: -1}"),
    ("farm.worker.resources", "{TPU: nan}"),
    ("farm.worker.resources", "{TPU: many}"),
    ("farm.worker.resources", "{CPU: 1}"),
    ("farm.worker.resources", "{GPU: 1}"),
    ("farm.worker.resources", "TPU"),
    ("farm.worker.memory_gb", "0"),
    ("farm.worker.memory_gb", "-4"),
    ("farm.worker.memory_gb", "nan"),
    ("farm.worker.memory_gb", "inf"),
    ("farm.worker.memory_gb", "4GB"),
    ("farm.worker.threads", "0"),
    ("farm.worker.threads", "-1"),
    ("farm.worker.threads", "1.5"),
    ("farm.worker.threads", "many"),
    ("farm.worker.resident", "perhaps"),
    ("farm.worker.resident", "null"),
    ("farm.worker.deterministic", "perhaps"),
    ("farm.worker.deterministic", "null"),
    ("farm.worker.batch", "0"),
    ("farm.worker.batch", "-1"),
    ("farm.worker.batch", "2.5"),
    ("farm.worker.batch", "many"),
    ("farm.retries", "-1"),
    ("farm.retries", "0.5"),
    ("farm.retries", "null"),
    ("farm.timeout", "-1"),
    ("farm.timeout", "nan"),
    ("farm.timeout", "inf"),
    ("farm.timeout", "null"),
    ("farm.silence", "0"),
    ("farm.silence", "inf"),
    ("farm.silence", "null"),
    ("farm.notices", "maybe"),
    ("farm.notices", "null"),
    ("farm.dashboard", "maybe"),
    ("farm.dashboard", "null"),
    ("checkpoint.every", "-1"),
    ("node.name", '""'),
    ("node.workers", "0"),
    ("node.tflops_float32", "0"),
    ("node.tflops_tensorfloat32", "inf"),
    ("node.tflops_bfloat16", "-1"),
    ("node.peak_tflops_float32", "0"),
    ("node.peak_tflops_tensorfloat32", "inf"),
    ("node.peak_tflops_bfloat16", "-1"),
    ("node.device_gb_per_s", "0"),
    ("node.device_gb", "0"),
    ("node.memory_gb", "inf"),
    ("node.network_gbit", "nan"),
    ("node.store_gbit", "0"),
    ("node.price_per_hour", "0"),
    ("node.spot_price_per_hour", "-2"),
    ("checkpoint.every", "nan"),
    ("checkpoint.every", "inf"),
    ("checkpoint.every", "never"),
    ("checkpoint.every", "null"),
    ("objective.terms", "mixed4"),
    ("overwrite", "maybe"),
    ("quiet", "3.5"),
    ("log", "xml"),
    ("log", "null"),
    ("log", "true"),
    ("fresh", "null"),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_a_bad_value_is_refused_naming_its_key(key: str, value: str) -> None:
    assert refusal(f"{key}={value}").startswith(key)


def test_every_section_has_bad_values() -> None:
    """What the table above leaves out takes any value that its type allows."""
    free = {
        "look",
        "model.name",
        "model.weights",
        "model.sha256",
        "model.labels",
        "output.dir",
        "output.width_cm",
        "output.width_in",
        "output.height_cm",
        "output.height_in",
    }
    free |= {"output.profile", "output.title", "output.author", "output.panels.width_cm", "output.panels.height_cm"}
    free |= {"farm.address", "farm.scratch", "objective.by_model"}
    assert {key for key, _ in BAD_VALUES} | free == set(schema_keys())


@pytest.mark.parametrize("key", ["output.width_cm", "output.width_in", "output.height_cm", "output.height_in"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "wide", "1e300"])
def test_a_bad_width_in_centimetres_or_inches_is_refused(key: str, value: str) -> None:
    assert refusal("output.width=null", "output.dpi=300", f"{key}={value}").startswith(key)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["output.width=100", "output.width_cm=10", "output.dpi=100"], ["output.width", "output.width_cm", "null"]),
        (["output.width=null", "output.width_cm=10", "output.width_in=4", "output.dpi=100"], ["width_cm", "width_in"]),
        (["output.width=null", "output.width_cm=10"], ["output.width_cm", "output.dpi"]),
        (["output.width=null", "output.width_in=10"], ["output.width_in", "output.dpi"]),
        (
            ["output.height=10", "output.height_cm=10", "output.dpi=100"],
            ["output.height", "output.height_cm", "how high", "null"],
        ),
        (["output.height_cm=10", "output.height_in=4", "output.dpi=100"], ["output.height_cm", "output.height_in"]),
        (["output.height_in=10"], ["output.height_in", "output.dpi"]),
        (["output.marks=true", "output.also=[tiff]"], ["output.marks=true", "output.format=pdf"]),
        (["output.format=png", "output.path=a.jpg"], ["output.format=png", "output.path=a.jpg"]),
        (["output.format=webp", "output.path=a.PNG"], ["disagree"]),
        (
            ["output.format=jpeg", "output.bits=16"],
            ["output.bits=16", "set output.bits=8", "png, tiff, bigtiff, pdf or psb"],
        ),
        (["output.iiif_id=https://example.org/iiif/poster/"], ["output.iiif_id", "without a slash at its end"]),
        (["output.format=tiff", "output.bits=16", "output.compression=jpeg"], ["compression", "8 bits"]),
        (["farm.worker.num_gpus=1", "farm.worker.resources={TPU: 4}"], ["num_gpus=1", "resources.TPU=4", "one kind"]),
        (["output.panels.width_cm=10"], ["output.panels", "output.dpi"]),
        (["output.panels.width_cm=0", "output.dpi=100"], ["output.panels.width_cm=0", "above 0"]),
        (["output.panels.height_cm=10", "output.dpi=100", "output.format=dzi"], ["output.panels", "dzi", "tiff"]),
        (["farm.executor=inline", "farm.address=auto"], ["farm.address=auto", "farm.executor=ray"]),
        (["farm.address=10.0.0.7:6379", "farm.executor=inline"], ["farm.address=10.0.0.7:6379", "farm.executor=ray"]),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str], words: list[str]) -> None:
    message = refusal(*overrides)
    for word in words:
        assert word in message


def test_a_config_made_in_python_is_checked_too() -> None:
    with pytest.raises(UserError, match=r"octaves\.count=0"):
        validate(replace(Config(), octaves=replace(Config().octaves, count=0)))
    with pytest.raises(UserError, match=r"farm\.worker\.num_gpus=2\.5.*whole number"):
        worker = replace(Config().farm.worker, num_gpus=2.5)
        validate(replace(Config(), farm=replace(Config().farm, worker=worker)))
    assert validate(Config()) == Config()


# Words that are no override


@pytest.mark.parametrize(
    ("word", "suggested"),
    [
        ("octaves.step=3", "'octaves.steps'"),
        ("octave.steps=3", "'octaves.steps'"),
        ("stepsize=3", "'step_size'"),
        ("step-size=3", "'step_size'"),
        ("steps=3", "'octaves.steps'"),
        ("stpes=3", "'octaves.steps'"),
        ("halo=8", "'tiles.halo'"),
        ("workers=4", "'farm.workers'"),
        ("num_gpus=1", "'farm.worker.num_gpus'"),
        ("farm.worker.num_gpu=1", "'farm.worker.num_gpus'"),
        ("checkpoint.evry=1", "'checkpoint.every'"),
        ("width=800", "'output.width'"),
        ("output.widht=800", "'output.width'"),
        ("objective.term=[mixed4]", "'objective.terms'"),
        ("modle=googlenet", "'model'"),
        ("sed=3", "'seed'"),
        ("seed.x=3", "'seed'"),
        ("+octaves.step=3", "'octaves.steps'"),
        ("~octaves.step", "'octaves.steps'"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(word: str, suggested: str) -> None:
    message = refusal(word)
    assert "unknown config key" in message
    assert suggested in message


def test_a_key_like_no_other_suggests_nothing() -> None:
    assert refusal("qqq=1") == "unknown config key 'qqq'"
    assert "unknown config key" in refusal("=1")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("image", ["'image' is not key=value"]),
        ("", ["'' is not key=value"]),
        ("objective.terms=[mixed4", ["objective.terms=[mixed4", "cannot be read"]),
        ("objective.terms=[mixed4]]", ["objective.terms", "cannot be read"]),
        ("octaves={count: 3", ["octaves", "cannot be read"]),
        ("boundary.mode=(", ["boundary.mode", "cannot be read"]),
        ("boundary.mode='wrap", ["boundary.mode", "cannot be read"]),
        ("seed=1,2", ["seed=1,2", "several values"]),
        ("octaves.steps=range(3)", ["octaves.steps=range(3)", "several values"]),
        ("seed=${nope}", ["seed", "nope"]),
        ("seed=${oc.env:NOT_SET_ANYWHERE}", ["seed", "NOT_SET_ANYWHERE"]),
        ("model=alexnet", ["alexnet", "googlenet", "inception_v3"]),
        ("model=null", ["model", "googlenet"]),
        ("objective=[mixed4]", ["objective.terms"]),
        ("objective@x=2", ["objective", "eyes"]),
        ("octaves=5", ["octaves"]),
        ("farm.worker=4", ["farm.worker"]),
        ("farm.worker.resources=[TPU]", ["farm.worker.resources=[TPU]"]),
        ("+octaves.steps=3", ["octaves.steps"]),
        ("hydra.nope=1", ["hydra.nope"]),
    ],
)
def test_what_hydra_would_stumble_over_is_one_line(word: str, words: list[str]) -> None:
    message = refusal(word)
    for text in words:
        assert text in message
    assert "Search path" not in message


def test_a_file_name_with_an_open_bracket_is_no_error() -> None:
    assert load("image=[a").image == "[a"


def test_the_command_says_it_in_one_line(command, tmp_path: Path) -> None:
    (tmp_path / "my dream.yaml").write_text("octaves: {stebs: 3}\n")
    command("conf=my dream.yaml").refused("octaves.stebs", "octaves.steps", "my dream.yaml")


# make


@given(st.lists(st.text(odd | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)))
@example(["VENV"])
def test_words_survive_make(words: list[str]) -> None:
    """GNU make puts a backslash before every blank and backslash of MAKEOVERRIDES and doubles dollars (quote_for_env)."""
    escaped = " ".join(re.sub(r"([ \t\\])", r"\\\1", word).replace("$", "$$") for word in words)
    assert make_overrides(escaped) == words


def test_variables_of_the_makefile_are_no_keys() -> None:
    assert make_overrides(r"PYTHON=python3.12 image=a\ PYTHON=b.jpg EXTRAS=cuda VENV=v") == ["image=a PYTHON=b.jpg"]


def test_no_words_from_make() -> None:
    assert make_overrides("") == make_overrides("  ") == []


# Widths and formats


@pytest.mark.parametrize(
    ("output", "pixels"),
    [
        (OutputConfig(), None),
        (OutputConfig(dpi=300), None),
        (OutputConfig(width=800), 800),
        (OutputConfig(width=800, dpi=300), 800),
        (OutputConfig(width_in=12, dpi=300), 3600),
        (OutputConfig(width_in=8.5, dpi=72), 612),
        (OutputConfig(width_cm=2.54, dpi=300), 300),
        (OutputConfig(width_cm=90, dpi=150), 5315),
        (OutputConfig(width_cm=90, dpi=200), 7087),
        (OutputConfig(width_cm=0.001, dpi=1), 1),
    ],
)
def test_width_in_pixels(output: OutputConfig, pixels: int | None) -> None:
    assert picture_width(output) == pixels


@given(st.floats(0.1, 1000), st.floats(1, 2400))
def test_inches_and_centimetres_agree(inches: float, dpi: float) -> None:
    by_inch = picture_width(OutputConfig(width_in=inches, dpi=dpi))
    by_cm = picture_width(OutputConfig(width_cm=2.54 * inches, dpi=dpi))
    assert by_inch is not None
    assert by_cm is not None
    assert abs(by_inch - by_cm) <= 1  # A half may be rounded either way.
    assert abs(by_inch - inches * dpi) <= 0.5 or by_inch == 1


@pytest.mark.parametrize(
    ("output", "form"),
    [
        (OutputConfig(), "png"),
        (OutputConfig(path="a.png"), "png"),
        (OutputConfig(path="a.b/c.JPG"), "jpeg"),
        (OutputConfig(path="a.jpeg"), "jpeg"),
        (OutputConfig(path="a.webp"), "webp"),
        (OutputConfig(format="jpg"), "jpeg"),
        (OutputConfig(format="webp"), "webp"),
        (OutputConfig(format="jpeg", path="a.jpg"), "jpeg"),
    ],
)
def test_format_is_the_one_asked_for_or_the_suffix(output: OutputConfig, form: str) -> None:
    validate(replace(Config(), output=output))
    assert picture_format(output) == form


# The digest

CHANGES = {
    "look": "dogs",
    "name": "other",
    "seed": "1",
    "image": "other.png",
    "step_size": "1.6",
    "model.name": "googlenet",
    "model.weights": "other.npz",
    "model.sha256": "abc",
    "model.precision": "bfloat16",
    "objective.terms": "[mixed4]",
    "objective.by_model": "{inception_v3: [mixed4]}",
    "objective.mask": "mask.png",
    "objective.regions": "[{mask: mask.png, terms: [mixed4]}]",
    "jitter": "3",
    "conditioning.normalize": "std",
    "conditioning.laplacian": "4",
    "conditioning.smoothing": "1",
    "conditioning.total_variation": "0.5",
    "conditioning.pull": "0.1",
    "conditioning.luminance_only": "true",
    "conditioning.decorrelate": "0.5",
    "conditioning.shoulder": "32",
    "optimizer.name": "adam",
    "optimizer.momentum": "0.8",
    "optimizer.decay": "0.99",
    "source.background": "[0,0,0]",
    "source.max_megapixels": "401",
    "octaves.count": "4",
    "octaves.scale": "1.5",
    "octaves.steps": "11",
    "tiles.size": "512",
    "tiles.halo": "balanced",
    "tiles.parallel": "2",
    "boundary.mode": "wrap",
    "boundary.fill": "33",
    "output.width": "801",
    "output.height": "700",
    "output.fit": "stretch",
}
KEEPS = {
    "model.labels": "places.txt",
    "output.dir": "elsewhere",
    "output.path": "elsewhere/other.png",
    "output.format": "jpeg",
    "output.also": "[dzi]",
    "output.dpi": "150",
    "output.bits": "16",
    "output.compression": "deflate",
    "output.quality": "93",
    "output.profile": "p3",
    "output.intent": "perceptual",
    "output.dither": "false",
    "output.title": "A dream",
    "output.author": "A dreamer",
    "output.saturation": "1.5",
    "output.contrast": "[0.5,99.5]",
    "output.match": "source",
    "output.iiif_id": "https://example.org/dream",
    "output.panels.width_cm": "100",
    "output.panels.height_cm": "100",
    "output.panels.overlap_mm": "5",
    "overwrite": "true",
    "fresh": "true",
    "quiet": "true",
    "log": "json",
    "farm.workers": "3",
    "farm.executor": "inline",
    "farm.address": "auto",
    "farm.worker.num_gpus": "1",
    "farm.worker.num_cpus": "2",
    "farm.worker.resources": "{TPU: 1}",
    "farm.worker.memory_gb": "3.5",
    "farm.worker.threads": "7",
    "farm.worker.resident": "true",
    "farm.worker.batch": "4",
    "farm.worker.deterministic": "false",
    "farm.scratch": "/elsewhere",
    "farm.retries": "0",
    "farm.timeout": "5",
    "farm.silence": "60",
    "farm.notices": "false",
    "farm.dashboard": "true",
    "node.name": "mine",
    "node.workers": "4",
    "node.tflops_float32": "10",
    "node.tflops_tensorfloat32": "50",
    "node.tflops_bfloat16": "100",
    "node.peak_tflops_float32": "67",
    "node.peak_tflops_tensorfloat32": "495",
    "node.peak_tflops_bfloat16": "989",
    "node.device_gb_per_s": "4800",
    "node.device_gb": "80",
    "node.memory_gb": "512",
    "node.network_gbit": "100",
    "node.store_gbit": "50",
    "node.price_per_hour": "9.5",
    "node.spot_price_per_hour": "4",
    "checkpoint.every": "5",
}


def digest(*overrides: str) -> str:
    return load(*overrides).digest({"image content": "abc"})


def test_the_digest_changes_with_every_setting_of_the_picture() -> None:
    digests = [digest(), *(digest(f"{key}={value}") for key, value in CHANGES.items())]
    digests.append(digest("output.width=null"))
    digests.append(digest("output.bleed_mm=3", "output.dpi=300"))
    digests.append(digest("output.bleed_mm=3", "output.dpi=150"))
    digests.append(digest("output.width=null", "output.width_cm=10", "output.dpi=100"))
    digests.append(digest("output.width=null", "output.width_in=10", "output.dpi=100"))
    digests.append(digest("output.height_cm=7", "output.dpi=100"))
    digests.append(digest("output.height_in=6", "output.dpi=100"))
    assert len(set(digests)) == len(digests)


def test_the_digest_does_not_depend_on_where_and_how() -> None:
    """Nor on the file that the canvas becomes: that can be had without dreaming again."""
    assert {digest("output.dpi=300", f"{key}={value}") for key, value in KEEPS.items()} == {digest()}
    assert digest("output.width=null", "output.width_in=8", "output.dpi=100") == digest("output.width=800")
    assert digest("output.height_in=7", "output.dpi=100") == digest("output.height=700")
    assert digest("output.marks=true", "output.also=[pdf]") == digest()


def test_every_key_is_known_to_change_the_digest_or_not_to() -> None:
    with_others = {
        "output.width_cm",
        "output.width_in",
        "output.height_cm",
        "output.height_in",
        "output.bleed_mm",
        "output.marks",
    }
    assert {*CHANGES, *KEEPS, *with_others} == set(schema_keys())


def test_the_digest_is_the_identitys_too() -> None:
    """Of the image's content, the weights' and whatever else decides the picture."""
    config = load()
    plain = config.digest({"image": "abc", "weights": None})
    assert re.fullmatch(r"[0-9a-f]{64}", plain)
    assert load().digest({"weights": None, "image": "abc"}) == plain
    others = [{"image": "abd", "weights": None}, {"image": "abc", "weights": "x"}, {"image": "abc"}, {}]
    assert len({plain, *(config.digest(other) for other in others)}) == 5


def test_directories_are_neither_in_the_digest_nor_in_the_picture() -> None:
    """The content counts, not where it lies; and a published picture does not tell its maker's directories."""
    words = ("model.weights=/home/me/mine.npz", "output.dir=/home/me/out", "output.profile=/home/me/press.icc")
    at_home = load("image=/home/me/cat.jpg", *words)
    on_server = load("image=/srv/cat.jpg", "model.weights=mine.npz", "output.profile=press.icc")
    assert at_home.digest({}) == on_server.digest({})
    assert "home" not in str(at_home.picture_settings())
    assert at_home.picture_settings()["image"] == "cat.jpg"
    assert at_home.picture_settings()["output"]["profile"] == "press.icc"
    assert (at_home.image, at_home.model.weights) == ("/home/me/cat.jpg", "/home/me/mine.npz")


def test_a_picture_does_not_tell_where_its_makers_files_lie() -> None:
    words = [
        "image=/home/me/secret/a.png",
        "objective.mask=/home/me/secret/b.png",
        "objective.regions=[{mask: {image: /home/me/secret/c.png, invert: true}, terms: [mixed4]}]",
        "objective.terms=[{layer: mixed4, guide: /home/me/secret/d.png}, '/mixed[34]/']",
    ]
    settings = load_config("preview", words).picture_settings()
    assert "secret" not in json.dumps(settings)
    assert settings["objective"]["mask"] == "b.png"
    assert settings["objective"]["regions"][0]["mask"] == {"image": "c.png", "invert": True}
    assert settings["objective"]["terms"] == [{"layer": "mixed4", "guide": "d.png"}, "/mixed[34]/"]


@pytest.mark.parametrize("key", LATER_KEYS)
def test_the_older_value_of_a_later_key_changes_no_name_of_a_picture(key: str) -> None:
    """Runs that were begun before there was a choice are gone on with by the same command."""
    other_values = {
        "model.precision": "bfloat16",
        "model.labels": "lists/places.txt",
        "output.match": "photos/b.png",
        "output.height_cm": "7.0",
        "output.height_in": "7.5",
        "output.marks": "true",
        "output.iiif_id": "https://example.org/dream",
        "output.dither": "false",
        "output.intent": "absolute",
    } | CHANGES
    assert key not in dotted(load(f"{key}={hydra_text(LATER_KEYS[key])}").picture_settings())
    assert str(
        dotted(load(f"{key}={other_values[key]}", "output.dpi=100", "output.also=[pdf]").picture_settings())[key]
    ).lower() in (
        other_values[key],
        "b.png",
        "places.txt",
        "32.0",
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("node.tflops_float32=1e-320", "node.tflops_float32=1e-320: must be null or from 0.0001 to 1e+09"),
        ("node.network_gbit=1e308", "node.network_gbit=1e+308"),
        ("farm.timeout=1e308", "must be from 0 to 1,000,000,000 seconds"),
        ("farm.silence=1e-320", ""),
        ("farm.retries=99999999999", "must be from 0 to 1,000,000"),
        ("farm.worker.threads=99999999", "at most 1,000,000"),
        ("farm.worker.resources={x: 1e-320}", "farm.worker.resources.x"),
        ("seed=" + "9" * 5000, "a number of 5,000 digits is too long"),
        ("step_size=" + "9" * 99, "must be above 0 and at most 255"),
        ("output.width_cm=" + "9" * 99, "output.width_cm"),
        ("objective.terms=" + "[" * 5000 + "]" * 5000, "nested too deep"),
        ("objective.terms='${node}'", "refers to a section"),
        ("farm.worker.resources='${node}'", "farm.worker.resources"),
        ("farm.worker.resources='${oc.env:NOT_SET_ANYWHERE}'", "farm.worker.resources"),
        ("output.also='${node}'", "output.also"),
        ("output.also=[{}]", "output.also"),
        ("output.contrast='${node}'", "output.contrast"),
        ("source.background='${node}'", "source.background"),
        ("output.path=" + "9" * 5000, "output.path=99"),
    ],
)
def test_numbers_and_references_without_meaning_are_refused_shortly(word: str, said: str) -> None:
    """Denormals, what no float holds, and whole sections; the command would divide by them, or print them all."""
    if not said:
        assert load(word).farm.silence == 1e-320
        return
    message = refusal(word)
    assert said in message and len(message) < 500
