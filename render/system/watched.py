"""Running of long work outside of Python, in programs or libraries, while Python still handles signals."""

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

#: A download is given up if fewer than `STALL_BYTES` come in `STALL_S` seconds: at that rate 87 MB take two days.
STALL_S, STALL_BYTES = 120.0, 64 << 10
#: Seconds between two polls, and seconds that a program gets to clean up after SIGINT.
_LOOK_EVERY_S, _GRACE_S = 0.05, 3.0


class Stalled(Exception):
    """Too few bytes arrived for too long; the message gives the amount and the time."""


@dataclass(frozen=True)
class Ended:
    """Result of a program: its exit code and its standard error."""

    code: int
    errors: str


def wait(is_done: Callable[[], bool], bytes_there: Callable[[], int], stall_s: float | None = None) -> None:
    """Wait until `is_done` returns True.

    Args:
        is_done: Return whether the work is done.
        bytes_there: Return the number of bytes that have arrived.
        stall_s: Seconds in which `STALL_BYTES` must arrive; `STALL_S` if None.

    Raises:
        Stalled: Too few bytes arrive.
        KeyboardInterrupt: A signal has come.
    """
    limit = STALL_S if stall_s is None else stall_s
    # Ending the process at a signal would leave the program running or a partial file on the disk.
    interrupts.hold()
    pause = threading.Event()
    byte_mark, since = bytes_there(), time.monotonic()
    while not is_done():
        interrupts.check()
        byte_count = bytes_there()
        if byte_count >= byte_mark + STALL_BYTES or byte_count < byte_mark:
            byte_mark, since = byte_count, time.monotonic()
        elif time.monotonic() - since > limit:
            raise Stalled(f"under {STALL_BYTES >> 10} KiB came in {limit:g} s")
        pause.wait(_LOOK_EVERY_S)
    interrupts.check()


def run(command: Sequence[str], into: Path, environment: Mapping[str, str], stall_s: float | None = None) -> Ended:
    """Run a program that writes files into the directory `into`, and leave no process behind; raise as `wait` does."""
    with tempfile.TemporaryFile() as errors:
        # A separate process group: child processes end with the program, and Ctrl-C reaches only this process.
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
    """Write the file `path` in a thread, and raise what the thread raises; raise as `wait` does, too.

    `work` receives an event that tells it to stop, because a thread that waits for a server cannot be ended.
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
    """Return the result of a call that blocks outside of Python, where Python would handle no signal before its end.

    The call runs in a thread and continues there if a signal ends the wait, so it should have no side effects.
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
    """Return the result of a long call outside of Python that reads its input through Python, such as an encoder.

    The reader must call `interrupts.check`, because Python handles signals only in its main thread, which waits here.
    A signal is raised after the call has ended.
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
            # The exception in the result refers to this frame: this reference cycle would keep its open files open.
            del result


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all processes that it started, after a grace period to clean up."""
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
        # Removed, or not created yet.
        return 0
