"""Threads of a sweep, one for each worker.

Meanwhile the main thread shows progress and watches for interrupts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from render.errors import NodeLost, RenderError, UrgentInterrupt
from render.system import interrupts

#: Seconds between two calls of `tick`.
_TICK_S = 0.25


def run_in_threads(tasks: Sequence[Callable[[], None]], *, tick: Callable[[], None], stop_file: Path) -> list[RenderError]:
    """Run tasks concurrently, wait for all, and return their `RenderError`s.

    Args:
        tasks: Functions, each for a thread of its own.
        tick: Called regularly in this thread.
        stop_file: Written at an interrupt: workers that see it save their canvas and return.

    Raises:
        KeyboardInterrupt: If interrupted.
        NodeLost: As a task raised it; so is any other error that is no `RenderError`.
    """
    errors: list[BaseException] = []

    def collect_error(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=collect_error, args=(task,), daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            tick()
            interrupts.check()
            threads[0].join(_TICK_S) if threads[0].is_alive() else time.sleep(_TICK_S)
    except BaseException as error:
        stop_file.touch()
        # Wait until workers have saved their canvas, except after a second interrupt.
        while not isinstance(error, UrgentInterrupt) and any(thread.is_alive() for thread in threads):
            time.sleep(_TICK_S)
        raise
    for failure in errors:
        if isinstance(failure, NodeLost) or not isinstance(failure, RenderError):
            raise failure
    return [failure for failure in errors if isinstance(failure, RenderError)]
