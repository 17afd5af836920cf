"""Test whether an object store can be written to, before hours of work depend on it."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime

from render.errors import StorageError
from render.storage.objects import ObjectStorage
from render.system import interrupts

#: Name prefix of the objects that are written as a test.
_PREFIX = ".probe-"
#: Age in seconds from which the test object of a killed process is removed.
_ABANDONED_S = 3600.0


def probe(storage: ObjectStorage) -> None:
    """Raise `StorageError` if a store is unreachable, or refuses reads or writes."""
    name = f"{_PREFIX}{secrets.token_hex(4)}"
    # Without this, a signal would end the process at once and leave the test object behind.
    interrupts.hold()
    next(storage.tree(), None)
    try:
        try:
            storage.write(name, b"")
        except BaseException:
            # Without an answer, it may have been written nevertheless.
            with suppress(StorageError):
                storage.remove(name)
            raise
        storage.remove(name)
    except StorageError as error:
        raise StorageError(f"it cannot be written to: {error}") from None
    with suppress(StorageError, FileNotFoundError):
        _remove_abandoned(storage)


def _remove_abandoned(storage: ObjectStorage) -> None:
    """Remove test objects of killed processes.

    They are older than `_ABANDONED_S`, so none is in use.
    """
    for name in storage.children():
        info = storage.info(name) if re.fullmatch(rf"{re.escape(_PREFIX)}[0-9a-f]{{8}}", name) else None
        if info is not None and info.size == 0:
            age = datetime.now(UTC) - storage.written_at(name)
            if age.total_seconds() > _ABANDONED_S:
                storage.remove(name)
