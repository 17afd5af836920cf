"""Choice of tiles by which several octaves share one kernel shape, for devices that compile slowly. Pure.

Octaves share a shape where their tiles have the same core and the same window. A window that is the whole extended canvas
along an axis cannot be enlarged to that of another octave: the network pads every layer with zeros at the canvas' edge,
which pixels beyond the edge cannot stand for. So octaves no larger than two halos keep a shape of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from render.geometry.geometry import Axis, Grid

#: Share shapes only if the whole render's work, for each worker, grows by this share at most.
MAX_EXTRA_WORK = 0.05
#: Numbers of equal parts that the longest axis is cut into on trial, and the shortest side of a tile, px.
_TRIED_PARTS, _MIN_SIDE = 16, 64


@dataclass(frozen=True)
class SharingSettings:
    """Facts on which the choice of shared shapes depends.

    Attributes:
        steps: Steps of each octave.
        programs: For each octave a value that is equal where octaves of one shape share a program.
        parallel: Number of workers that tiles are cut for.
        area: Largest window, px.
    """

    steps: Sequence[int]
    programs: Sequence[object]
    parallel: int
    area: float


#: Function of a window, a core and a halo, each (rows, columns) px; returns the work of a window.
WindowWork = Callable[[tuple[int, int], tuple[int, int], tuple[int, int]], int]


def shared_cores(grids: Sequence[Grid], work: WindowWork, settings: SharingSettings) -> list[tuple[int, int]]:
    """Return the core of each octave, (rows, columns) px, with the fewest kernel shapes for `MAX_EXTRA_WORK` more work.

    Only octaves that follow each other share a shape. Of the choices with as few shapes, that with the least work counts.

    Args:
        grids: The least-work grid of each octave, from coarse to fine.
        work: Work of a window.
        settings: Steps, programs, workers and the largest window.
    """
    count, axes = len(grids), [(grid.rows, grid.columns) for grid in grids]
    alone = [
        steps * -(-grid.tiles // settings.parallel) * work(grid.window_shape, grid.core_shape, _halo(grid))
        for steps, grid in zip(settings.steps, grids, strict=True)
    ]
    # By the first octave and the one after the last: the work with one shape, and its core.
    runs = {(octave, octave + 1): (alone[octave], grids[octave].core_shape) for octave in range(count)}
    for first in range(count):
        for last in range(first + 1, count):
            if settings.programs[last] != settings.programs[first] or _halo(grids[last]) != _halo(grids[first]):
                break
            chosen = _shared(range(first, last + 1), axes, work, settings)
            if chosen is None:
                break
            runs[first, last + 1] = chosen
    limit = (1 + MAX_EXTRA_WORK) * sum(alone)
    # best[shapes][octaves]: the least work of the first octaves in so many shapes, and where the last begins.
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    while count not in best[-1] or best[-1][count][0] > limit:
        following: dict[int, tuple[float, int]] = {}
        for (first, stop), (run_work, _) in runs.items():
            if first in best[-1]:
                total = best[-1][first][0] + run_work
                following[stop] = min(following.get(stop, (math.inf, 0)), (total, first))
        best.append(following)
    cores: list[tuple[int, int]] = []
    stop = count
    for by_octaves in reversed(best[1:]):
        first = by_octaves[stop][1]
        cores = [runs[first, stop][1]] * (stop - first) + cores
        stop = first
    return cores


def _halo(grid: Grid) -> tuple[int, int]:
    return grid.rows.halo, grid.columns.halo


class _Side(NamedTuple):
    """A side of tiles along one axis, with which all octaves of a run have the same core and the same window.

    Attributes:
        core: Length of a tile, px.
        window: Length of a window, px.
        tiles: Number of tiles along the axis, for each octave.
    """

    core: int
    window: int
    tiles: tuple[int, ...]


def _shared(
    octaves: range, axes: Sequence[tuple[Axis, Axis]], work: WindowWork, settings: SharingSettings
) -> tuple[int, tuple[int, int]] | None:
    """Return the least work of some octaves with one shape, and (rows, columns) px of its tiles; None if they have none."""
    rows = _common_sides([axes[octave][0] for octave in octaves])
    columns = _common_sides([axes[octave][1] for octave in octaves])
    halo = axes[octaves[0]][0].halo, axes[octaves[0]][1].halo
    steps = [settings.steps[octave] for octave in octaves]
    best: tuple[int, tuple[int, int]] | None = None
    for row, column in product(rows, columns):
        if row.window * column.window > settings.area:
            continue
        tiles = (
            count * -(-down * across // settings.parallel)
            for count, down, across in zip(steps, row.tiles, column.tiles, strict=True)
        )
        total = sum(tiles) * work((row.window, column.window), (row.core, column.core), halo)
        if best is None or total < best[0]:
            best = total, (row.core, column.core)
    return best


def _common_sides(axes: Sequence[Axis]) -> list[_Side]:
    """Return the sides of tiles to try along one axis of some octaves, from coarse to fine.

    They are equal parts of the largest octave, and the most that fits the smallest.
    """
    smallest, largest = axes[0], axes[-1]
    room = min(smallest.extended - 2 * smallest.halo - smallest.stride + 1, smallest.length)
    if room < _MIN_SIDE:
        return []
    fewest = -(-largest.length // room)
    sides = {room, *(-(-largest.length // (fewest + more)) for more in range(_TRIED_PARTS))}
    common = []
    for side in sides:
        with_side = [replace(axis, tile=side) for axis in axes]
        shapes = {(axis.core_size, axis.window) for axis in with_side}
        if len(shapes) == 1:
            common.append(_Side(*shapes.pop(), tuple(axis.tiles for axis in with_side)))
    return common
