"""The methods of a worker that the conductor and jobs may call from another process. Importing it needs no JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from render.dreaming.exact_sums import ExactSums
from render.dreaming.objectives import KernelInputs
from render.dreaming.resample import Pixels
from render.farm.messages import (
    Assignment,
    CanvasSums,
    GradientReport,
    GradientSums,
    TermMatrices,
    TileSums,
    WorkerFacts,
)
from render.farm.parts import CANVAS
from render.farm.remote import remote
from render.geometry.blocks import Gathering
from render.geometry.geometry import Rect
from render.storage.url import Place

#: Pixels lent to the workers at one place, by the borrower's number and in the order of `messages.Loan`.
LentPixels = Mapping[int, list[Pixels]]


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
    def compile_seconds(self) -> float:
        """Return the seconds spent on compiling for this job's network."""

    @remote
    def class_scores(self, pictures: Sequence[np.ndarray], /) -> list[np.ndarray]:
        """Return the network's scores for pictures: (classes,) before softmax each."""


class RemoteWorker(Protocol):
    """Remote methods of the owner of one block, in the order in which an octave calls them.

    Arguments go by position. `Worker` implements them; see there for what each does in detail.
    """

    @remote
    def begin_octave(self, assignment: Assignment, /) -> None:
        """Make the block of a new octave, filled with the source."""

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
    def texture_sums(self, objective: int, term: int, first: int, count: int, /) -> ExactSums:
        """Return the sums over `count` tiles of a texture, from `first` on."""

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
    def lend(self) -> list[LentPixels]:
        """Return the pixels lent to each place of the assignment's loans."""

    @remote
    def begin_step(self, step: int, jitter: tuple[int, int], count: int, /, *loans: LentPixels) -> GradientReport:
        """Fill the margin, and compute the gradient of the first `count` tiles."""

    @remote
    def begin_measuring(self, /, *loans: LentPixels) -> None:
        """Fill the margin, in place of `begin_step`, and begin new sums over the canvas."""

    @remote
    def measure_canvas(self, first: int, count: int, jitter: tuple[int, int], /) -> list[None]:
        """Add `count` tiles from `first` on to the sums over the canvas."""

    @remote
    def canvas_sums(self) -> list[CanvasSums]:
        """Return the sums over all tiles of the block."""

    @remote
    def set_matrices(self, matrices: Sequence[TermMatrices], /) -> None:
        """Give the kernel the step's matrices of each region."""

    @remote
    def compute_gradient(self, step: int, jitter: tuple[int, int], first: int, count: int, /) -> GradientReport:
        """Compute the gradient of `count` tiles from the `first` on."""

    @remote
    def read_gradient(self, rects: Sequence[Rect], /) -> list[Pixels]:
        """Return the gradients of rectangles inside the block, region by region."""

    @remote
    def fill_gradient(self, gathering: Gathering, /, *parts: list[Pixels]) -> None:
        """Write the gradient around the block, within the filter's reach."""

    @remote
    def level_sums(self, first: int, count: int, /) -> list[TileSums]:
        """Return the energy of every level of the gradient's Laplacian pyramid, by tile and region."""

    @remote
    def filter(self, first: int, count: int, gains: Sequence[Sequence[float]], /) -> list[GradientSums]:
        """Filter the gradient of `count` tiles, and return the sums of the filtered gradient."""

    @remote
    def update(self, step: int, divisors: Sequence[float], /) -> None:
        """Move the block's pixels along the gradient."""

    @remote
    def update_and_lend(self, step: int, divisors: Sequence[float], /) -> list[LentPixels]:
        """Update, then `lend` for the next step; an empty loan follows, for the update."""

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
