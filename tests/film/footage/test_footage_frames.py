"""Frames of dreamed footage on real workers: the same bytes from any farm, wherever the film was interrupted."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import pyvips

from render.errors import UserError
from render.farm.events import Event, OctaveStarted, StepDone, TilesDone
from tests.conftest import rendered
from tests.film.footage import clips
from tests.film.footage.tiny_footage import TinyFootage
from tests.support.farm_job import stored

SHAPE = (80, 97)
WORDS = ("film.octaves.count=2",)


def _two_shots() -> list[clips.Frame]:
    """Return a pan of three frames and a turn of three."""
    return [
        *clips.pan(clips.photo("astronaut"), SHAPE, 3, (1.0, 2.5)),
        *clips.turning(clips.photo("coffee"), SHAPE, 3, 2.0),
    ]


@pytest.fixture(scope="module")
def two_shots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Return the canvases of a clip of two shots, dreamed at once by one worker."""
    return TinyFootage(tmp_path_factory.mktemp("shots"), _two_shots(), WORDS).make()


def test_four_workers_make_the_same_floats_as_one(tmp_path: Path, two_shots: dict[int, str]) -> None:
    assert TinyFootage(tmp_path, _two_shots(), WORDS).make(4) == two_shots


class Stop(Exception):
    """What ends a film in the middle, as a kill would: nothing more is saved."""


@pytest.mark.parametrize("seed", range(3))
def test_a_film_stopped_at_random_moments_goes_on_to_the_same_frames(
    seed: int, tmp_path: Path, two_shots: dict[int, str]
) -> None:
    film, draws = TinyFootage(tmp_path, _two_shots(), (*WORDS, "checkpoint.every=0")), random.Random(seed)
    left = draws.randrange(1, 12)

    def stop(frame: int, event: Event, _conductor: object) -> None:
        nonlocal left
        left -= not isinstance(event, TilesDone)
        if left <= 0:
            raise Stop

    while len(film.canvases) < len(film.clip):
        try:
            film.make(draws.choice((1, 2, 4)), len(film.canvases), watch=stop)
        except Stop:
            left = draws.randrange(3, 14)
    assert film.canvases == two_shots


def test_a_film_made_longer_equals_one_made_long_at_once(tmp_path: Path, two_shots: dict[int, str]) -> None:
    film = TinyFootage(tmp_path, _two_shots(), WORDS)
    film.make(last=2)
    assert len(film.canvases) == 2
    film.make(2, first=2, last=5)
    assert film.make(first=5) == two_shots


def test_a_shot_begins_like_a_picture_and_depends_on_nothing_before(tmp_path: Path, two_shots: dict[int, str]) -> None:
    steps: dict[int, int] = {}

    def count(frame: int, event: Event, _conductor: object) -> None:
        steps[frame] = steps.get(frame, 0) + isinstance(event, StepDone)

    clip = _two_shots()
    other = [*clips.pan(clips.photo("astronaut"), SHAPE, 3, (-2.0, 1.0)), *clip[3:]]
    film = TinyFootage(tmp_path, other, (*WORDS, "octaves.steps=3"))
    film.make(watch=count)
    assert steps == {0: 6, 1: 4, 2: 4, 3: 6, 4: 4, 5: 4}
    again = TinyFootage(tmp_path / "again", clip, (*WORDS, "octaves.steps=3")).make()
    assert {number: film.canvases[number] == again[number] for number in again} == {
        0: True, 1: False, 2: False, 3: True, 4: True, 5: True,
    }  # fmt: skip


def test_the_first_frame_is_the_picture_that_render_makes(tmp_path: Path, two_shots: dict[int, str]) -> None:
    pyvips.Image.new_from_array(_two_shots()[0]).copy(interpretation="srgb").pngsave(str(tmp_path / "frame.png"))
    words = [f"image={tmp_path / 'frame.png'}", "output.width=97", "output.height=80", "octaves.count=2", "octaves.steps=2"]
    words += ["objective.terms=[mixed0]", "tiles.size=32", "farm.executor=inline", "farm.worker.threads=1"]
    still = stored(rendered(tmp_path / "run", *words))
    assert hashlib.sha256(still.tobytes()).hexdigest() == two_shots[0]


def test_without_steps_a_still_clip_keeps_its_dream(tmp_path: Path) -> None:
    """Nothing moves and everything is carried: frames are the first to the last bit but at lost edges."""
    clip = [clips.view(clips.photo("astronaut"), SHAPE)] * 3
    film = TinyFootage(tmp_path, clip, ("film.octaves.steps=0", "film.flow.carry=1"))
    film.make()
    for number in (1, 2):
        np.testing.assert_allclose(film.pixels[number], film.pixels[0], atol=1e-4)


def test_a_clip_that_is_cut_off_is_named(tmp_path: Path) -> None:
    film = TinyFootage(tmp_path, clips.pan(clips.photo("astronaut"), SHAPE, 2, (0, 1)))
    with pytest.raises(UserError, match="footage has no frame 2"):
        film.make(last=4)
    assert len(film.canvases) == 2


def test_starts_are_removed_and_only_the_newest_canvases_kept(tmp_path: Path, two_shots: dict[int, str]) -> None:
    film = TinyFootage(tmp_path, _two_shots()[:4], ("film.keep=2", "film.octaves.steps=1"))
    film.make()
    names = sorted(path.name for path in (tmp_path / "film" / "canvases").iterdir())
    assert names == ["000002", "000003", "colours.json", "grids.json"]


def test_a_missing_canvas_is_named_with_the_way_out(tmp_path: Path) -> None:
    film = TinyFootage(tmp_path, _two_shots())
    film.make(last=1)
    with pytest.raises(UserError, match=r"canvas of frame 1, which is gone.*fresh=true"):
        film.make(first=2)


def test_a_shot_needs_no_canvas_of_the_frame_before(tmp_path: Path, two_shots: dict[int, str]) -> None:
    film = TinyFootage(tmp_path, _two_shots(), WORDS)
    film.make(last=1)
    began = []
    film.make(
        first=3, last=4, watch=lambda frame, event, _: began.append(frame) if isinstance(event, OctaveStarted) else None
    )
    assert set(began) == {3}
    assert film.canvases[3] == two_shots[3]
