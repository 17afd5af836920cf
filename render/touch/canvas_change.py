"""Change of a finished canvas inside a rectangle, in one move, and its undoing.

A changed canvas is a new slot of the run's checkpoints. Chunks that do not change get a second name there, so a canvas of
any size is changed at the cost of the rectangle. Until the manifest names the new slot, the old canvas counts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from render.canvas import store
from render.canvas.store import CanvasStore
from render.dreaming.resample import Pixels
from render.errors import DamagedCheckpoint, UserError
from render.farm.checkpoint import Checkpoint
from render.geometry.geometry import CHUNK, Interval, Rect, round_up, whole
from render.job.recorded_touches import TOUCHES, undo_place
from render.job.run_directory import RunDirectory
from render.job.run_record import CANVAS
from render.storage.opening import open_storage
from render.storage.url import Place, joined

#: Function of a rectangle of the canvas and its pixels, which returns the new ones.
Repaint = Callable[[Rect, Pixels], Pixels]
#: Chunks that get their second names at once: an object store takes a request for each.
_COPIES_AT_ONCE = 8
#: Most pixels that are repainted at once.
_BAND_PX = 2_000_000


def chunk_rect(box: Rect, shape: tuple[int, int]) -> Rect:
    """Return the whole chunks that a box of a canvas of (rows, columns) px meets, cut at the canvas' ends."""
    rows, columns = (
        Interval(span.start // CHUNK * CHUNK, min(round_up(span.stop, CHUNK), length))
        for span, length in zip(box, shape, strict=True)
    )
    return Rect(rows, columns)


def keep_replaced(home: Place, number: int, canvas: CanvasStore, box: Rect) -> None:
    """Store the chunks of a canvas that a touch is about to replace, for its undoing.

    Args:
        home: Directory or URL of the run.
        number: Number of the touch.
        canvas: The canvas.
        box: Rectangle that changes, px.
    """
    extent, place = chunk_rect(box, canvas.shape), undo_place(home, number)
    open_storage(home, patient=True).remove_tree(f"{TOUCHES}/{number:04d}")
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    with writing(place):
        store.create(place, extent.shape, token)
        replaced = CanvasStore(place, token, mode="r+")
        for rect in whole(*extent.shape).bands(_BAND_PX, CHUNK):
            replaced.write(rect, canvas.read(_moved(rect, extent)))
            replaced.flush([rect])


@contextmanager
def writing(place: Place) -> Iterator[None]:
    """Turn errors of a disk inside the context into a `UserError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{place} cannot be written ({error.strerror or error}): free some space; the canvas is as it was, and the "
            "same command goes on"
        ) from None


def repainted(
    directory: RunDirectory, current: Checkpoint, box: Rect, repaint: Repaint, check: Callable[[], None]
) -> Checkpoint:
    """Return a checkpoint of the canvas with a box repainted; the manifest does not name it yet.

    Args:
        directory: The run, which this process holds.
        current: Its newest checkpoint.
        box: Rectangle outside of which nothing changes, px.
        repaint: Returns the new pixels of a rectangle.
        check: Called between chunks; may raise to stop.

    Raises:
        UserError: The disk is full, or the canvas is damaged.
    """
    checkpoints = directory.checkpoints
    canvas = CanvasStore(checkpoints.path(current), current.token)
    extent = chunk_rect(box, canvas.shape)
    changed = checkpoints.begin(canvas.shape, current.octave, current.steps, current.history)
    try:
        with writing(directory.place):
            _share_chunks(directory.place, current, changed, extent, canvas.shape, check)
            target = CanvasStore(checkpoints.path(changed), changed.token, mode="r+")
            for rect in extent.bands(_BAND_PX, CHUNK):
                check()
                pixels = canvas.read(rect)
                inner = rect.intersect(box)
                if inner.area:
                    where = inner.slices_from(rect)
                    pixels = pixels.copy()
                    pixels[where] = repaint(inner, pixels[where])
                target.write(rect, pixels)
            target.flush([canvas.rect])
    except BaseException:
        checkpoints.abandon(changed)
        raise
    return changed


def restoring(home: Place, number: int, box: Rect, shape: tuple[int, int]) -> tuple[Rect, Repaint]:
    """Return the rectangle that a touch replaced, and what repaints it with the pixels from before.

    Raises:
        UserError: They are not there.
    """
    extent = chunk_rect(box, shape)
    try:
        replaced = CanvasStore(undo_place(home, number))
    except DamagedCheckpoint:
        raise UserError(
            f"{undo_place(home, number)} is gone, which has what touch {number} replaced: it cannot be undone here"
        ) from None
    if replaced.shape != extent.shape:
        raise UserError(f"{undo_place(home, number)} has not the size of touch {number}: it cannot be undone here")

    def repaint(rect: Rect, _pixels: Pixels) -> Pixels:
        """Return the pixels from before."""
        rows, columns = rect.rows.shifted(-extent.rows.start), rect.columns.shifted(-extent.columns.start)
        return replaced.read(Rect(rows, columns))

    return extent, repaint


def forget_replaced(home: Place, number: int) -> None:
    """Remove the chunks that a touch replaced: it is undone."""
    open_storage(home, patient=True).remove_tree(f"{TOUCHES}/{number:04d}")


def _share_chunks(
    home: Place,
    current: Checkpoint,
    changed: Checkpoint,
    extent: Rect,
    shape: tuple[int, int],
    check: Callable[[], None],
) -> None:
    """Give all chunks outside of `extent` a second name in the changed canvas."""
    storage = open_storage(joined(home, CANVAS), patient=True)
    names = [
        f"c/{row // CHUNK}/{column // CHUNK}/0"
        for row in range(0, shape[0], CHUNK)
        for column in range(0, shape[1], CHUNK)
        if not (row in range(*extent.rows) and column in range(*extent.columns))
    ]

    def share(name: str) -> None:
        """Name one chunk."""
        check()
        try:
            storage.copy(f"{current.slot}/{name}", f"{changed.slot}/{name}")
        except FileNotFoundError:
            raise DamagedCheckpoint(f"{joined(home, CANVAS)}/{current.slot} lacks {name}") from None

    with ThreadPoolExecutor(_COPIES_AT_ONCE if isinstance(home, str) else 1) as threads:
        list(threads.map(share, names))


def _moved(rect: Rect, extent: Rect) -> Rect:
    """Return a rectangle of the stored chunks as one of the canvas."""
    return Rect(rect.rows.shifted(extent.rows.start), rect.columns.shifted(extent.columns.start))
