"""Looks: each one is a whole job, words take precedence over it, and auto takes the best for the weights that are here."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image

from render.config.command_words import render_command
from render.config.compose import load_config, root_configs
from render.config.root_kinds import JOB
from render.config.schema import NO_LOOK, Config
from render.errors import UserError
from render.job import looks as job_looks
from render.job.looks import best_look, looks
from render.job.materials import Library
from render.job.resolve import schedule_of
from render.networks.weights import find_model
from tests.conftest import INLINE, ROOT, Finished

NAMES = sorted(path.stem for path in (ROOT / "conf" / "look").glob("*.yaml"))
#: Networks whose weights come from package registries.
FROM_REGISTRIES = ("inception_v3", "inception_v3_slim")


def load(*words: str, root: str = "preview") -> Config:
    return load_config(root, list(words))


def succeeded(finished: Finished) -> str:
    """The standard output of a command that must succeed."""
    assert finished.code == 0, finished.err
    return finished.out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("root", root_configs(JOB))
def test_every_look_suits_every_root_config(root: str, name: str) -> None:
    config = load(f"look={name}", root=root)
    model = find_model(config.model.name)
    assert config.look == name
    materials = Library(model.architecture.name, config.source)
    assert schedule_of(config, model.architecture, model.default_terms, materials).objectives


@pytest.mark.parametrize("name", [name for name in NAMES if name != NO_LOOK])
def test_a_look_changes_nothing_but_what_is_dreamed(name: str) -> None:
    """Size, picture, places and farm stay the root config's."""
    plain, config = load(), load(f"look={name}")
    same = {
        key: value
        for key, value in vars(plain).items()
        if key in ("image", "source", "output", "farm", "tiles", "boundary")
    }
    assert {key: getattr(config, key) for key in same} == same
    assert config != replace(plain, look=name)


def test_there_is_a_look_for_machines_with_package_registries_alone() -> None:
    assert sum(look.model in FROM_REGISTRIES for look in looks()) >= 4
    assert len(looks()) >= 10


def test_words_take_precedence_over_a_look() -> None:
    config = load("look=dogs", "objective=ornament", "octaves.steps=3", "conditioning.laplacian=0")
    assert config.model.name == "googlenet"
    assert config.objective == load("objective=ornament").objective
    assert (config.octaves.steps, config.conditioning.laplacian) == (3, 0)
    assert load("look=dogs", "model=inception_v3").model.name == "inception_v3"
    # In any order.
    assert load("octaves.steps=3", "look=dogs").octaves.steps == 3


def test_the_name_of_a_look_is_no_part_of_what_is_dreamed() -> None:
    config = load("look=dogs")
    assert config.digest({}) == replace(config, look=NO_LOOK).digest({})
    assert load().digest({}) != config.digest({})


def test_a_command_that_repeats_a_picture_names_its_look() -> None:
    assert render_command(asdict(load("look=dogs"))) == "make render look=dogs"
    command = render_command(asdict(load("look=dogs", "octaves.steps=3", root="poster")))
    assert command == "make render conf=poster look=dogs octaves.steps=3"
    # A record of a look that this version lacks is repeated by its values.
    other = replace(load("look=dogs"), look="of another version")
    assert "look=" not in render_command(asdict(other))
    assert "objective=dogs" in render_command(asdict(other))


def test_a_config_of_ones_own_may_have_looks(tmp_path: Path) -> None:
    defaults = "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, _self_]\n"
    path = tmp_path / "mine.yaml"
    path.write_text(f"{defaults}name: mine\n")
    assert load("look=dogs", root=str(path)).model.name == "googlenet"
    path.write_text(
        "defaults: [{job: default}, {model: inception_v3}, {objective: auto}, _self_, {look: dogs}]\nname: mine\n"
    )
    assert load(root=str(path)).model.name == "googlenet"
    path.write_text("name: mine\n")
    with pytest.raises(UserError, match=r"look=dogs chooses a model and an objective: .* defaults"):
        load("look=dogs", root=str(path))


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("look=dgos", ["there is no look 'dgos'", "did you mean dogs?"]),
        ("look=", ["there is no look ''"]),
        ("look=null", ["there is no look 'null'"]),
        ("look=[dogs]", ["there is no look '[dogs]'"]),
        ("look.name=dogs", ["unknown config key 'look.name'"]),
    ],
)
def test_a_look_that_is_not_there_is_refused(command, word: str, parts: list[str]) -> None:
    command(word).refused(*parts)


def test_auto_takes_the_best_look_that_the_weights_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_looks, "cached_path", lambda model: tmp_path / model.architecture.name)
    name, reason = best_look()
    assert load(f"look={name}").model.name in FROM_REGISTRIES
    assert "make weights model=googlenet" in reason
    (tmp_path / "googlenet").touch()
    best, reason = best_look()
    assert load(f"look={best}").model.name == "googlenet"
    assert "googlenet's weights are on this machine" in reason
    (tmp_path / "googlenet").unlink()
    assert best_look(["model=googlenet", "model.weights=mine.npz"])[0] == best
    assert best_look(["model.weights=mine.npz"])[0] == name


def test_auto_says_which_look_it_took_and_records_it(command, tmp_path: Path) -> None:
    words = ("look=auto", "model=inception_v3", "objective.terms=[mixed0]", "output.width=96", "octaves.steps=0", INLINE)
    output = succeeded(command("render", *words, "output.dir=run"))
    name = best_look()[0]
    assert output.splitlines()[0].startswith(f"look={name}: ")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["look"] == name
    assert "look=" not in succeeded(command("render", *words, "output.dir=quiet", "quiet=true"))


def test_a_plain_dream_of_ones_own_photograph_is_told_of_looks(command, tmp_path: Path) -> None:
    Image.effect_noise((96, 80), 60).convert("RGB").save(tmp_path / "me.png")
    words = ("octaves.steps=0", INLINE, "overwrite=true")
    assert "look=auto" in succeeded(command("render", *words, "image=me.png")).splitlines()[0]
    for more in ("quiet=true", "objective.terms=[mixed0]", "look=furs", "conditioning.laplacian=2"):
        assert "plain dream" not in succeeded(command("render", *words, "image=me.png", more))
    assert "plain dream" not in succeeded(command("render", *words, "output.width=96"))


def test_the_list_says_what_each_look_needs(command) -> None:
    output = succeeded(command("looks"))
    for look in looks():
        assert look.name in output
        assert look.about.split()[0] in output
