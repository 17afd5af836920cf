"""Steps of one worker's block, in time with the other workers: all run the same program, and the root decides for all.

The driver takes no part in a step. For each, every worker exchanges margins with its neighbours, computes its tiles, sends
their sums up to the root, and moves its pixels by the divisors that come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from render.dreaming.ascent import jitter
from render.dreaming.filters import laplacian_gains
from render.dreaming.resample import Pixels
from render.farm.divisors import mean_divisor, region_divisors
from render.farm.messages import GradientReport, GradientSums, StepOrders, TileSums, tile_number
from render.farm.peers.group import Abandoned, Group, Order, StepReport
from render.farm.worker.margins import MarginExchange
from render.farm.worker.textures import TextureMatcher
from render.geometry.blocks import Gathering
from render.geometry.geometry import PIXEL_BYTES, Rect
from render.planning.deal import tiles_a_call

if TYPE_CHECKING:
    from render.farm.worker.worker import Worker

#: Tiles between two looks at whether the step is given up, where no kernel runs.
_TILES_PER_LOOK = 16
#: Seconds between two reports of the root on a step that is not done.
_REPORT_S = 0.25


class Stepping:
    """The steps that one worker takes in time with the others."""

    def __init__(
        self,
        worker: Worker,
        group: Group,
        orders: StepOrders,
        textures: TextureMatcher,
    ) -> None:
        """Store the parts.

        Args:
            worker: Holds the block, which is filled.
            group: The worker's connections.
            orders: What to do.
            textures: Measures the canvas, if an objective needs it.
        """
        self._worker = worker
        self._group = group
        self._orders = orders
        self._textures = textures
        self._margin = MarginExchange(worker.arrays, group)
        self._tiles_at_once = 1
        self._next_report = 0.0

    def run(self) -> int:
        """Take steps until all are done or the driver asks to stop. Return the number of steps that the canvas has then.

        Raises:
            PeerLost: Another worker has gone.
            RenderError: See `divisors.region_divisors` and `Worker.compute_gradient`.
        """
        steps_done = self._orders.first
        try:
            if self._textures.is_needed:
                self._textures.measure_targets()
            while steps_done < self._orders.stop:
                goes_on = self._step(steps_done)
                steps_done += 1
                if not goes_on:
                    break
        except Abandoned:
            pass
        finally:
            self._margin.close()
        return steps_done

    def _step(self, step: int) -> bool:
        """Update the canvas once. Return False if it is the last step for now."""
        worker, group, octave = self._worker, self._group, self._orders.octave
        begun = time.perf_counter()
        shift = jitter(self._orders.seed, octave.index, step, octave.grid.rows.stride, octave.stage.jitter)
        with worker.timer.phase("margin"):
            worker.count_sent(self._margin.bytes_lent)
            self._margin.begin()
        if self._textures.is_needed:
            self._finish_margin()
            self._textures.match(shift)
        sums = self._compute_gradient(step, shift)
        self._finish_margin()
        if octave.stage.conditioning.filters:
            sums = self._filter()
        all_sums = self._gathered_sums(sums)
        order = None
        if all_sums is not None:
            group.check()
            divisors = region_divisors(octave, step, all_sums, self._worker.objectives, self._worker.architecture)
            order = Order(goes_on=not group.stops_soon, values=divisors)
        order = group.order(order)
        worker.update(step, order.values)
        goes_on = order.goes_on and step + 1 < self._orders.stop
        if group.is_root:
            seconds = time.perf_counter() - begun
            group.report(StepReport(step, 1.0, True, goes_on, mean_divisor(order.values), seconds))
        return goes_on

    def _finish_margin(self) -> None:
        with self._worker.timer.phase("margin"):
            self._margin.finish()

    def _compute_gradient(self, step: int, shift: tuple[int, int]) -> list[GradientSums]:
        """Compute the gradient of all tiles, a few at a time, as their windows are filled. Return their sums.

        Raises:
            PeerLost: A neighbour has gone.
            Abandoned: The step is given up.
        """
        worker = self._worker
        sums: list[GradientSums] = []
        left = list(worker.arrays.block.tiles())
        size = len(left)
        while left:
            with worker.timer.phase("margin"):
                tiles = self._margin.ready_tiles(left)[: self._tiles_at_once]
            report = worker.compute_gradient(step, shift, tiles)
            sums += report.sums
            computed = set(tiles)
            left = [tile for tile in left if tile not in computed]
            self._tiles_at_once = next_tile_count(report)
            self._look(step, 1 - len(left) / size)
        return sums

    def _filter(self) -> list[GradientSums]:
        """Exchange the gradients around blocks, filter the gradient, and return the sums of the filtered gradient."""
        worker, group, stage = self._worker, self._group, self._orders.octave.stage
        regions, ring = len(stage.regions), self._orders.ring
        with worker.timer.phase("filter"):
            lent = {borrower: worker.read_gradient(rects) for borrower, rects in self._orders.ring_loans.items()}
            received = group.exchange(lent, _incoming(ring, regions))
            worker.fill_gradient(ring, *(_parts(received[owner], pieces, regions) for owner, pieces in _rects(ring)))
        gains: list[Sequence[float]] = [()] * regions
        if stage.conditioning.laplacian:
            gains = self._level_gains()
        return self._by_tiles(lambda first, count: worker.filter(first, count, gains))

    def _level_gains(self) -> list[Sequence[float]]:
        """Return the gains of the Laplacian pyramid's levels, by region, from the energy of the whole gradient's levels."""
        stage = self._orders.octave.stage
        energies = self._by_tiles(self._worker.level_sums)
        columns = 2 + 2 * (stage.conditioning.laplacian + 1)
        rows = np.zeros((len(energies), columns))
        for row, part in zip(rows, energies, strict=True):
            row[:2] = part.tile, part.number
            row[2:] = part.sums.ravel()
        gathered = self._group.gather(rows, self._most_rows)
        order = None
        if gathered is not None:
            order = Order(values=[_gains(gathered, region) for region in range(len(stage.regions))])
        return list(self._group.order(order).values)

    def _gathered_sums(self, sums: Sequence[GradientSums]) -> list[GradientSums] | None:
        """Return the sums of all workers' tiles at the root, None elsewhere."""
        width = 3 if self._orders.octave.stage.conditioning.normalize == "mean_abs" else 4
        rows = np.array([(part.tile, part.region, *part.sums) for part in sums], np.float64).reshape(-1, 1 + width)
        gathered = self._group.gather(rows, self._most_rows)
        if gathered is None:
            return None
        return [GradientSums(int(tile), int(region), tuple(values)) for tile, region, *values in gathered.tolist()]

    def _by_tiles(self, work: Callable[[int, int], Sequence[TileSums | GradientSums]]) -> list:
        """Do work on all tiles, a few at a time, and return the results in tile order. Raise `Abandoned`."""
        results: list = []
        for first in range(0, self._worker.arrays.block.size, _TILES_PER_LOOK):
            results += work(first, _TILES_PER_LOOK)
            self._group.check()
        return results

    @property
    def _most_rows(self) -> int:
        """Number of tiles of the canvas, for each region."""
        return self._orders.octave.grid.tiles * len(self._orders.octave.stage.regions)

    def _look(self, step: int, share: float) -> None:
        """Give the step up if that is asked for; else the root reports now and then which share of its tiles is done."""
        self._group.check()
        if self._group.is_root and (now := time.monotonic()) >= self._next_report:
            self._group.report(StepReport(step, share))
            self._next_report = now + _REPORT_S


def next_tile_count(report: GradientReport) -> int:
    """Return how many tiles to compute before the next look, from the time that the last ones took."""
    count = tiles_a_call(report.seconds / max(1, report.tiles))
    # A multiple of the worker's devices, so that none is idle.
    return -(-count // report.tiles_at_once) * report.tiles_at_once


def _gains(rows: NDArray[np.float64], region: int) -> list[float]:
    """Return the gains of a region's levels from the rows of all tiles, added in tile order."""
    levels = sorted(
        (TileSums(int(row[0]), region, row[2:].reshape(-1, 2)) for row in rows if row[1] == region), key=tile_number
    )
    return [float(gain) for gain in laplacian_gains(np.sum([part.sums for part in levels], axis=0))] if levels else []


def _rects(gathering: Gathering) -> Iterator[tuple[int, list[Rect]]]:
    """Yield each other owner in a gathering, with the rectangles that come from it."""
    for owner, pieces in gathering.others:
        yield owner, [piece.source for piece in pieces]


def _incoming(gathering: Gathering, regions: int) -> dict[int, int]:
    """Return the bytes that come from each other owner in a gathering."""
    return {owner: PIXEL_BYTES * regions * sum(rect.area for rect in rects) for owner, rects in _rects(gathering)}


def _parts(payload: memoryview, rects: Sequence[Rect], regions: int) -> list[Pixels]:
    """Return the pixels of a frame, for each region of each rectangle: (rows, columns, 3) float32."""
    values, parts, start = np.frombuffer(payload, np.float32), [], 0
    for rect in [*rects] * regions:
        parts.append(values[start : start + 3 * rect.area].reshape(*rect.shape, 3))
        start += 3 * rect.area
    return parts
