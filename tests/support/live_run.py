"""A run directory as a render fills it, checkpoint by checkpoint, without dreaming."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.config.schema import Config
from render.export.picture import image_of, write_picture
from render.farm.checkpoint import Checkpoint, OctaveHistory, ResumeKey
from render.geometry.geometry import CHUNK, Interval, Rect, whole
from render.job.run_directory import stored_checkpoints
from render.job.targets import preview_path

FIXED = ResumeKey("digest", "weights", ((64, 64),), 2)


class LiveJob:
    """A run of octaves of the given (height, width) px, with `steps` steps each."""

    def __init__(
        self, directory: Path, *shapes: tuple[int, int], steps: int = 3, image_sha256: str = "", **config: Any
    ) -> None:
        self.directory = directory
        self.shapes = shapes
        self.steps = steps
        self.checkpoints = stored_checkpoints(directory)
        directory.mkdir(parents=True)
        grids = [{"rows": {"length": height}, "columns": {"length": width}} for height, width in shapes]
        self.record = {
            "digest": FIXED.digest,
            "status": "running",
            "config": asdict(Config(**config)),
            "image_sha256": image_sha256,
            "plan": {"octaves": [{"grid": grid, "stage": {"steps": steps}} for grid in grids]},
        }
        self.says("running")

    def says(self, status: str) -> None:
        self.record["status"] = status
        temporary = self.directory / ".partial"
        temporary.write_text(json.dumps(self.record))
        temporary.replace(self.directory / "run.json")

    def begin(self, octave: int, steps: int) -> Checkpoint:
        history = [OctaveHistory(*shape, (1.0,) * self.steps) for shape in self.shapes[:octave]]
        history.append(OctaveHistory(*self.shapes[octave], (1.0,) * steps))
        return self.checkpoints.begin(self.shapes[octave], octave, steps, history)

    def fill(self, checkpoint: Checkpoint, pixels: np.ndarray) -> None:
        store = CanvasStore(self.checkpoints.path(checkpoint), checkpoint.token, mode="r+")
        store.write(whole(*pixels.shape[:2]), pixels)

    def save(self, octave: int, steps: int, pixels: np.ndarray) -> Checkpoint:
        """A checkpoint, and the octave's preview where it is over, as the conductor and the run directory keep them."""
        checkpoint = self.begin(octave, steps)
        self.fill(checkpoint, pixels)
        self.checkpoints.commit(FIXED, checkpoint)
        if steps == self.steps:
            every = -(-max(pixels.shape[:2]) // 1024)
            write_picture(preview_path(self.directory, octave), image_of(to_integers(pixels[::every, ::every], 8)), "png")
        return checkpoint

    def finish(self) -> None:
        self.checkpoints.keep_newest()
        self.says("finished")


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) float32, 0..255: slow waves, which JPEG keeps to a level or two."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(rows / (23 + 5 * c + seed) + seed) + np.cos(columns / (31 - 4 * c + seed)) for c in range(3)]
    return (np.stack(waves, -1) * 60 + 128).astype(np.float32)


def sparse(job: LiveJob, octave: int, steps: int, level: float) -> Checkpoint:
    """A checkpoint of a large canvas of one value, written a row of chunks at a time."""
    checkpoint = job.begin(octave, steps)
    height, width = job.shapes[octave]
    store = CanvasStore(job.checkpoints.path(checkpoint), checkpoint.token, mode="r+")
    for start in range(0, height, CHUNK):
        rows = Interval(start, min(height, start + CHUNK))
        store.write(Rect(rows, Interval(0, width)), np.full((rows.size, width, 3), level, np.float32))
    job.checkpoints.commit(FIXED, checkpoint)
    return checkpoint
