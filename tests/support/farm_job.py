"""The job that the farm's tests render, and readers of its canvas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from render.farm.conductor import Conductor
from render.farm.events import Event
from render.farm.worker.interface import RemoteWorker
from render.job.job import Job

#: Five by four tiles at the second octave, so that blocks of 1 x 4, 2 x 2, 4 x 1 and 5 x 1 are possible.
JOB = (
    "image=sample:chelsea",
    "output.width=192",
    "output.height=240",
    "octaves.count=2",
    "octaves.steps=3",
    "objective.terms=[mixed1]",
    "tiles.size=48",
    "checkpoint.every=0",
)


def stored(run: Path) -> np.ndarray:
    """Return the canvas that a run's manifest names, read with Zarr alone."""
    manifest = json.loads((run / "canvas" / "manifest.json").read_text())
    return zarr.open_array(str(run / "canvas" / manifest["checkpoints"][0]["slot"]), mode="r")[:]


def dreamed(job: Job, conductor: Conductor, watch: Callable[[Event], None] = lambda _event: None) -> np.ndarray:
    """Run to the end and return the float canvas, which must be the one on disk."""
    for event in conductor.run(job.resolved.seed):
        watch(event)
    canvas = held(conductor)
    np.testing.assert_array_equal(stored(job.resolved.directory.path), canvas)
    return canvas


def held(conductor: Conductor) -> np.ndarray:
    """Return the canvas as the workers hold it now."""
    workers = conductor.stepper.workers
    deal = workers.deal
    canvas = np.full((*deal.octave.shape, 3), np.nan, np.float32)
    promises = [workers.start(worker, RemoteWorker.read, [block.pixels]) for worker, block in enumerate(deal.blocks)]
    for block, (pixels,) in zip(deal.blocks, workers.fetch(promises), strict=True):
        canvas[slice(*block.pixels.rows), slice(*block.pixels.columns)] = pixels
    assert not np.isnan(canvas).any()
    return canvas
