"""Note for the program that started this one, that a render has begun and may have replaced an older one."""

from __future__ import annotations

import contextlib
import os

#: Environment variable with the path of the note. Only a file that is there is written to.
NOTE = "RENDER_BEGINNING_NOTE"
#: Text of the note once a render has begun.
BEGUN = "begun\n"


def note_beginning() -> None:
    """Write the note, if this process was told of one."""
    path = os.environ.get(NOTE)
    if not path:
        return
    with contextlib.suppress(OSError):
        # Never made here: the variable may have outlived the job.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(BEGUN)
