"""The part of a worker that measures its block of the canvas, in a pass before a step's gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from render.dreaming.exact_sums import ExactSums
from render.farm.messages import CanvasSums, TermMatrices
from render.farm.worker.block import BlockArrays
from render.farm.worker.canvas_sums import CanvasMeasurer
from render.farm.worker.interface import RemoteWorker
from render.farm.worker.timings import PhaseTimer, timed


class MeasuringWorker(RemoteWorker):
    """Owner of a block that adds up what textures need of it.

    In each step measure_canvas is called until all tiles are done, then canvas_sums, and set_matrices with what follows
    from the sums of all workers. texture_sums may come at any time within an octave.

    Attributes:
        timer: Seconds of this worker's calls, by phase.
        measurer: Adds up the sums.
    """

    timer: PhaseTimer
    measurer: CanvasMeasurer

    @property
    @abstractmethod
    def arrays(self) -> BlockArrays:
        """Arrays of the block."""

    @timed("kernel")
    def measure_canvas(self, first: int, count: int, jitter: tuple[int, int]) -> list[None]:
        """Add `count` of the block's tiles to the sums over the canvas: see `CanvasMeasurer.add`."""
        self.measurer.add(self.arrays, jitter, list(self.arrays.block.tiles_from(first, count)))
        return []

    def canvas_sums(self) -> list[CanvasSums]:
        """Return the sums over all tiles of the block since the measurer began."""
        return self.measurer.collect()

    @timed("kernel")
    def texture_sums(self, objective: int, term: int, first: int, count: int) -> ExactSums:
        """Return the sums over some tiles of a texture at the octave's size: see `CanvasMeasurer.texture_sums`."""
        return self.measurer.texture_sums(self.arrays.block.grid, objective, term, first, count)

    def set_matrices(self, matrices: Sequence[TermMatrices]) -> None:
        """Give the kernel the step's matrices of each region's textures."""
        assignment = self.arrays.assignment
        inputs = zip(assignment.kernel_inputs, matrices, strict=True)
        with_matrices = tuple(replace(part, matrices=values) if values else part for part, values in inputs)
        self.arrays.assignment = replace(assignment, kernel_inputs=with_matrices)
