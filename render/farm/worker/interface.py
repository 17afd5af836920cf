"""The methods of a worker that the conductor and jobs may call from another process. Importing it needs no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from render.dreaming.objectives import KernelInputs
from render.dreaming.resample import Pixels
from render.farm.messages import (
    Assignment,
    ProgramTimes,
    StepOrders,
    TileSums,
    WorkerFacts,
)
from render.farm.parts import CANVAS
from render.farm.peers.listening import Address
from render.farm.remote import remote
from render.geometry.blocks import Gathering
from render.geometry.geometry import Rect
from render.storage.url import Place


class RemoteProcess(Protocol):
    """Remote methods of a worker's process, with any job. See `process.WorkerProcess`."""

    @remote
    def open(self, *job: Any) -> WorkerFacts:
        """Prepare for a job: a recipe, and for a dream also its source and masks."""

    @remote
    def ping(self) -> WorkerFacts:
        """Return the current facts, as a sign of life."""

    @remote
    def window_bytes(self, objective: int, window: tuple[int, int], core: tuple[int, int], /) -> int:
        """Return the bytes that a kernel call on such a window needs. Compile the objective's kernel."""

    @remote
    def window_seconds(
        self, objective: int, window: tuple[int, int], core: tuple[int, int], measured: tuple[int, int] | None = None, /
    ) -> float:
        """Return the seconds that the kernel takes for one such window, and to measure one of `measured` before."""

    @remote
    def prepare_octaves(self, assignments: Sequence[Assignment], /) -> None:
        """Load or compile the programs of octaves to come, in the background."""

    @remote
    def compile_state(self, objective: int, window: tuple[int, int], core: tuple[int, int], /) -> tuple[bool, float | None]:
        """Return whether the kernel of such a window need not be compiled, and the seconds that it takes."""

    @remote
    def program_times(self) -> ProgramTimes:
        """Return what the compiled programs of this job's network have cost since the job was opened."""

    @remote
    def listen(self) -> Address:
        """Return where the other workers can connect to this one."""

    @remote
    def run_steps(self, orders: StepOrders, /) -> int:
        """Take the octave's steps in time with the other workers, and return how many are done then."""

    @remote
    def class_scores(self, pictures: Sequence[np.ndarray], /) -> list[np.ndarray]:
        """Return the network's scores for pictures: (classes,) before softmax each."""


class RemoteWorker(Protocol):
    """Remote methods of the owner of one block, in the order in which an octave calls them.

    Arguments go by position. `Worker` implements them; see there for what each does in detail.
    """

    @remote
    def begin_octave(self, assignment: Assignment, /) -> int:
        """Make the block of a new octave; return the most pixels of the strips in which it takes the detail."""

    @remote
    def load(self, path: Place, token: str, moments: Sequence[Place], assignment: Assignment, /) -> None:
        """Make a block as `begin_octave` does, filled from a checkpoint."""

    @remote
    def channel_sums(self, first: int, count: int, region: int, term: int, /) -> list[TileSums]:
        """Return the source's sums of every channel of a term's layer, for `count` tiles from `first` on."""

    @remote
    def choose(self, kernel_inputs: Sequence[KernelInputs], /) -> None:
        """Replace the kernel's inputs of each region by those with the chosen channels."""

    @remote
    def end_octave(self) -> None:
        """Replace the canvas by its detail, canvas minus source."""

    @remote
    def read_detail(self, rects: Sequence[Rect], /) -> list[Pixels]:
        """Return the detail of the octave that ended, for rectangles inside the block."""

    @remote
    def add_detail(
        self, rect: Rect, shape: tuple[int, int], needed: Rect, gathering: Gathering, /, *parts: list[Pixels]
    ) -> None:
        """Add the last octave's detail, resampled from `shape`, to `rect` of the block."""

    @remote
    def drop_detail(self) -> None:
        """Free the detail of the octave before."""

    @remote
    def read(self, rects: Sequence[Rect], part: str = CANVAS, /) -> list[Pixels]:
        """Return pixels of rectangles inside the block: the canvas', or a moment's."""

    @remote
    def save(self, path: Place, token: str, part: str, extent: Rect, gathering: Gathering, /, *parts: list[Pixels]) -> None:
        """Write the chunks of `extent` to a checkpoint, and wait until they are on the disk."""

    @remote
    def thumbnail(self, every: int, /) -> tuple[Rect, np.ndarray]:
        """Average the block over squares of `every` px; return its rectangle in the small picture, and uint8 RGB."""

    @remote
    def release(self) -> None:
        """Free the block."""

    @remote
    def seconds_spent(self) -> dict[str, float]:
        """Return the seconds of this worker's calls so far, by phase."""

    @remote
    def bytes_sent(self) -> int:
        """Return the bytes of canvas pixels that this worker has sent so far."""
