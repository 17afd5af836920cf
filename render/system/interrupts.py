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

from render.errors import UrgentInterrupt
from render.terminal import streams

EXIT_CODE = 130
#: Signals that request a stop. SIGHUP comes when the terminal disappears, for example when a connection breaks.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
#: Seconds in which a second signal counts as the first: `make` and `timeout` repeat what the whole group receives.
_SAME = 0.3

_STOPPING = b"render: stopping: the tile in hand is finished and the canvas saved (once more to stop at once)\n"

_asked = False
_asked_at = 0.0
_holding = False
_deferring = False
_quiet = False
_postponing = False


def install() -> None:
    """Install the signal handler. Until `hold` is called, a signal ends the process at once.

    An ignored SIGHUP stays ignored, because `nohup` sets that.
    """
    for number in SIGNALS:
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.unraisablehook = _on_unraisable


def hold() -> None:
    """Make signals raise KeyboardInterrupt from now on, so that work in progress can clean up."""
    global _holding  # noqa: PLW0603
    _holding = True


@contextmanager
def deferred(*, quiet: bool) -> Iterator[None]:
    """Inside the context, make a first signal raise only in `check`, and a second one raise UrgentInterrupt at once.

    With `quiet`, the first signal prints no message.
    """
    global _deferring, _quiet
    check()
    previous = _deferring, _quiet
    _deferring, _quiet = True, quiet
    try:
        yield
    finally:
        _deferring, _quiet = previous


@contextmanager
def postponed() -> Iterator[None]:
    """Inside the context, record signals and raise them at its end. Use it for about a second at most.

    An exception while a native module starts would abort the process.
    """
    global _postponing  # noqa: PLW0603
    _postponing = True
    try:
        yield
    finally:
        _postponing = False
    check()


def check() -> None:
    """Raise KeyboardInterrupt if a signal has come, even if its first exception was swallowed."""
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def heard_here() -> Iterator[None]:
    """Inside, Ctrl-C is heard as in a command, and is the caller's own again afterwards; for a job in another's process.

    Elsewhere than in the main thread nothing changes: Python hears signals there alone.
    """
    global _asked, _holding
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, holding = signal.getsignal(signal.SIGINT), _holding
    signal.signal(signal.SIGINT, _on_signal)
    hold()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked, _holding = False, holding


def disregard() -> None:
    """Ignore further signals: the command has ended, and a signal must not change its exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def is_asked() -> bool:
    """Return whether a signal has come."""
    return _asked


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Pass over a request that came in a callback which can raise nothing, such as JAX's of the garbage collector.

    `check` raises it. Python would print its traceback.
    """
    if not (_asked and isinstance(unraisable.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(unraisable)


def _on_signal(_number: int, _frame: object) -> None:
    global _asked, _asked_at
    if not _holding:
        streams.write_error(b"render: interrupted\n")
        os._exit(EXIT_CODE)
    now = time.monotonic()
    if _asked and now - _asked_at < _SAME:
        return
    again, _asked, _asked_at = _asked, True, now
    if _postponing:
        return
    if _deferring and not again:
        if not _quiet:
            streams.write_error(_STOPPING)
        return
    raise UrgentInterrupt if again else KeyboardInterrupt
