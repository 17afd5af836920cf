"""The steps of one octave: gradient, filters, divisors, update."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import numpy as np

from render.dreaming.ascent import jitter
from render.dreaming.filters import laplacian_gains
from render.dreaming.objectives import Objective
from render.farm.conductor.dealt_workers import DealtWorkers
from render.farm.conductor.divisors import mean_divisor, region_divisors
from render.farm.conductor.textures import TextureMatcher
from render.farm.events import TilesDone
from render.farm.messages import GradientReport, GradientSums, tile_number
from render.farm.remote import Promise, as_arguments
from render.farm.worker.interface import LentPixels, RemoteWorker
from render.networks.architecture import Architecture
from render.planning.deal import Deal, tiles_a_call

#: For every worker, the loans of its margin's owners, in the margin's order.
Loans = list[list[Promise[LentPixels]]]


class OctaveStepper:
    """Steps the workers that hold an octave's blocks."""

    def __init__(
        self,
        workers: DealtWorkers,
        architecture: Architecture,
        objectives: Sequence[Objective],
        check_notices: Callable[[], None],
        steps_done: int = 0,
    ) -> None:
        """Store the settings.

        Args:
            workers: The workers, whose blocks are filled.
            architecture: The network's architecture.
            objectives: All objectives, to which the octave's regions refer by index.
            check_notices: Called while gradients are computed; may raise to stop a step.
            steps_done: Number of steps that the canvas has behind it.
        """
        self.workers = workers
        #: Steps done while the canvas is whole; None while some workers have updated and others have not.
        self.steps_done: int | None = steps_done
        self._architecture = architecture
        self._objectives = objectives
        self._check_notices = check_notices
        self._textures = TextureMatcher(workers, architecture, objectives, check_notices)
        #: Loans for the next step, if already requested.
        self._loans: Loans | None = None
        #: Updates that have been started but not yet checked for errors.
        self._updates: list[Promise[object]] = []
        #: Tiles to ask each worker for at once, from the time that the last ones took.
        self._tiles_per_call: dict[int, int] = {}

    @property
    def deal(self) -> Deal:
        """The octave, and its blocks."""
        return self.workers.deal

    def step(self, seed: int, step: int) -> Generator[TilesDone, None, float]:
        """Update the whole canvas once.

        Args:
            seed: Seed of the jitter.
            step: Index of the step, from 0.

        Returns:
            The mean over all regions of mean|g|, or of the normalisation in use.
        """
        octave = self.deal.octave
        shift = jitter(seed, octave.index, step, octave.grid.rows.stride, octave.stage.jitter)
        sums = yield from self._compute_gradient(step, shift)
        if octave.stage.conditioning.filters:
            sums = self._filter()
        divisors = region_divisors(octave, step, sums, self._objectives, self._architecture)
        self.steps_done = None
        if step + 1 < octave.steps:
            # No need to wait: a worker runs its next call after its update.
            self._loans = self._update_and_request_loans(step, divisors)
        else:
            self._updates = [
                self.workers.start(worker, RemoteWorker.update, step, divisors) for worker in self.workers.numbers
            ]
            self.settle_updates()
        self.steps_done = step + 1
        return mean_divisor(divisors)

    def settle_updates(self) -> None:
        """Raise the errors of updates. A worker that lacked memory for one is alive, but its canvas is wrong."""
        updates, self._updates = self._updates, []
        self.workers.fetch(updates)

    def _compute_gradient(self, step: int, shift: tuple[int, int]) -> Generator[TilesDone, None, list[GradientSums]]:
        """Compute the gradient of every block on its worker. Return the sums of all tiles, in any order."""
        sums: list[GradientSums] = []
        blocks = self.deal.blocks
        next_tiles = [0] * len(blocks)
        # Request all loans before any worker begins, so that no worker waits for another that waits.
        loans, self._loans = self._loans or self._request_loans(), None
        if self._textures.is_needed:
            self._match_textures(shift, loans)

        def start_next(worker: int) -> Promise[GradientReport] | None:
            """Start a worker's next call, if tiles are left."""
            first, count = next_tiles[worker], self._tiles_per_call.get(worker, 1)
            if first >= blocks[worker].size:
                return None
            next_tiles[worker] += count
            if first or self._textures.is_needed:
                return self.workers.start(worker, RemoteWorker.compute_gradient, step, shift, first, count)
            return self.workers.start(worker, RemoteWorker.begin_step, step, shift, count, *as_arguments(loans[worker]))

        def note_report(worker: int, report: GradientReport) -> None:
            """Add a call's sums, and set how many tiles the worker's next call has."""
            sums.extend(report.sums)
            self._tiles_per_call[worker] = next_tile_count(report)

        for reports in self.workers.run_queued(start_next, note_report):
            yield TilesDone(self.deal.octave, sum(report.tiles for report in reports))
            self._check_notices()
        self.settle_updates()
        return sums

    def _match_textures(self, shift: tuple[int, int], loans: Loans) -> None:
        """Fill every margin, measure the canvas, and give the workers the matrices that follow."""
        workers = self.workers
        workers.fetch(
            [
                workers.start(worker, RemoteWorker.begin_measuring, *as_arguments(loans[worker]))
                for worker in workers.numbers
            ]
        )
        workers.run_all(RemoteWorker.set_matrices, self._textures.match(shift))

    def _request_loans(self) -> Loans:
        """Return promises of the pixels that every worker's margin borrows from others."""
        loans: dict[tuple[int, str], Promise[LentPixels]] = {}
        for owner, by_place in enumerate(self.deal.loans):
            if by_place:
                parts = self.workers.start_parts(owner, len(by_place), RemoteWorker.lend)
                loans |= {(owner, place): part for place, part in zip(by_place, parts, strict=True)}
        return self._by_borrower(loans)

    def _update_and_request_loans(self, step: int, divisors: Sequence[float]) -> Loans:
        """Start every worker's update, and then the loans for the next step, in one call where a worker lends."""
        loans: dict[tuple[int, str], Promise[LentPixels]] = {}
        for owner, by_place in enumerate(self.deal.loans):
            if by_place:
                parts_count = len(by_place) + 1
                *parts, update = self.workers.start_parts(owner, parts_count, RemoteWorker.update_and_lend, step, divisors)
                self._updates.append(update)
                loans |= {(owner, place): part for place, part in zip(by_place, parts, strict=True)}
            else:
                self._updates.append(self.workers.start(owner, RemoteWorker.update, step, divisors))
        return self._by_borrower(loans)

    def _by_borrower(self, loans: dict[tuple[int, str], Promise[LentPixels]]) -> Loans:
        """Sort loans, which are by owner and place, into those that each worker's margin needs."""
        return [
            [loans[owner, self.deal.nodes[borrower]] for owner, _ in margin.others]
            for borrower, margin in enumerate(self.deal.margins)
        ]

    def _filter(self) -> list[GradientSums]:
        """Exchange the gradients around blocks, filter the gradient, and return the sums of the filtered gradient."""
        workers, stage = self.workers, self.deal.octave.stage
        pieces_by_worker = [
            as_arguments(workers.request_pieces(gathering, RemoteWorker.read_gradient))
            for gathering in self.deal.filter_rings
        ]
        workers.fetch(
            [
                workers.start(worker, RemoteWorker.fill_gradient, gathering, *pieces)
                for worker, (gathering, pieces) in enumerate(zip(self.deal.filter_rings, pieces_by_worker, strict=True))
            ]
        )
        gains: list[Sequence[float]] = [()] * len(stage.regions)
        if stage.conditioning.laplacian:
            level_sums = sorted(workers.run_over_tiles(RemoteWorker.level_sums), key=tile_number)
            for region in range(len(gains)):
                levels = [tile.sums for tile in level_sums if tile.number == region]
                gains[region] = laplacian_gains(np.sum(levels, axis=0)) if levels else ()
        return workers.run_over_tiles(RemoteWorker.filter, gains)


def next_tile_count(report: GradientReport) -> int:
    """Return how many tiles to ask a worker for next, from the time that the last ones took."""
    count = tiles_a_call(report.seconds / max(1, report.tiles))
    # A multiple of the worker's devices, so that none is idle.
    return -(-count // report.tiles_at_once) * report.tiles_at_once
