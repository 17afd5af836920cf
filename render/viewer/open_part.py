"""Files that the viewer's servers send: opened safely, whole or by ranges of bytes."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from render.errors import RenderError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class NoSuchPart(RenderError):
    """A frame, source or file that a run or film does not have, or not yet."""


@dataclass(frozen=True)
class OpenPart:
    """A file of a run or film, open for reading.

    Attributes:
        file: The file; whoever asked for it closes it.
        size: Its size, bytes.
        content_type: Its content type.
        download_name: The name under which browsers save it; empty if they show it.
    """

    file: BinaryIO
    size: int
    content_type: str
    download_name: str = ""


def opened_part(path: Path, content_type: str, download_name: str = "") -> OpenPart:
    """Return a file, opened. Raise `NoSuchPart` if it is gone, a link, or no plain file."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except OSError:
        raise NoSuchPart(f"{path.name} is not here") from None
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        file.close()
        raise NoSuchPart(f"{path.name} is no file")
    return OpenPart(file, facts.st_size, content_type, download_name)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the bytes, [start, stop), that a `Range` header asks for; None for the whole, as for headers of other forms.

    Raises:
        ValueError: The range has no byte of a file of `size` bytes.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise ValueError(f"no byte of {size} is in {header}")
    return start, stop
