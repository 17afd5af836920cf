"""Films over a real run: flights with points and by themselves, growth, and runs that cannot be shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from render.config.compose import load_config
from render.config.film_schema import FilmConfig, FilmJob
from render.config.schema import Config
from render.errors import UserError
from render.film.film_draft import FilmDraft, FilmSurroundings
from render.film.flight.growth import cross_fade
from render.film.flight.rich_places import default_tour, rich_places
from render.film.makers import draft_film
from render.storage.opening import open_storage
from tests.conftest import TINY, refusal, rendered
from tests.support.damage import damage
from tests.support.s3 import serving

POINTS = [{"at": 0, "width": 1}, {"at": 1, "x": 0.4, "y": 0.4, "width": 0.5, "turn": 10}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [word for word in TINY if not word.startswith(("octaves.count", "output.width"))]
    return rendered(tmp_path_factory.mktemp("flown") / "run", *words, "output.width=160", "octaves.count=2")


def film_job(film: Mapping[str, Any], **output: Any) -> FilmJob:
    base = load_config("preview", [])
    job = FilmJob(**{field.name: getattr(base, field.name) for field in fields(Config)}, film=FilmConfig(**film))
    for key, value in {"width": 48, "height": 32, **output}.items():
        setattr(job.output, key, value)
    return job


def draft(run: Path | None, of: str = "flight", *, output: Mapping[str, Any] | None = None, **film: Any) -> FilmDraft:
    settings = {"of": of, "run": None if run is None else str(run), "rate": 8, **film}
    return draft_film(film_job(settings, **(output or {})), lambda *_facts: Path("unused"))


def frames(film: FilmDraft, place: Path, first: int = 0) -> list[np.ndarray]:
    """The pictures of a film's frames from `first`, as they are read back."""
    place.mkdir(exist_ok=True)
    pictures = []
    with film.opened(FilmSurroundings(place, "0" * 64, 0.0)) as maker:
        for number, frame in enumerate(maker.make(first, film.frames), first):
            assert frame.number == number
            frame.write(place / "frame.png")
            with Image.open(place / "frame.png") as picture:
                pictures.append(np.asarray(picture))
    return pictures


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_flight_goes_on_to_the_same_frames_and_leaves_the_run_alone(run: Path, tmp_path: Path) -> None:
    before = snapshot(run)
    film = draft(run, tour=POINTS)
    assert (film.frames, film.shape) == (9, (32, 48))
    pictures = frames(film, tmp_path / "film")
    assert all(picture.shape == (32, 48, 3) for picture in pictures)
    for resumed, picture in zip(frames(film, tmp_path / "film", first=5), pictures[5:], strict=True):
        np.testing.assert_array_equal(resumed, picture)
    longer = draft(run, tour=POINTS, seconds=3.0)
    assert longer.identity == film.identity
    for other, picture in zip(frames(longer, tmp_path / "longer"), pictures, strict=False):
        np.testing.assert_array_equal(other, picture)
    assert snapshot(run) == before


def test_run_in_an_object_store_has_the_same_films(run: Path, tmp_path: Path) -> None:
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (("flight", {"tour": POINTS}), ("steps", {"seconds": 1.0}))
    with serving(tmp_path / "log") as server:
        url = f"{server.make_bucket('flown')}/run"
        storage = open_storage(url)
        for path in run.rglob("*"):
            if path.is_file():
                storage.write_file(path.relative_to(run).as_posix(), path)
        objects = [entry.name for entry in storage.tree()]
        for of, settings in kinds:
            films = (
                draft(run, of, **settings),
                draft_film(film_job({"of": of, "run": url, "rate": 8, **settings}), lambda *_facts: Path("unused")),
            )
            assert films[0].identity == films[1].identity
            here, there = (frames(film, tmp_path / f"{of}-{number}") for number, film in enumerate(films))
            np.testing.assert_array_equal(here, there)
        assert [entry.name for entry in storage.tree()] == objects
        assert "there is no run" in refusal(
            lambda: draft_film(film_job({"of": "flight", "run": f"{url}-2"}), lambda *_facts: Path("unused"))
        )


def test_tour_of_rich_places_begins_and_ends_with_the_whole_picture(run: Path, tmp_path: Path) -> None:
    film = draft(run, seconds=2.0)
    pictures = frames(film, tmp_path / "film")
    whole = frames(draft(run, tour=POINTS[:1], seconds=0.1), tmp_path / "whole")[0]
    np.testing.assert_array_equal(pictures[0], whole)
    middle, last = (np.abs(pictures[number].astype(int) - whole).mean() for number in (len(pictures) // 2, -1))
    assert last < middle
    assert draft(run, seconds=2.5).identity != film.identity


def test_frames_have_the_colours_of_the_runs_pictures(run: Path, tmp_path: Path) -> None:
    grey_run = tmp_path / "grey"
    shutil.copytree(run, grey_run)
    record = json.loads((grey_run / "run.json").read_text())
    record["config"]["output"]["saturation"] = 0.0
    (grey_run / "run.json").write_text(json.dumps(record))
    picture = frames(draft(grey_run, tour=POINTS[:1], seconds=0.1), tmp_path / "film")[0].astype(int)
    assert np.ptp(picture, axis=2).max() <= 1
    coloured = draft(grey_run, tour=POINTS[:1], seconds=0.1, output={"saturation": 1.5})
    assert np.ptp(frames(coloured, tmp_path / "coloured")[0].astype(int), axis=2).max() > 20
    assert coloured.identity != draft(grey_run, tour=POINTS[:1]).identity


def test_sixteen_bits_hold_what_eight_round(run: Path, tmp_path: Path) -> None:
    eight, sixteen = (frames(draft(run, tour=POINTS, bits=bits), tmp_path / str(bits))[3] for bits in (8, 16))
    with Image.open(tmp_path / "16" / "frame.png") as picture:
        assert picture.format == "PNG"
    content = (tmp_path / "16" / "frame.png").read_bytes()
    # Byte 24 of a PNG is the bit depth of its header.
    assert content[24] == 16
    assert np.abs(eight.astype(int) - sixteen).max() <= 1


def test_growth_begins_with_the_first_octave_and_ends_with_the_picture(run: Path, tmp_path: Path) -> None:
    film = draft(run, "steps")
    pictures = frames(film, tmp_path / "film")
    assert len(pictures) == 36
    whole = frames(draft(run, tour=POINTS[:1], seconds=0.1), tmp_path / "whole")[0]
    np.testing.assert_array_equal(pictures[-1], whole)
    with Image.open(run / "previews" / "octave-1.png") as preview:
        small = np.asarray(preview.resize((48, round(48 * preview.height / preview.width)), Image.Resampling.LANCZOS))
    top = (small.shape[0] - 32) // 2
    assert np.abs(pictures[0].astype(int) - small[top : top + 32]).mean() < 4
    for resumed, picture in zip(frames(film, tmp_path / "film", first=20), pictures[20:], strict=True):
        np.testing.assert_array_equal(resumed, picture)


def test_cross_fade_passes_from_stage_to_stage_without_a_jump() -> None:
    stages = [np.full((1, 1, 3), value, np.float32) for value in (0, 100, 200)]
    values = np.array([cross_fade(stages, share)[0, 0, 0] for share in np.linspace(0, 1, 301)])
    assert values[0] == 0
    assert values[-1] == 200
    assert np.all(np.diff(values) >= 0)
    assert np.diff(values).max() < 5


def test_rich_places_are_where_there_is_something_and_apart() -> None:
    small = np.full((100, 200, 3), 90, np.float32)
    random = np.random.default_rng(1)
    for row, column in ((10, 20), (60, 150)):
        small[row : row + 20, column : column + 20] = random.uniform(0, 255, (20, 20, 3))
    places = rich_places(small, (10_000, 20_000), (2000, 2000), 2)
    assert sorted((round(y, -3), round(x, -3)) for y, x in places) == [(2000, 3000), (7000, 16_000)]
    # Even on a canvas of one colour there are places.
    assert len(rich_places(np.zeros((100, 200, 3), np.float32), (10_000, 20_000), (2000, 2000), 4)) == 4


@pytest.mark.parametrize("canvas", [(10_000, 20_000), (20_000, 1000), (300, 5000), (40, 40)])
def test_default_tour_stays_within_canvases_of_any_shape(canvas: tuple[int, int]) -> None:
    shrink = max(1, max(canvas) / 256)
    small = np.random.default_rng(2).uniform(0, 255, (round(canvas[0] / shrink), round(canvas[1] / shrink), 3))
    path = default_tour(small.astype(np.float32), canvas, (90, 160), 30)
    assert path.points[0].view == path.points[-1].view
    assert path.points[-1].at == pytest.approx(30)
    assert all(path.view(seconds).is_within(canvas, 90 / 160) for seconds in np.linspace(0, 30, 200))


def test_run_without_a_name_or_that_is_none_is_refused(run: Path, tmp_path: Path) -> None:
    assert "set film.run=DIR" in refusal(lambda: draft(None))
    assert "there is no run" in refusal(lambda: draft(tmp_path / "nothing"))
    sweep = tmp_path / "sweep"
    shutil.copytree(run, sweep / "points" / "0001")
    (sweep / "sweep.json").write_text("{}")
    assert "there is no run" in refusal(lambda: draft(sweep))


def test_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    assert "is not finished" in refusal(lambda: draft(copy))


def test_film_is_no_picture_to_fly_over(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "film": {"of": "zoom"}}))
    assert "is a film: name the run directory of a picture" in refusal(lambda: draft(copy))


def test_run_without_its_canvas_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(copy / "canvas")
    assert "holds no canvas" in refusal(lambda: draft(copy))


def test_damaged_canvas_is_one_line_and_no_frame(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    chunk = next(path for path in (copy / "canvas").rglob("*") if path.is_file() and path.parent.parent.parent.name == "c")
    damage(chunk)
    film = draft(copy, tour=POINTS)
    assert "the canvas cannot be read" in refusal(lambda: frames(film, tmp_path / "film"))
    assert not (tmp_path / "film" / "frame.png").exists()


def test_lost_or_foreign_preview_is_named(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    preview = copy / "previews" / "octave-2.png"
    preview.write_bytes(b"GIF89a")
    assert "previews/octave-2.png cannot be read" in refusal(lambda: draft(copy, "steps"))
    preview.unlink()
    assert "it is gone" in refusal(lambda: draft(copy, "steps"))
    preview.symlink_to("/etc/hostname")
    assert "octave-2.png cannot be read" in refusal(lambda: draft(copy, "steps"))


def test_flight_outside_of_the_canvas_is_refused_before_anything_is_written(run: Path) -> None:
    with pytest.raises(UserError, match="point 1 shows more than the canvas"):
        draft(run, tour=[{"at": 0, "x": 0.0, "width": 1}])
    with pytest.raises(UserError, match="make the film smaller"):
        draft(run, output={"width": 1600, "height": 900})
    with pytest.raises(UserError, match="frames have sides"):
        draft(run, output={"width": 4})
