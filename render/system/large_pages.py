"""Memory in pages of 2 MB, which Linux gives where a process asks for them.

On a CPU, XLA allocates the memory of a window anew for each. In pages of 4 kB the kernel spends a tenth of a window's time
on handing them out. The C library reads whether to ask when a process starts, so this has to be known before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

#: The C library's variable, and its word for asking: "Memory Allocation Tunables" in the manual of glibc.
_VARIABLE, _ASK = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
#: Who gets large pages on this machine: `always`, `madvise` or `never`, with brackets around the one that holds.
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def large_pages() -> dict[str, str]:
    """Return the variable with which a process gets large pages; the user's own value has priority."""
    return {_VARIABLE: os.environ.get(_VARIABLE, _ASK)}


def restart_with_large_pages() -> None:
    """Start this process again, with the same words, if it would have large pages then.

    Return if it has them, if nobody or everybody has them on this machine, or if the user has set the variable. The
    process keeps its number and its files. Call it before anything is opened or started.
    """
    words = sys.argv[1:]
    # A process that forked from another one has the words with which that was started.
    is_own = bool(sys.executable) and sys.orig_argv[len(sys.orig_argv) - len(words) :] == words
    if is_own and gains_large_pages(os.environ, _SETTING):
        os.environ.update(large_pages())
        # Where it cannot be started again, it goes on, only slower.
        with suppress(OSError):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def gains_large_pages(environment: Mapping[str, str], setting: Path) -> bool:
    """Return whether a process would have large pages if it were started with `large_pages`, and has none now.

    Args:
        environment: Variables that the process was started with.
        setting: File of the kernel's setting.
    """
    try:
        return _VARIABLE not in environment and "[madvise]" in setting.read_text()
    # Other systems do not have it.
    except OSError:
        return False
