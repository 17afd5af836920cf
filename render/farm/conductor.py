"""The conductor: steps the workers through the plan. Holds numbers and references, never pixels of the canvas."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from render.dream.ascent import jitter
from render.dream.objectives import Objective
from render.dream.resample import taps
from render.errors import NumericalError, UserError
from render.farm.executors import Executor, Reference
from render.geometry import Block, Interval, Piece, Rect, margin_pieces, pieces_of
from render.models.architecture import Architecture
from render.plan import Octave, Plan, blocks

#: Longest side of a preview picture, px.
PREVIEW_SIDE = 1024


@dataclass(frozen=True)
class OctaveStarted:
    """An octave's blocks lie with `workers` workers, filled."""

    octave: Octave
    workers: int


@dataclass(frozen=True)
class StepDone:
    """`mean_gradient` is mean|g| over the whole canvas, per 0..255 level."""

    octave: Octave
    step: int
    mean_gradient: float
    seconds: float


@dataclass(frozen=True)
class OctaveDone:
    """`preview` makes a small uint8 RGB picture of the canvas as it is now."""

    octave: Octave
    preview: Callable[[], np.ndarray]


Event = OctaveStarted | StepDone | OctaveDone


@dataclass(frozen=True)
class _Deal:
    """One octave's blocks, and what each block's margin is made of."""

    octave: Octave
    blocks: tuple[Block, ...]
    margins: tuple[tuple[Piece, ...], ...]

    @classmethod
    def of(cls, octave: Octave, workers: int) -> _Deal:
        dealt = blocks(octave, workers)
        return cls(octave, dealt, tuple(tuple(margin_pieces(block, dealt)) for block in dealt))

    def owners(self, rect: Rect) -> Iterator[tuple[int, Rect]]:
        """Which block owns which part of a canvas rectangle."""
        for owner, block in enumerate(self.blocks):
            part = block.pixels.intersect(rect)
            if part.area:
                yield owner, part


class Conductor:
    """Runs a plan on an executor's workers."""

    def __init__(self, plan: Plan, architecture: Architecture, objective: Objective, executor: Executor) -> None:
        self._plan = plan
        self._architecture = architecture
        self._objective = objective
        self._executor = executor
        self._deal: _Deal | None = None

    def run(self, seed: int, step_size: float) -> Iterator[Event]:
        """Dreams every octave, yielding an event at each step; the finished canvas stays with the workers.

        Raises `NumericalError` when a gradient is not finite and `UserError` when it is zero everywhere.
        """
        for octave in self._plan.octaves:
            self._begin(octave)
            assert self._deal is not None
            yield OctaveStarted(octave, len(self._deal.blocks))
            for step in range(octave.steps):
                start = time.perf_counter()
                mean = self._step(seed, step, step_size)
                yield StepDone(octave, step, mean, time.perf_counter() - start)
            yield OctaveDone(octave, self.preview)

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of the current canvas: (rows, width, 3) float32, 0..255."""
        deal = self._current
        width = deal.octave.shape[1]
        rect = Rect(Interval(start, stop), Interval(0, width))
        parts = list(deal.owners(rect))
        references = [self._executor.call(owner, "read", part) for owner, part in parts]
        rows = np.empty((*rect.shape, 3), np.float32)
        for (_, part), pixels in zip(parts, self._executor.fetch(references), strict=True):
            rows[part.slices_from(rect)] = pixels
        return rows

    def preview(self) -> np.ndarray:
        """The current canvas shrunk by a whole number to at most 1024 px: uint8 RGB."""
        deal = self._current
        height, width = deal.octave.shape
        every = -(-max(height, width) // PREVIEW_SIDE)
        small = np.zeros((-(-height // every), -(-width // every), 3), np.uint8)
        references = [self._executor.call(owner, "thumbnail", every) for owner in range(len(deal.blocks))]
        for rect, pixels in self._executor.fetch(references):
            small[slice(*rect.rows), slice(*rect.columns)] = pixels
        return small

    def _begin(self, octave: Octave) -> None:
        """Gives every worker its block: the source at this octave plus what the octave before added to it."""
        before, self._deal = self._deal, _Deal.of(octave, self._executor.workers)
        divisors = self._objective.divisors(self._architecture, octave.grid.extended_shape)
        if before is not None:
            self._everyone("end_octave", before)
        begun = [
            self._executor.call(worker, "begin_octave", octave.index, block, divisors)
            for worker, block in enumerate(self._deal.blocks)
        ]
        self._executor.fetch(begun)
        if before is None:
            return
        # All parts are asked for before any worker drops its own.
        requests = [self._detail_parts(before, block) for block in self._deal.blocks]
        added = [
            self._executor.call(worker, "add_detail", before.octave.shape, needed, pieces, *parts)
            for worker, (needed, pieces, parts) in enumerate(requests)
        ]
        self._executor.fetch(added)

    def _detail_parts(self, before: _Deal, block: Block) -> tuple[Rect, list[Piece], list[Reference]]:
        """The rectangle of the last octave that a block's pixels depend on, its pieces, and references to their pixels."""
        shape, grid = before.octave.shape, block.grid
        needed = Rect(
            taps(shape[0], grid.rows.length, block.pixels.rows, grid.rows.mode)[0],
            taps(shape[1], grid.columns.length, block.pixels.columns, grid.columns.mode)[0],
        )
        # Beyond the ends there is something only where the axis wraps, so no piece is flipped.
        pieces = list(pieces_of(needed, before.blocks))
        return needed, pieces, [self._executor.call(piece.owner, "read_detail", piece.source) for piece in pieces]

    def _step(self, seed: int, step: int, step_size: float) -> float:
        """One update of the whole canvas; returns mean|g|."""
        deal = self._current
        filled = []
        for worker, pieces in enumerate(deal.margins):
            parts = [self._executor.call(piece.owner, "read", piece.source) for piece in pieces]
            filled.append(self._executor.call(worker, "fill_margin", pieces, *parts))
        self._executor.fetch(filled)
        shift = jitter(seed, deal.octave.index, step, deal.octave.grid.rows.stride)
        sums = self._executor.fetch(
            [self._executor.call(worker, "ascend", step, shift) for worker in range(len(deal.blocks))]
        )
        # Summed in tile order, so that the total does not depend on how tiles were dealt or who finished first.
        in_order = sorted(tile_sum for worker_sums in sums for tile_sum in worker_sums)
        total = 0.0
        for tile_sum in in_order:
            total += tile_sum.total
        mean = total / (3 * deal.octave.grid.canvas.area)
        if mean == 0.0:
            raise UserError(
                f"the gradient is zero everywhere at octave {deal.octave.index + 1}, step {step + 1}: nothing in the "
                f"picture excites {self._objective}; choose another layer or channel, or start from another image"
            )
        scale = step_size / mean
        if not math.isfinite(scale):
            raise NumericalError(
                f"the gradient is too small to follow at octave {deal.octave.index + 1}, step {step + 1}: "
                f"mean|g| is {mean:.3g}"
            )
        self._everyone("update", deal, scale)
        return mean

    def _everyone(self, method: str, deal: _Deal, *arguments: object) -> None:
        self._executor.fetch([self._executor.call(worker, method, *arguments) for worker in range(len(deal.blocks))])

    @property
    def _current(self) -> _Deal:
        assert self._deal is not None, "no octave has begun"
        return self._deal
