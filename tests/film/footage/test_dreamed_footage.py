"""Drafts of dreamed footage: they keep the footage's times and sound, and say what they need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest

from render.config.compose import load
from render.config.film_schema import FilmJob
from render.config.root_kinds import FILM
from render.errors import UserError
from render.film.film_draft import FilmSurroundings
from render.film.footage import dreamed_footage
from render.film.footage.dreamed_footage import FootageFilm, draft_footage
from render.film.video.footage import Footage
from tests.film.footage import clips
from tests.support.film_on_farm import inline_farm

SHAPE = (60, 81)
#: Times of frames that are not shown equally long.
PTS = (0, 40, 80, 140, 180)


@dataclass(frozen=True)
class ArrayFootage(Footage):
    """Footage whose frames are a pan."""

    def frames(self, first: int = 0, bits: int = 8) -> Iterator[clips.Frame]:
        yield from clips.pan(clips.photo("astronaut"), SHAPE, len(self.pts), (1.0, 2.0))[first:]


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of footage of five frames with sound."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a film")
    footage = ArrayFootage(
        path, SHAPE, SHAPE, 0, False, Fraction(1), PTS, Fraction(1, 1000), 40, Fraction(0), Fraction(25), True, 8,
        "bt709", "bt709", "bt709", False, False, None, ("aac",), 0, ("fields are deinterlaced",), cast(Any, None),
    )  # fmt: skip
    monkeypatch.setattr(dreamed_footage, "open_footage", lambda _path, _damaged: footage)
    return path


def _draft(clip: Path, *words: str) -> FootageFilm:
    tiny = ("octaves.count=1", "octaves.steps=1", "objective.terms=[mixed0]", "tiles.size=32", "output.width=81")
    job = load(FILM, "footage", [f"image={clip}", *tiny, "film.octaves.steps=1", *words])
    assert isinstance(job, FilmJob)
    return draft_footage(job, lambda _config, _identity: clip.parent / "film")


def test_frames_keep_the_times_and_the_sound_of_the_footage(clip: Path) -> None:
    film = _draft(clip)
    assert (film.frames, film.shape, film.sound) == (5, (60, 80), clip)
    assert film.timing.times == PTS
    assert (film.timing.unit, film.timing.end) == (Fraction(1, 1000), 220)


@pytest.mark.parametrize(("seconds", "frames", "end"), [(0.08, 2, 80), (0.081, 3, 140), (0.15, 4, 180), (9, 5, 220)])
def test_a_shorter_film_ends_where_its_last_frame_does(clip: Path, seconds: float, frames: int, end: int) -> None:
    timing = _draft(clip, f"film.seconds={seconds}").timing
    assert (len(timing.times), timing.end) == (frames, end)


def test_sound_is_left_out_on_request(clip: Path) -> None:
    assert _draft(clip, "film.sound=false").sound is None


@pytest.mark.parametrize("word", ["film.rate=30", "film.loop=true"])
def test_settings_without_meaning_are_refused(clip: Path, word: str) -> None:
    with pytest.raises(UserError, match=word):
        _draft(clip, word)


def test_sample_picture_is_no_footage(clip: Path) -> None:
    with pytest.raises(UserError, match=r"image=sample:hubble is a picture.*set image=clip\.mp4"):
        _draft(clip, "image=sample:hubble")


def test_a_film_of_footage_is_identified_by_its_file(clip: Path) -> None:
    first = _draft(clip).identity
    assert _draft(clip).identity == first
    clip.write_bytes(b"another film")
    assert _draft(clip).identity != first


def test_needs_hold_the_newest_canvases_and_a_start(clip: Path) -> None:
    needs = _draft(clip).needs()
    assert needs.canvas_bytes > 4 * SHAPE[0] * SHAPE[1] * 12
    assert needs.first_flops > 0
    assert needs.lines == [("footage", "fields are deinterlaced")]


def test_frames_are_made_in_the_surroundings_of_a_film(clip: Path) -> None:
    told: list[str] = []
    surroundings = FilmSurroundings(
        clip.parent / "film", "0" * 64, time.perf_counter(), tell=told.append, farm=inline_farm(1)
    )
    with _draft(clip).opened(surroundings) as maker:
        for frame in maker.make(0, 2):
            frame.write(clip.parent / f"{frame.number}.png")
    assert (clip.parent / "1.png").stat().st_size > 1000
    assert "fields are deinterlaced" in told
    assert sorted(path.name for path in (clip.parent / "film").iterdir()) == ["canvases"]
