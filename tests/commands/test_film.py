"""Words that the film command understands by itself, and what it says of them."""

from __future__ import annotations

import pytest

from render.commands.film import film_command
from render.config.film_schema import FilmJob


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
