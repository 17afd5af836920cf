"""Long work outside of Python, in programs or libraries, during which Python still handles signals."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from render.system import interrupts

T = TypeVar("T")

#: A download is given up if fewer than `STALL_BYTES` come in `STALL_S` seconds: at that rate 87 MB take two days.
STALL_S, STALL_BYTES = 120.0, 64 << 10
#: Seconds between two polls, and seconds that a program gets to clean up after SIGINT.
_POLL_S, _GRACE_S = 0.05, 3.0
#: Seconds between two polls of a call in a thread: many take a few milliseconds.
_CALL_POLL_S = 0.002
#: Bytes of a program's standard error that are read.
_MAX_ERROR_BYTES = 1 << 20


class Stalled(Exception):
    """Too few bytes arrived for too long; the message gives the amount and the time."""


@dataclass(frozen=True)
class ProgramResult:
    """Result of a program: its exit code and its standard error."""

    code: int
    errors: str


def run(command: Sequence[str], into: Path, environment: Mapping[str, str], stall_s: float | None = None) -> ProgramResult:
    """Run a program that writes files into a directory, and leave no process behind.

    Args:
        command: The program and its arguments.
        into: The directory, in which it also runs.
        environment: Variables to add to the environment.
        stall_s: Seconds in which `STALL_BYTES` must arrive in the directory; `STALL_S` if None.

    Raises:
        Stalled: Too few bytes arrive.
        KeyboardInterrupt: A signal has come.
    """
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
            _await_bytes(lambda: process.poll() is not None, lambda: _bytes_below(into), stall_s)
        finally:
            _end(process)
        errors.seek(0)
        return ProgramResult(process.returncode, errors.read(_MAX_ERROR_BYTES).decode(errors="replace"))


def write_in_thread(work: Callable[[threading.Event], None], path: Path) -> None:
    """Have a thread write a file, and raise what it raises.

    Args:
        work: Write the file. The event tells it to stop, because a thread that waits for a server cannot be ended.
        path: The file, in which `STALL_BYTES` must arrive in `STALL_S` seconds.

    Raises:
        Stalled: Too few bytes arrive.
        KeyboardInterrupt: A signal has come.
    """
    stop = threading.Event()

    def wait(running: threading.Lock) -> None:
        _await_bytes(lambda: not running.locked(), lambda: _size(path))

    try:
        _call_in_thread(lambda: work(stop), "download", wait)
    finally:
        stop.set()


def interruptible(work: Callable[[], T]) -> T:
    """Return the result of a call that blocks outside of Python.

    Python would handle no signal before the call's end.

    The call runs in a thread and continues there if a signal ends the wait, so it should have no side effects.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    return _call_in_thread(work, "request", _poll)


def in_thread(work: Callable[[], T]) -> T:
    """Return the result of a long call outside of Python that reads through Python.

    Such a call is an encoder with its source.

    The reader must call `interrupts.check`, because Python handles signals only in its main thread, which waits here.
    A signal is raised after the call has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    return _call_in_thread(work, "encoder", _poll, finish=True)


def _call_in_thread(work: Callable[[], T], name: str, wait: Callable[[threading.Lock], None], *, finish: bool = False) -> T:
    """Return the result of a call in a thread, or raise its error.

    Args:
        work: The call.
        name: Name of the thread.
        wait: Wait until the lock, which the call holds, is free; may raise.
        finish: Let the call end before the error of `wait` leaves; otherwise it continues in the background.
    """
    future: Future[T] = Future()
    running = threading.Lock()
    running.acquire()
    thread = threading.Thread(target=_fulfil, args=(future, work, running), name=name, daemon=not finish)
    thread.start()
    try:
        wait(running)
        return future.result()
    finally:
        if finish:
            while running.locked():
                time.sleep(_POLL_S)
        # The error in the future refers to this frame: this reference cycle would keep its open files open.
        del future


def _fulfil(future: Future[T], work: Callable[[], T], running: threading.Lock) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
        # As above.
        del future
    finally:
        running.release()


def _poll(running: threading.Lock) -> None:
    """Wait until a lock is free, and leave it so. Between polls Python handles signals."""
    # Neither by the future nor by `Thread.join`: a signal may leave the one locked, and the other seemingly ended.
    while running.locked():
        time.sleep(_CALL_POLL_S)


def _await_bytes(is_done: Callable[[], bool], count_bytes: Callable[[], int], stall_s: float | None = None) -> None:
    """Wait until `is_done` returns True, while bytes arrive.

    Args:
        is_done: Return whether the work is done.
        count_bytes: Return the number of bytes that have arrived.
        stall_s: Seconds in which `STALL_BYTES` must arrive; `STALL_S` if None.

    Raises:
        Stalled: Too few bytes arrive.
        KeyboardInterrupt: A signal has come.
    """
    limit = STALL_S if stall_s is None else stall_s
    # Ending the process at a signal would leave the program running or a partial file on the disk.
    interrupts.hold()
    pause = threading.Event()
    byte_mark, since = count_bytes(), time.monotonic()
    while not is_done():
        interrupts.check()
        byte_count = count_bytes()
        if byte_count >= byte_mark + STALL_BYTES or byte_count < byte_mark:
            byte_mark, since = byte_count, time.monotonic()
        elif time.monotonic() - since > limit:
            raise Stalled(f"under {STALL_BYTES >> 10} KiB came in {limit:g} s")
        pause.wait(_POLL_S)
    interrupts.check()


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
