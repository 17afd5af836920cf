"""Ctrl-C, SIGTERM, and a terminal that goes, end a render tidily, whenever they come.

Raising KeyboardInterrupt from a signal handler is not enough: a callback inside JAX may swallow it, and in the middle of
an update it would leave half a canvas. While a render is under way the request is only noted, and `check` raises it where
the canvas is whole. Whoever asks twice does not want to wait.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from render.errors import UrgentInterrupt
from render.terminal import streams

EXIT_CODE = 130
#: Those that ask to stop: SIGHUP comes when the terminal goes, as that of a connection that breaks.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
#: A second signal so soon is the first by another way: `make` and `timeout` send on what the whole group gets, s.
_SAME = 0.3

_STOPPING = b"render: stopping: the tile in hand is finished and the canvas saved (once more to stop at once)\n"

_asked = False
_asked_at = 0.0
_holding = False
_deferring = False
_quiet = False
_postponing = False


def install() -> None:
    """Takes over the signals. Until `hold`, they end the process at once: nothing needs tidying yet.

    A SIGHUP that is ignored stays so: `nohup` asks for that.
    """
    for number in SIGNALS:
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)


def hold() -> None:
    """From now on signals raise KeyboardInterrupt, so that what has begun is put in order."""
    global _holding  # noqa: PLW0603
    _holding = True


@contextmanager
def deferred(*, quiet: bool) -> Iterator[None]:
    """Inside, the first signal only makes `check` raise; the second raises UrgentInterrupt at once."""
    global _deferring, _quiet
    check()
    before = _deferring, _quiet
    _deferring, _quiet = True, quiet
    try:
        yield
    finally:
        _deferring, _quiet = before


@contextmanager
def postponed() -> Iterator[None]:
    """Inside, signals are only noted, and raised at the end: an exception while a native module starts would abort the
    process. For a second or so at most.
    """
    global _postponing  # noqa: PLW0603
    _postponing = True
    try:
        yield
    finally:
        _postponing = False
    check()


def check() -> None:
    """Raises KeyboardInterrupt when a signal has come, even if the first one was swallowed."""
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
    """Ignore further requests: the command has ended, and its exit code is to be the one that it says."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def is_asked() -> bool:
    """Whether a signal has come."""
    return _asked


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
