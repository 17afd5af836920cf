"""What margins cost that workers send each other through TCP: processes of this machine, without Ray and kernels."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

import numpy as np

from render.dreaming.resample import Pixels
from render.dreaming.stage import Stage
from render.farm.messages import Assignment
from render.farm.peers.group import Group, Team, teams
from render.farm.peers.listening import DRIVER, TREE, Caller, Listener, connected, new_key
from render.farm.worker import margins
from render.farm.worker.block import BlockArrays
from render.farm.worker.margins import MarginExchange
from render.geometry.blocks import Gathering, deal_blocks, margin_pieces
from render.geometry.geometry import Axis, Grid, Rect
from render.planning.margin_cost import FRAME, RECEIVE, SEND
from tests.benchmarks.table import Table

#: Workers, in two rows. Each has three neighbours.
WORKERS = 4
#: How much more a figure may be than the constant of plans.
TOLERANCE = 1.25


class Black:
    """A source that costs nothing."""

    def at(self, _shape: tuple[int, int], rect: Rect) -> Pixels:
        return np.zeros((*rect.shape, 3), np.float32)


class Exchanged(NamedTuple):
    """What one worker's steps took: least CPU seconds and seconds of a step, pixels sent, and frames sent and received."""

    cpu: float
    wall: float
    pixels: int
    frames: int


def measure(quick: bool) -> Table:
    """Measure exchanges with large blocks, in one thread and in several, and with blocks of a few pixels."""
    steps = 2 if quick else 20
    cases = [(256, 1), (256, 4)] if quick else [(1024, 1), (1024, 2), (1024, 4), (4096, 4)]
    rows = [_row(side, 352, lanes, steps) for side, lanes in [*cases, (16, 0)]]
    pixel_ns = min(float(row["ns a pixel"]) for row in rows[:-1])
    frame_us = float(rows[-1]["us a frame"])
    wanted_ns = 1e9 * (SEND + RECEIVE)
    return Table(
        name="margins",
        title=f"{WORKERS} workers that send each other margins of 352 px: CPU time of all",
        columns=("block px", "threads", "Mpx each", "ns a pixel", "us a frame", "step ms"),
        rows=rows,
        goals={
            f"as in plans: {wanted_ns:g} ns to send and receive a pixel": pixel_ns <= TOLERANCE * wanted_ns,
            f"as in plans: {1e6 * FRAME:g} us for a frame": frame_us <= TOLERANCE * 1e6 * FRAME,
        },
        notes=("all workers share this machine's cores, so steps by the clock say little",),
    )


def _row(side: int, halo: int, lanes: int, steps: int) -> dict[str, str | float]:
    halo = min(halo, side // 2)
    axis = Axis(2 * side, side, halo, 8, 2, "reflect")
    results = _exchange(Grid(axis, axis), lanes, steps)
    cpu, pixels = sum(one.cpu for one in results), sum(one.pixels for one in results)
    return {
        "block px": side,
        "threads": 2 * lanes or 1,
        "Mpx each": pixels / len(results) / 1e6,
        "ns a pixel": 1e9 * cpu / pixels,
        "us a frame": 1e6 * cpu / sum(one.frames for one in results),
        "step ms": 1000 * max(one.wall for one in results),
    }


def _exchange(grid: Grid, lanes: int, steps: int) -> list[Exchanged]:
    """Have a process for each block of a grid exchange margins; no `lanes` are one thread."""
    blocks = deal_blocks(grid, WORKERS)
    around = [Gathering.of(margin_pieces(block, blocks), number) for number, block in enumerate(blocks)]
    loans: list[dict[int, list[Rect]]] = [{} for _ in blocks]
    for borrower, gathering in enumerate(around):
        for owner, pieces in gathering.others:
            loans[owner][borrower] = [piece.source for piece in pieces]
    assignments = [
        Assignment(number, 0, block, around[number], loans[number], Stage(1, 1.0), ())
        for number, block in enumerate(blocks)
    ]
    listeners = [Listener("127.0.0.1") for _ in blocks]
    key, all_others = new_key(), [frozenset(range(len(blocks))) - {number} for number in range(len(blocks))]
    made = teams(key, [listener.address for listener in listeners], all_others)
    # What was imported need not be imported again.
    context = multiprocessing.get_context("fork")
    results: Queue[tuple[int, Exchanged]] = context.Queue()
    together = context.Barrier(len(blocks))
    processes = [
        context.Process(target=_work, args=(assignment, team, listener, lanes, steps, together, results))
        for assignment, team, listener in zip(assignments, made, listeners, strict=True)
    ]
    for process in processes:
        process.start()
    link = connected(Caller(TREE, DRIVER), key, 0, listeners[0].address)
    by_worker = dict(results.get() for _ in processes)
    for process in processes:
        process.join()
    link.close()
    for listener in listeners:
        listener.close()
    return [by_worker[number] for number in sorted(by_worker)]


def _work(
    assignment: Assignment,
    team: Team,
    listener: Listener,
    lanes: int,
    steps: int,
    together: Barrier,
    results: Queue[tuple[int, Exchanged]],
) -> None:
    """Take some steps of one worker, all of which are but their exchanges."""
    margins.LANES, margins.thread_count = lanes or 1, lambda: lanes or 1  # type: ignore[misc, assignment]
    margins._THREADED_BYTES = 0 if lanes else 1 << 60
    arrays = BlockArrays(assignment, Black(), (), needs_source=False)
    arrays.canvas[...] = assignment.number
    group = Group(team, listener)
    exchange = MarginExchange(arrays, group)
    seconds: list[Sequence[float]] = []
    for _ in range(steps + 1):
        together.wait()
        before = time.process_time(), time.perf_counter()
        exchange.begin()
        exchange.finish()
        seconds.append([time.process_time() - before[0], time.perf_counter() - before[1]])
    together.wait()
    exchange.close()
    pixels = sum(rect.area for rects in assignment.loans.values() for rect in rects)
    # The first step makes pages.
    cpu, wall = np.min(seconds[1:], axis=0)
    frames = len(assignment.loans) + len(assignment.margin.others)
    results.put((assignment.number, Exchanged(float(cpu), float(wall), pixels, frames)))
    group.close()
