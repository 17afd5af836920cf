"""Pictures that are directories: written completely or not at all, and replaced only if every file is an export's.

A marker beside the files lists them: see `render.storage.markers`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from render.errors import UserError
from render.export.picture import unwritable
from render.storage.local import UNFINISHED, temporary_name
from render.storage.markers import foreign_entry, mark, remove_written

#: Names of directories that were moved aside to be replaced.
_REPLACED = re.compile(r"\.render-\d+-[0-9a-f]{8}-old")


@contextmanager
def replacing_directory(path: Path, run: str = "", *, keep: bool = False) -> Iterator[Path]:
    """Yield a directory that is renamed to `path` when complete and replaces a picture there; else it is removed.

    `run` is the digest of the run that it is a picture of. With `keep`, an existing entry of that name stays. Raises
    `UserError` if something else has the name, or nothing can be written.
    """
    if not keep:
        refuse_foreign(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    old = path.with_name(f"{temporary.name}-old")
    try:
        temporary.mkdir()
        (temporary / UNFINISHED).touch()
        yield temporary
        (temporary / UNFINISHED).unlink()
        mark(temporary, run)
        os.sync()
        if os.path.lexists(path):
            if keep:
                raise UserError(f"{path} exists by now and is left alone: choose another name, or overwrite=true")
            # Checked again just before it is removed: the entry may have changed meanwhile.
            refuse_foreign(path)
            path.rename(old)
        temporary.rename(path)
        if old.is_dir():
            remove_written(old)
    except UserError as error:
        # With the name that the user knows.
        raise UserError(str(error).replace(str(temporary), str(path))) from None
    except OSError as error:
        if os.path.lexists(old) and not os.path.lexists(path):
            old.rename(path)
        raise unwritable(path, error, "a directory") from None
    finally:
        # An unfinished directory belongs to this call alone.
        with suppress(OSError):
            shutil.rmtree(temporary)


def refuse_foreign(path: Path) -> None:
    """Raise `UserError` if this name exists and is not a directory whose every entry an export wrote."""
    if path.is_symlink():
        raise UserError(f"{path} is a link, which is never replaced: choose another output.path")
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file, and a directory would take its place: choose another output.path")
    entry = foreign_entry(path)
    if entry is not None:
        raise UserError(
            f"{entry} is no part of a picture as it was written there, so {path} is never replaced: move it away, or "
            "choose another output.path"
        )


def remove_replaced(parent: Path) -> None:
    """Remove pictures that were being replaced when a process was killed, from a directory whose lock is held.

    A directory that is not exactly as an export wrote it stays: another person may have put it there.
    """
    for old in parent.glob(".render-*-old"):
        if _REPLACED.fullmatch(old.name) and old.is_dir() and not old.is_symlink() and foreign_entry(old) is None:
            remove_written(old)
