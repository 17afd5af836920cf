"""Frames of dreamed films on real workers: the same bytes from any farm, wherever the film was interrupted."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import pyvips

from render.errors import UserError
from render.farm.events import Event, StepDone, TilesDone
from tests.conftest import rendered
from tests.support.farm_job import stored
from tests.support.film_on_farm import TINY, TinyFilm

#: Zoom, turn and pan at once, dreams that become others, and two octaves a frame.
KEYFRAMES = [
    "{at: 0.3, turn: 20, objective: [mixed0, {layer: mixed0, channels: 5}]}",
    "{at: 0.8, pan: [0.2, 0], fade: 0.2}",
]
EVENTFUL = (
    "film.zoom=1.5",
    "film.octaves.count=2",
    f"film.keyframes=[{', '.join(KEYFRAMES)}]",
    "conditioning.shoulder=24",
)


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """Return the canvases of an eventful film made at once by one worker."""
    return TinyFilm(tmp_path_factory.mktemp("eventful"), EVENTFUL).make(1)


def test_every_frame_differs_from_the_one_before(eventful: dict[int, str]) -> None:
    assert len(set(eventful.values())) == 4


def test_the_first_frame_is_the_picture_that_render_makes(tmp_path: Path, eventful: dict[int, str]) -> None:
    """Frames' pixels are those of stills, also where another frame needs a deeper or wider network."""
    words = [*TINY[:-1], "conditioning.shoulder=24", "farm.executor=inline", "farm.worker.threads=1"]
    still = stored(rendered(tmp_path / "run", *words))
    assert hashlib.sha256(still.tobytes()).hexdigest() == eventful[0]


def test_four_workers_make_the_same_floats_as_one(tmp_path: Path, eventful: dict[int, str]) -> None:
    assert TinyFilm(tmp_path, EVENTFUL).make(4) == eventful


class Stop(Exception):
    """What ends a film in the middle, as a kill would: nothing more is saved."""


@pytest.mark.parametrize("seed", range(4))
def test_a_film_stopped_at_random_moments_goes_on_to_the_same_frames(
    seed: int, tmp_path: Path, eventful: dict[int, str]
) -> None:
    film, draws = TinyFilm(tmp_path, (*EVENTFUL, "checkpoint.every=0")), random.Random(seed)
    left = draws.randrange(1, 12)

    def stop(frame: int, event: Event, _conductor: object) -> None:
        nonlocal left
        left -= not isinstance(event, TilesDone)
        if left <= 0:
            raise Stop

    while len(film.canvases) < film.frames:
        try:
            film.make(draws.choice((1, 2, 4)), len(film.canvases), watch=stop)
        except Stop:
            left = draws.randrange(3, 14)
    assert film.canvases == eventful


def test_a_film_made_longer_equals_one_made_long_at_once(tmp_path: Path, eventful: dict[int, str]) -> None:
    film = TinyFilm(tmp_path, EVENTFUL, frames=2)
    film.make(1)
    film.frames = 4
    assert film.make(2, first=2) == eventful


def test_a_frame_that_was_done_before_a_kill_is_not_dreamed_again(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path, frames=2)
    made = dict(film.make(1))
    events: list[Event] = []
    assert film.make(1, first=1, watch=lambda _frame, event, _conductor: events.append(event)) == made
    assert not any(isinstance(event, StepDone) for event in events)


def test_only_the_canvases_of_the_newest_frames_are_kept(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path, ("film.keep=2", "film.octaves.steps=1"), frames=5)
    film.make(1)
    names = sorted(path.name for path in (tmp_path / "film" / "canvases").iterdir())
    assert names == ["000003", "000004", "colours.json", "grids.json"]


def test_a_missing_canvas_is_named_with_the_way_out(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path, frames=2)
    film.make(1)
    with pytest.raises(UserError, match=r"canvas of frame 8, which is gone.*fresh=true"):
        film.make(1, first=9, last=10)


def test_damaged_colours_are_refused(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path, frames=1)
    film.make(1)
    record = tmp_path / "film" / "canvases" / "colours.json"
    record.write_text(record.read_text().replace('"saturation": 1', '"saturation": 2'))
    with pytest.raises(UserError, match=r"colours.json cannot be read .*fresh=true"):
        film.make(1, first=1, last=2)


def test_pictures_are_even_and_in_the_colours_of_the_job(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path, ("output.saturation=0", "film.bits=10"), frames=2)
    film.make(1)
    for number in range(2):
        picture = pyvips.Image.new_from_file(str(film.pictures / f"{number:06}.png"))
        assert (picture.width, picture.height, picture.format) == (96, 80, "ushort")
        pixels = picture.numpy().astype(float)
        assert pixels.std() > 1000
        assert np.abs(pixels - pixels.mean(-1, keepdims=True)).max() < 2


def test_a_still_film_without_steps_stays_as_it_is(tmp_path: Path) -> None:
    """Nothing moves, nothing fades, nothing is dreamed: the canvas is carried on to the last bit."""
    film = TinyFilm(tmp_path, ("film.zoom=1", "film.fade=0", "film.octaves.steps=0"), frames=3)
    assert len(set(film.make(2).values())) == 1


def last_canvas(film: TinyFilm, frame: int) -> np.ndarray:
    return pyvips.Image.new_from_file(str(film.pictures / f"{frame:06}.png")).numpy().astype(np.float64)


def test_a_loop_ends_where_it_began(tmp_path: Path) -> None:
    """From the last frame to the first the picture changes no more than from any frame to the next."""
    film = TinyFilm(tmp_path, ("film.loop=true", "film.zoom=1.2"), frames=12)
    film.make(1)
    pictures = [last_canvas(film, frame) for frame in range(12)]
    changes = [np.abs(later - earlier).mean() for earlier, later in zip(pictures, pictures[1:], strict=False)]
    assert np.abs(pictures[0] - pictures[-1]).mean() <= 1.1 * max(changes)
    assert np.abs(pictures[0] - pictures[6]).mean() > 1.5 * max(changes)


def test_a_film_keeps_the_first_frames_spread_of_colours(tmp_path: Path) -> None:
    film = TinyFilm(tmp_path, ("film.zoom=1", "step_size=6"), frames=10)
    film.make(1)
    first, last = last_canvas(film, 0), last_canvas(film, 9)
    assert np.abs(first.mean((0, 1)) - last.mean((0, 1))).max() < 2
    loose = TinyFilm(tmp_path / "loose", ("film.zoom=1", "step_size=6", "film.hold=0"), frames=10)
    loose.make(1)
    drift = np.abs(last_canvas(loose, 9).std((0, 1)) - first.std((0, 1))).max()
    assert np.abs(last.std((0, 1)) - first.std((0, 1))).max() < drift


@pytest.mark.slow
def test_blocks_on_devices_make_the_same_frames_for_any_number_of_workers(tmp_path: Path) -> None:
    words = (*EVENTFUL, "farm.worker.resident=true")
    one = TinyFilm(tmp_path / "one", words, frames=3).make(1)
    assert len(set(one.values())) == 3
    assert TinyFilm(tmp_path / "four", words, frames=3).make(4) == one


@pytest.mark.parametrize("words", [("output.saturation=0.5",), ("film.keyframes=[{at: 1, objective: [mixed1]}]",)])
def test_canvases_of_other_dreams_or_colours_are_not_gone_on_from(words: tuple[str, ...], tmp_path: Path) -> None:
    """Even where the film's digest is the same, as if a picture that a keyframe names had changed."""
    TinyFilm(tmp_path, frames=1).make(1)
    with pytest.raises(UserError, match=r"canvas of another film: fresh=true"):
        TinyFilm(tmp_path, words, frames=1).make(1)
