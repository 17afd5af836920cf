"""Touches that a record tells, done again: on a canvas that was dreamed anew, or on another run of the same dream."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from render.errors import UserError
from render.geometry.geometry import Interval, Rect, whole
from render.job.progress import say
from render.job.recorded_touches import RecordedTouch, mask_name
from render.job.reexport import whole_record
from render.job.run_directory import stored_checkpoints
from render.storage.opening import open_storage
from render.storage.url import Place
from render.system.paths import file_sha256
from render.touch.areas import Area, BoxArea, open_mask_area
from render.touch.draft import Touch
from render.touch.touch_settings import replayed_config
from render.touch.touched_run import TouchedRun, open_touched, read_touches
from render.touch.touching import apply_touch

#: Largest painted mask that is read from a run, bytes.
_MAX_MASK_BYTES = 1 << 30


def replay_touches(place: Place, origin: Place | None, words: Sequence[str], picture_words: Sequence[str]) -> list[Place]:
    """Do the touches of a record again that a run's canvas lacks, and return the places of its pictures.

    Args:
        place: The run that is touched.
        origin: The run whose touches are done; None for its own.
        words: `key=value` words that change how they are done.
        picture_words: Words for the run's pictures.

    Raises:
        UserError: There is nothing to do, or the runs are of different dreams.
    """
    pictures: list[Place] = []
    while True:
        run = open_touched(place, picture_words)
        entries = run.log.lost if origin is None else _missing(run, origin)
        if not entries:
            if not pictures:
                raise UserError(f"run={place} has all touches that {'its record' if origin is None else origin} tells")
            return pictures
        say(f"touch {len(run.log.applied) + 1}, {len(entries)} to do", quiet=run.config.quiet)
        with tempfile.TemporaryDirectory(prefix="render-mask-") as directory:
            touch = _touch_of(run, entries[0], origin or place, words, Path(directory))
            pictures = apply_touch(touch, entries[0])


def _missing(run: TouchedRun, origin: Place) -> Sequence[RecordedTouch]:
    """Return the touches of another run that this one lacks; raise `UserError` if it is another dream."""
    record = whole_record(origin, "replay")
    if record["digest"] != run.record["digest"]:
        raise UserError(f"replay={origin} is another dream than run={run.place}: render its config first")
    checkpoints = stored_checkpoints(origin)
    manifest = checkpoints.read()
    token = manifest.checkpoints[0].token if manifest and manifest.checkpoints else ""
    log = read_touches(record, checkpoints.read_about(), token)
    entries = [*log.applied, *log.lost]
    done = len(run.log.applied)
    if [_deed(entry) for entry in entries[:done]] != [_deed(entry) for entry in run.log.applied]:
        raise UserError(f"run={run.place} has other touches than replay={origin}: undo them first")
    return entries[done:]


def _deed(entry: RecordedTouch) -> tuple[object, ...]:
    """Return what a recorded touch does."""
    return entry["to"], entry["box"], entry["feather"], entry.get("mask"), entry["config"]


def _touch_of(run: TouchedRun, entry: RecordedTouch, home: Place, words: Sequence[str], directory: Path) -> Touch:
    """Return a recorded touch for a run's canvas; masks are read from the run at `home`."""
    shape = run.canvas.shape
    x, y, width, height = entry["box"]
    box = Rect(Interval(y, y + height), Interval(x, x + width))
    if not box.area or whole(*shape).intersect(box) != box:
        raise UserError(f"a recorded touch lies at {x},{y},{width},{height}, outside of the canvas of run={run.place}")
    config = run.config if entry["to"] == "source" else replayed_config(run.record, entry, words)
    path = None
    area: Area = BoxArea.of(box, shape, float(entry["feather"]), run.modes)
    if "mask" in entry:
        path = _fetched_mask(home, entry["mask"], directory)
        area = open_mask_area(str(path), shape, config.source, f"{float(entry['feather']):.3f}", run.modes)
    return Touch(run, config, area, entry["to"], path, entry.get("mask"), entry.get("identity", {}))


def _fetched_mask(home: Place, sha256: str, directory: Path) -> Path:
    """Return a copy of a mask that a run keeps; raise `UserError` if it is gone or another one."""
    storage, path = open_storage(home), directory / "mask"
    info = storage.info(mask_name(sha256))
    if info is None or info.size > _MAX_MASK_BYTES:
        raise UserError(f"{home}/{mask_name(sha256)} is gone, the mask of a touch: restore it, or touch again by hand")
    storage.fetch(mask_name(sha256), path, info)
    if file_sha256(path) != sha256:
        raise UserError(f"{home}/{mask_name(sha256)} is not the mask of the touch: restore it, or touch again by hand")
    return path
