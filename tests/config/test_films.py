"""Configs of films: what ships, what is documented, and one line for everything that is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from render.commands.film import film_words
from render.config.compose import is_film, load, load_config, root_configs, schema_keys
from render.config.film_schema import FilmJob
from render.config.film_validation import still_config
from render.config.root_kinds import FILM, JOB
from render.errors import UserError
from tests.conftest import ROOT

CONF = ROOT / "conf"
FILMS = ("flight", "footage", "zoom")
NEEDED = {"flight": ["film.run=dreams/me"], "footage": ["image=clip.mp4"], "zoom": []}


def refusal(*words: str, root: str = "zoom") -> str:
    """The one line with which a film is refused."""
    with pytest.raises(UserError) as caught:
        load(FILM, root, words)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def leaves(section: dict[str, Any], prefix: str) -> set[str]:
    return {
        key
        for name, value in section.items()
        for key in (leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}"})
    }


def test_films_are_root_configs_of_their_own() -> None:
    assert set(FILMS) == set(root_configs(FILM)) - set(root_configs())
    for root in FILMS:
        with pytest.raises(UserError, match=f"make film conf={root}"):
            load_config(root, [])
        assert is_film(root, [])
    assert is_film("preview", ["film.zoom=2"])
    assert not is_film("preview", ["image=film.png"])


def test_every_key_of_a_film_is_documented_and_has_its_default() -> None:
    text = (CONF / "film" / "default.yaml").read_text()
    documented = leaves(yaml.safe_load(text), "film.")
    assert documented == set(schema_keys(FILM)) - set(schema_keys(JOB))
    for line in text.splitlines():
        assert line.startswith(("#", "  #")) or " # " in line, line
    assert load(FILM, "zoom", []).film == FilmJob().film


@pytest.mark.parametrize("root", FILMS)
def test_every_command_at_the_head_of_a_film_composes(root: str) -> None:
    lines = re.findall(rf"^#   make (?:film|plan) conf={root}(.*)", (CONF / f"{root}.yaml").read_text(), re.MULTILINE)
    assert len(lines) > 1
    for line in lines:
        words = line.split("  ")[0].split()
        assert load(FILM, root, [*NEEDED[root], *film_words(words)]).name == root


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["film.of=dance"], "zoom, footage, flight, steps"),
        (["film.seconds=0"], "film.seconds=0"),
        (["film.seconds=.inf"], "film.seconds"),
        (["film.bits=12"], "8, 10 or 16"),
        (["film.fade=2"], "from 0 to 1"),
        (["film.hold=.nan"], "film.hold"),
        (["film.pan=[1]"], "film.pan=[0.1,0]"),
        (["film.keyframes=[{zoom: 2}]"], "film.keyframes[0]"),
        (["film.keyframes=[{at: 2},{at: 2}]"], "order of time"),
        (["film.tour=[{at: 0}]"], "film.tour is for flights"),
        (["film.run=dreams/me"], "conf=flight"),
        (["film.of=flight"], "run=dreams/NAME"),
        (["output.format=png"], "film.format"),
        (["output.also=[dzi]"], "output.also"),
        (["output.profile=cmyk"], "BT.709"),
        (["output.marks=true"], "output.marks are for prints: drop them for a film"),
        (["output.iiif_id=https://example.org/iiif"], "output.iiif_id is for IIIF tiles"),
        (["film.keep=0"], "film.keep=0"),
        (["film.octaves.scale=1"], "film.octaves.scale=1.0: must be above 1"),
        (["film.octaves.scale=nan"], "film.octaves.scale=nan: must be above 1"),
        (["film.octaves.count=0"], "film.octaves.count=0: must be auto or a whole number"),
        (["film.octaves.count=100000"], "film.octaves.count=100000: must be auto or a whole number"),
        (["film.flow.scale=0"], "film.flow.scale"),
        (["octaves.scale=1"], "octaves.scale"),
    ],
)
def test_values_without_meaning_are_refused_in_one_line(words: list[str], message: str) -> None:
    assert message in refusal(*words)


def test_frames_have_the_bits_that_the_film_needs() -> None:
    assert still_config(load(FILM, "zoom", ["output.path=me.mp4"])).output.path is None
    assert still_config(load(FILM, "zoom", ["film.bits=10"])).output.bits == 16
