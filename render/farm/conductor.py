"""Conductor: steps the workers through the plan, saves, and resumes from the last checkpoint when workers are lost.

Holds numbers and references, never pixels of the canvas (except for small previews).
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from render.dreaming.ascent import jitter, statistic
from render.dreaming.filters import laplacian_gains
from render.dreaming.objectives import KernelInputs, Objective
from render.dreaming.resample import taps
from render.dreaming.stage import Stage
from render.errors import DamagedCheckpoint, NumericalError, RenderError, UrgentInterrupt, UserError, WorkersLost
from render.farm.checkpoint import Checkpoint, Checkpoints, Fixed, OctaveHistory
from render.farm.events import (
    Event,
    Noticed,
    OctaveDone,
    OctaveStarted,
    Recovered,
    Saved,
    StepDone,
    TilesDone,
)
from render.farm.executors import Executor, Reference
from render.farm.messages import Ascended, Assignment, TileSum, TileSums
from render.farm.notice import Notice
from render.farm.worker.block import CANVAS, moment_parts
from render.geometry.blocks import Block, Gathering, chunk_extent, deal_blocks, margin_pieces, pieces_of
from render.geometry.geometry import CHUNK, Rect
from render.networks.architecture import Architecture
from render.planning.deal import Deal, tiles_a_call
from render.planning.plan import Octave, Plan

log = logging.getLogger(__name__)

#: Longest side of a preview picture, px.
PREVIEW_SIDE = 1024
#: Calls queued at each worker, so that it does not wait for the conductor.
_QUEUED = 2
#: Tiles in a call that runs no kernel, or only its first half.
_TILES_A_PASS = 16
_SHARED = "output.dir must be on a disk that all workers' machines share"
#: Parts of an octave change that are in transit at once, for each worker.
_PARTS_IN_FLIGHT = 3


@dataclass(frozen=True)
class Saving:
    """Checkpoints, seconds between saves (0: after every step), and the values that a resumed run must match."""

    checkpoints: Checkpoints
    every: float
    fixed: Fixed


class _MachinesGo(Exception):
    """Machines of workers are about to go, so the current work is given up."""

    def __init__(self, notices: Sequence[Notice]) -> None:
        super().__init__("; ".join(sorted({str(notice) for notice in notices})))
        self.workers = sorted({number for notice in notices for number in notice.workers})


class Conductor:
    """Runner of a plan on an executor's workers."""

    def __init__(
        self,
        plan: Plan,
        architecture: Architecture,
        objectives: Sequence[Objective],
        executor: Executor,
        saving: Saving | None = None,
        scratch_directory: Path | None = None,
        arrangement: tuple[int, int] | None = None,
        prepare: Callable[[tuple[int, int]], None] = lambda _: None,
    ) -> None:
        """Store the settings; nothing starts before `run`.

        Args:
            plan: The octaves to dream.
            architecture: The network's architecture.
            objectives: All objectives, to which the stages' regions refer by index.
            executor: The workers.
            saving: Where and how often to save; None never saves.
            scratch_directory: Directory of files that hold the workers' blocks; None keeps blocks in memory.
            arrangement: Requested (rows, columns) of blocks, used while there are enough workers.
            prepare: Called with an octave's shape before any worker asks the source for its pixels.
        """
        self._plan = plan
        self._architecture = architecture
        self._objectives = tuple(objectives)
        self._executor = executor
        self._saving = saving
        self._scratch = scratch_directory
        self._arrangement = arrangement
        self._prepare = prepare
        self._deal: Deal | None = None
        self._saved_at = time.monotonic()
        #: Steps done of the current octave while the canvas is whole; None between octaves.
        self._steps: int | None = None
        #: Loans between the workers for the next step, if already requested.
        self._lent: list[list[Reference]] | None = None
        #: Updates that have been started but not yet checked for errors.
        self._updates: list[Reference] = []
        #: Tiles to ask each worker for at once, from the time that the last ones took.
        self._tiles_a_call: dict[int, int] = {}
        #: History of every octave begun so far.
        self.history: list[OctaveHistory] = []

    def _places(self) -> list[str]:
        """Return the place of every worker, by number."""
        return [self._executor.place(worker) for worker in range(self._executor.workers)]

    def run(self, seed: int) -> Iterator[Event]:
        """Dream every octave and yield events. The finished canvas stays with the workers until `release`.

        With checkpoints, start from the newest intact one. After a loss of workers, repair the farm and resume from the
        newest checkpoint. New workers get their share at the next checkpoint or octave. Save the canvas before machines go,
        and on KeyboardInterrupt.

        Raises:
            NumericalError: A gradient is not finite.
            UserError: The gradient is zero everywhere, or the farm cannot be repaired.
        """
        while True:
            try:
                if (yield from self._dream(seed)):
                    return
            except WorkersLost as lost:
                yield self._mend(str(lost))
            except _MachinesGo as going:
                yield self._part_with(going)
            except UrgentInterrupt:
                raise
            except KeyboardInterrupt:
                self._save_before_leaving()
                raise

    def release(self) -> None:
        """Release the workers' blocks. From now on only the last save is needed."""
        deal, self._deal, self._steps = self._current, None, None
        try:
            self._everyone("release", deal)
        except WorkersLost as lost:
            log.warning("a worker was lost after its work was saved: %s", lost)

    def preview(self) -> np.ndarray:
        """Return the current canvas, shrunk by a whole number to at most 1024 px: uint8 RGB."""
        deal = self._current
        height, width = deal.octave.shape
        factor = -(-max(height, width) // PREVIEW_SIDE)
        small = np.zeros((-(-height // factor), -(-width // factor), 3), np.uint8)
        for rect, pixels in self._everyone("thumbnail", deal, factor):
            small[slice(*rect.rows), slice(*rect.columns)] = pixels
        return small

    def _dream(self, seed: int) -> Generator[Event, None, bool]:
        """Dream to the end. Return False if stopped at a checkpoint, to resume from it with more workers."""
        resumed = self._resume()
        first = self._deal.octave.index if resumed and self._deal else 0
        for octave in self._plan.octaves[first:]:
            if not (resumed and octave.index == first):
                self._begin(octave)
            assert self._steps is not None
            yield OctaveStarted(octave, len(self._current.blocks), self._steps)
            for step in range(self._steps, octave.steps):
                start = time.perf_counter()
                mean = yield from self._step(seed, step)
                seconds = time.perf_counter() - start
                self._record(mean, seconds)
                yield StepDone(octave, step, mean, seconds)
                if self._saving and step + 1 < octave.steps and time.monotonic() - self._saved_at >= self._saving.every:
                    yield replace(self._save(), preview=self.preview())
                    if self._grow():
                        return False
            if self._saving and not self._is_saved():
                yield self._save()
            yield OctaveDone(octave, self.preview())
        return True

    def _grow(self) -> bool:
        """Add workers that are ready to join, if the tiles make blocks for more workers. Return True if any joined."""
        deal, joining = self._current, self._executor.joining()
        blocks = deal_blocks(deal.octave.grid, self._executor.workers + joining, self._arrangement) if joining else ()
        if len(blocks) <= len(deal.blocks):
            return False
        joined = self._executor.grow()
        if joined:
            log.info("%d more workers from the checkpoint on: %d in all", joined, self._executor.workers)
        return bool(joined)

    def _heed(self) -> None:
        notices = self._executor.notices()
        if notices:
            raise _MachinesGo(notices)

    def _part_with(self, going: _MachinesGo) -> Noticed:
        """Save the canvas if possible, and release the workers whose machines are about to go."""
        log.warning("machines of %d workers are about to go: %s", len(going.workers), going)
        saved = self._save_before_leaving()
        self._executor.retire(going.workers)
        log.info("going on with %d workers", self._executor.workers)
        return Noticed(str(going), len(going.workers), self._executor.workers, saved)

    def _begin(self, octave: Octave) -> None:
        """Give every worker its block: the source at this octave plus the detail of the octave before."""
        self._prepare(octave.shape)
        self._steps = None
        previous = self._deal
        if previous is not None:
            self._everyone("end_octave", previous)
        joined = self._executor.grow()
        if joined:
            log.info("%d more workers from octave %d on: %d in all", joined, octave.index + 1, self._executor.workers)
        deal = self._deal = Deal.of(octave, self._places(), self._arrangement)
        self._tiles_a_call, self._lent = {}, None
        self._give(deal, "begin_octave")
        if previous is not None:
            self._add_detail(previous, deal)
            self._everyone("drop_detail", previous)
        self.history = [*self.history[: octave.index], OctaveHistory(*octave.shape)]
        self._steps = 0

    def _give(self, deal: Deal, method: str, *arguments: object) -> None:
        """Give every worker its block by `begin_octave` or `load`, then choose the most excited channels."""
        stage, grid = deal.octave.stage, deal.octave.grid
        kernel_inputs = tuple(
            KernelInputs(
                region.objective, self._objectives[region.objective].divisors(self._architecture, grid.extended_shape)
            )
            for region in stage.regions
        )
        self._executor.fetch(
            [
                self._executor.call(
                    worker,
                    method,
                    *arguments,
                    Assignment(
                        worker,
                        deal.octave.index,
                        block,
                        deal.margins[worker],
                        tuple(deal.loans[worker].values()),
                        stage,
                        kernel_inputs,
                        self._scratch,
                    ),
                )
                for worker, block in enumerate(deal.blocks)
            ]
        )
        chosen_inputs = tuple(self._choose(deal, region, inputs) for region, inputs in enumerate(kernel_inputs))
        if chosen_inputs != kernel_inputs:
            self._everyone("choose", deal, chosen_inputs)

    def _choose(self, deal: Deal, region: int, given: KernelInputs) -> KernelInputs:
        """Return `given` with the channels of the terms that depend on a sum over the whole source."""
        channels = {}
        for number, term in self._objectives[given.objective].statistics.items():
            tile_sums: list[TileSums] = self._over_tiles(deal, "channel_sums", region, number)
            total = np.sum([tile.sums for tile in sorted(tile_sums, key=_in_tile_order)], axis=0)
            channels[number] = term.choose(total)
            log.info("octave %d: %s: channels %s", deal.octave.index + 1, term, ", ".join(map(str, channels[number])))
        return replace(given, chosen=channels) if channels else given

    def _add_detail(self, before: Deal, deal: Deal) -> None:
        """Add the detail of the octave before to every block, in strips so that only a few are in transit at once."""
        strips = [deque(block.pixels.bands()) for block in deal.blocks]
        on_their_way: dict[Reference, int] = {}
        idle = deque(worker for worker in range(len(strips)) for _ in range(_PARTS_IN_FLIGHT))
        while idle or on_their_way:
            while idle:
                worker = idle.popleft()
                if strips[worker]:
                    on_their_way[self._add_strip(before, deal, worker, strips[worker].popleft())] = worker
            if on_their_way:
                ready = self._executor.wait(list(on_their_way))
                self._executor.fetch(ready)
                self._heed()
                idle.extend(on_their_way.pop(reference) for reference in ready)

    def _add_strip(self, before: Deal, deal: Deal, worker: int, rect: Rect) -> Reference:
        shape, grid = before.octave.shape, deal.octave.grid
        needed = Rect(
            taps(shape[0], grid.rows.length, rect.rows, grid.rows.mode)[0],
            taps(shape[1], grid.columns.length, rect.columns, grid.columns.mode)[0],
        )
        # Pixels beyond the ends exist only where the axis wraps, so no piece is flipped.
        gathering = Gathering.of(pieces_of(needed, before.blocks), worker)
        parts = self._parts("read_detail", gathering)
        return self._executor.call(worker, "add_detail", rect, shape, needed, gathering, *parts)

    def _parts(self, method: str, gathering: Gathering, *arguments: object) -> list[Reference]:
        """Return references to the pixels that a gathering needs from other workers."""
        return [
            self._executor.call(owner, method, [piece.source for piece in pieces], *arguments)
            for owner, pieces in gathering.others
        ]

    def _step(self, seed: int, step: int) -> Generator[TilesDone, None, float]:
        """Update the whole canvas once. Return the mean over all regions of mean|g|, or of the normalisation in use."""
        deal, stage = self._current, self._current.octave.stage
        shift = jitter(seed, deal.octave.index, step, deal.octave.grid.rows.stride, stage.jitter)
        sums = yield from self._gradient(deal, step, shift)
        if stage.conditioning.filters:
            sums = self._filter(deal)
        statistics = self._statistics(deal, step, sums)
        # After an interruption here, some workers have updated and others have not.
        self._steps = None
        if step + 1 < deal.octave.steps:
            # No need to wait: a worker runs its next call after its update.
            self._lent = self._lend(deal, step, statistics)
        else:
            self._updates = [self._executor.call(worker, "update", step, statistics) for worker in range(len(deal.blocks))]
            self._settle_updates()
        self._steps = step + 1
        counted = [value for value in statistics if value]
        return sum(counted) / len(counted)

    def _statistics(self, deal: Deal, step: int, sums: Sequence[TileSum]) -> tuple[float, ...]:
        """Return the divisor of each region's gradient.

        It is 0 for a region that has no part in this step: its mask is empty at this octave's size, or nothing under the
        mask excites its objective. Raise `UserError` if that is so for all regions.
        """
        stage, at = deal.octave.stage, f"octave {deal.octave.index + 1}, step {step + 1}"
        divisors, reasons = [], []
        for number, region in enumerate(stage.regions):
            objective = self._objectives[region.objective]
            # Summed in tile order, so that the total does not depend on the deal or on which worker finished first.
            totals = [0.0, 0.0] if stage.conditioning.normalize == "mean_abs" else [0.0, 0.0, 0.0]
            for tile in sorted(tile_sum for tile_sum in sums if tile_sum.region == number):
                totals = [total + part for total, part in zip(totals, tile.sums, strict=True)]
            support = objective.support(self._architecture, deal.octave.shape)
            if totals[-1] > 0:
                # The share of the pixels that count, which are fewer than the canvas' under a mask.
                support = min(1.0, support * 3 * deal.octave.grid.canvas.area / totals[-1])
            divisor = statistic(totals, stage.conditioning.normalize, support)
            if divisor == 0.0 and totals[-1] > 0:
                reasons.append(f"nothing in the picture excites {objective}")
            if divisor and not math.isfinite(stage.step_size / divisor):
                raise NumericalError(f"the gradient is too small to follow at {at}: mean|g| is {divisor:.3g}")
            divisors.append(divisor)
        if any(divisors):
            for reason in reasons:
                log.warning("%s: %s under its mask", at, reason)
            return tuple(divisors)
        if reasons:
            raise UserError(
                f"the gradient is zero everywhere at {at}: {'; '.join(reasons)}; choose another layer or channel, or start "
                "from another image"
            )
        raise UserError(f"the masks show nothing at {at}: draw them larger, or take fewer octaves.count")

    def _filter(self, deal: Deal) -> list[TileSum]:
        """Exchange the gradients around blocks, filter the gradient, and return the sums of the filtered gradient."""
        parts_by_worker = [self._parts("read_gradient", gathering) for gathering in deal.around]
        self._executor.fetch(
            [
                self._executor.call(worker, "fill_gradient", gathering, *parts)
                for worker, (gathering, parts) in enumerate(zip(deal.around, parts_by_worker, strict=True))
            ]
        )
        gains: list[Sequence[float]] = [()] * len(deal.octave.stage.regions)
        if deal.octave.stage.conditioning.laplacian:
            level_sums: list[TileSums] = sorted(self._over_tiles(deal, "level_sums"), key=_in_tile_order)
            for number in range(len(gains)):
                levels = [tile.sums for tile in level_sums if tile.number == number]
                gains[number] = laplacian_gains(np.sum(levels, axis=0)) if levels else ()
        return self._over_tiles(deal, "filter", gains)

    def _over_tiles(self, deal: Deal, method: str, *arguments: object) -> list:
        """Return a method's results for all tiles, in any order. Short calls make workers answer often."""
        calls = [
            self._executor.call(worker, method, *arguments, first, _TILES_A_PASS)
            for worker, block in enumerate(deal.blocks)
            for first in range(0, block.size, _TILES_A_PASS)
        ]
        return [result for results in self._executor.fetch(calls) for result in results]

    def _lend(self, deal: Deal, *update: object) -> list[list[Reference]]:
        """Return, for every worker, references to the loans of its margin's owners at its place, in the margin's order.

        With `update`, the arguments of an update, every worker makes the update first.
        """
        method = "update_and_lend" if update else "lend"
        loans: dict[tuple[int, str], Reference] = {}
        for owner, by_place in enumerate(deal.loans):
            if by_place:
                parts = self._executor.call_parts(owner, method, len(by_place) + bool(update), *update)
                if update:
                    self._updates.append(parts.pop())
                loans |= {(owner, place): part for place, part in zip(by_place, parts, strict=True)}
            elif update:
                self._updates.append(self._executor.call(owner, "update", *update))
        return [
            [loans[owner, deal.places[borrower]] for owner, _ in margin.others]
            for borrower, margin in enumerate(deal.margins)
        ]

    def _gradient(self, deal: Deal, step: int, shift: tuple[int, int]) -> Generator[TilesDone, None, list[TileSum]]:
        """Compute the gradient of every block on its worker. Return the sums of all tiles, in any order."""
        sums: list[TileSum] = []
        handed_out = [0] * len(deal.blocks)
        running: dict[Reference, int] = {}
        # Request all loans before any worker begins, so that no worker waits for another that waits.
        margins, self._lent = self._lent or self._lend(deal), None

        def hand_out(worker: int) -> None:
            block = deal.blocks[worker]
            if handed_out[worker] < block.size:
                count = self._tiles_a_call.get(worker, 1)
                if handed_out[worker]:
                    reference = self._executor.call(worker, "ascend", step, shift, handed_out[worker], count)
                else:
                    reference = self._executor.call(worker, "begin_step", step, shift, count, *margins[worker])
                handed_out[worker] += count
                running[reference] = worker

        for _ in range(_QUEUED):
            for worker in range(len(deal.blocks)):
                hand_out(worker)
        while running:
            ready = self._executor.wait(list(running))
            results: list[Ascended] = self._executor.fetch(ready)
            tile_count = 0
            for reference, result in zip(ready, results, strict=True):
                worker = running.pop(reference)
                sums.extend(result.sums)
                tile_count += result.tiles
                self._tiles_a_call[worker] = _next_tiles(result)
                hand_out(worker)
            yield TilesDone(deal.octave, tile_count)
            self._heed()
        self._settle_updates()
        return sums

    def _settle_updates(self) -> None:
        """Raise the errors of updates. A worker that lacked memory for one is alive, but its canvas is wrong."""
        updates, self._updates = self._updates, []
        self._executor.fetch(updates)

    def _record(self, mean: float, seconds: float) -> None:
        last = self.history[-1]
        self.history[-1] = replace(
            last, mean_gradient=(*last.mean_gradient, mean), seconds=(*last.seconds, round(seconds, 4))
        )

    def _save(self) -> Saved:
        """Write the canvas to the unused slot, then make that slot the newest checkpoint."""
        assert self._saving is not None and self._steps is not None
        start = time.monotonic()
        self._settle_updates()
        deal, checkpoints = self._current, self._saving.checkpoints
        # The optimizer's moments are not needed after an octave's end.
        moment_count = deal.octave.stage.optimizer.moments if self._steps < deal.octave.steps else 0
        names = moment_parts(moment_count)
        checkpoint = checkpoints.begin(deal.octave.shape, deal.octave.index, self._steps, self.history, names)
        try:
            for name in (CANVAS, *names):
                self._write(deal, checkpoint, name)
        except DamagedCheckpoint as damage:
            checkpoints.abandon(checkpoint)
            # The store was made a moment ago, so it cannot be damaged: the worker sees another disk.
            raise UserError(f"{damage}, says a worker that is to write there: {_SHARED}") from None
        except RenderError:
            checkpoints.abandon(checkpoint)
            raise
        checkpoints.commit(self._saving.fixed, checkpoint)
        self._executor.settled()
        self._saved_at = time.monotonic()
        return Saved(deal.octave, self._steps, time.monotonic() - start)

    def _write(self, deal: Deal, checkpoint: Checkpoint, part: str) -> None:
        """Have every worker write its chunks of the canvas, or of a moment."""
        assert self._saving is not None
        path, token = self._saving.checkpoints.path(checkpoint, part), checkpoint.token
        calls = []
        for worker, block in enumerate(deal.blocks):
            extent = chunk_extent(block.pixels, deal.octave.grid.canvas, CHUNK)
            if extent.area:
                gathering = Gathering.of(pieces_of(extent, deal.blocks), worker)
                parts = self._parts("read", gathering, part)
                calls.append(self._executor.call(worker, "save", path, token, part, extent, gathering, *parts))
        self._executor.fetch(calls)

    def _is_saved(self) -> bool:
        """Return True if the current canvas is the newest checkpoint."""
        assert self._saving is not None
        read = self._saving.checkpoints.read()
        newest = read[1][0] if read and read[1] else None
        return newest is not None and (newest.octave, newest.steps) == (self._current.octave.index, self._steps)

    def _resume(self) -> bool:
        """Resume from the newest intact checkpoint. Return False, with nothing begun, if there is none."""
        self._deal, self._steps, self.history = None, None, []
        self._tiles_a_call, self._lent, self._updates = {}, None, []
        read = self._saving.checkpoints.read() if self._saving else None
        for checkpoint in read[1] if read else []:
            assert self._saving is not None
            if checkpoint.octave >= len(self._plan.octaves) or not checkpoint.is_told:
                log.warning("a checkpoint of octave %d is none of this plan", checkpoint.octave + 1)
                self._saving.checkpoints.forget(checkpoint)
                continue
            octave = self._plan.octaves[checkpoint.octave]
            self._prepare(octave.shape)
            deal = Deal.of(octave, self._places(), self._arrangement)
            try:
                checkpoints = self._saving.checkpoints
                parts = [checkpoints.path(checkpoint, part) for part in checkpoint.parts]
                self._give(deal, "load", checkpoints.path(checkpoint), checkpoint.token, parts)
            except DamagedCheckpoint as damage:
                self._blame_the_canvas(checkpoint, damage)
                log.warning("checkpoint of octave %d, step %d is damaged: %s", octave.index + 1, checkpoint.steps, damage)
                self._saving.checkpoints.forget(checkpoint)
                continue
            self._deal, self._steps, self.history = deal, checkpoint.steps, list(checkpoint.history)
            self._saved_at = time.monotonic()
            log.info("going on from octave %d, step %d", octave.index + 1, checkpoint.steps)
            return True
        return False

    def _blame_the_canvas(self, checkpoint: Checkpoint, damage: DamagedCheckpoint) -> None:
        """Raise `UserError` if a worker cannot read a canvas that is intact: dropping it would lose work."""
        assert self._saving is not None
        try:
            self._saving.checkpoints.check(checkpoint, self._plan.octaves[checkpoint.octave].shape)
        except DamagedCheckpoint:
            return
        raise UserError(f"{damage}, says a worker, and here it is whole: {_SHARED}")

    def _mend(self, reason: str) -> Recovered:
        log.warning("a worker was lost: %s", reason)
        self._executor.mend()
        log.info("going on with %d workers", self._executor.workers)
        return Recovered(reason, self._executor.workers)

    def _save_before_leaving(self) -> bool:
        """Save the canvas if possible. Return True if it is the newest checkpoint."""
        if self._saving is None or self._steps is None:
            return False
        if self._is_saved():
            return True
        try:
            self._save()
        except WorkersLost as lost:
            log.warning("not saved: %s", lost)
            return False
        log.info("saved octave %d, step %d", self._current.octave.index + 1, self._steps)
        return True

    def _everyone(self, method: str, deal: Deal, *arguments: object) -> list:
        return self._executor.fetch([self._executor.call(worker, method, *arguments) for worker in range(len(deal.blocks))])

    @property
    def _current(self) -> Deal:
        assert self._deal is not None, "no octave has begun"
        return self._deal


def _in_tile_order(one: TileSums) -> int:
    return one.tile


def _next_tiles(last: Ascended) -> int:
    """Return how many tiles to ask a worker for next, from the time that the last ones took."""
    count = tiles_a_call(last.seconds / max(1, last.tiles))
    # A multiple of the worker's devices, so that none is idle.
    return -(-count // last.together) * last.together


def bytes_exchanged(blocks: Sequence[Block]) -> int:
    """Return the bytes of pixels that workers send each other in a step when the tiles are dealt to `blocks`."""
    dealt = tuple(blocks)
    pixels = sum(Gathering.of(margin_pieces(block, dealt), number).foreign_pixels for number, block in enumerate(dealt))
    return 12 * pixels


def filter_bytes_exchanged(blocks: Sequence[Block], stage: Stage) -> int:
    """Return the bytes of gradients that workers send each other for a step's filter; 0 without a filter."""
    dealt, reach = tuple(blocks), stage.conditioning.reach
    if not reach:
        return 0
    around = (Gathering.of(pieces_of(block.pixels.grown(reach), dealt), number) for number, block in enumerate(dealt))
    return 12 * len(stage.regions) * sum(gathering.foreign_pixels for gathering in around)
