"""Contact sheets in one file: of a sweep that the command renders, of finished runs, and of what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from render.__main__ import main
from render.sweeps.gallery.recorded_exhibition import run_exhibition, sweep_exhibition
from render.sweeps.gallery.single_sheet import layout_of_width, write_single_sheet
from tests.conftest import refusal
from tests.support import exhibitions

TINY = ["output.width=96", "octaves.count=1", "octaves.steps=1", "farm.executor=inline", "quiet=true"]
SETS = "the first: {objective.terms: '[mixed0]'}\nthe second: {objective.terms: '[mixed1]', step_size: 3}\n"


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory in which the command has rendered two named sets of words on two pictures."""
    directory = tmp_path_factory.mktemp("night")
    (directory / "sets.yaml").write_text(SETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        words = ["sweep.points=sets.yaml", "image=sample:chelsea,sample:hubble", "sweep.dir=sweep", *TINY]
        assert main(["sheet", *words, "to=sheet.webp", "width=900", "kilobytes=60"]) == 0
        before = {path: path.stat().st_mtime_ns for path in directory.glob("sweep/points/*/*.png")}
        assert len(before) == 4
        # The same command again renders nothing, and draws the sheet.
        assert main(["sheet", *words, "to=sheet.webp", "width=900", "kilobytes=60", "overwrite=true"]) == 0
        assert {path: path.stat().st_mtime_ns for path in before} == before
    return directory


def test_the_command_renders_a_sweep_and_draws_it_within_its_limits(night: Path) -> None:
    with Image.open(night / "sheet.webp") as sheet:
        assert sheet.format == "WEBP"
        assert 0.9 * 900 < sheet.width <= 900
    assert (night / "sheet.webp").stat().st_size <= 60_000


def test_named_sets_are_rows_and_pictures_are_columns(night: Path) -> None:
    shown = sweep_exhibition(night / "sweep")
    assert (shown.rows, shown.columns) == (0, 1)
    assert [[value.label for value in axis.values] for axis in shown.axes] == [
        ["the first", "the second"],
        ["chelsea", "hubble"],
    ]
    assert [point.state for point in shown.points] == ["done"] * 4
    texts = [line for text in layout_of_width(shown, 900).texts for line in text.lines]
    assert {"the first", "the second", "chelsea", "hubble"} <= set(texts)
    turned = sweep_exhibition(night / "sweep", rows="image", columns="point", title="Turned")
    assert (turned.title, turned.rows, turned.columns) == ("Turned", 1, 0)


def test_runs_are_drawn_in_their_order(night: Path) -> None:
    runs = sorted((night / "sweep" / "points").iterdir())
    shown = run_exhibition(runs)
    assert [value.label for value in shown.axes[0].values] == [run.name for run in runs]
    write_single_sheet(night / "runs.png", "png", shown, Path(), 640)
    with Image.open(night / "runs.png") as sheet:
        assert sheet.width <= 640


@pytest.mark.parametrize("width", [640, 1000, 1600, 3000])
def test_cells_are_as_large_as_the_width_allows_and_names_legible(width: int, tmp_path: Path) -> None:
    shown = exhibitions.write_sweep(tmp_path)
    shown = replace(shown, axes=shown.axes, points=tuple(point for point in shown.points if point.value_indices[0] == 0))
    layout = layout_of_width(shown, width)
    assert 0.95 * width < layout.shape[1] <= width
    assert layout.font >= max(12, width // 80)
    for one in layout.cells:
        assert one.rect.columns.stop <= layout.shape[1]
        assert one.rect.rows.stop <= layout.shape[0]


def test_ten_rows_of_seven_pictures_are_small(tmp_path: Path) -> None:
    rows = exhibitions.axis("look", {f"look number {number}": str(number) for number in range(10)})
    columns = exhibitions.axis("image", {f"source {number}": str(number) for number in range(7)})
    template = exhibitions.write_sweep(tmp_path).points[0]
    shown = exhibitions.exhibition((rows, columns), lambda _, at: replace(template, value_indices=at), 0, 1)
    write_single_sheet(tmp_path / "looks.webp", "webp", shown, tmp_path, 1600, 400_000)
    assert (tmp_path / "looks.webp").stat().st_size <= 400_000


def test_what_cannot_be_drawn_is_refused_in_one_line(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def refused(*words: str) -> str:
        assert main(["sheet", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    sweep = f"run={night / 'sweep'}"
    assert "must end in .png" in refused(sweep, "to=me.tif")
    assert "its directory does not exist" in refused(sweep, "to=no/such/me.png")
    assert "must be from 320" in refused(sweep, "width=10")
    assert "must be a whole number" in refused(sweep, "width=wide")
    assert "must be a whole number" in refused(sweep, "kilobytes=-1")
    assert "drop step_size=2" in refused(sweep, "step_size=2")
    assert "there is no such directory" in refused("run=nowhere")
    assert "has no value" in refused("run=")
    assert "has no such axis" in refused(sweep, "rows=seed")
    assert "name two axes" in refused(sweep, "rows=image", "columns=image")
    assert "allow more kilobytes" in refused(sweep, "kilobytes=1")
    assert "kB as png" in refused(sweep, "kilobytes=1", "to=me.png")
    assert not list(tmp_path.iterdir())
    Path("there.webp").write_text("mine")
    assert "exists" in refused(sweep, "to=there.webp")
    Path("empty").mkdir()
    assert "no finished picture" in refused("run=empty")
    assert "nothing to sweep" in refused("seed=1")


def test_a_record_that_leads_elsewhere_is_refused(night: Path, tmp_path: Path) -> None:
    shutil.copytree(night / "sweep", tmp_path / "sweep")
    file = tmp_path / "sweep" / "sweep.json"
    record = json.loads(file.read_text())
    for change in (
        {"axes": [{"key": "point", "values": []}]},
        {"axes": "none"},
        {"points": [{**record["points"][0], "at": [7, 0]}]},
        {"points": [{**record["points"][0], "at": [0]}]},
        {"points": [{**record["points"][0], "directory": "../../etc"}]},
    ):
        file.write_text(json.dumps({**record, **change}))
        assert "sweep.json" in refusal(lambda: sweep_exhibition(tmp_path / "sweep"))
