"""Sums over the whole canvas that textures need: the conductor's part of a step's first pass."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from render.dreaming.exact_sums import ExactSums
from render.dreaming.gram import unpacked
from render.dreaming.objectives import Objective
from render.farm.conductor.dealt_workers import DealtWorkers
from render.farm.messages import TermMatrices
from render.farm.remote import Promise
from render.farm.worker.interface import RemoteWorker
from render.networks.architecture import Architecture

log = logging.getLogger(__name__)

#: Most tiles of a texture, and of the canvas, in a call.
_TILES_PER_CALL, _CANVAS_TILES_PER_CALL = 8, 4


class TextureMatcher:
    """Measures the textures of an octave once, and its canvas in every step."""

    def __init__(
        self,
        workers: DealtWorkers,
        architecture: Architecture,
        objectives: Sequence[Objective],
        check_notices: Callable[[], None],
    ) -> None:
        """Store the parts; nothing is measured yet.

        Args:
            workers: The workers, whose blocks are filled.
            architecture: The network's architecture.
            objectives: All objectives, to which the octave's regions refer by index.
            check_notices: Called while the canvas is measured; may raise to stop a step.
        """
        self._workers = workers
        self._check_notices = check_notices
        self._architecture = architecture
        self._objectives = tuple(objectives)
        #: Gram matrix of each texture, by the numbers of objective and term.
        self._targets: dict[tuple[int, int], NDArray[np.float64]] = {}

    @property
    def is_needed(self) -> bool:
        """True if a region of the octave has a texture."""
        return any(self._objectives[number].textures for number in self._workers.deal.octave.stage.objectives)

    def match(self, shift: tuple[int, int]) -> list[TermMatrices]:
        """Return the step's matrices of each region's textures, from one pass over the canvas.

        Every worker's margin must be filled.

        Args:
            shift: The step's shift of the network's grid, px.
        """
        self._measure_canvas(shift)
        totals: dict[tuple[int, str], ExactSums] = {}
        for sums in self._workers.run_all(RemoteWorker.canvas_sums):
            for part in sums:
                totals[part.region, part.layer] = part.sums.added_to(totals.get((part.region, part.layer)))
        regions = self._workers.deal.octave.stage.regions
        return [self._matrices(number, region.objective, totals) for number, region in enumerate(regions)]

    def _measure_canvas(self, shift: tuple[int, int]) -> None:
        """Have every worker measure its tiles, a few in each call, so that a request to stop is heard soon."""
        workers = self._workers
        calls = [deque(range(0, block.size, _CANVAS_TILES_PER_CALL)) for block in workers.deal.blocks]

        def start_next(worker: int) -> Promise[list[None]] | None:
            """Start a worker's next call, if tiles are left."""
            if not calls[worker]:
                return None
            first = calls[worker].popleft()
            return workers.start(worker, RemoteWorker.measure_canvas, first, _CANVAS_TILES_PER_CALL, shift)

        for _ in workers.run_queued(start_next):
            self._check_notices()

    def _matrices(self, region: int, objective: int, totals: dict[tuple[int, str], ExactSums]) -> TermMatrices:
        """Return the matrices of one region's textures."""
        matrices = {}
        for number, texture in self._objectives[objective].textures.items():
            target = self._target(objective, number)
            sums = totals.get((region, texture.layer))
            gram, weight = unpacked(sums) if sums is not None else (0.0 * target, 0.0)
            matrices[number] = texture.ascent_matrix(gram, weight, target)
            difference = np.linalg.norm(gram - target) / max(np.linalg.norm(target), np.finfo(float).tiny)
            log.debug("%s: the canvas' matrix differs from its own by %.3g of its size", texture, difference)
        return matrices

    def _target(self, objective: int, number: int) -> NDArray[np.float64]:
        """Return the Gram matrix of a texture at the octave's size, measured by all workers."""
        if (objective, number) not in self._targets:
            workers, texture = self._workers, self._objectives[objective].textures[number]
            grid = texture.grid(workers.deal.octave.grid, self._architecture.layer(texture.layer))
            calls = [
                workers.start(
                    workers.numbers[call % len(workers.numbers)],
                    RemoteWorker.texture_sums,
                    objective,
                    number,
                    first,
                    _TILES_PER_CALL,
                )
                for call, first in enumerate(range(0, grid.tiles, _TILES_PER_CALL))
            ]
            first_sums, *more = workers.fetch(calls)
            for sums in more:
                first_sums = first_sums.plus(sums)
            self._targets[objective, number] = unpacked(first_sums)[0]
            rows, columns = grid.canvas.shape
            octave = workers.deal.octave.index + 1
            log.info("octave %d: %s: measured at %d x %d px", octave, texture, columns, rows)
        return self._targets[objective, number]
