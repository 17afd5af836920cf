"""What the conductor tells while it works."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from render.planning.plan import Octave


@dataclass(frozen=True)
class OctaveStarted:
    """An octave's blocks lie with `workers` workers, filled, and `steps` of its steps are done."""

    octave: Octave
    workers: int
    steps: int


@dataclass(frozen=True)
class TilesDone:
    """So many more tiles of the current step have their gradient."""

    octave: Octave
    tiles: int


@dataclass(frozen=True)
class StepDone:
    """`mean_gradient` is mean|g| over the whole canvas, per 0..255 level."""

    octave: Octave
    step: int
    mean_gradient: float
    seconds: float


@dataclass(frozen=True)
class Saved:
    """The canvas as it is now lies on disk: a run that stops goes on from here.

    `preview` is a small uint8 RGB picture of it within an octave; at the end of one `OctaveDone` has it.
    """

    octave: Octave
    steps: int
    seconds: float
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class OctaveDone:
    """`preview` is a small uint8 RGB picture of the canvas as it is now."""

    octave: Octave
    preview: np.ndarray


@dataclass(frozen=True)
class Recovered:
    """Workers were lost and the farm has been put in order again; the last checkpoint is taken up."""

    reason: str
    workers: int


@dataclass(frozen=True)
class Noticed:
    """The machines of `gone` workers are about to go: they have been let go, and `workers` go on.

    `saved` tells whether the canvas was saved first; else the last checkpoint is taken up.
    """

    reason: str
    gone: int
    workers: int
    saved: bool


Event = OctaveStarted | TilesDone | StepDone | Saved | OctaveDone | Recovered | Noticed
