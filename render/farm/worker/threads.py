"""Threads of a worker's process for work on pixels: NumPy, SciPy and Zarr release Python's lock while they work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from render.geometry.geometry import Interval, Rect
from render.networks.platforms import with_this_platform
from render.system.machine import cores

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Fewest pixels that are worth a thread.
_MIN_PIECE_PX = 100_000


def thread_count() -> int:
    """Return the number of threads that this process may use: `NPROC`, as for XLA, and at most one for each core."""
    words = os.environ.get("NPROC", "")
    return min(cores(), int(words)) if words.isdecimal() and int(words) else cores()


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "pixels")


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in order, while threads compute the next ones.

    Args:
        function: Computes a result; calls of it run at once.
        items: The items.
        ahead: The most results that are computed or wait at once; None for one in each thread.
    """
    count, call = thread_count(), with_this_platform(function)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, _pool(count).submit(call, item)))
            if len(waiting) >= (ahead or count):
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def for_each_piece(function: Callable[[Rect], None], rect: Rect) -> None:
    """Call a function for pieces of a rectangle, which cover it exactly, in threads."""
    pieces = split(rect, thread_count())
    if len(pieces) == 1:
        # Without a thread's start, which small canvases would wait for.
        function(rect)
        return
    for _ in map_ordered(function, pieces):
        pass


def split(rect: Rect, most: int) -> list[Rect]:
    """Return at most `most` pieces of a rectangle, cut across its longer side, none of them tiny."""
    count = max(1, min(most, rect.area // _MIN_PIECE_PX))
    is_wide = rect.columns.size >= rect.rows.size
    along = rect.columns if is_wide else rect.rows
    cuts = [along.start + along.size * number // count for number in range(count + 1)]
    parts = [Interval(start, stop) for start, stop in zip(cuts, cuts[1:], strict=False)]
    return [Rect(rect.rows, part) if is_wide else Rect(part, rect.columns) for part in parts]
