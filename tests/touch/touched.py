"""A finished run to touch, rendered once, and what tests read of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from render.commands.touch import touch_command
from render.job.run_directory import stored_checkpoints
from render.job.run_record import read_record
from tests.conftest import INLINE, rendered

#: Two by two chunks, of a shallow layer whose halo is 64 px.
RUN = (
    "image=sample:hubble", "output.width=640", "output.height=600", "octaves.count=1", "octaves.steps=1",
    "objective.terms=[mixed0]", "output.also=[jpeg]", INLINE,
)  # fmt: skip
BOX = (430, 410, 160, 150)
#: What takes the box back to the source, and what touches it: two octaves of two steps.
SOURCE = ("box=430,410,160,150", "to=source", "quiet=true")
TOUCH = ("box=430,410,160,150", "octaves.count=2", "octaves.steps=2", "seed=5", "quiet=true", INLINE)


def finished_run(directory: Path, *words: str) -> Path:
    """Render the run, and return its directory."""
    return rendered(directory, *RUN, *words)


def copied(run: Path, directory: Path) -> Path:
    """Return a copy of a run's directory."""
    shutil.copytree(run, directory, symlinks=True)
    return directory


def enlarged(run: Path, shape: tuple[int, int]) -> Path:
    """Give a run a canvas of (rows, columns) px that has no chunks yet."""
    checkpoints = stored_checkpoints(run)
    manifest = checkpoints.read()
    assert manifest is not None
    newest = manifest.checkpoints[0]
    history = (*newest.history[:-1], replace(newest.history[-1], height=shape[0], width=shape[1]))
    checkpoint = checkpoints.begin(shape, newest.octave, newest.steps, history)
    checkpoints.commit(manifest.resume_key, checkpoint)
    checkpoints.keep_newest()
    return run


def touch(run: object, *words: str) -> None:
    """Touch a run as the command line does."""
    assert touch_command([f"run={run}", *words]) == 0


def outside(canvas: np.ndarray, box: Sequence[int] = BOX) -> np.ndarray:
    """Return a canvas with the box blackened."""
    x, y, width, height = box
    masked = canvas.copy()
    masked[y : y + height, x : x + width] = 0
    return masked


def inside(canvas: np.ndarray, box: Sequence[int] = BOX) -> np.ndarray:
    """Return the box of a canvas."""
    x, y, width, height = box
    return canvas[y : y + height, x : x + width]


def touches(run: Path) -> list[dict[str, Any]]:
    """Return the touches that a run's record tells of its canvas."""
    return read_record(run).get("touches", {}).get("applied", [])


def pictures(run: Path) -> dict[str, bytes]:
    """Return the bytes of a run's pictures, by name."""
    return {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in (".png", ".jpg")}
