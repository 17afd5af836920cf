"""The conductor: steps the workers through the plan, saves, and takes up again what was saved when workers are lost.

Holds numbers and references, never pixels of the canvas (but for small previews).
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

from render.dream.ascent import jitter, statistic
from render.dream.filters import laplacian_gains
from render.dream.objectives import Given, Objective
from render.dream.resample import taps
from render.dream.stage import Stage
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
from render.geometry.geometry import CHUNK, Block, Gathering, Rect, chunk_extent, deal_blocks, margin_pieces, pieces_of
from render.models.architecture import Architecture
from render.planning.deal import Deal, tiles_a_call
from render.planning.plan import Octave, Plan

log = logging.getLogger(__name__)

#: Longest side of a preview picture, px.
PREVIEW_SIDE = 1024
#: Calls that a worker has at hand, so that it does not wait for the conductor.
_QUEUED = 2
#: How many tiles a call is for that does without the kernel, or with half of it.
_TILES_A_PASS = 16
_SHARED = "output.dir must be on a disk that all workers' machines share"
#: Parts of an octave change that are on their way at once, for each worker.
_PARTS_IN_FLIGHT = 3


@dataclass(frozen=True)
class Saving:
    """Where checkpoints go, how often (s; 0 after every step), and what a resumed run must have in common."""

    checkpoints: Checkpoints
    every: float
    fixed: Fixed


class _MachinesGo(Exception):
    """What is under way is given up: machines of workers are about to go."""

    def __init__(self, notices: Sequence[Notice]) -> None:
        super().__init__("; ".join(sorted({str(notice) for notice in notices})))
        self.workers = sorted({number for notice in notices for number in notice.workers})


class Conductor:
    """Runs a plan on an executor's workers."""

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
        """`scratch_directory` is where the workers map their blocks from; None keeps them in memory.

        `arrangement` asks for (rows, columns) of blocks, while there are workers for it. `prepare` is called with an
        octave's shape before any worker asks the source for its pixels.
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
        #: What the workers lend each other for the next step, where that has been asked for already.
        self._lent: list[list[Reference]] | None = None
        #: Updates that have been asked for, and nobody has looked yet whether they succeeded.
        self._updates: list[Reference] = []
        #: How many tiles to ask each worker for at once, from how long the last ones took.
        self._tiles_a_call: dict[int, int] = {}
        #: What is known of every octave begun so far.
        self.history: list[OctaveHistory] = []

    def _places(self) -> list[str]:
        """Return the place of every worker, by number."""
        return [self._executor.place(worker) for worker in range(self._executor.workers)]

    def run(self, seed: int) -> Iterator[Event]:
        """Dreams every octave, yielding an event at each turn; the finished canvas stays with the workers until `release`.

        Where there are checkpoints it begins at the newest that is whole. Lost workers are mended and the newest
        checkpoint is taken up again. Workers that have joined get their share at the next checkpoint, or the next octave.
        Where machines are about to go the canvas is saved first, and on KeyboardInterrupt. Raises `NumericalError` when a
        gradient is not finite and `UserError` when it is zero everywhere, or when the farm cannot be mended.
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
        """Lets the workers' blocks go: what was saved last is all that is needed from now on."""
        deal, self._deal, self._steps = self._current, None, None
        try:
            self._everyone("release", deal)
        except WorkersLost as lost:
            log.warning("a worker was lost after its work was saved: %s", lost)

    def preview(self) -> np.ndarray:
        """The current canvas shrunk by a whole number to at most 1024 px: uint8 RGB."""
        deal = self._current
        height, width = deal.octave.shape
        every = -(-max(height, width) // PREVIEW_SIDE)
        small = np.zeros((-(-height // every), -(-width // every), 3), np.uint8)
        for rect, pixels in self._everyone("thumbnail", deal, every):
            small[slice(*rect.rows), slice(*rect.columns)] = pixels
        return small

    def _dream(self, seed: int) -> Generator[Event, None, bool]:
        """To the end; False where it has stopped at a checkpoint, which is to be taken up with more workers."""
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
        """Takes in workers that are ready to join, where the tiles make blocks for more than there are."""
        deal, joining = self._current, self._executor.joining()
        more = deal_blocks(deal.octave.grid, self._executor.workers + joining, self._arrangement) if joining else ()
        if len(more) <= len(deal.blocks):
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
        """Saves what there is, and lets the workers go whose machines are about to."""
        log.warning("machines of %d workers are about to go: %s", len(going.workers), going)
        saved = self._save_before_leaving()
        self._executor.retire(going.workers)
        log.info("going on with %d workers", self._executor.workers)
        return Noticed(str(going), len(going.workers), self._executor.workers, saved)

    def _begin(self, octave: Octave) -> None:
        """Gives every worker its block: the source at this octave plus what the octave before added to it."""
        self._prepare(octave.shape)
        self._steps = None
        before = self._deal
        if before is not None:
            self._everyone("end_octave", before)
        joined = self._executor.grow()
        if joined:
            log.info("%d more workers from octave %d on: %d in all", joined, octave.index + 1, self._executor.workers)
        deal = self._deal = Deal.of(octave, self._places(), self._arrangement)
        self._tiles_a_call, self._lent = {}, None
        self._give(deal, "begin_octave")
        if before is not None:
            self._add_detail(before, deal)
            self._everyone("drop_detail", before)
        self.history = [*self.history[: octave.index], OctaveHistory(*octave.shape)]
        self._steps = 0

    def _give(self, deal: Deal, method: str, *arguments: object) -> None:
        """Hands every worker its block, by `begin_octave` or `load`, and says which channels its source excites most."""
        stage, grid = deal.octave.stage, deal.octave.grid
        given = tuple(
            Given(region.objective, self._objectives[region.objective].divisors(self._architecture, grid.extended_shape))
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
                        given,
                        self._scratch,
                    ),
                )
                for worker, block in enumerate(deal.blocks)
            ]
        )
        chosen = tuple(self._choose(deal, region, one) for region, one in enumerate(given))
        if chosen != given:
            self._everyone("choose", deal, chosen)

    def _choose(self, deal: Deal, region: int, given: Given) -> Given:
        """Finds the channels of the terms that rest on a sum over the whole source."""
        chosen = {}
        for number, term in self._objectives[given.objective].statistics.items():
            found: list[TileSums] = self._over_tiles(deal, "channel_sums", region, number)
            total = np.sum([tile.sums for tile in sorted(found, key=_in_tile_order)], axis=0)
            chosen[number] = term.choose(total)
            log.info("octave %d: %s: channels %s", deal.octave.index + 1, term, ", ".join(map(str, chosen[number])))
        return replace(given, chosen=chosen) if chosen else given

    def _add_detail(self, before: Deal, deal: Deal) -> None:
        """Brings what the octave before added to every block, strip by strip so that no more than a few travel at once."""
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
        # Beyond the ends there is something only where the axis wraps, so no piece is flipped.
        gathering = Gathering.of(pieces_of(needed, before.blocks), worker)
        parts = self._parts("read_detail", gathering)
        return self._executor.call(worker, "add_detail", rect, shape, needed, gathering, *parts)

    def _parts(self, method: str, gathering: Gathering, *arguments: object) -> list[Reference]:
        """References to the pixels that a gathering needs of other workers."""
        return [
            self._executor.call(owner, method, [piece.source for piece in pieces], *arguments)
            for owner, pieces in gathering.others
        ]

    def _step(self, seed: int, step: int) -> Generator[TilesDone, None, float]:
        """One update of the whole canvas; returns mean|g|, or what else the gradient is divided by, over all regions."""
        deal, stage = self._current, self._current.octave.stage
        shift = jitter(seed, deal.octave.index, step, deal.octave.grid.rows.stride, stage.jitter)
        sums = yield from self._gradient(deal, step, shift)
        if stage.conditioning.filters:
            sums = self._filter(deal)
        statistics = self._statistics(deal, step, sums)
        # Whatever interrupts here: some have been asked to update, others not.
        self._steps = None
        if step + 1 < deal.octave.steps:
            # Not waited for: what a worker is asked next comes after its update.
            self._lent = self._lend(deal, step, statistics)
        else:
            self._updates = [self._executor.call(worker, "update", step, statistics) for worker in range(len(deal.blocks))]
            self._settle_updates()
        self._steps = step + 1
        counted = [value for value in statistics if value]
        return sum(counted) / len(counted)

    def _statistics(self, deal: Deal, step: int, sums: Sequence[TileSum]) -> tuple[float, ...]:
        """What each region's gradient is divided by.

        0 for a region that has no part in this step: its mask shows nothing at this octave's size, or nothing under it
        excites its objective. Raises `UserError` when that is so of all.
        """
        stage, at = deal.octave.stage, f"octave {deal.octave.index + 1}, step {step + 1}"
        found, silent = [], []
        for number, region in enumerate(stage.regions):
            objective = self._objectives[region.objective]
            # Summed in tile order, so that the total does not depend on how tiles were dealt or who finished first.
            totals = [0.0, 0.0] if stage.conditioning.normalize == "mean_abs" else [0.0, 0.0, 0.0]
            for tile in sorted(one for one in sums if one.region == number):
                totals = [total + own for total, own in zip(totals, tile.sums, strict=True)]
            support = objective.support(self._architecture, deal.octave.shape)
            if totals[-1] > 0:
                # Of the pixels that count, not of the canvas: under a mask these are fewer.
                support = min(1.0, support * 3 * deal.octave.grid.canvas.area / totals[-1])
            value = statistic(totals, stage.conditioning.normalize, support)
            if value == 0.0 and totals[-1] > 0:
                silent.append(f"nothing in the picture excites {objective}")
            if value and not math.isfinite(stage.step_size / value):
                raise NumericalError(f"the gradient is too small to follow at {at}: mean|g| is {value:.3g}")
            found.append(value)
        if any(found):
            for reason in silent:
                log.warning("%s: %s under its mask", at, reason)
            return tuple(found)
        if silent:
            raise UserError(
                f"the gradient is zero everywhere at {at}: {'; '.join(silent)}; choose another layer or channel, or start "
                "from another image"
            )
        raise UserError(f"the masks show nothing at {at}: draw them larger, or take fewer octaves.count")

    def _filter(self, deal: Deal) -> list[TileSum]:
        """Filters the gradient, whose neighbours' parts are exchanged first; returns the sums of what comes out."""
        lent = [self._parts("read_gradient", gathering) for gathering in deal.around]
        self._executor.fetch(
            [
                self._executor.call(worker, "fill_gradient", gathering, *parts)
                for worker, (gathering, parts) in enumerate(zip(deal.around, lent, strict=True))
            ]
        )
        gains: list[Sequence[float]] = [()] * len(deal.octave.stage.regions)
        if deal.octave.stage.conditioning.laplacian:
            found: list[TileSums] = sorted(self._over_tiles(deal, "level_sums"), key=_in_tile_order)
            for number in range(len(gains)):
                levels = [tile.sums for tile in found if tile.number == number]
                gains[number] = laplacian_gains(np.sum(levels, axis=0)) if levels else ()
        return self._over_tiles(deal, "filter", gains)

    def _over_tiles(self, deal: Deal, method: str, *arguments: object) -> list:
        """What a method returns for all tiles, in any order: a few tiles a call, so that nobody is silent for long."""
        calls = [
            self._executor.call(worker, method, *arguments, first, _TILES_A_PASS)
            for worker, block in enumerate(deal.blocks)
            for first in range(0, block.size, _TILES_A_PASS)
        ]
        return [one for found in self._executor.fetch(calls) for one in found]

    def _lend(self, deal: Deal, *update: object) -> list[list[Reference]]:
        """For every worker, references to what its margin's owners lend to workers at its place, in the margin's order.

        With `update`, the arguments of an update, everybody makes it first.
        """
        method = "update_and_lend" if update else "lend"
        lent: dict[tuple[int, str], Reference] = {}
        for owner, by_place in enumerate(deal.loans):
            if by_place:
                given = self._executor.call_parts(owner, method, len(by_place) + bool(update), *update)
                if update:
                    self._updates.append(given.pop())
                lent |= {(owner, place): part for place, part in zip(by_place, given, strict=True)}
            elif update:
                self._updates.append(self._executor.call(owner, "update", *update))
        return [
            [lent[owner, deal.places[borrower]] for owner, _ in margin.others]
            for borrower, margin in enumerate(deal.margins)
        ]

    def _gradient(self, deal: Deal, step: int, shift: tuple[int, int]) -> Generator[TilesDone, None, list[TileSum]]:
        """Lets every worker compute its block's gradient; returns the sums of all tiles, in any order."""
        sums: list[TileSum] = []
        given = [0] * len(deal.blocks)
        running: dict[Reference, int] = {}
        # All loans are asked for before anybody begins, so that nobody waits for a worker who waits.
        margins, self._lent = self._lent or self._lend(deal), None

        def hand_out(worker: int) -> None:
            block = deal.blocks[worker]
            if given[worker] < block.size:
                count = self._tiles_a_call.get(worker, 1)
                if given[worker]:
                    reference = self._executor.call(worker, "ascend", step, shift, given[worker], count)
                else:
                    reference = self._executor.call(worker, "begin_step", step, shift, count, *margins[worker])
                given[worker] += count
                running[reference] = worker

        for _ in range(_QUEUED):
            for worker in range(len(deal.blocks)):
                hand_out(worker)
        while running:
            ready = self._executor.wait(list(running))
            results: list[Ascended] = self._executor.fetch(ready)
            done = 0
            for reference, result in zip(ready, results, strict=True):
                worker = running.pop(reference)
                sums.extend(result.sums)
                done += result.tiles
                self._tiles_a_call[worker] = _next_tiles(result)
                hand_out(worker)
            yield TilesDone(deal.octave, done)
            self._heed()
        self._settle_updates()
        return sums

    def _settle_updates(self) -> None:
        """Raises what went wrong in updates: a worker that lacked memory for one is alive, and its canvas is wrong."""
        asked, self._updates = self._updates, []
        self._executor.fetch(asked)

    def _record(self, mean: float, seconds: float) -> None:
        last = self.history[-1]
        self.history[-1] = replace(
            last, mean_gradient=(*last.mean_gradient, mean), seconds=(*last.seconds, round(seconds, 4))
        )

    def _save(self) -> Saved:
        """Writes the canvas to the slot that does not count, then makes it count."""
        assert self._saving is not None and self._steps is not None
        begun = time.monotonic()
        self._settle_updates()
        deal, checkpoints = self._current, self._saving.checkpoints
        # At an octave's end the optimizer has done its work.
        rest = deal.octave.stage.optimizer.moments if self._steps < deal.octave.steps else 0
        names = moment_parts(rest)
        checkpoint = checkpoints.begin(deal.octave.shape, deal.octave.index, self._steps, self.history, names)
        try:
            for name in (CANVAS, *names):
                self._write(deal, checkpoint, name)
        except DamagedCheckpoint as damage:
            checkpoints.abandon(checkpoint)
            # It was made a moment ago.
            raise UserError(f"{damage}, says a worker that is to write there: {_SHARED}") from None
        except RenderError:
            checkpoints.abandon(checkpoint)
            raise
        checkpoints.commit(self._saving.fixed, checkpoint)
        self._executor.settled()
        self._saved_at = time.monotonic()
        return Saved(deal.octave, self._steps, time.monotonic() - begun)

    def _write(self, deal: Deal, checkpoint: Checkpoint, part: str) -> None:
        """Lets every worker write its chunks of the canvas, or of a moment."""
        assert self._saving is not None
        path, token = self._saving.checkpoints.path(checkpoint, part), checkpoint.token
        written = []
        for worker, block in enumerate(deal.blocks):
            extent = chunk_extent(block.pixels, deal.octave.grid.canvas, CHUNK)
            if extent.area:
                gathering = Gathering.of(pieces_of(extent, deal.blocks), worker)
                parts = self._parts("read", gathering, part)
                written.append(self._executor.call(worker, "save", path, token, part, extent, gathering, *parts))
        self._executor.fetch(written)

    def _is_saved(self) -> bool:
        """Whether the canvas as it is now is the newest checkpoint."""
        assert self._saving is not None
        read = self._saving.checkpoints.read()
        newest = read[1][0] if read and read[1] else None
        return newest is not None and (newest.octave, newest.steps) == (self._current.octave.index, self._steps)

    def _resume(self) -> bool:
        """Takes up the newest checkpoint that is whole; False, with nothing begun, where there is none."""
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
                kept = self._saving.checkpoints
                parts = [kept.path(checkpoint, part) for part in checkpoint.parts]
                self._give(deal, "load", kept.path(checkpoint), checkpoint.token, parts)
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
        """Raises `UserError` where it is not the canvas' fault that a worker could not read it: work would be lost."""
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
        """Whether the canvas as it is now is the newest checkpoint by now."""
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
    """How many tiles to ask a worker for next, from how long the last ones took."""
    count = tiles_a_call(last.seconds / max(1, last.tiles))
    # No device of a worker's goes without.
    return -(-count // last.together) * last.together


def bytes_exchanged(blocks: Sequence[Block]) -> int:
    """Bytes of pixels that a step sends from worker to worker when the tiles are dealt so."""
    dealt = tuple(blocks)
    pixels = sum(Gathering.of(margin_pieces(block, dealt), number).foreign_pixels for number, block in enumerate(dealt))
    return 12 * pixels


def filter_bytes_exchanged(blocks: Sequence[Block], stage: Stage) -> int:
    """Bytes of gradients that a step's filter sends from worker to worker besides; 0 where there is no filter."""
    dealt, reach = tuple(blocks), stage.conditioning.reach
    if not reach:
        return 0
    around = (Gathering.of(pieces_of(block.pixels.grown(reach), dealt), number) for number, block in enumerate(dealt))
    return 12 * len(stage.regions) * sum(one.foreign_pixels for one in around)
