"""Events that the conductor yields while it works."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from render.planning.plan import Octave


@dataclass(frozen=True)
class OctaveStarted:
    """The octave's blocks are filled on `workers` workers, and `steps` of its steps are done."""

    octave: Octave
    workers: int
    steps: int


@dataclass(frozen=True)
class TilesDone:
    """`tiles` more tiles of the current step have their gradient."""

    octave: Octave
    tiles: int


@dataclass(frozen=True)
class StepDone:
    """A step is done. `mean_gradient` is mean|g| over the whole canvas, per 0..255 level."""

    octave: Octave
    step: int
    mean_gradient: float
    seconds: float


@dataclass(frozen=True)
class Saved:
    """The current canvas is saved on disk: a run that stops resumes from here.

    `preview` is a small uint8 RGB picture of it within an octave, and None at an octave's end, where `OctaveDone` has it.
    """

    octave: Octave
    steps: int
    seconds: float
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class OctaveDone:
    """An octave is done. `preview` is a small uint8 RGB picture of the current canvas."""

    octave: Octave
    preview: np.ndarray


@dataclass(frozen=True)
class Recovered:
    """Workers were lost and the farm is repaired; the run resumes from the last checkpoint."""

    reason: str
    workers: int


@dataclass(frozen=True)
class Noticed:
    """The machines of `gone` workers are about to go: these workers are released, and `workers` go on.

    `saved` is True if all finished steps are saved; otherwise the run loses those since the last checkpoint.
    """

    reason: str
    gone: int
    workers: int
    saved: bool


Event = OctaveStarted | TilesDone | StepDone | Saved | OctaveDone | Recovered | Noticed
