"""Handling of Ctrl-C, SIGTERM and SIGHUP, so that a render stops with its canvas complete and saved.

Raising KeyboardInterrupt from a signal handler is not enough: a callback inside JAX may swallow it, and in the middle of
an update it would leave half a canvas. During a render the handler only records the request, and `check` raises it where
the canvas is complete. A second signal stops the render at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from render.errors import UrgentInterrupt
from render.terminal import streams

#: Exit code of a command that was interrupted.
EXIT_CODE = 130
#: Signals that request a stop. SIGHUP comes when the terminal disappears, for example when a connection breaks.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
#: Seconds in which a second signal counts as the first: `make` and `timeout` repeat what the whole group receives.
_REPEAT_S = 0.3

_STOPPING = b"render: stopping: the tile in hand is finished and the canvas saved (once more to stop at once)\n"


@dataclass
class _Handling:
    """State of the signal handler, of which a process has one.

    Attributes:
        is_requested: True if a signal has come.
        requested_at: Time of the last signal, by `time.monotonic`.
        raises: See `hold`.
        defers: See `deferred`.
        is_quiet: See `deferred`.
        postpones: See `postponed`.
    """

    is_requested: bool = False
    requested_at: float = 0.0
    raises: bool = False
    defers: bool = False
    is_quiet: bool = False
    postpones: bool = False


_handling = _Handling()


def install() -> None:
    """Install the signal handler. Until `hold` is called, a signal ends the process at once.

    An ignored SIGHUP stays ignored, because `nohup` sets that. A SIGINT that the parent had blocked comes now.
    """
    for number in SIGNALS:
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.unraisablehook = _on_unraisable


def hold() -> None:
    """Make signals raise KeyboardInterrupt from now on, so that work in progress can clean up."""
    _handling.raises = True


@contextmanager
def deferred(*, quiet: bool) -> Iterator[None]:
    """Inside the context, make a first signal raise only in `check`.

    A second signal raises UrgentInterrupt at once. With `quiet`, the first signal prints no message.
    """
    check()
    previous = _handling.defers, _handling.is_quiet
    _handling.defers, _handling.is_quiet = True, quiet
    try:
        yield
    finally:
        _handling.defers, _handling.is_quiet = previous


@contextmanager
def postponed() -> Iterator[None]:
    """Inside the context, record a signal and raise it at its end; a second one ends the process at once.

    Inside `deferred` it changes nothing.

    This is for native code: an exception would abort the process while a module starts, and leave JAX with half a program
    while it compiles, with which Python crashes at its end.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python handles signals in its main thread alone.
        yield
        return
    previous, _handling.postpones = _handling.postpones, True
    try:
        yield
    finally:
        _handling.postpones = previous
    if not (_handling.defers or previous):
        check()


def check() -> None:
    """Raise KeyboardInterrupt if a signal has come, even if its first exception was swallowed."""
    if _handling.is_requested:
        raise KeyboardInterrupt


@contextmanager
def handled_here() -> Iterator[None]:
    """Inside the context, handle Ctrl-C as in a command; restore the caller's handler afterwards.

    This is for a job in a process of somebody else's, such as a notebook. Outside of the main thread nothing changes,
    because Python handles signals there alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_handler, previous_raises = signal.getsignal(signal.SIGINT), _handling.raises
    signal.signal(signal.SIGINT, _on_signal)
    hold()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)
        _handling.is_requested, _handling.raises = False, previous_raises


def ignore_signals() -> None:
    """Ignore further signals: the command has ended, and a signal must not change its exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def is_stop_requested() -> bool:
    """Return True if a signal has come."""
    return _handling.is_requested


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Print no traceback of a KeyboardInterrupt in a callback that cannot raise.

    JAX has such a callback in the garbage collector. `check` raises it later.
    """
    if not (_handling.is_requested and isinstance(unraisable.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(unraisable)


def _end_process() -> NoReturn:
    """End the process at once, without any clean-up."""
    streams.write_error(b"render: interrupted\n")
    os._exit(EXIT_CODE)


def _on_signal(_number: int, _frame: object) -> None:
    if not _handling.raises:
        _end_process()
    now = time.monotonic()
    if _handling.is_requested and now - _handling.requested_at < _REPEAT_S:
        return
    is_second, _handling.is_requested, _handling.requested_at = _handling.is_requested, True, now
    if _handling.defers and not is_second:
        if not _handling.is_quiet:
            streams.write_error(_STOPPING)
        return
    if _handling.postpones and not _handling.defers:
        if is_second:
            _end_process()
        return
    raise UrgentInterrupt if is_second else KeyboardInterrupt
