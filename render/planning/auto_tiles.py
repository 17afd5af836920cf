"""Search of the tile sizes for `tiles.size=auto`: the least work whose windows fit into the memory. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from render.geometry.geometry import Grid
from render.planning.shared_shapes import SharingSettings, shared_cores

#: Largest window, px: with larger ones progress shows too rarely, and there are too few tiles to deal.
_MAX_WINDOW = 4096 * 4096
#: If windows take this share of the allowed memory, larger ones are not tried: every try compiles a kernel.
_ENOUGH_USED = 0.8
#: Shortest side of a tile, px.
_MIN_TILE = 64
#: Cut into more tiles only if that reduces the step's time to this share, or less, of the least-work grid's.
_MIN_SPEEDUP = 0.9
#: Most tiles per worker for which all workers get the same number, where possible.
_MAX_TILES_EACH = 4

#: Function that makes the grid of an octave, by number, with tiles of (rows, columns) px.
MakeGrid = Callable[[int, tuple[int, int]], Grid]


def auto_grids(
    shapes: Sequence[tuple[int, int]],
    make_grid: MakeGrid,
    parallel: int,
    budget: int,
    bytes_per_pixel: float,
    kernel_bytes: Callable[[Sequence[Grid]], int],
    sharing: SharingSettings | None = None,
) -> tuple[list[Grid], int]:
    """Return the least-work grid of every octave whose windows fit the budget, and the bytes of the largest window.

    The window's area is reduced until the windows fit, and enlarged once if far more would fit.

    Args:
        shapes: (rows, columns) px of the octaves.
        make_grid: Makes the grid of an octave.
        parallel: Number of workers that tiles are cut for.
        budget: Most bytes of a kernel call.
        bytes_per_pixel: First guess of a kernel call's bytes for a pixel of its window.
        kernel_bytes: Returns the most bytes that a kernel call of these grids takes.
        sharing: Settings by which octaves share shapes; None lets each have its own. Its `area` is not used.
    """
    area, has_grown = min(float(_MAX_WINDOW), budget / bytes_per_pixel), False
    while True:
        grids = [_least_work(shape, partial(make_grid, octave), area, parallel) for octave, shape in enumerate(shapes)]
        if sharing is not None:
            cores = shared_cores(grids, _work_of, replace(sharing, area=area))
            grids = [make_grid(octave, core) for octave, core in enumerate(cores)]
        needed = kernel_bytes(grids)
        largest_window = max(math.prod(octave_grid.window_shape) for octave_grid in grids)
        if needed > budget and largest_window <= area:
            area = 0.95 * largest_window * budget / needed
        elif (
            needed <= _ENOUGH_USED * budget
            and area < _MAX_WINDOW
            and not has_grown
            and any(octave_grid.tiles > 1 for octave_grid in grids)
        ):
            # Enlarge only once: afterwards the area is only reduced.
            area, has_grown = min(float(_MAX_WINDOW), max(area, 0.95 * largest_window * budget / needed)), True
        else:
            # It fits, or even the smallest windows do not; then the caller refuses the plan.
            return grids, needed


def _least_work(shape: tuple[int, int], make_grid: Callable[[tuple[int, int]], Grid], area: float, parallel: int) -> Grid:
    """Return the grid of equal tiles, with windows of at most `area` px, that has the least work on each worker.

    Of equals the one with the least work in all counts. The grid with the least work in all is returned instead if the
    other is hardly faster (see `_MIN_SPEEDUP`). `parallel` is the number of workers.
    """
    best: tuple[tuple[int, int], Grid] | None = None
    least: tuple[tuple[int, int], Grid] | None = None
    min_across = 1
    for down in range(max(1, shape[0] // _MIN_TILE), 0, -1):
        # Fewer, taller rows of windows leave less width to each, so the number of columns never has to decrease.
        for across in range(min_across, max(1, shape[1] // _MIN_TILE) + 1):
            candidate = make_grid((-(-shape[0] // down), -(-shape[1] // across)))
            if candidate.window_shape[0] * candidate.window_shape[1] <= area:
                break
            min_across = across + 1
        else:
            continue
        # The fewest columns that fit and, for several workers, the numbers that give each worker as many tiles.
        tile_counts = range(parallel, parallel * _MAX_TILES_EACH + 1, parallel) if parallel > 1 else ()
        columns = {across} | {count for tiles in tile_counts for count in (tiles // down, -(-tiles // down))}
        for count in sorted(columns):
            if across <= count <= max(1, shape[1] // _MIN_TILE):
                candidate = make_grid((-(-shape[0] // down), -(-shape[1] // count)))
                work = _window_work(candidate)
                cost = (-(-candidate.tiles // parallel) * work, candidate.tiles * work)
                if best is None or cost <= best[0]:
                    best = (cost, candidate)
                if least is None or cost[::-1] <= least[0][::-1]:
                    least = (cost, candidate)
    if best and least and best[0][0] > _MIN_SPEEDUP * least[0][0]:
        best = least
    return best[1] if best else make_grid((_MIN_TILE, _MIN_TILE))


def _window_work(grid: Grid) -> int:
    """Return the work of a window of a grid, in pixels: see `_work_of`."""
    return _work_of(grid.window_shape, grid.core_shape, (grid.rows.halo, grid.columns.halo))


def _work_of(window: tuple[int, int], core: tuple[int, int], halo: tuple[int, int]) -> int:
    """Return the work of a window, in pixels: all of it forward, and a part back.

    The part that goes back is on average half a halo wider than the core on every side.

    Args:
        window: (rows, columns) of the window, px.
        core: (rows, columns) of the core, px.
        halo: Halo along rows and columns, px.
    """
    rows, columns = (min(whole, inner + around) for whole, inner, around in zip(window, core, halo, strict=True))
    return math.prod(window) + rows * columns
