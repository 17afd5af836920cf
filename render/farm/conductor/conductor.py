"""Conductor: takes the workers through a plan's octaves and steps, saves, and resumes when workers are lost.

Holds numbers and references, never pixels of the canvas (except for small previews).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np

from render.dreaming.objectives import Objective
from render.errors import DamagedCheckpoint, UrgentInterrupt, WorkersLost
from render.farm.checkpoint import OctaveHistory
from render.farm.conductor.block_dealer import BlockDealer, BlockOptions
from render.farm.conductor.dealt_workers import DealtWorkers
from render.farm.conductor.membership import MachinesLeaving, Membership
from render.farm.conductor.octave_stepper import OctaveStepper
from render.farm.conductor.saver import Saver, Saving
from render.farm.events import Event, OctaveDone, OctaveStarted, Saved, StepDone
from render.farm.executors import Executor
from render.farm.worker.interface import RemoteWorker
from render.networks.architecture import Architecture
from render.planning.plan import Octave, Plan

log = logging.getLogger(__name__)

#: Longest side of a preview picture, px.
PREVIEW_SIDE = 1024


class Conductor:
    """Runner of a plan on an executor's workers.

    It holds the loop alone. `BlockDealer` fills the blocks at an octave's start, `OctaveStepper` has the workers step them
    by themselves, `Saver` writes checkpoints, and `Membership` replaces, releases and adds workers.
    """

    def __init__(
        self,
        plan: Plan,
        architecture: Architecture,
        objectives: Sequence[Objective],
        executor: Executor,
        saving: Saving | None = None,
        options: BlockOptions | None = None,
    ) -> None:
        """Store the settings; nothing starts before `run`.

        Args:
            plan: The octaves to dream.
            architecture: The network's architecture.
            objectives: All objectives, to which the stages' regions refer by index.
            executor: The workers.
            saving: Where and how often to save; None never saves.
            options: Options of the workers' blocks.
        """
        options = options or BlockOptions()
        self._plan = plan
        self._architecture = architecture
        self._objectives = tuple(objectives)
        self._executor = executor
        self._saver = Saver(saving) if saving else None
        self._membership = Membership(executor, options.arrangement)
        self._dealer = BlockDealer(executor, architecture, self._objectives, options, self._membership.check_notices)
        #: The current octave; None before the first, and while blocks are filled.
        self._stepper: OctaveStepper | None = None
        #: History of every octave begun so far.
        self.history: list[OctaveHistory] = []

    def run(self, seed: int) -> Iterator[Event]:
        """Dream every octave and yield events. The finished canvas stays with the workers until `release`.

        With checkpoints, start from the newest intact one. After a loss of workers, repair the farm and resume from the
        newest checkpoint. New workers get their share at the next checkpoint or octave. Save the canvas before machines go,
        and on KeyboardInterrupt.

        Raises:
            NumericalError: A gradient is not finite.
            UserError: The gradient is zero everywhere, or the farm cannot be repaired.
        """
        while True:
            try:
                if (yield from self._run_octaves(seed)):
                    return
            except WorkersLost as lost:
                yield self._membership.replace_lost(str(lost))
            except MachinesLeaving as leaving:
                yield self._membership.retire(leaving, saved=self._save_before_leaving())
            except UrgentInterrupt:
                raise
            except KeyboardInterrupt:
                self._save_before_leaving()
                raise

    def release(self) -> None:
        """Release the workers' blocks. From now on only the last save is needed."""
        workers, self._stepper = self.stepper.workers, None
        try:
            workers.run_all(RemoteWorker.release)
        except WorkersLost as lost:
            log.warning("a worker was lost after its work was saved: %s", lost)

    def preview(self) -> np.ndarray:
        """Return the current canvas, shrunk by a whole number to at most 1024 px: (rows, columns, 3) uint8 RGB."""
        workers = self.stepper.workers
        height, width = workers.deal.octave.shape
        factor = -(-max(height, width) // PREVIEW_SIDE)
        small = np.zeros((-(-height // factor), -(-width // factor), 3), np.uint8)
        for rect, pixels in workers.run_all(RemoteWorker.thumbnail, factor):
            small[slice(*rect.rows), slice(*rect.columns)] = pixels
        return small

    @property
    def stepper(self) -> OctaveStepper:
        """The current octave and the workers that hold its blocks."""
        assert self._stepper is not None, "no octave has begun"
        return self._stepper

    def _run_octaves(self, seed: int) -> Generator[Event, None, bool]:
        """Dream to the end. Return False if stopped at a checkpoint, to resume from it with more workers."""
        resumed = self._resume()
        if not resumed:
            self._dealer.prepare_programs(self._plan.octaves)
        first = self.stepper.deal.octave.index if resumed else 0
        for octave in self._plan.octaves[first:]:
            if not (resumed and octave.index == first):
                self._begin(octave)
            stepper = self.stepper
            assert stepper.steps_done is not None
            yield OctaveStarted(octave, len(stepper.deal.blocks), stepper.steps_done)
            while (done := stepper.steps_done) is not None and done < octave.steps:
                most = 1 if self._saver and self._saver.saves_every_step else None
                for event in stepper.run(seed, most):
                    yield event
                    if isinstance(event, StepDone) and self._saver and self._saver.is_due:
                        stepper.stop_soon()
                if self._saver and stepper.steps_done < octave.steps:
                    yield replace(self._save(self._saver), preview=self.preview())
                    if self._membership.admit_at_checkpoint(stepper.deal):
                        return False
            if self._saver and not self._saver.is_newest(octave, octave.steps):
                yield self._save(self._saver)
            yield OctaveDone(octave, self.preview())
        return True

    def _resume(self) -> bool:
        """Resume from the newest intact checkpoint. Return False, with nothing begun, if there is none."""
        self._stepper, self.history = None, []
        if self._saver is None:
            return False
        for checkpoint in self._saver.resumable(self._plan.octaves):
            octave = self._plan.octaves[checkpoint.octave]
            self._dealer.prepare_programs(self._plan.octaves[checkpoint.octave :])
            self._dealer.prepare_source(octave)
            try:
                workers = self._dealer.load(octave, self._saver.stored(checkpoint))
            except DamagedCheckpoint as damage:
                self._saver.remove_damaged(checkpoint, octave, damage)
                continue
            self.history = list(checkpoint.history)
            self._stepper = self._make_stepper(workers, checkpoint.steps)
            self._saver.resumed()
            log.info("going on from octave %d, step %d", octave.index + 1, checkpoint.steps)
            return True
        return False

    def _begin(self, octave: Octave) -> None:
        """Give every worker its block: the source at this octave plus the detail of the octave before."""
        self._dealer.prepare_source(octave)
        # From here on, the canvas of the octave before is gone.
        stepper, self._stepper = self._stepper, None
        previous = stepper.workers if stepper is not None else None
        if previous is not None:
            previous.run_all(RemoteWorker.end_octave)
        self._membership.admit_for_octave(octave)
        workers = self._dealer.begin(octave, previous)
        self.history = [*self.history[: octave.index], OctaveHistory(*octave.shape)]
        self._stepper = self._make_stepper(workers, 0)

    def _make_stepper(self, workers: DealtWorkers, steps_done: int) -> OctaveStepper:
        return OctaveStepper(workers, self._membership.check_notices, self._record, steps_done)

    def _record(self, mean: float, seconds: float) -> None:
        """Add a step to the history."""
        last = self.history[-1]
        self.history[-1] = replace(
            last, mean_gradient=(*last.mean_gradient, mean), seconds=(*last.seconds, round(seconds, 4))
        )

    def _save(self, saver: Saver) -> Saved:
        """Save the canvas, which must be whole."""
        start, stepper = time.monotonic(), self.stepper
        assert stepper.steps_done is not None
        saver.save(stepper.workers, stepper.steps_done, self.history)
        self._executor.settled()
        return Saved(stepper.deal.octave, stepper.steps_done, time.monotonic() - start)

    def _save_before_leaving(self) -> bool:
        """Save the canvas if possible. Return True if every finished step is in the newest checkpoint."""
        stepper, saver = self._stepper, self._saver
        if saver is None:
            return False
        if stepper is None:
            # Blocks are being filled: what was saved last is all there is.
            return bool(self.history)
        if stepper.steps_done is None:
            return False
        if saver.is_newest(stepper.deal.octave, stepper.steps_done):
            return True
        try:
            self._save(saver)
        except WorkersLost as lost:
            log.warning("not saved: %s", lost)
            return False
        log.info("saved octave %d, step %d", stepper.deal.octave.index + 1, stepper.steps_done)
        return True
