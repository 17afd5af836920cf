"""Sweeps whose points are films: made on real farms, each the film that its own command makes."""

from __future__ import annotations

import hashlib
import html
import json
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

from render.config.compose import FILM, load
from render.config.schema import picture_height, picture_width
from render.sweeps.axes.parsing import parse_sweep
from render.sweeps.axes.points import expand
from render.sweeps.breeding.generation import define_sweep
from render.sweeps.gallery.exhibition import Exhibition
from render.sweeps.gallery.exhibition_builder import build_exhibition
from render.sweeps.gallery.make_commands import FAVOURITES
from render.sweeps.monitor.board import Board
from render.sweeps.monitor.event_log import EVENTS, last_command, read_events
from render.sweeps.rendering.drafting import DraftedPoint, draft_points
from render.sweeps.sweep_reporter import recorded_point
from render.viewer.live_film import LiveFilm
from tests.conftest import INLINE, TINY, Finished, refusal, rendered
from tests.support.preloaded import start_command

#: Films of three frames, each of a fraction of a second.
SHORT = (
    "image=sample:chelsea", "output.width=64", "octaves.count=1", "octaves.steps=1", "film.octaves.steps=1", "film.rate=10",
    "film.seconds=0.3",
)  # fmt: skip
AXES = ("film.zoom=1.1,1.5", "objective.terms=[mixed0],[mixed1]")


def swept(directory: Path, *words: str) -> Finished:
    """Run a sweep of films to its end."""
    process = start_command("sweep", *words, cwd=directory, new_session=True)
    out, err = process.communicate(timeout=240)
    return Finished(process.returncode, out, err)


def films(directory: Path) -> dict[str, str]:
    """Return the sha256 of every point's film, by the name of its run directory."""
    paths = sorted(directory.glob("points/*/zoom.mp4"))
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def kinds(directory: Path) -> list[str]:
    """Return the kinds of the last command's events of points."""
    return sorted(event.kind for event in last_command(read_events(directory / EVENTS)) if event.point is not None)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished sweep of four films, made by two workers."""
    directory = tmp_path_factory.mktemp("films")
    finished = swept(directory, "conf=zoom", *SHORT, *AXES, "sweep.dir=grid", "farm.workers=2", "sweep.thumbnail=48")
    assert finished.code == 0, finished.err
    return directory / "grid"


def test_each_point_is_the_film_that_its_command_makes(
    grid: Path, command: Callable[..., Finished], tmp_path: Path
) -> None:
    made = films(grid)
    assert len(made) == len(set(made.values())) == 4
    said = {
        line
        for line in html.unescape((grid / "index.html").read_text()).split('"')
        if line.startswith("make film") and "output.width=64" in line
    }
    assert len(said) == 4
    (chosen,) = (line for line in said if "mixed1" in line and "film.zoom=1.5" in line)
    _, _, *words = shlex.split(chosen)
    finished = command("film", *words, INLINE, "output.dir=again", "quiet=true")
    assert finished.code == 0, finished.err
    (name,) = (name for name in made if name.startswith("1.5-mixed1-"))
    assert hashlib.sha256((tmp_path / "again" / "zoom.mp4").read_bytes()).hexdigest() == made[name]


def test_points_are_films_with_thumbnails_that_move_and_that_stand_still(grid: Path) -> None:
    for point in grid.glob("points/*"):
        with Image.open(point / "motion.webp") as moving, Image.open(point / "thumbnail.webp") as still:
            assert moving.n_frames == 3
            assert moving.info["loop"] == 0
            assert moving.size == still.size
            assert max(still.size) == 48
            assert getattr(still, "n_frames", 1) == 1
            frames = []
            for number in range(3):
                moving.seek(number)
                frames.append(np.asarray(moving.convert("RGB"), float))
                assert moving.info["duration"] == 100
            assert np.abs(frames[0] - frames[2]).mean() > 1, "it moves"
            assert np.abs(frames[1] - np.asarray(still.convert("RGB"), float)).mean() < 8, "the frame in the middle"
        assert LiveFilm(point).page(), "the viewer shows it"
    with Image.open(grid / "sheet.png") as sheet:
        assert min(sheet.size) > 2 * 40


def test_the_same_command_makes_nothing_and_a_new_value_only_its_own_films(grid: Path, tmp_path: Path) -> None:
    shutil.copytree(grid, tmp_path / "grid")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grid").glob("points/*/*.*")}
    words = ("conf=zoom", *SHORT, AXES[1], "sweep.dir=grid", INLINE)
    finished = swept(tmp_path, *words, AXES[0])
    assert finished.code == 0, finished.err
    assert kinds(tmp_path / "grid") == ["skipped"] * 4
    finished = swept(tmp_path, *words, "film.zoom=1.5,2")
    assert finished.code == 0, finished.err
    assert kinds(tmp_path / "grid") == ["finished"] * 2 + ["skipped"] * 2 + ["started"] * 2
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was there is untouched"
    # A lost thumbnail is made from the film, which stays as it is.
    (lost, _) = sorted((tmp_path / "grid").glob("points/1.5-*/motion.webp"))
    lost.unlink()
    finished = swept(tmp_path, *words, "film.zoom=1.5,2")
    assert finished.code == 0, finished.err
    assert lost.is_file()
    assert lost.with_name("zoom.mp4").stat().st_mtime_ns == before[lost.with_name("zoom.mp4")]


def until_frames(directory: Path, count: int, seconds: float = 120) -> None:
    """Wait until films of a sweep have so many finished frames in all."""
    deadline = time.monotonic() + seconds
    while True:
        states = [json.loads(path.read_text()) for path in directory.glob("points/*/frames.json")]
        if sum(state["finished"] for state in states) >= count:
            return
        assert time.monotonic() < deadline, "no frames were made"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_goes_on_with_its_films(grid: Path, tmp_path: Path, number: signal.Signals) -> None:
    words = ("conf=zoom", *SHORT, *AXES, "sweep.dir=grid", INLINE)
    process = start_command("sweep", *words, cwd=tmp_path, new_session=True)
    until_frames(tmp_path / "grid", 4)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130, (out, err)
        assert "the same command goes on" in err
    finished = swept(tmp_path, *words)
    assert finished.code == 0, finished.err
    assert "skipped" in kinds(tmp_path / "grid")
    assert films(tmp_path / "grid") == films(grid)


@pytest.mark.slow
def test_a_film_whose_worker_is_killed_is_made_by_another(grid: Path, tmp_path: Path) -> None:
    words = ("conf=zoom", *SHORT, *AXES, "sweep.dir=grid", "farm.workers=2")
    process = start_command("sweep", *words, cwd=tmp_path, new_session=True)
    until_frames(tmp_path / "grid", 2)
    events = [event for event in read_events(tmp_path / "grid" / EVENTS) if event.kind == "started"]
    psutil.Process(int(str(events[-1].facts["worker"]).split()[1])).kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, (out, err)
    assert films(tmp_path / "grid") == films(grid)


def test_status_and_plan_know_films(grid: Path, command: Callable[..., Finished]) -> None:
    finished = command("status", f"run={grid}")
    assert finished.code == 0, finished.err
    assert "4 of 4 done" in finished.out
    finished = command("plan", "conf=zoom", *SHORT, *AXES)
    assert finished.code == 0, finished.err
    for words in ("zoom: 4 points", "film.zoom", "1.1, 1.5", "2 to compile", "Mpx/s"):
        assert words in finished.out, (words, finished.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("conf=zoom", *SHORT), ("nothing to sweep",)),
        (("conf=zoom", "film.keep=2,3"), ("film.keep cannot be an axis", "no film depends on it")),
        (("conf=preview", "sweep.axes={film.zoom: [1, 2]}"), ("film.zoom is of films", "conf=zoom")),
        (("conf=zoom", "film.zoom=1,0"), ("zoom 0: film.zoom=0.0: must be from 0.01 to 100", "sweep.strict")),
        (("conf=zoom", "film.format=gif", "film.bits=10", "film.zoom=1,2"), ("gif has 8 bits",)),
        (("conf=zoom", "film.zoom=range(1,9)", "sweep.max=3"), ("8 points are more than sweep.max=3", "of disk")),
        (("conf=zoom", "film.zoom=1,2", "output.dir=here"), ("sweep.dir",)),
        (("conf=flight", "film.zoom=1,2"), ("run=dreams/NAME",)),
        (("conf=footage", "film.flow.carry=0,1", "image=sample:chelsea"), ("is a picture, and footage",)),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_made(
    words: tuple[str, ...], message: tuple[str, ...], command: Callable[..., Finished], tmp_path: Path
) -> None:
    strict = ("sweep.strict=true",) if "sweep.strict" in message else ()
    more = SHORT[1:] if "conf=zoom" in words else ()
    command("sweep", *words, *more, *strict, INLINE).refused(*(text for text in message if text != "sweep.strict"))
    assert not (tmp_path / "sweeps").exists()


def test_a_refused_point_fails_alone(command: Callable[..., Finished], tmp_path: Path) -> None:
    finished = command(
        "sweep", "conf=zoom", *SHORT, "objective.terms=[mixed0]", "film.zoom=1.2,0", "sweep.dir=grid", INLINE
    )
    assert finished.code == 1
    assert "film.zoom=0.0: must be from 0.01 to 100" in finished.err
    assert kinds(tmp_path / "grid") == ["failed", "finished", "started"]


@pytest.fixture(scope="module")
def dream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(tmp_path_factory.mktemp("flown") / "run", *TINY)


def test_flights_need_no_weights(dream: Path, command: Callable[..., Finished], tmp_path: Path) -> None:
    tours = ",".join(f"[{{at: 0, width: 1}}, {{at: 1, x: {x}, y: 0.5, width: 0.5}}]" for x in (0.3, 0.7))
    words = (f"run={dream}", "film.rate=8", f"film.tour={tours}", "output.width=48")
    finished = command("plan", "conf=flight", *words)
    assert finished.code == 0, finished.err
    assert "nothing is dreamed" in finished.out
    finished = command("plan", "conf=flight", f"run={dream}", "output.width=48", "json=true")
    assert json.loads(finished.out)["notes"][0].startswith("canvas: 96 x "), "as those of plans of sweeps"
    broken = f"model.weights={dream / 'run.json'}"
    finished = command("sweep", "conf=flight", *words, "sweep.dir=grid", broken, INLINE)
    assert finished.code == 0, finished.err
    paths = sorted((tmp_path / "grid").glob("points/*/flight.mp4"))
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 2
    shown = dict(exhibition((f"film.run={dream}", *words[1:]), "flight").settings)
    assert (shown["film"], shown["of"]) == ("flight", str(dream))
    assert not shown.keys() & {"image", "network", "octaves", "step size"}, "nothing of these is dreamed"


def exhibition(words: tuple[str, ...], root: str = "zoom") -> Exhibition:
    """Return what the page shows of a sweep of films before it begins."""
    definition = define_sweep(root, words)
    points = list(draft_points(definition, expand(definition), None))
    board = Board([recorded_point(point) for point in points])
    return build_exhibition(definition, points, board, Path("sweep"), "make sweep")


def test_favourites_are_made_larger_and_bred_as_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = exhibition((*SHORT, *AXES))
    assert shown.has_films
    chosen = shown.points[3]
    file = {
        "version": "", "generation": 0, "shared": mapping(shown.shared_words), "ranges": {"film.zoom": [1.1, 1.5]},
        "points": [mapping(chosen.words)], "prints": [mapping(chosen.favourite_words)],
    }  # fmt: skip
    Path(FAVOURITES).write_text(yaml.safe_dump(file))
    _, _, *words = shlex.split(shown.favourites_command)
    root = words[0].removeprefix("conf=")
    (larger,) = expand(parse_sweep(root, words[1:]))
    assert larger.config is not None, larger.error
    _, _, *single = shlex.split(chosen.poster_command)
    assert single[0] == "conf=zoom"
    for config_words in (words, single):
        assert "output.width=1280" in config_words
    film = larger.config.film  # type: ignore[attr-defined]
    assert (film.zoom, film.rate, larger.config.objective.terms) == (1.5, 10, ["mixed1"])
    bred = define_sweep("breed", [f"from={FAVOURITES}", "sweep.breed.size=3"])
    children = list(expand(bred))
    assert len(children) == 4
    zooms = {child.config.film.zoom for child in children if child.config is not None}  # type: ignore[attr-defined]
    assert len(zooms) > 1
    assert all(0.8 <= zoom <= 1.6 for zoom in zooms)


@pytest.mark.parametrize(
    "height", [("output.height=32",), ("output.height_cm=1.02", "output.dpi=80"), ("output.height_in=0.4", "output.dpi=80")]
)
def test_a_larger_film_has_its_aspect_whatever_sets_its_height(height: tuple[str, ...]) -> None:
    shown = exhibition((*SHORT, *height, AXES[0], "objective.terms=[mixed0]"))
    commands = shown.points[0].poster_command, shown.favourites_command
    for root, *words in (shlex.split(command)[2:] for command in commands):
        size_words = [word for word in words if not word.startswith("sweep.points=")]
        larger = load(FILM, root.removeprefix("conf="), size_words).job()
        assert (picture_width(larger.output), picture_height(larger.output)) == (1280, 640), words


def test_favourites_with_keys_of_films_need_a_kind_of_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(FAVOURITES).write_text("- {film.zoom: 1.1}\n- {film.zoom: 1.2}\n")
    words = [f"from={FAVOURITES}", "sweep.breed.size=2", *SHORT]
    assert "film.zoom is of films, and this is a sweep of pictures: add film.of=zoom" in refusal(
        lambda: define_sweep("breed", [word for word in words if not word.startswith("film.")])
    )
    assert len(list(expand(define_sweep("breed", [*words, "film.of=zoom"])))) == 4


def mapping(words: tuple[str, ...]) -> dict[str, str]:
    """Return the `key=value` of a point as a file of favourites has them."""
    return dict(word.split("=", 1) for word in words)


def test_equal_films_are_one_job_whatever_is_kept(tmp_path: Path) -> None:
    def digests(*words: str) -> list[str]:
        definition = parse_sweep("zoom", [*SHORT, "objective.terms=[mixed0]", *words])
        points = list(draft_points(definition, expand(definition), None))
        assert all(isinstance(point, DraftedPoint) for point in points)
        return [point.job_digest for point in points if isinstance(point, DraftedPoint)]

    usual = digests("seed=0,1")
    assert usual == digests("seed=0,1", "film.keep=3", "film.pictures=keep", "film.codec=h264", "film.rate=10.0")
    for other in ("film.quality=50", "film.seconds=0.4", "film.format=webm", "film.loop=true"):
        assert not set(usual) & set(digests("seed=0,1", other)), other


@pytest.mark.slow
def test_a_film_that_is_most_of_the_work_gets_all_workers(command: Callable[..., Finished], tmp_path: Path) -> None:
    words = (*SHORT[:-1], "objective.terms=[mixed0]", "output.width=96", "tiles.size=32")
    finished = command("sweep", "conf=zoom", *words, "film.seconds=0.2,0.6", "farm.workers=2", "sweep.dir=grid")
    assert finished.code == 0, finished.err
    events = [event for event in read_events(tmp_path / "grid" / EVENTS) if event.kind == "started"]
    assert [event.facts["worker"] for event in events if event.point == 1] == ["all 2 workers"]
    finished = command("film", "conf=zoom", *words, "film.seconds=0.6", INLINE, "output.dir=again", "quiet=true")
    assert finished.code == 0, finished.err
    (shared,) = (tmp_path / "grid").glob("points/0.6-*/zoom.mp4")
    assert shared.read_bytes() == (tmp_path / "again" / "zoom.mp4").read_bytes()
