"""Start of an octave: its tiles are dealt to the workers, and every worker's block is filled."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from render.dreaming.objectives import KernelInputs, Objective
from render.dreaming.resample import taps
from render.farm.conductor.dealt_workers import DealtWorkers
from render.farm.conductor.saver import StoredCanvas
from render.farm.executors import Executor
from render.farm.messages import Assignment, tile_number
from render.farm.pixel_sources import SourceChange
from render.farm.remote import Promise, Workers, as_arguments
from render.farm.worker.interface import RemoteProcess, RemoteWorker
from render.geometry.blocks import Gathering, pieces_of
from render.geometry.geometry import Rect
from render.networks.architecture import Architecture
from render.planning.deal import Deal
from render.planning.plan import Octave

log = logging.getLogger(__name__)

#: Strips of an octave change that are in transit at once, for each worker.
_STRIPS_IN_FLIGHT = 3


@dataclass(frozen=True)
class BlockOptions:
    """Options of the blocks that workers own.

    Attributes:
        scratch_directory: Directory of files that hold the blocks; None keeps them in memory.
        arrangement: Requested (rows, columns) of blocks, used while there are enough workers.
        prepare_source: Called with an octave's shape before any worker asks the source for its pixels.
        source: Change of the job's source for this run; None dreams on the source itself.
    """

    scratch_directory: Path | None = None
    arrangement: tuple[int, int] | None = None
    prepare_source: Callable[[tuple[int, int]], None] = lambda _: None
    source: SourceChange | None = None


class BlockDealer:
    """Deals octaves to the workers, and fills their blocks from the source or from a checkpoint."""

    def __init__(
        self,
        executor: Executor,
        architecture: Architecture,
        objectives: Sequence[Objective],
        options: BlockOptions,
        check_notices: Callable[[], None],
    ) -> None:
        """Store the settings. `check_notices` is called while blocks are filled, and may raise to stop that."""
        self._executor = executor
        self._architecture = architecture
        self._objectives = objectives
        self._options = options
        self._check_notices = check_notices

    def prepare_source(self, octave: Octave) -> None:
        """Prepare the source for an octave, before its blocks are filled."""
        self._options.prepare_source(octave.shape)

    def prepare_programs(self, octaves: Sequence[Octave]) -> None:
        """Have every worker prepare the programs of octaves to come in the background, in this order."""
        by_worker: dict[int, list[Assignment]] = {}
        for octave in octaves:
            for assignment in self._assignments(self._deal(octave).deal):
                by_worker.setdefault(assignment.number, []).append(assignment)
        workers = Workers(self._executor)
        workers.fetch([workers.start(number, RemoteProcess.prepare_octaves, work) for number, work in by_worker.items()])

    def begin(self, octave: Octave, previous: DealtWorkers | None) -> DealtWorkers:
        """Deal an octave, and fill its blocks with the source plus the detail of the octave before.

        Args:
            octave: The octave.
            previous: The workers of the octave before, which hold its detail; None at the first octave.
        """
        workers = self._deal(octave)
        strip_pixels = workers.fetch(
            [
                workers.start(assignment.number, RemoteWorker.begin_octave, assignment)
                for assignment in self._assignments(workers.deal)
            ]
        )
        self._choose_channels(workers)
        if previous is not None:
            self._add_detail(previous, workers, strip_pixels)
            previous.run_all(RemoteWorker.drop_detail)
        return workers

    def load(self, octave: Octave, stored: StoredCanvas) -> DealtWorkers:
        """Deal an octave, and fill its blocks from a checkpoint. Raise `DamagedCheckpoint`."""
        workers = self._deal(octave)
        workers.fetch(
            [
                workers.start(assignment.number, RemoteWorker.load, *stored, assignment)
                for assignment in self._assignments(workers.deal)
            ]
        )
        self._choose_channels(workers)
        return workers

    def _deal(self, octave: Octave) -> DealtWorkers:
        """Deal an octave's tiles to all workers that there are now."""
        nodes = [self._executor.node_of(worker) for worker in range(self._executor.workers)]
        return DealtWorkers(self._executor, Deal.of(octave, nodes, self._options.arrangement))

    def _assignments(self, deal: Deal) -> list[Assignment]:
        """Return every worker's assignment."""
        kernel_inputs, loans = self._kernel_inputs(deal.octave), deal.margin_loans
        return [
            Assignment(
                number,
                deal.octave.index,
                block,
                deal.margins[number],
                loans[number],
                deal.octave.stage,
                kernel_inputs,
                self._options.scratch_directory,
                self._options.source,
            )
            for number, block in enumerate(deal.blocks)
        ]

    def _kernel_inputs(self, octave: Octave) -> tuple[KernelInputs, ...]:
        """Return the kernel's inputs for each region, with no channels chosen."""
        extended_shape = octave.grid.extended_shape
        return tuple(
            KernelInputs(region.objective, self._objectives[region.objective].factors(self._architecture, extended_shape))
            for region in octave.stage.regions
        )

    def _choose_channels(self, workers: DealtWorkers) -> None:
        """Choose the channels of terms that take those which the whole source excites most."""
        kernel_inputs = self._kernel_inputs(workers.deal.octave)
        with_channels = tuple(self._with_channels(workers, region, inputs) for region, inputs in enumerate(kernel_inputs))
        if with_channels != kernel_inputs:
            workers.run_all(RemoteWorker.choose, with_channels)

    def _with_channels(self, workers: DealtWorkers, region: int, kernel_inputs: KernelInputs) -> KernelInputs:
        """Return a region's inputs with the channels of the terms that depend on a sum over the whole source."""
        channels = {}
        for number, term in self._objectives[kernel_inputs.objective].statistics.items():
            tile_sums = workers.run_over_tiles(RemoteWorker.channel_sums, region, number)
            # Added in tile order, so that the total does not depend on the deal.
            total = np.sum([tile.sums for tile in sorted(tile_sums, key=tile_number)], axis=0)
            channels[number] = term.choose(total)
            octave = workers.deal.octave.index + 1
            log.info("octave %d: %s: channels %s", octave, term, ", ".join(map(str, channels[number])))
        return replace(kernel_inputs, chosen=channels) if channels else kernel_inputs

    def _add_detail(self, previous: DealtWorkers, workers: DealtWorkers, strip_pixels: Sequence[int]) -> None:
        """Add the detail of the octave before to every block, in strips so that only a few are in transit at once.

        `strip_pixels` are the most pixels of the strips of each block.
        """
        strips = [
            deque(block.pixels.bands(pixels)) for block, pixels in zip(workers.deal.blocks, strip_pixels, strict=True)
        ]
        in_transit: dict[Promise[None], int] = {}
        idle = deque(worker for worker in range(len(strips)) for _ in range(_STRIPS_IN_FLIGHT))
        while idle or in_transit:
            while idle:
                worker = idle.popleft()
                if strips[worker]:
                    in_transit[_add_strip(previous, workers, worker, strips[worker].popleft())] = worker
            if in_transit:
                ready = workers.wait(in_transit)
                workers.fetch(ready)
                self._check_notices()
                idle.extend(in_transit.pop(promise) for promise in ready)


def _add_strip(previous: DealtWorkers, workers: DealtWorkers, worker: int, rect: Rect) -> Promise[None]:
    """Have a worker add the detail of the octave before to a rectangle of its block."""
    shape, grid = previous.deal.octave.shape, workers.deal.octave.grid
    needed = Rect(
        taps(shape[0], grid.rows.length, rect.rows, grid.rows.mode)[0],
        taps(shape[1], grid.columns.length, rect.columns, grid.columns.mode)[0],
    )
    # Pixels beyond the ends exist only where the axis wraps, so no piece is flipped.
    gathering = Gathering.of(pieces_of(needed, previous.deal.blocks), worker)
    pieces = as_arguments(previous.request_pieces(gathering, RemoteWorker.read_detail))
    return workers.start(worker, RemoteWorker.add_detail, rect, shape, needed, gathering, *pieces)
