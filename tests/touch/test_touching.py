"""Touches of a real run: what changes and what does not, undone, done again, and gone on with after a kill."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.farm.checkpoint import Checkpoints
from render.farm.conductor import Conductor
from render.farm.events import Saved
from render.geometry.geometry import Rect
from render.job.run_directory import RunDirectory
from render.job.run_record import read_record
from render.sweeps.run_status import run_document
from render.touch import canvas_change, commit, dreamed_octaves
from render.touch.draft import TouchWords, draft_touch, open_touch
from render.touch.octaves import work_ratio
from render.touch.touch_settings import touch_config
from render.touch.touched_run import open_touched
from tests.conftest import INLINE, refusal
from tests.support.farm_job import stored
from tests.touch.touched import (
    BOX,
    SOURCE,
    TOUCH,
    copied,
    enlarged,
    finished_run,
    inside,
    outside,
    pictures,
    touch,
    touches,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run before any touch."""
    return finished_run(tmp_path_factory.mktemp("original") / "run")


@pytest.fixture(scope="module")
def touched(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run after one touch."""
    run = copied(original, tmp_path_factory.mktemp("touched") / "run")
    touch(run, *TOUCH)
    return run


@pytest.fixture(scope="module")
def reverted(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run after the box was taken back to the source."""
    run = copied(original, tmp_path_factory.mktemp("reverted") / "run")
    touch(run, *SOURCE)
    return run


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of the run before any touch."""
    return copied(original, tmp_path / "run")


def test_only_the_box_changes_and_every_picture_is_written_anew(original: Path, touched: Path) -> None:
    before, after = stored(original), stored(touched)
    np.testing.assert_array_equal(outside(after), outside(before))
    changed = (inside(before) != inside(after)).any(axis=-1)
    assert changed.mean() > 0.9
    # At the soft edge, hardly anything.
    assert np.abs(after[BOX[1], BOX[0] : BOX[0] + BOX[2]] - before[BOX[1], BOX[0] : BOX[0] + BOX[2]]).max() < 0.5
    (told,) = touches(touched)
    assert (told["box"], told["number"], told["to"]) == (list(BOX), 1, "dream")
    shown, was_shown = pictures(touched), pictures(original)
    assert shown.keys() == was_shown.keys() == {"preview.png", "preview.jpg"}
    assert all(shown[name] != was_shown[name] for name in shown)
    with Image.open(touched / "preview.png") as picture, Image.open(original / "preview.png") as earlier:
        # Dithered, by position: outside of the box no pixel is another.
        assert np.abs(np.asarray(picture) - after).max() < 1
        np.testing.assert_array_equal(outside(np.asarray(picture)), outside(np.asarray(earlier)))
    with Image.open(touched / "previews" / "octave-1.png") as small:
        np.testing.assert_array_equal(np.asarray(small), np.rint(after).astype(np.uint8))


def test_the_small_picture_of_a_large_canvas_changes_in_the_box_alone(run: Path) -> None:
    path = run / "previews" / "octave-1.png"
    Image.new("RGB", (160, 150), "blue").save(path)
    with mock.patch("render.touch.commit.PREVIEW_SIDE", 160):
        touch(run, *SOURCE)
    with Image.open(path) as small:
        shown = np.asarray(small).astype(float)
    x, y, width, height = (number // 4 for number in BOX)
    means = stored(run).reshape(150, 4, 160, 4, 3).mean(axis=(1, 3))
    seen = (slice(y, y + height + 1), slice(x, x + width + 1))
    np.testing.assert_allclose(shown[seen], means[seen], atol=0.51)
    shown[seen] = (0, 0, 255)
    assert (shown == (0, 0, 255)).all()


@pytest.mark.parametrize("box", ["5000,3000,1500,1200", "30%,30%,8%,8%", "0,0,1000,1000", "0.5,0.5,400,300"])
def test_the_work_on_100_megapixels_is_hardly_more_than_the_box_with_its_halo(box: str, run: Path) -> None:
    large = open_touched(enlarged(run, (8000, 12_500)))
    words = [INLINE, "octaves.count=3"]
    draft = draft_touch(open_touch(large, touch_config(large.record, words), TouchWords(box, "", "10%")))
    assert len(draft.plan.octaves) == 3
    assert 1.0 <= work_ratio(draft.plan, draft.octaves) < 1.2
    assert draft.plan.final.grid.canvas.area < 0.04 * 8000 * 12_500


def test_several_touches_are_undone_one_by_one_to_the_bit(original: Path, touched: Path, tmp_path: Path) -> None:
    run = copied(touched, tmp_path / "run")
    first, first_pictures = stored(run), pictures(run)
    touch(run, "box=0.5,50%,0.25,200", "to=source", "quiet=true")
    assert len(touches(run)) == 2
    assert (stored(run) != first).any()
    touch(run, "undo=true", "quiet=true")
    np.testing.assert_array_equal(stored(run), first)
    assert pictures(run) == first_pictures
    touch(run, "undo=true", "quiet=true")
    np.testing.assert_array_equal(stored(run), stored(original))
    assert pictures(run) == pictures(original)
    assert touches(run) == []
    assert not any((run / "touches").glob("0*"))
    assert "has no touch to undo" in refusal(lambda: touch(run, "undo=true"))


def test_another_render_with_the_touches_of_the_record_has_the_same_bytes(touched: Path, tmp_path: Path) -> None:
    fresh = finished_run(tmp_path / "fresh")
    touch(fresh, f"replay={touched}", "quiet=true", INLINE)
    np.testing.assert_array_equal(stored(fresh), stored(touched))
    assert pictures(fresh) == pictures(touched)
    assert f"has all touches that {touched} tells" in refusal(lambda: touch(fresh, f"replay={touched}"))


def test_a_canvas_that_was_lost_is_rendered_and_touched_again_from_its_record(
    original: Path, touched: Path, tmp_path: Path
) -> None:
    run = copied(touched, tmp_path / "run")
    for path in sorted((run / "canvas").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert "holds no canvas" in refusal(lambda: touch(run, *TOUCH))
    finished_run(run)
    status = run_document(run, read_record(run), gone=False)
    assert (status.data["touches"], status.data["waiting_touches"]) == ([], 1)
    assert f"make touch run={run} replay=true" in " ".join(status.lines(1000))
    assert not touches(run) and (stored(run) != stored(touched)).any()
    assert pictures(run) == pictures(original), "nothing in the picture tells of touches that its canvas lacks"
    touch(run, "replay=true", "quiet=true", INLINE)
    np.testing.assert_array_equal(stored(run), stored(touched))
    assert pictures(run) == pictures(touched)


def test_status_tells_of_touches(touched: Path) -> None:
    status = run_document(touched, read_record(touched), gone=False)
    x, y, width, height = BOX
    assert status.data["touches"] == [
        {"number": 1, "to": "dream", "area_left_px": x, "area_top_px": y, "area_width_px": width, "area_height_px": height}
    ]
    assert status.data["waiting_touches"] == 0
    assert any(f"touched  1: {width} x {height} px at {x},{y} (to=dream)" in line for line in status.lines(80))


def test_the_source_comes_back_in_the_box(run: Path) -> None:
    before = stored(run)
    touch(run, "box=100,80,400,300", "to=source", "feather=20", "quiet=true")
    after, job = stored(run), open_touched(run)
    np.testing.assert_array_equal(outside(after, (100, 80, 400, 300)), outside(before, (100, 80, 400, 300)))
    from render.job.recorded_source import reopen_source

    source = reopen_source(job.config, job.record["image_sha256"], run / "source")
    assert source is not None
    picture = source.at((600, 640), canvas_change.whole(600, 640))
    np.testing.assert_array_equal(after[100:360, 120:480], picture[100:360, 120:480])


def test_a_mask_changes_only_what_is_painted_and_is_kept_for_another_render(
    original: Path, run: Path, tmp_path: Path
) -> None:
    before = stored(run)
    painted = np.zeros((300, 320), np.uint8)
    rows, columns = np.mgrid[:300, :320]
    painted[(rows - 150) ** 2 + (columns - 160) ** 2 < 60**2] = 255
    Image.fromarray(painted).save(tmp_path / "mask.png")
    touch(run, f"mask={tmp_path}/mask.png", *TOUCH[1:])
    changed = (stored(run) != before).any(axis=-1)
    rows, columns = np.mgrid[:600, :640]
    distance = np.hypot(rows + 0.5 - 301, columns + 0.5 - 321)
    assert not changed[distance > 124].any()
    assert changed[distance < 90].mean() > 0.9
    (told,) = touches(run)
    assert (run / "touches" / f"mask-{told['mask']}").read_bytes() == (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").unlink()
    other = copied(original, tmp_path / "other")
    touch(other, f"replay={run}", "quiet=true", INLINE)
    np.testing.assert_array_equal(stored(other), stored(run))


def test_the_same_command_again_changes_nothing(touched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(touched, tmp_path / "run")
    before = stored(run)
    touch(run, *(word for word in TOUCH if word != "quiet=true"))
    assert "already touched so (undo=true takes it back" in capsys.readouterr().out
    np.testing.assert_array_equal(stored(run), before)
    assert len(touches(run)) == 1


class Killed(BaseException):
    """End of a process at a moment."""


def killed_at(*, target: object, name: str, after: bool) -> Callable[[], mock._patch]:
    original_call = getattr(target, name)

    def dying(*arguments: object, **named: object) -> object:
        if after:
            original_call(*arguments, **named)
        raise Killed

    return lambda: mock.patch.object(target, name, dying)


#: Moments of a touch: what is called then, whether it returns, and whether the touch has happened (None: either way).
MOMENTS = {
    "old chunks are to be kept": (commit, "keep_replaced", False, False),
    "old chunks are kept": (commit, "keep_replaced", True, False),
    "the new slot is written": (Checkpoints, "commit", False, False),
    "the manifest is written": (Checkpoints, "commit", True, True),
    "the record is written": (RunDirectory, "save", True, True),
    "pictures are to be written": (commit, "make_pictures", False, True),
    "pictures are written": (commit, "make_pictures", True, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_touch_killed_at_any_moment_has_happened_or_not_and_the_same_command_goes_on(
    moment: str, original: Path, reverted: Path, run: Path
) -> None:
    target, name, after, has_happened = MOMENTS[moment]
    with killed_at(target=target, name=name, after=after)(), pytest.raises(Killed):
        touch(run, *SOURCE)
    np.testing.assert_array_equal(stored(run), stored(reverted if has_happened else original))
    touch(run, *SOURCE)
    np.testing.assert_array_equal(stored(run), stored(reverted))
    assert pictures(run) == pictures(reverted)
    assert len(touches(run)) == 1
    assert len([path for path in (run / "canvas").iterdir() if path.is_dir()]) == 1
    touch(run, "undo=true", "quiet=true")
    np.testing.assert_array_equal(stored(run), stored(original))


def test_a_full_disk_leaves_the_canvas_as_it_was_and_the_same_command_goes_on(
    original: Path, touched: Path, run: Path
) -> None:
    writing, writes_left = CanvasStore.write, 0

    def full(self: CanvasStore, rect: Rect, pixels: Pixels) -> None:
        nonlocal writes_left
        if not writes_left:
            raise OSError(errno.ENOSPC, "No space left on device")
        writes_left -= 1
        writing(self, rect, pixels)

    with mock.patch.object(CanvasStore, "write", full):
        # At an octave's end, at the next one's beginning, at its end, among the replaced chunks, and among the new ones.
        for count in (0, 1, 1, 1, 1):
            writes_left = count
            assert "No space left on device): free some space" in refusal(lambda: touch(run, *TOUCH))
            np.testing.assert_array_equal(stored(run), stored(original))
    touch(run, *TOUCH)
    np.testing.assert_array_equal(stored(run), stored(touched))


@pytest.mark.parametrize("name", ["_begin", "_detail"])
def test_a_dream_killed_between_octaves_goes_on_to_the_same_bytes(name: str, touched: Path, run: Path) -> None:
    killed = killed_at(target=dreamed_octaves.DreamedOctaves, name=name, after=name == "_begin")
    with killed(), pytest.raises(Killed):
        touch(run, *TOUCH)
    assert (run / "touches" / "work" / "manifest.json").exists()
    touch(run, *TOUCH)
    np.testing.assert_array_equal(stored(run), stored(touched))
    assert not (run / "touches" / "work" / "manifest.json").exists()


def test_an_undoing_killed_before_its_pictures_undoes_no_more(original: Path, touched: Path, tmp_path: Path) -> None:
    run = copied(touched, tmp_path / "run")
    touch(run, "box=10,10,100,100", "to=source", "quiet=true")
    with killed_at(target=commit, name="make_pictures", after=False)(), pytest.raises(Killed):
        touch(run, "undo=true", "quiet=true")
    touch(run, "undo=true", "quiet=true")
    np.testing.assert_array_equal(stored(run), stored(touched))
    assert pictures(run) == pictures(touched)
    assert len(touches(run)) == 1


def test_a_touch_interrupted_between_steps_goes_on_from_there(run: Path, touched: Path) -> None:
    seen: list[tuple[int, int]] = []
    running = Conductor.run

    def interrupted(self: Conductor, seed: int):
        for event in running(self, seed):
            yield event
            if isinstance(event, Saved):
                seen.append((event.octave.index, event.steps))
                if len(seen) == 3:
                    raise KeyboardInterrupt

    with (
        mock.patch.object(Conductor, "run", interrupted),
        pytest.raises(KeyboardInterrupt, match="the same command goes on"),
    ):
        touch(run, *TOUCH, "checkpoint.every=0")
    assert seen == [(0, 1), (0, 2), (1, 1)]
    with mock.patch.object(Conductor, "run", interrupted):
        touch(run, *TOUCH, "checkpoint.every=0")
    assert seen[3:] == [(1, 2)]
    np.testing.assert_array_equal(stored(run), stored(touched))


@pytest.mark.slow
def test_two_workers_dream_the_same_bytes(run: Path, touched: Path, tmp_path: Path) -> None:
    """With the tiles of the record, which are small enough for two."""
    small = ("tiles.size=96", *TOUCH)
    touch(run, *small)
    other = copied(run, tmp_path / "other")
    touch(other, "undo=true", "quiet=true")
    touch(other, *small, "farm.workers=2")
    np.testing.assert_array_equal(stored(other), stored(run))
    np.testing.assert_allclose(stored(run), stored(touched), atol=0.05)


def test_the_network_sees_the_canvas_around_the_box(run: Path) -> None:
    """The gradient in the box is that of the whole canvas under the same mask, whatever is cut out."""
    words = ("octaves.count=1", "octaves.steps=1", "feather=0", "seed=5", "quiet=true", INLINE)
    before = stored(run)
    touch(run, "box=430,410,160,150", *words)
    alone = inside(stored(run))
    touch(run, "undo=true", "quiet=true")
    with mock.patch("render.touch.octaves._octave", widened):
        touch(run, "box=430,410,160,150", *words)
    np.testing.assert_array_equal(outside(stored(run)), outside(before))
    assert np.abs(alone - inside(before)).max() > 1
    np.testing.assert_allclose(alone, inside(stored(run)), atol=2e-3)


def widened(shape: tuple[int, int], area: object, stage: object, view: object, boundary: object) -> object:
    """Return the octave with the whole canvas as its part."""
    from render.geometry.geometry import whole
    from render.touch.octaves import TouchOctave

    return TouchOctave(shape, area, whole(*shape), 1, stage, boundary)  # type: ignore[arg-type]


def test_a_damaged_record_costs_no_touch(touched: Path, tmp_path: Path) -> None:
    run = copied(touched, tmp_path / "run")
    (run / "run.json").unlink()
    touch(run, "undo=true", "quiet=true")
    assert json.loads((run / "run.json").read_text())["touches"]["applied"] == []
