"""The command's words, the runs that it refuses, and runs in a bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from render.canvas.store import CanvasStore
from render.commands.touch import plan_touch, touch_command
from render.farm.checkpoint import Checkpoints
from render.geometry.geometry import whole
from render.job.reexport import export_run
from render.job.run_directory import stored_checkpoints
from render.job.run_download import fetch_run
from render.storage.locking import lock_directory
from render.touch.touch_settings import touch_config
from tests.conftest import INLINE, TINY, refusal, rendered
from tests.support.s3 import serving
from tests.touch.touched import copied

WORDS = ("box=20,10,40,40", "to=source", "quiet=true")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny finished run."""
    return rendered(tmp_path_factory.mktemp("small") / "run", *TINY, "quiet=true")


def refused(run: object, *words: str) -> str:
    return refusal(lambda: touch_command([f"run={run}", *words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "touch needs one run=DIR"),
        (["run=RUN"], "touch needs box=x,y,width,height or mask=FILE"),
        (["run=RUN", "box=1,1,40,40", "mask=a.png"], "box= and mask= are two different things"),
        (["run=RUN", "box=1,1,40,40", "undo=true"], "box= and undo= are two different things"),
        (["run=RUN", "undo=yes"], "undo=yes: must be true or false"),
        (["run=RUN", "box=1,1,40,40", "to=dreams"], "to=dreams: must be dream or source"),
        (["run=RUN", "box=1,1,40,40", "image=other.jpg"], "touch does not know 'image=other.jpg'"),
        (["run=RUN", "box=1,1,40,40", "output.width=10"], "touch does not know 'output.width=10'"),
        (["run=RUN", "box=1,1,40,40", "to=source", "step_size=2"], "step_size means nothing where nothing is dreamed"),
        (["run=RUN", "box=1,1,40,40", "step_size=0"], "step_size=0: must be above 0"),
        (["run=RUN", "box=1,1,40,40", "objective.terms=[mixed99]"], "mixed99"),
        (["run=RUN", "box=1,1,40,40", "look=nightmare"], "there is no look 'nightmare'"),
        (["run=RUN", "box=1,1,40,40", "objective.mask=a.png"], "a touch has one area: name it with box= or mask="),
        (["run=RUN", "box=2,1,95,40"], "the canvas is 96 x"),
        (["run=RUN", "mask=there-is-none.png"], "there-is-none.png"),
        (["run=RUN", "undo=true"], "has no touch to undo"),
        (["run=RUN", "replay=true"], "has all touches that its record tells"),
        (["run=nowhere", "box=1,1,40,40"], "run=nowhere: there is no run of this program"),
        (["run=RUN", "replay=nowhere"], "replay=nowhere: there is no run of this program"),
        (["run=s4://bucket/run", "box=1,1,40,40"], "s4:// is not known"),
    ],
)
def test_words_that_cannot_work_are_refused_in_one_line(words: list[str], message: str, small: Path) -> None:
    before = (small / "run.json").read_bytes()
    text = refusal(lambda: touch_command([word.replace("RUN", str(small)) for word in words]))
    assert message in text
    assert (small / "run.json").read_bytes() == before
    assert not (small / "touches").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(status="running"), "is not finished (it is running)"),
        (lambda record: record.update(film={}), "is a film: name the run directory of a picture"),
        (lambda record: record.update(digest="ab" * 32), "its canvas is that of another run"),
        (lambda record: record.pop("plan"), "says nothing of plan"),
        (lambda record: record["config"].update(dream_harder=1), "dream_harder"),
        (lambda record: record.update(touches={"canvas": 5}), "touches"),
        (lambda record: record.update(touches={"canvas": "a", "applied": [{"number": -1}], "pending": ""}), "touches"),
    ],
)
def test_runs_that_are_none_are_refused(
    change: Callable[[dict[str, Any]], Any], message: str, small: Path, tmp_path: Path
) -> None:
    run = copied(small, tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    change(record)
    (run / "run.json").write_text(json.dumps(record))
    (run / "canvas" / "manifest.json").write_text(without_backup(run))
    assert message in refused(run, *WORDS)


def without_backup(run: Path) -> str:
    """Return a manifest without its copy of the record."""
    manifest = json.loads((run / "canvas" / "manifest.json").read_text())
    manifest.pop("about", None)
    return json.dumps(manifest)


def test_a_run_that_is_going_on_is_refused(small: Path, tmp_path: Path) -> None:
    run = copied(small, tmp_path / "run")
    lock = lock_directory(run, "a run that is still going")
    try:
        assert "belongs to a run that is still going" in refused(run, *WORDS)
    finally:
        lock.release()


def test_a_picture_that_somebody_changed_is_not_lost(small: Path, tmp_path: Path) -> None:
    run = copied(small, tmp_path / "run")
    (run / "preview.png").write_bytes(b"painted over by hand")
    canvas = pixels(run)
    assert "is not as the run left it" in refused(run, *WORDS)
    np.testing.assert_array_equal(pixels(run), canvas)
    assert (run / "preview.png").read_bytes() == b"painted over by hand"
    assert touch_command([f"run={run}", *WORDS, "overwrite=true"]) == 0


def pixels(run: Any) -> np.ndarray:
    """Return the canvas of a run, also of one in a bucket."""
    checkpoints: Checkpoints = stored_checkpoints(run)
    manifest = checkpoints.read()
    assert manifest is not None
    store = CanvasStore(checkpoints.path(manifest.checkpoints[0]))
    return store.read(whole(*store.shape))


def test_pictures_that_are_not_written_anew_are_named(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(small, tmp_path / "run")
    export_run(run, ["output.format=webp"], lambda _line: None)
    capsys.readouterr()
    assert touch_command([f"run={run}", *WORDS[:2]]) == 0
    assert f"preview.webp as before: make export run={run} output.path=FILE" in capsys.readouterr().out


def test_files_that_only_the_record_names_are_not_read(small: Path, tmp_path: Path) -> None:
    record = json.loads((small / "run.json").read_text())
    record["config"]["objective"]["terms"] = [{"layer": "mixed0", "guide": "/etc/passwd"}]
    assert "/etc/passwd of the record is not read unasked" in refusal(lambda: touch_config(record, []))
    assert touch_config(record, ["objective.terms=[mixed1]"]).objective.terms == ["mixed1"]
    record = json.loads((small / "run.json").read_text())
    record["config"]["model"]["weights"] = "/etc/passwd"
    assert "model.weights=/etc/passwd, which is not read unasked" in refusal(lambda: touch_config(record, []))
    record["config"]["model"]["weights"] = "${oc.env:HOME}"
    assert "${oc.env:HOME}" in refusal(lambda: touch_config(record, []))


def test_words_change_the_run_s_settings_and_looks_replace_them(small: Path) -> None:
    record = json.loads((small / "run.json").read_text())
    plain = touch_config(record, ["step_size=2.5"])
    assert (plain.objective.terms, plain.step_size, plain.octaves.count) == (["mixed0"], 2.5, "auto")
    look = touch_config(record, ["look=eyes", "octaves.steps=3"])
    assert look.model.name == "inception_v3"
    assert look.objective.terms != ["mixed0"]
    assert (look.octaves.steps, look.seed) == (3, 0)
    other = touch_config(record, ["objective=insects"])
    assert other.objective.by_model


def test_a_plan_says_the_work_and_changes_nothing(small: Path) -> None:
    before = sorted(small.rglob("*"))
    out = "\n".join(plan_touch([f"run={small}", "box=10,10,40,40", INLINE]).lines(200))
    assert "area         40 x 40 px at 10,10 of 96 x" in out
    assert "of the area with its halo" in out
    assert sorted(small.rglob("*")) == before


def test_make_plan_with_a_box_plans_a_touch(small: Path, command) -> None:  # type: ignore[no-untyped-def]
    planned = command("plan", f"run={small}", "box=10,10,40,40", "to=source")
    assert planned.code == 0, planned.err
    assert "disk         " in planned.out
    command("plan", f"run={small}").refused("touch needs box=x,y,width,height or mask=FILE")
    command("plan", f"run={small}", "undo=true").refused("a plan of a touch needs box=", "undo and replay have none")
    command("touch", f"run={small}", "box=10,10,4,4").refused("box=10,10,4,4 is 4 x 4 px", "32 px")


@pytest.mark.slow
def test_a_canvas_that_wraps_is_touched_at_its_end(tmp_path: Path) -> None:
    """The network sees what lies beyond the end, and at the end the edge is soft."""
    run = rendered(tmp_path / "run", *TINY, "boundary.mode=wrap", "quiet=true")
    before = pixels(run)
    assert touch_command([f"run={run}", "box=0,10,40,40", "octaves.steps=2", "quiet=true", INLINE]) == 0
    changed = np.abs(pixels(run) - before).max(axis=-1)
    assert (changed[15:45, 5:35] > 0).mean() > 0.9
    assert changed[10:50, 0].max() < changed[15:45, 10:30].mean()
    changed[10:50, :40] = 0
    assert not changed.any()


def test_a_run_that_starts_over_has_no_touches(small: Path, tmp_path: Path) -> None:
    run = copied(small, tmp_path / "run")
    before = pixels(run)
    assert touch_command([f"run={run}", *WORDS]) == 0
    assert (run / "touches" / "0001").is_dir()
    # A directory of the user's own stays.
    (run / "touches" / "0002").mkdir()
    (run / "touches" / "0002" / "mine.txt").write_text("mine")
    rendered(run, *TINY, "quiet=true", "fresh=true")
    assert "touches" not in json.loads((run / "run.json").read_text())
    assert [path.name for path in (run / "touches").iterdir()] == ["0002"]
    np.testing.assert_array_equal(pixels(run), before)


def test_a_run_in_a_bucket_is_touched_and_undone(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render.job.mirrored_home.cache_directory", lambda: tmp_path / "cache")
    with serving(tmp_path / "log") as server:
        url = f"{server.make_bucket('gallery')}/run"
        rendered(url, *TINY, "quiet=true")  # type: ignore[arg-type]
        before = pixels(url)
        assert touch_command([f"run={url}", "box=20,10,40,40", "octaves.steps=1", "quiet=true", INLINE]) == 0
        after = pixels(url)
        changed = (after != before).any(axis=-1)
        assert changed[12:48, 22:58].mean() > 0.9
        changed[10:50, 20:60] = False
        assert not changed.any()
        assert touch_command([f"run={url}", "undo=true", "quiet=true"]) == 0
        np.testing.assert_array_equal(pixels(url), before)


@pytest.mark.slow
def test_a_run_that_was_fetched_follows_touches_in_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render.job.mirrored_home.cache_directory", lambda: tmp_path / "cache")
    fetched = tmp_path / "fetched"

    def fetch() -> None:
        fetch_run(url, fetched, lambda _line: None, canvas=True)

    with serving(tmp_path / "log") as server:
        url = f"{server.make_bucket('gallery')}/run"
        rendered(url, *TINY, "quiet=true")  # type: ignore[arg-type]
        fetch()
        before = pixels(fetched)
        for number in (1, 2):
            assert touch_command([f"run={url}", f"box={10 * number},10,40,40", "to=source", "quiet=true"]) == 0
            fetch()
            np.testing.assert_array_equal(pixels(fetched), pixels(url))
        for _ in (1, 2):
            assert touch_command([f"run={fetched}", "undo=true", "quiet=true"]) == 0
        np.testing.assert_array_equal(pixels(fetched), before)
        assert "overwrite=true" in refusal(fetch)
