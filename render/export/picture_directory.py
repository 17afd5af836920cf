"""Pictures that are directories: written completely or not at all.

A directory is replaced only if an export wrote every file in it. A marker beside the files lists them: see
`render.storage.markers`.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from render.errors import UserError
from render.export.picture import unwritable
from render.storage.local import UNFINISHED, temporary_name
from render.storage.markers import foreign_entry, mark, remove_written

#: Names of pictures that are moved aside while another takes their place.
_MOVED_ASIDE = re.compile(r"\.render-\d+-[0-9a-f]{8}-old")
#: Seconds for which an unfinished directory is removed again, and between two looks.
_REMOVAL_S, _LOOK_S = 5.0, 0.05


@contextmanager
def replacing_directory(path: Path, run: str = "", *, keep: bool = False) -> Iterator[Path]:
    """Yield a temporary directory that becomes the picture `path` when the context ends.

    If it ends with an error, the directory is removed.

    Args:
        path: Name of the picture; an earlier picture there is replaced.
        run: Digest of the run, for the marker.
        keep: True to raise `UserError` instead of replacing anything.

    Raises:
        UserError: something else than a picture has the name, or the directory cannot be written.
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
        # The user knows the final name only.
        raise UserError(str(error).replace(str(temporary), str(path))) from None
    except OSError as error:
        if os.path.lexists(old) and not os.path.lexists(path):
            old.rename(path)
        raise unwritable(path, error, "a directory") from None
    finally:
        # An unfinished directory belongs to this call alone.
        _remove_unfinished(temporary)


def _remove_unfinished(directory: Path) -> None:
    """Remove a directory, if it is there.

    Where a write has failed, other threads of Zarr may still add files for a moment, and even the directory itself.
    """
    deadline = time.monotonic() + _REMOVAL_S
    while os.path.lexists(directory) and time.monotonic() < deadline:
        with suppress(OSError):
            shutil.rmtree(directory)
        time.sleep(_LOOK_S)


def refuse_foreign(path: Path) -> None:
    """Raise `UserError` if `path` exists and is anything but a directory that an export wrote."""
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
    """Remove pictures that a killed process had moved aside from `parent`, whose lock is held.

    A directory that is not exactly as an export wrote it stays: another person may have put it there.
    """
    for old in parent.glob(".render-*-old"):
        if _MOVED_ASIDE.fullmatch(old.name) and old.is_dir() and not old.is_symlink() and foreign_entry(old) is None:
            remove_written(old)
