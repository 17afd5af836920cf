"""Dreaming of a touch: octave by octave over the part of the canvas around the area, on the workers of a farm.

Each octave is a run of the conductor. It begins with the canvas at that octave, and with what the octave before added to it
in the area; workers read the canvas themselves. A killed touch goes on from its newest checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels, resample
from render.errors import UserError
from render.farm.checkpoint import Checkpoint, Checkpoints, OctaveHistory, ResumeKey
from render.farm.conductor import BlockOptions, Conductor, Saving
from render.farm.events import Event, OctaveStarted
from render.geometry.geometry import CHUNK, Interval, Rect, whole
from render.job.job import Job
from render.job.pictures import explain_damage
from render.job.recorded_touches import work_place
from render.planning.plan import Plan
from render.touch.canvas_change import writing
from render.touch.canvas_part import CanvasPart, PartPixels, read_repeated, shifted
from render.touch.draft import TouchDraft

log = logging.getLogger(__name__)

#: Most pixels of an octave that are filled at once.
_BAND_PX = 1_000_000
#: Receiver of what happens in an octave.
OnEvent = Callable[[Event], None]


class DreamedOctaves:
    """The octaves of a touch on a farm's workers."""

    def __init__(self, draft: TouchDraft, plan: Plan, job: Job, on_event: OnEvent, check: Callable[[], None]) -> None:
        """Store the parts; nothing is dreamed yet.

        Args:
            draft: The touch.
            plan: Its plan, with the tiles that the workers' memory allows.
            job: The job whose workers know its objectives and masks.
            on_event: Receiver of what happens.
            check: Called while canvases are filled; may raise to stop.
        """
        self._draft = draft
        self._plan = plan
        self._job = job
        self._on_event = on_event
        self._check = check
        tile = plan.final.grid.core_shape
        self._key = ResumeKey(draft.touch.work_key, job.loaded.sha256, (tile,), job.resume_key.threads)

    @property
    def _checkpoints(self) -> Checkpoints:
        return self._draft.checkpoints

    def dream(self) -> CanvasStore:
        """Dream all octaves, or those that are left, and return the canvas of the last one's part.

        Raises:
            RenderError: The dream stopped.
        """
        if not self._belongs():
            self._checkpoints.discard()
        place = work_place(self._draft.touch.run.directory.place)
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
        octaves = self._plan.octaves
        for octave in octaves:
            newest = self._newest()
            if newest is not None and newest.octave > octave.index:
                continue
            if newest is not None and (newest.octave, newest.steps) == (octave.index, octave.steps):
                continue
            if octave.index and (newest is None or newest.octave < octave.index):
                newest = self._begin(octave.index)
            if octave.steps or not octave.index:
                self._run(octave.index)
        finished = self._newest()
        assert finished is not None and finished.octave == len(octaves) - 1, "the last octave is saved at its end"
        return self._store(finished)

    def _belongs(self) -> bool:
        """Return whether what was saved is of this very touch."""
        manifest = self._checkpoints.read()
        return manifest is not None and manifest.resume_key == self._key and bool(manifest.checkpoints)

    def _newest(self) -> Checkpoint | None:
        manifest = self._checkpoints.read()
        return manifest.checkpoints[0] if manifest and manifest.checkpoints else None

    def _store(self, checkpoint: Checkpoint) -> CanvasStore:
        with explain_damage():
            return CanvasStore(self._checkpoints.path(checkpoint), checkpoint.token)

    def _part(self, number: int) -> CanvasPart:
        """Return the source of an octave."""
        octave, run = self._draft.octaves[number], self._draft.touch.run
        path = run.directory.checkpoints.path(run.checkpoint)
        canvas = run.canvas
        return CanvasPart(path, run.checkpoint.token, canvas.shape, run.modes, octave.canvas_shape, octave.window)

    def _run(self, number: int) -> None:
        """Dream one octave, or what is left of it."""
        draft, job, plan = self._draft, self._job, self._plan
        conductor = Conductor(
            replace(plan, octaves=plan.octaves[: number + 1]),
            job.loaded.architecture,
            draft.resolved.schedule.objectives,
            job.executor,
            Saving(self._checkpoints, draft.resolved.checkpoint_interval, self._key),
            BlockOptions(draft.resolved.scratch if plan.scratch_bytes else None, source=self._part(number)),
        )
        for event in conductor.run(draft.resolved.seed):
            if isinstance(event, OctaveStarted) and event.octave.index != number:
                self._checkpoints.discard()
                raise UserError("what was saved of this touch is damaged and was removed: the same command begins it anew")
            self._on_event(event)
        conductor.release()

    def _begin(self, number: int) -> Checkpoint:
        """Save the canvas with which an octave begins: the source, and the detail of the octave before.

        Only then the octave before is removed, so that a run that loses its workers never goes back to it.
        """
        before = self._newest()
        if before is None:
            raise UserError("what was saved of this touch is gone: the same command begins it anew")
        octave = self._draft.octaves[number]
        source, shape = PartPixels(self._part(number)), octave.window.shape
        history = (*before.history, OctaveHistory(*shape))
        checkpoint = self._checkpoints.begin(shape, number, 0, history)
        place = self._checkpoints.path(checkpoint)
        with explain_damage(), writing(place):
            store = CanvasStore(place, checkpoint.token, mode="r+")
            detail = self._detail(before, number - 1)
            for rect in whole(*shape).bands(_BAND_PX, CHUNK):
                self._check()
                pixels = source.at(shape, rect) + detail(shifted(rect, octave.window), octave.canvas_shape)
                store.write(rect, np.clip(pixels, 0.0, 255.0))
            store.flush([whole(*shape)])
        self._checkpoints.commit(self._key, checkpoint)
        self._checkpoints.keep_newest()
        return checkpoint

    def _detail(self, before: Checkpoint, number: int) -> Callable[[Rect, tuple[int, int]], Pixels]:
        """Return a reader of what an octave added to the canvas, resampled to another octave: it is 0 beyond the part."""
        octave, store = self._draft.octaves[number], self._store(before)
        source, modes = PartPixels(self._part(number)), self._draft.touch.run.modes

        def read_inside(rect: Rect) -> Pixels:
            """Read a rectangle of the octave's canvas."""
            pixels = np.zeros((*rect.shape, 3), np.float32)
            inner = rect.intersect(octave.window)
            if inner.area:
                local = Rect(
                    Interval(inner.rows.start - octave.window.rows.start, inner.rows.stop - octave.window.rows.start),
                    Interval(
                        inner.columns.start - octave.window.columns.start, inner.columns.stop - octave.window.columns.start
                    ),
                )
                pixels[inner.slices_from(rect)] = store.read(local) - source.whole_at(inner)
            return pixels

        def read(rect: Rect) -> Pixels:
            """Read a rectangle that may reach beyond ends that wrap."""
            return read_repeated(read_inside, octave.canvas_shape, modes, rect)

        return lambda rect, shape: resample(read, octave.canvas_shape, shape, rect, modes)
