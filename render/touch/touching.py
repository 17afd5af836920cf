"""Touches from beginning to end: dreamed or taken back to the source, undone, and done again from a record.

A touch is dreamed beside the canvas first. Then the chunks that it replaces are kept, the changed canvas gets its new slot,
and one move of the manifest, which has a copy of the record, makes both count. Only then pictures are written anew. So a
touch that is killed has happened wholly or not at all, and the same command goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.errors import UserError
from render.farm.events import Event
from render.geometry.geometry import Interval, Rect
from render.job import job as jobs
from render.job import resources
from render.job.event_report import show_event
from render.job.job import Job
from render.job.progress import Displays, make_display, say
from render.job.progress_file import ProgressFile
from render.job.recorded_source import reopen_source
from render.job.recorded_touches import RecordedTouch, mask_name
from render.job.run_home import LEVELS
from render.planning.plan import Plan
from render.storage.opening import open_storage
from render.storage.url import Place
from render.system import interrupts
from render.touch.canvas_change import Repaint, forget_replaced, restoring, writing
from render.touch.commit import Change, blended, commit, finish, held
from render.touch.draft import Touch, TouchDraft, draft_touch, extent_text
from render.touch.dreamed_octaves import DreamedOctaves
from render.touch.octaves import plan_touch, work_ratio
from render.touch.touched_run import TouchedRun, TouchLog

log = logging.getLogger(__name__)

#: Key of an undoing whose pictures are not all written yet.
UNDO = "undo"


def apply_touch(touch: Touch, entry: RecordedTouch | None = None) -> list[Place]:
    """Touch a run's canvas, and write its pictures anew; return their places.

    A touch that is the newest already only gets the pictures that are missing.

    Args:
        touch: The touch.
        entry: The recorded touch that it repeats; None for one of the user's.

    Raises:
        RenderError: It cannot work, or it stopped; the message says what to do.
        KeyboardInterrupt: The user stopped it; the same command goes on.
    """
    run = touch.run
    if entry is None and run.log.applied and run.log.applied[-1]["key"] == touch.key:
        return _finish_again(touch)
    run.directory.check()
    if touch.to == "source":
        with held(run), _source_repaint(touch) as repaint:
            return _commit_touch(touch, repaint, touch.record(run.log.next_number, None, "", 0), entry)
    draft = draft_touch(touch, entry)
    with jobs.prepared(draft.job) as job:
        plan = farm_plan(draft, job)
        say(summary(draft, plan), quiet=run.config.quiet)
        with held(run):
            canvas = _dream(draft, plan, job)
            window = draft.octaves[-1].window
            number = run.log.next_number

            def repaint(rect: Rect, pixels: Pixels) -> Pixels:
                """Return what was dreamed, blended in by the area's weights."""
                rows, columns = rect.rows.shifted(-window.rows.start), rect.columns.shifted(-window.columns.start)
                return blended(pixels, canvas.read(Rect(rows, columns)), touch.area.weights(rect))

            planned = replace(draft, plan=plan)
            record = touch.record(number, planned, job.loaded.sha256, job.resume_key.threads)
            return _commit_touch(touch, repaint, record, entry)


def undo_touch(run: TouchedRun) -> list[Place]:
    """Take back the newest touch of a run, to the bit, and write its pictures anew; return their places.

    Raises:
        UserError: There is none, or what it replaced is gone.
    """
    if run.log.pending == UNDO:
        with held(run):
            return finish(run)
    if not run.log.applied:
        raise UserError(f"run={run.place} has no touch to undo")
    run.directory.check()
    *earlier, last = run.log.applied
    x, y, width, height = last["box"]
    box = Rect(Interval(y, y + height), Interval(x, x + width))
    extent, repaint = restoring(run.directory.place, last["number"], box, run.canvas.shape)
    with held(run):
        log_after = TouchLog(tuple(earlier), run.log.lost, UNDO)
        pictures = commit(run, Change(extent, repaint, log_after))
        forget_replaced(run.directory.place, last["number"])
    say(f"touch {last['number']} is undone: {len(earlier)} left", quiet=run.config.quiet)
    return pictures


def farm_plan(draft: TouchDraft, job: Job) -> Plan:
    """Return the plan of a touch with the tiles that its farm has room for."""
    return plan_touch(
        draft.request,
        draft.octaves,
        resources.farm_machine(draft.resolved, job.workers),
        workers=job.executor.workers,
        core_shape=job.plan.final.grid.core_shape,
    )


def summary(draft: TouchDraft, plan: Plan) -> str:
    """Return one line about the touch that is about to be dreamed."""
    resolved, box = draft.resolved, draft.touch.area.box
    octaves = f"{len(plan.octaves)} octave{'s' if len(plan.octaves) > 1 else ''}"
    return (
        f"{draft.touch.run.place}: {box.columns.size} x {box.rows.size} px at {box.columns.start},{box.rows.start}, "
        f"{resolved.network.name} {resolved.schedule}, {octaves}, "
        f"work x{work_ratio(plan, draft.octaves):.2f} of the area with its halo"
    )


def _finish_again(touch: Touch) -> list[Place]:
    """Write what pictures lack of a touch that the canvas has."""
    run = touch.run
    if not run.log.pending:
        say("already touched so (undo=true takes it back, another seed dreams it otherwise)", quiet=run.config.quiet)
    with held(run):
        return finish(run)


def _commit_touch(touch: Touch, repaint: Repaint, record: RecordedTouch, entry: RecordedTouch | None) -> list[Place]:
    """Make a touch count, and return the places of the pictures."""
    run = touch.run
    if touch.mask_path is not None and touch.mask_sha256 is not None:
        with writing(run.directory.place):
            open_storage(run.directory.place, patient=True).write_file(mask_name(touch.mask_sha256), touch.mask_path)
    lost = run.log.lost
    if entry is not None and lost and lost[0] == entry:
        lost = lost[1:]
    log_after = TouchLog((*run.log.applied, record), lost, touch.key)
    pictures = commit(run, Change(touch.area.box, repaint, log_after, record["number"]))
    say(
        f"touch {record['number']}: box {extent_text(touch.area.box)} of {run.place} (undo=true takes it back)",
        quiet=run.config.quiet,
    )
    return pictures


def _dream(draft: TouchDraft, plan: Plan, job: Job) -> CanvasStore:
    """Dream a touch's octaves with progress on the terminal, and return the canvas of the last one's part."""
    run = draft.touch.run
    progress = ProgressFile(run.directory.path, plan, run.directory.home.store_progress)
    display = Displays(make_display(plan, quiet=not draft.resolved.shows_progress), progress)

    def on_event(event: Event) -> None:
        run.directory.home.check_held()
        show_event(event, display)

    try:
        return DreamedOctaves(draft, plan, job, on_event, interrupts.check).dream()
    finally:
        display.close()


@contextmanager
def _source_repaint(touch: Touch) -> Iterator[Repaint]:
    """Yield what repaints a rectangle with the run's source; raise `UserError` if that is gone."""
    run, shape = touch.run, touch.run.canvas.shape
    source = reopen_source(run.config, run.record["image_sha256"], run.directory.path / LEVELS)
    if source is None:
        raise UserError(
            f"run={run.place}: its image {run.config.image!r} is gone, has changed or is not on this machine: restore it"
        )
    try:
        source.prepare(shape, lambda line: say(line, quiet=run.config.quiet))
        yield lambda rect, pixels: blended(pixels, source.at(shape, rect), touch.area.weights(rect))
    finally:
        source.discard()
