"""A worker: owns one block of the canvas, computes its gradient by windows, and applies the update.

The same class runs in-process for the `inline` executor and in a Ray actor on another machine, so its methods take and
return plain data (rectangles, numbers, arrays of the requested pixels). Arrays as large as the block are processed in
strips, so that a block may live in a mapped file and be larger than memory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from render.dreaming.objectives import KernelInputs, Objective
from render.dreaming.resample import Pixels
from render.dreaming.stage import Region
from render.farm.messages import Assignment, GradientReport, GradientSums, StepOrders, TileSums
from render.farm.parts import CANVAS
from render.farm.peers.group import Group
from render.farm.pixel_sources import MaskOfPixels, RunSources, SourceOfPixels
from render.farm.worker import block_preview, block_store, block_update, exchange
from render.farm.worker.block import BlockArrays
from render.farm.worker.canvas_sums import CanvasMeasurer
from render.farm.worker.measuring_worker import MeasuringWorker
from render.farm.worker.octave_change import OctaveChange
from render.farm.worker.resident_block import ResidencyRule, ResidentBlock
from render.farm.worker.stepping import Stepping
from render.farm.worker.textures import Targets, TextureMatcher
from render.farm.worker.tile_gradients import Gradient, TileGradients
from render.farm.worker.timings import PhaseTimer, timed
from render.geometry.blocks import Gathering
from render.geometry.geometry import Grid, Rect, Tile
from render.networks.architecture import Architecture
from render.storage.url import Place


class Worker(MeasuringWorker):
    """Owner of one block, which it steps.

    The conductor calls begin_octave or load, and then `WorkerProcess.run_steps`, in which this worker and the others step
    by themselves: see `Stepping`, which calls the methods for single parts of a step.
    """

    def __init__(
        self,
        kernel: Gradient,
        source: SourceOfPixels,
        objectives: Sequence[Objective] = (),
        architecture: Architecture | None = None,
        masks: Sequence[MaskOfPixels] = (),
        devices: int = 1,
        residency: ResidencyRule | None = None,
    ) -> None:
        """Store the settings; no block is held yet.

        Args:
            kernel: Computes the gradient of a window.
            source: The picture that is dreamed on.
            objectives: All objectives, to which the stages' regions refer by index.
            architecture: The network's architecture.
            masks: All masks, to which the stages' regions refer by index.
            devices: Number of windows that the kernel computes at once.
            residency: Decides which blocks stay in the device's memory; None keeps all on the host.
        """
        #: Seconds of this worker's calls, by phase.
        self.timer = PhaseTimer()
        self._tile_gradients = TileGradients(kernel, objectives, architecture, devices, self.timer)
        self.measurer = CanvasMeasurer(kernel, objectives, architecture)
        self._residency = residency
        self._architecture = architecture
        #: Matrices of textures, at the root, and the grid and regions that they are for.
        self._targets: Targets = {}
        self._targets_of: tuple[Grid, tuple[Region, ...]] | None = None
        self._devices = devices
        self._sources = RunSources(source)
        #: All objectives, to which the stages' regions refer by index.
        self.objectives = tuple(objectives)
        self._masks = masks
        self._arrays: BlockArrays | None = None
        self._change = OctaveChange(residency)
        self._bytes_sent = 0

    @property
    def arrays(self) -> BlockArrays:
        """Arrays of the block."""
        assert self._arrays is not None, "begin_octave comes first"
        return self._arrays

    @property
    def architecture(self) -> Architecture:
        """The network's architecture."""
        assert self._architecture is not None, "stepping needs the network's architecture"
        return self._architecture

    @property
    def gradient(self) -> Pixels:
        """The block's gradient toward the first region's objective: (rows, columns, 3) float32."""
        return self.arrays.conditioned[0]

    # Octaves

    @timed("resample")
    def begin_octave(self, assignment: Assignment) -> int:
        """Make the block of a new octave. Return the most pixels of the strips in which it takes the detail.

        The block of the first octave is filled with the source, and so is any on the host. Any other block on the device
        is filled by `add_detail`.
        """
        # Free the block of an interrupted attempt first, to save memory.
        self._arrays = None
        if assignment.octave == 0:
            self._change.forget()
        self._arrays = self._allocate(assignment)
        return self._change.begin(self._arrays, self._sources.of(assignment.source))

    @timed("checkpoint")
    def load(self, path: Place, token: str, moments: Sequence[Place], assignment: Assignment) -> None:
        """Make a block as `begin_octave` does, filled from a checkpoint: see `block_store.load_block`."""
        # Free the block of an interrupted attempt first, to save memory.
        self.release()
        arrays = self._allocate(assignment)
        block_store.load_block(arrays, path, token, moments)
        self._arrays = arrays

    def _allocate(self, assignment: Assignment) -> BlockArrays:
        """Return the arrays of a block, with the canvas still to be filled."""
        numbers = assignment.stage.objectives if self.objectives else ()
        needs_source = any(self.objectives[number].looks_at_source for number in numbers)
        source = self._sources.of(assignment.source)
        # May compile: counted as the first kernel call's compilation is.
        with self.timer.phase("kernel"):
            program = self._residency.program(assignment) if self._residency is not None else None
        if program is not None:
            return ResidentBlock(assignment, source, self._masks, needs_source=needs_source, program=program)
        return BlockArrays(assignment, source, self._masks, needs_source=needs_source)

    @timed("kernel")
    def channel_sums(self, first: int, count: int, region: int, term: int) -> list[TileSums]:
        """Return, for `count` of the block's tiles, the source's sums of every channel of a term's layer, by `term`."""
        return [
            TileSums(tile.number, term, self._tile_gradients.channel_sums(self.arrays, region, term, tile))
            for tile in self.arrays.block.tiles_from(first, count)
        ]

    def choose(self, kernel_inputs: Sequence[KernelInputs]) -> None:
        """Replace the kernel's inputs of each region by those with the chosen channels."""
        self.arrays.assignment = replace(self.arrays.assignment, kernel_inputs=tuple(kernel_inputs))

    @timed("resample")
    def end_octave(self) -> None:
        """Replace the canvas by its detail, canvas minus source, which the next octave builds on."""
        self._change.end(self.arrays, self._sources.of(self.arrays.assignment.source))
        self._arrays = None

    @timed("resample")
    def read_detail(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Return the detail of the octave that ended, for rectangles inside the block: float32, any sign."""
        return self._change.read(rects)

    @timed("resample")
    def add_detail(
        self, rect: Rect, shape: tuple[int, int], needed: Rect, gathering: Gathering, *parts: list[Pixels]
    ) -> None:
        """Add the last octave's detail, resampled from `shape`, to `rect` of the block.

        Args:
            rect: Rectangle inside the block.
            shape: (rows, columns) px of the last octave's canvas.
            needed: Rectangle of the last octave's canvas on which `rect` depends.
            gathering: Pieces of `needed`.
            parts: The other owners' pixels in it.
        """
        self._change.add(self.arrays, rect, shape, needed, gathering, parts)

    def drop_detail(self) -> None:
        """Free the detail of the octave before; no worker needs it any more."""
        self._change.forget()

    def release(self) -> None:
        """Free the block."""
        self._arrays = None
        self._change.forget()

    # Steps

    def take_steps(self, group: Group, orders: StepOrders) -> int:
        """Take the octave's steps in time with the others of a group: see `Stepping.run`. Return how many are done then."""
        # Octaves of one index may differ from run to run, such as those of a film's first frame and of later ones.
        targets_of = orders.octave.grid, orders.octave.stage.regions
        if targets_of != self._targets_of:
            self._targets, self._targets_of = {}, targets_of
        with self.timer.phase("waiting"):
            return Stepping(self, group, orders, TextureMatcher(self, group, orders, self._targets)).run()

    @timed("margin")
    def fill_margin(self, *parts: Sequence[Pixels]) -> None:
        """Write pixels into the margin: other owners', and this block's own where it is mirrored or wrapped.

        `parts` are the pixels that `Gathering.others` of the margin names, in that order.
        """
        self.arrays.fill_margin(*parts)

    def compute_gradient(self, step: int, jitter: tuple[int, int], tiles: Sequence[Tile]) -> GradientReport:
        """Compute the gradient of some of the block's tiles, in tile order.

        Raises:
            NumericalError: A gradient is not finite. The error names octave, step and tile.
        """
        start = time.perf_counter()
        arrays = self.arrays
        if isinstance(arrays, ResidentBlock):
            with self.timer.phase("kernel"):
                sums = arrays.compute_gradient(step, jitter, tiles)
            return GradientReport(tuple(sums), len(tiles), time.perf_counter() - start, arrays.tiles_at_once)
        sums = self._tile_gradients.compute(arrays, step, jitter, tiles)
        return GradientReport(tuple(sums), len(tiles), time.perf_counter() - start, self._devices)

    @timed("filter")
    def read_gradient(self, rects: Sequence[Rect]) -> list[Pixels]:
        """Return the gradients of rectangles inside the block, region by region: each (rows, columns, 3) float32."""
        arrays = self.arrays
        return arrays.read_gradient(rects) if isinstance(arrays, ResidentBlock) else exchange.read_gradient(arrays, rects)

    @timed("filter")
    def fill_gradient(self, gathering: Gathering, *parts: list[Pixels]) -> None:
        """Write the gradient around the block, within the filter's reach: see `exchange.fill_gradient`."""
        arrays = self.arrays
        fill = arrays.fill_gradient if isinstance(arrays, ResidentBlock) else partial(exchange.fill_gradient, arrays)
        fill(gathering, parts)

    @timed("filter")
    def level_sums(self, first: int, count: int) -> list[TileSums]:
        """Return the energy of every level of the gradient's Laplacian pyramid: see `block_update.level_sums`."""
        arrays = self.arrays
        if isinstance(arrays, ResidentBlock):
            return arrays.level_sums(first, count)
        return block_update.level_sums(arrays, first, count)

    @timed("filter")
    def filter(self, first: int, count: int, gains: Sequence[Sequence[float]]) -> list[GradientSums]:
        """Filter the gradient of `count` tiles: see `block_update.filter_tiles`."""
        arrays = self.arrays
        if isinstance(arrays, ResidentBlock):
            return arrays.filter_tiles(first, count, gains)
        return block_update.filter_tiles(arrays, first, count, gains)

    @timed("update")
    def update(self, step: int, divisors: Sequence[float]) -> None:
        """Move the block's pixels along the gradient: see `block_update.apply_update`."""
        arrays = self.arrays
        if isinstance(arrays, ResidentBlock):
            arrays.apply_update(step, divisors)
        else:
            block_update.apply_update(arrays, step, divisors)

    # Pixels and figures for the conductor

    @timed("checkpoint")
    def read(self, rects: Sequence[Rect], part: str = CANVAS) -> list[Pixels]:
        """Return pixels of rectangles inside the block, (rows, columns, 3) float32: the canvas', 0..255, or a moment's."""
        copies = [np.array(self.arrays.part(rect, part)) for rect in rects]
        self._bytes_sent += sum(pixels.nbytes for pixels in copies)
        return copies

    @timed("checkpoint")
    def save(self, path: Place, token: str, part: str, extent: Rect, gathering: Gathering, *parts: list[Pixels]) -> None:
        """Write the chunks of `extent` of the canvas, or of a moment, to its store: see `block_store.save_chunks`."""
        block_store.save_chunks(self.arrays, part, (path, token), extent, gathering, parts)

    @timed("preview")
    def thumbnail(self, every: int) -> tuple[Rect, np.ndarray]:
        """Average the block over squares of `every` px: see `block_preview.shrink`."""
        return block_preview.shrink(self.arrays, every)

    def seconds_spent(self) -> dict[str, float]:
        """Return the seconds of this worker's calls so far, by phase: `kernel` is the wait for the device."""
        return self.timer.seconds()

    def bytes_sent(self) -> int:
        """Return the bytes of canvas pixels that this worker has sent so far."""
        return self._bytes_sent

    def count_sent(self, nbytes: int) -> None:
        """Count bytes of canvas pixels as sent."""
        self._bytes_sent += nbytes
