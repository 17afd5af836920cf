"""Pictures that are many files: a directory of them is complete or not there, and replaced only where all of it is ours.

A marker lies with its files that lists them: see `render.storage.markers`.
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

#: The names of directories that were moved aside to be replaced.
_REPLACED = re.compile(r"\.render-\d+-[0-9a-f]{8}-old")


@contextmanager
def replacing_directory(path: Path, run: str = "", *, keep: bool = False) -> Iterator[Path]:
    """A directory that takes the name `path` when complete, and the place of a picture that has it; else nothing is left.

    `run` is the digest of the run that it is a picture of. With `keep`, whatever has the name by then stays. Raises
    `UserError` where something else has it, and where nothing can be written.
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
            # Again, now that it is about to go: somebody may have put something there meanwhile.
            refuse_foreign(path)
            path.rename(old)
        temporary.rename(path)
        if old.is_dir():
            remove_written(old)
    except UserError as error:
        # By the name that the user knows.
        raise UserError(str(error).replace(str(temporary), str(path))) from None
    except OSError as error:
        if os.path.lexists(old) and not os.path.lexists(path):
            old.rename(path)
        raise unwritable(path, error, "a directory") from None
    finally:
        # What was half written there is this call's own.
        with suppress(OSError):
            shutil.rmtree(temporary)


def refuse_foreign(path: Path) -> None:
    """Raises `UserError` where anything has this name but a directory all of which an export wrote."""
    if path.is_symlink():
        raise UserError(f"{path} is a link, which is never replaced: choose another output.path")
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file, and a directory would take its place: choose another output.path")
    other = foreign_entry(path)
    if other is not None:
        raise UserError(
            f"{other} is no part of a picture as it was written there, so {path} is never replaced: move it away, or "
            "choose another output.path"
        )


def remove_replaced(parent: Path) -> None:
    """Removes the pictures that were to be replaced when a process was killed, of a directory whose lock is held.

    Of a directory that is not as an export wrote it nothing is removed: whoever sent it may have put it there.
    """
    for old in parent.glob(".render-*-old"):
        if _REPLACED.fullmatch(old.name) and old.is_dir() and not old.is_symlink() and foreign_entry(old) is None:
            remove_written(old)
