"""Saving of the canvas in checkpoints, and the choice of the one to resume from."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from render.errors import DamagedCheckpoint, RenderError, UserError
from render.farm.checkpoint import Checkpoint, Checkpoints, OctaveHistory, ResumeKey
from render.farm.conductor.dealt_workers import DealtWorkers
from render.farm.parts import CANVAS, moment_parts
from render.farm.remote import as_arguments
from render.farm.worker.interface import RemoteWorker
from render.geometry.blocks import Gathering, chunk_extent, pieces_of
from render.geometry.geometry import CHUNK
from render.planning.plan import Octave
from render.storage.url import Place

log = logging.getLogger(__name__)

_SHARED = "output.dir must be on a disk that all workers' machines share"


@dataclass(frozen=True)
class Saving:
    """Place and interval of a run's checkpoints.

    Attributes:
        checkpoints: The checkpoints of the run.
        every: Seconds between saves; 0 saves after every step.
        resume_key: The values that a resumed run must match.
    """

    checkpoints: Checkpoints
    every: float
    resume_key: ResumeKey


class StoredCanvas(NamedTuple):
    """Places of a checkpoint's arrays: the canvas with its token, and the optimizer's moments."""

    path: Place
    token: str
    moments: tuple[Place, ...]


class Saver:
    """Writes checkpoints with the workers, and reads which there are."""

    def __init__(self, saving: Saving) -> None:
        self._checkpoints = saving.checkpoints
        self._every = saving.every
        self._resume_key = saving.resume_key
        self._saved_at = time.monotonic()

    @property
    def saves_every_step(self) -> bool:
        """True if each step is to be saved."""
        return self._every == 0

    @property
    def is_due(self) -> bool:
        """True if the last save was long enough ago."""
        return time.monotonic() - self._saved_at >= self._every

    def is_newest(self, octave: Octave, steps: int) -> bool:
        """Return True if the newest checkpoint is the canvas after `steps` steps of an octave."""
        checkpoints = self._read()
        return bool(checkpoints) and (checkpoints[0].octave, checkpoints[0].steps) == (octave.index, steps)

    def save(self, workers: DealtWorkers, steps: int, history: Sequence[OctaveHistory]) -> None:
        """Write the canvas after `steps` steps to the unused slot, then make that slot the newest checkpoint.

        Raises:
            UserError: The disk is full, or not all workers' machines share it.
        """
        octave = workers.deal.octave
        # The optimizer's moments are not needed after an octave's end.
        moments = moment_parts(octave.stage.optimizer.moments if steps < octave.steps else 0)
        checkpoint = self._checkpoints.begin(octave.shape, octave.index, steps, history, moments)
        try:
            for part in (CANVAS, *moments):
                self._write(workers, checkpoint, part)
        except DamagedCheckpoint as damage:
            self._checkpoints.abandon(checkpoint)
            # The store was made a moment ago, so it cannot be damaged: the worker sees another disk.
            raise UserError(f"{damage}, says a worker that is to write there: {_SHARED}") from None
        except RenderError:
            self._checkpoints.abandon(checkpoint)
            raise
        self._checkpoints.commit(self._resume_key, checkpoint)
        self._saved_at = time.monotonic()

    def resumable(self, octaves: Sequence[Octave]) -> Iterator[Checkpoint]:
        """Yield the checkpoints of a plan's octaves, newest first; remove those that are of another plan."""
        for checkpoint in self._read():
            if checkpoint.octave < len(octaves) and checkpoint.has_history:
                yield checkpoint
            else:
                log.warning("a checkpoint of octave %d is none of this plan", checkpoint.octave + 1)
                self._checkpoints.forget(checkpoint)

    def stored(self, checkpoint: Checkpoint) -> StoredCanvas:
        """Return the places of a checkpoint's arrays."""
        moments = tuple(self._checkpoints.path(checkpoint, part) for part in checkpoint.parts)
        return StoredCanvas(self._checkpoints.path(checkpoint), checkpoint.token, moments)

    def resumed(self) -> None:
        """Note that the canvas is that of a checkpoint again: the next save is due a whole interval later."""
        self._saved_at = time.monotonic()

    def remove_damaged(self, checkpoint: Checkpoint, octave: Octave, damage: DamagedCheckpoint) -> None:
        """Remove a checkpoint that a worker found damaged.

        Raises:
            UserError: It is intact, and only that worker cannot read it: removing it would lose work.
        """
        try:
            self._checkpoints.check(checkpoint, octave.shape)
        except DamagedCheckpoint:
            log.warning("checkpoint of octave %d, step %d is damaged: %s", octave.index + 1, checkpoint.steps, damage)
            self._checkpoints.forget(checkpoint)
        else:
            raise UserError(f"{damage}, says a worker, and here it is whole: {_SHARED}")

    def _read(self) -> list[Checkpoint]:
        """Return the checkpoints, newest first."""
        manifest = self._checkpoints.read()
        return manifest.checkpoints if manifest else []

    def _write(self, workers: DealtWorkers, checkpoint: Checkpoint, part: str) -> None:
        """Have every worker write its chunks of the canvas, or of a moment."""
        path, deal = self._checkpoints.path(checkpoint, part), workers.deal
        promises = []
        for worker, block in enumerate(deal.blocks):
            extent = chunk_extent(block.pixels, deal.octave.grid.canvas, CHUNK)
            if extent.area:
                gathering = Gathering.of(pieces_of(extent, deal.blocks), worker)
                pieces = as_arguments(workers.request_pieces(gathering, RemoteWorker.read, part))
                promises.append(
                    workers.start(worker, RemoteWorker.save, path, checkpoint.token, part, extent, gathering, *pieces)
                )
        workers.fetch(promises)
