"""A film's directory is known before the film is drafted, and is named for all that its frames follow from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from render.config.compose import load
from render.config.film_schema import FilmJob
from render.config.root_kinds import FILM
from render.config.schema import Config
from render.film import film_run
from render.film.film_draft import FilmDraft
from render.film.film_run import OpenedFilm, open_film
from render.film.makers import PlaceOf, draft_film
from render.storage.url import Place
from tests.conftest import TINY, rendered
from tests.film.video import clips

ZOOM = (*TINY, "film.seconds=1", "film.rate=4")


def opened(root: str, *words: str) -> OpenedFilm:
    return open_film(cast(FilmJob, load(FILM, root, list(words))))


@pytest.mark.parametrize("kind", ["zoom", "loop", "footage", "flight", "steps"])
def test_a_draft_works_in_the_directory_that_the_film_gets(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places: list[Place] = []

    def draft(job: FilmJob, place_of: PlaceOf) -> FilmDraft:
        def noted(config: Config, identity: Mapping[str, str | None]) -> Place:
            places.append(place_of(config, identity))
            return places[-1]

        return draft_film(job, noted)

    monkeypatch.setattr(film_run, "draft_film", draft)
    if kind in ("zoom", "loop"):
        words = ["zoom", *ZOOM, f"film.loop={str(kind == 'loop').lower()}"]
    elif kind == "footage":
        words = ["footage", *TINY, f"image={clips.write_clip(tmp_path / 'clip.mp4', clips.pictures(4))}"]
    else:
        words = ["flight", f"film.run={rendered(tmp_path / 'run', *TINY)}", f"film.of={kind}", "output.width=64"]
    place = opened(*words).directory.place
    # Films of runs need no directory before they are drafted.
    assert places == ([] if kind in ("flight", "steps") else [place])
    assert opened(*words).directory.place == place


@pytest.mark.parametrize(
    "words",
    [
        ["output.match=PICTURE"],
        ["film.keyframes=[{at: 0.5, objective: [{layer: mixed0, guide: PICTURE}]}]"],
    ],
)
def test_another_picture_of_the_same_name_is_another_film(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture, places = tmp_path / "guide.png", []
    for seed in (1, 2, 1):
        pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(picture)
        words_here = [word.replace("PICTURE", str(picture)) for word in words]
        places.append(opened("zoom", *ZOOM, *words_here).directory.place)
    assert places[0] == places[2] != places[1]


def test_other_colours_are_another_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ([], ["output.saturation=0.5"], ["output.contrast=[1,99]"])
    assert len({opened("zoom", *ZOOM, *more).directory.place for more in words}) == len(words)
