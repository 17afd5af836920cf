"""Work that stays outside of Python, for somebody else's server or in a library: signals are heard meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from render.system import interrupts

T = TypeVar("T")

#: A download of which fewer bytes come in so many seconds is given up: 87 MB would take two days.
STALL_S, STALL_BYTES = 120.0, 64 << 10
#: Seconds between two looks, and for a program to tidy up in once it is told to end.
_LOOK_EVERY_S, _GRACE_S = 0.05, 3.0


class Stalled(Exception):
    """Nothing came for too long; the message says how little in which time."""


@dataclass(frozen=True)
class Ended:
    """The end of a program: its exit code, and what it wrote to standard error."""

    code: int
    errors: str


def wait(is_done: Callable[[], bool], bytes_there: Callable[[], int], stall_s: float | None = None) -> None:
    """Return when something is done. Raises `Stalled` where too few bytes come, and `KeyboardInterrupt` at a signal.

    Args:
        is_done: Whether there is nothing to wait for any more.
        bytes_there: How many bytes have come.
        stall_s: Seconds in which `STALL_BYTES` must come; `STALL_S` where it is None.
    """
    limit = STALL_S if stall_s is None else stall_s
    # A signal that ends the process here would leave the program, or half a file, behind.
    interrupts.hold()
    pause = threading.Event()
    marked, since = bytes_there(), time.monotonic()
    while not is_done():
        interrupts.check()
        there = bytes_there()
        if there >= marked + STALL_BYTES or there < marked:
            marked, since = there, time.monotonic()
        elif time.monotonic() - since > limit:
            raise Stalled(f"under {STALL_BYTES >> 10} KiB came in {limit:g} s")
        pause.wait(_LOOK_EVERY_S)
    interrupts.check()


def run(command: Sequence[str], into: Path, environment: Mapping[str, str], stall_s: float | None = None) -> Ended:
    """Run a program that brings files into a directory, and nothing of it stays; see `wait` for what is raised."""
    with tempfile.TemporaryFile() as errors:
        # Of a group of its own: what it starts ends with it, and Ctrl-C reaches this process alone.
        process = subprocess.Popen(
            command,
            cwd=into,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            wait(lambda: process.poll() is not None, lambda: _bytes_below(into), stall_s)
        finally:
            _end(process)
        errors.seek(0)
        return Ended(process.returncode, errors.read(1 << 20).decode(errors="replace"))


def call(work: Callable[[threading.Event], None], path: Path) -> None:
    """Have a thread write a file, and raise what it raises; see `wait` for what else is raised.

    `work` is given an event that tells it to stop: a thread that waits for a server cannot be ended.
    """
    stop = threading.Event()
    failures: list[BaseException] = []

    def run_work() -> None:
        try:
            work(stop)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run_work, name="download", daemon=True)
    thread.start()
    try:
        wait(lambda: not thread.is_alive(), lambda: _size(path))
    finally:
        stop.set()
    if failures:
        raise failures.pop()


def interruptible(work: Callable[[], T]) -> T:
    """Return what a call returns that waits outside of Python, where no signal would be heard before its end.

    It goes on in a thread of its own when a signal ends the waiting, so it should change nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: list[T] = []
    failures: list[BaseException] = []

    def run_work() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run_work, name="asking", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_EVERY_S)
    if failures:
        raise failures.pop()
    return results[0]


def in_thread(work: Callable[[], T]) -> T:
    """Return what a call returns that stays outside of Python for long and reads by way of Python, as an encoder does.

    Its reader has to call `interrupts.check`: Python hears signals in its main thread alone, which only waits here. A
    signal is raised when the call has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    with ThreadPoolExecutor(1, "encoder") as pool:
        result = pool.submit(work)
        while not result.done():
            wait_for([result], _LOOK_EVERY_S)
        try:
            return result.result()
        finally:
            # Its failure holds this frame, and so itself and all files that are open in it.
            del result


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it has started; it may tidy up first."""
    try:
        if process.poll() is None:
            _signal(process, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _bytes_below(directory: Path) -> int:
    return sum(_size(path) for path in directory.rglob("*"))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        # Gone, or not there yet.
        return 0
