"""Ctrl-C and SIGTERM end a render tidily, whenever they come.

Raising KeyboardInterrupt from a signal handler is not enough: a callback inside JAX may swallow it. The request is kept as
well, and `check` raises it again at the next tile.
"""

from __future__ import annotations

import os
import signal

EXIT_CODE = 130

_asked = False
_holding = False


def install() -> None:
    """Takes over both signals. Until `hold`, they end the process at once: nothing needs tidying yet."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)


def hold() -> None:
    """From now on signals raise KeyboardInterrupt, so that what has begun is put in order."""
    global _holding  # noqa: PLW0603
    _holding = True


def check() -> None:
    """Raises KeyboardInterrupt when a signal has come, even if the first one was swallowed."""
    if _asked:
        raise KeyboardInterrupt


def _on_signal(_number: int, _frame: object) -> None:
    global _asked  # noqa: PLW0603
    if not _holding:
        os.write(2, b"render: interrupted\n")
        os._exit(EXIT_CODE)
    _asked = True
    raise KeyboardInterrupt
