"""Shrunk copies of a canvas, from which views of any width are read in a bounded time.

Each level has half the sides of the one before it. Levels are Zarr arrays like the canvas itself, float32, and lie in a
directory of the film, never in the run's.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from render.canvas.store import CanvasStore, create
from render.dreaming.resample import resample
from render.errors import DamagedCheckpoint, UserError
from render.geometry.geometry import CHUNK, PIXEL_BYTES
from render.job.pictures import explain_damage
from render.storage.local import UNFINISHED, remove_abandoned, sync, temporary_name
from render.system import interrupts

#: Pixels of a level that are computed at once: with the pixels they are read from, 130 MB.
_BAND_PIXELS = 1 << 21
_UNFIT = "the levels of the canvas cannot be written to"


def level_shape(canvas: tuple[int, int], level: int) -> tuple[int, int]:
    """Return the (rows, columns) px of a level of a canvas; level 0 is the canvas."""
    return max(1, -(-canvas[0] // 2**level)), max(1, -(-canvas[1] // 2**level))


def level_count(widest: float, frame_width: int) -> int:
    """Return the levels below the canvas that a film needs.

    Args:
        widest: Width of the widest view, px of the canvas.
        frame_width: Width of a frame, px.
    """
    return max(0, int(widest / frame_width).bit_length() - 1)


def levels_bytes(canvas: tuple[int, int], count: int) -> int:
    """Return the disk that levels need, bytes: whole chunks."""
    total = 0
    for level in range(1, count + 1):
        rows, columns = level_shape(canvas, level)
        total += -(-rows // CHUNK) * -(-columns // CHUNK) * CHUNK * CHUNK * PIXEL_BYTES
    return total


def build_levels(canvas: CanvasStore, count: int, directory: Path, tell: Callable[[str], None]) -> list[CanvasStore]:
    """Return a canvas and its levels, building those that are not there.

    A level gets its name when it is complete, so a build that was interrupted goes on with the next level.

    Args:
        canvas: The canvas.
        count: Number of levels below the canvas.
        directory: Directory of the levels, held by this process; created if need be.
        tell: Called with lines about the progress.

    Returns:
        The canvas, and `count` levels, finest first.

    Raises:
        UserError: The canvas cannot be read, or the disk is full or not writable.
    """
    stores = [canvas]
    for level in range(1, count + 1):
        path = directory / f"level-{level:02}"
        token = _token(canvas.token, level)
        shape = level_shape(canvas.shape, level)
        store = _open(path, token, shape)
        if store is None:
            tell(f"building level {level} of {count} of the canvas, {shape[1]} x {shape[0]} px")
            try:
                _build(stores[-1], path, shape, token)
            except OSError as error:
                hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another output.dir"
                raise UserError(f"{_UNFIT} {path} ({error.strerror or error}): {hint}") from None
            store = CanvasStore(path, token)
        stores.append(store)
    return stores


def _token(canvas_token: str, level: int) -> str:
    """Return the token of a level: it follows from the canvas."""
    return hashlib.sha256(f"{canvas_token} {level}".encode()).hexdigest()[:32]


def _open(path: Path, token: str, shape: tuple[int, int]) -> CanvasStore | None:
    """Return the level at `path`; None if that of this canvas is not there."""
    try:
        store = CanvasStore(path, token)
    except DamagedCheckpoint:
        return None
    return store if store.shape == shape else None


def _build(finer: CanvasStore, path: Path, shape: tuple[int, int], token: str) -> None:
    """Write a level, resampled by Lanczos from the next finer one, under a temporary name, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    temporary = path.with_name(temporary_name())
    temporary.mkdir()
    try:
        (temporary / UNFINISHED).touch()
        create(temporary / path.name, shape, token)
        store = CanvasStore(temporary / path.name, token, mode="r+")
        for rect in store.rect.bands(_BAND_PIXELS, multiple=CHUNK):
            interrupts.check()
            with explain_damage():
                pixels = resample(finer.read, finer.shape, shape, rect)
            store.write(rect, pixels)
            store.flush([rect])
        _replace(temporary / path.name, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(source: Path, target: Path) -> None:
    """Rename a complete level to its name, in place of one of another canvas."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    source.rename(target)
    sync(target.parent)
