"""Sums over the whole canvas that textures need before each step's gradient, and the matrices that follow."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from render.dreaming.exact_sums import ExactSums
from render.dreaming.gram import packed_size, unpacked
from render.farm.messages import StepOrders, TermMatrices
from render.farm.peers.group import Group, Order

if TYPE_CHECKING:
    from render.farm.worker.worker import Worker

log = logging.getLogger(__name__)

#: Tiles of a texture, and of the canvas, between two looks at whether the step is given up.
_TILES_PER_LOOK, _CANVAS_TILES_PER_LOOK = 8, 4

#: Gram matrices of textures at an octave's size, by the numbers of objective and term.
Targets = dict[tuple[int, int], NDArray[np.float64]]


class TextureMatcher:
    """One worker's part in matching textures. The root adds up what all have measured, and all get its matrices."""

    def __init__(
        self,
        worker: Worker,
        group: Group,
        orders: StepOrders,
        targets: Targets,
    ) -> None:
        """Store the parts; nothing is measured yet.

        Args:
            worker: Holds the block.
            group: The worker's connections.
            orders: What the steps are.
            targets: Matrices of this octave's textures that are known already; the root adds to them.
        """
        self._worker = worker
        self._group = group
        self._orders = orders
        self._targets = targets

    @property
    def is_needed(self) -> bool:
        """True if a region of the octave has a texture."""
        return any(self._worker.objectives[number].textures for number in self._orders.octave.stage.objectives)

    def measure_targets(self) -> None:
        """Measure the textures at the octave's size that the root does not know yet. Raise `Abandoned`."""
        keys = [
            [objective, term]
            for objective in dict.fromkeys(self._orders.octave.stage.objectives)
            for term in self._worker.objectives[objective].textures
        ]
        missing = [key for key in keys if tuple(key) not in self._targets]
        order = Order(values=missing) if self._group.is_root else None
        for objective, term in self._group.order(order).values:
            self._measure_target(objective, term)

    def match(self, shift: tuple[int, int]) -> None:
        """Measure the canvas, and give the kernel the step's matrices. The margin must be filled. Raise `Abandoned`.

        Args:
            shift: The step's shift of the network's grid, px.
        """
        worker, size = self._worker, self._worker.arrays.block.size
        worker.measurer.begin()
        for first in range(0, size, _CANVAS_TILES_PER_LOOK):
            worker.measure_canvas(first, _CANVAS_TILES_PER_LOOK, shift)
            self._group.check()
        measured = {(part.region, part.layer): part.sums for part in worker.canvas_sums()}
        regions = self._orders.octave.stage.regions
        totals = {
            (number, layer): self._reduced(measured.get((number, layer)), layer)
            for number, region in enumerate(regions)
            for layer in self._worker.objectives[region.objective].measured_layers
        }
        order = None
        if self._group.is_root:
            matrices = {
                (number, term): matrix
                for number, region in enumerate(regions)
                for term, matrix in self._matrices(number, region.objective, totals).items()
            }
            order = Order(values=[*map(list, matrices)], arrays=tuple(matrices.values()))
        received = self._group.order(order)
        by_region: list[dict[int, NDArray[np.float32]]] = [{} for _ in regions]
        for (number, term), matrix in zip(received.values, received.arrays, strict=True):
            by_region[number][term] = matrix
        worker.set_matrices(by_region)

    def _measure_target(self, objective: int, term: int) -> None:
        """Measure a texture, each worker some of its tiles; the root stores its Gram matrix."""
        octave, team = self._orders.octave, self._group.team
        texture = self._worker.objectives[objective].textures[term]
        grid = texture.grid(octave.grid, self._worker.architecture.layer(texture.layer))
        total: ExactSums | None = None
        for first in range(team.number * _TILES_PER_LOOK, grid.tiles, team.size * _TILES_PER_LOOK):
            total = self._worker.texture_sums(objective, term, first, _TILES_PER_LOOK).added_to(total)
            self._group.check()
        sums = self._reduced(total, texture.layer)
        if self._group.is_root:
            self._targets[objective, term] = unpacked(sums)[0]
            rows, columns = grid.canvas.shape
            log.info("octave %d: %s: measured at %d x %d px", octave.index + 1, texture, columns, rows)

    def _reduced(self, measured: ExactSums | None, layer: str) -> ExactSums:
        """Return the sums of a layer over all workers at the root; `measured` is None if this one has measured no tile."""
        size = packed_size(self._worker.architecture.layer(layer).channels)
        words = np.zeros((2, size), np.int64) if measured is None else np.stack([measured.high, measured.low])
        return ExactSums(*self._group.reduce(words, _added))

    def _matrices(self, region: int, objective: int, totals: dict[tuple[int, str], ExactSums]) -> TermMatrices:
        """Return the matrices of one region's textures."""
        matrices = {}
        for number, texture in self._worker.objectives[objective].textures.items():
            target = self._targets[objective, number]
            gram, weight = unpacked(totals[region, texture.layer])
            matrices[number] = texture.ascent_matrix(gram, weight, target)
            difference = np.linalg.norm(gram - target) / max(np.linalg.norm(target), np.finfo(float).tiny)
            log.debug("%s: the canvas' matrix differs from its own by %.3g of its size", texture, difference)
        return matrices


def _added(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sums of two pairs of words: (2, n) int64 each."""
    total = ExactSums(*first).plus(ExactSums(*second))
    return np.stack([total.high, total.low])
