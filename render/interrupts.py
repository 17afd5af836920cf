"""Ctrl-C and SIGTERM end a render tidily, whenever they come.

Raising KeyboardInterrupt from a signal handler is not enough: a callback inside JAX may swallow it, and in the middle of
an update it would leave half a canvas. While a render is under way the request is only noted, and `check` raises it where
the canvas is whole. Whoever asks twice does not want to wait.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from render.errors import UrgentInterrupt

EXIT_CODE = 130

_STOPPING = b"render: stopping: the tile in hand is finished and the canvas saved (once more to stop at once)\n"

_asked = False
_holding = False
_deferring = False
_quiet = False
_postponing = False


def install() -> None:
    """Takes over both signals. Until `hold`, they end the process at once: nothing needs tidying yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
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


def _on_signal(_number: int, _frame: object) -> None:
    global _asked
    if not _holding:
        os.write(2, b"render: interrupted\n")
        os._exit(EXIT_CODE)
    again, _asked = _asked, True
    if _postponing:
        return
    if _deferring and not again:
        if not _quiet:
            os.write(2, _STOPPING)
        return
    raise UrgentInterrupt if again else KeyboardInterrupt
