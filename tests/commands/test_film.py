"""Words that the film command understands by itself, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from render.__main__ import main
from render.commands.film import film_command
from render.config.film_schema import FilmJob
from tests.support.tiny_film import TinyFilm


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FilmJob]:
    """Films that would be made."""
    jobs: list[FilmJob] = []
    monkeypatch.setattr("render.film.film_run.make_film", jobs.append)
    return jobs


def test_a_film_without_words_is_one_that_a_first_try_can_wait_for(
    made: list[FilmJob], capsys: pytest.CaptureFixture[str]
) -> None:
    assert film_command("zoom", []) == 0
    assert (made[0].film.of, made[0].film.seconds, made[0].output.width) == ("zoom", 3, 320)
    assert "film.seconds=3 output.width=320" in capsys.readouterr().out


def test_a_picture_that_is_filmed_is_said_to_be_a_zoom(made: list[FilmJob], capsys: pytest.CaptureFixture[str]) -> None:
    film_command("poster", ["image=sample:chelsea"])
    said = capsys.readouterr().out
    assert said == "conf=poster is a picture, filmed as a zoom: films of their own are conf=flight, footage or zoom\n"
    for words in (["image=sample:chelsea", "quiet=true"], ["image=sample:chelsea", "film.zoom=2"]):
        film_command("poster", words)
    film_command("zoom", ["image=sample:chelsea"])
    assert capsys.readouterr().out == ""
    assert [job.film.of for job in made] == ["zoom"] * 4


@pytest.mark.parametrize(
    "words",
    [
        ("export", "output.format=tiff"), ("proof", "profile=p3"), ("preflight",), ("touch", "box=0,0,40,40"),
        ("plan", "box=0,0,40,40"), ("sheet", "to=sheet.png"),
    ],
)  # fmt: skip
def test_commands_for_pictures_say_that_a_film_is_one(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RENDER_OVERRIDES", "")
    TinyFilm(tmp_path / "film").make(1)
    assert main([words[0], "run=film", *words[1:]]) == 2
    assert capsys.readouterr().err.endswith(
        "run=film is a film: name the run directory of a picture, such as dreams/poster-1a2b3c4d\n"
    )
