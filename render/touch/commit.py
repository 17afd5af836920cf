"""The moment at which a change of a canvas counts: canvas, record and undo data first, then the pictures."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from render.canvas.image import to_integers
from render.canvas.store import CanvasStore
from render.config.formats import SMALL_PICTURES
from render.dreaming.resample import Pixels
from render.errors import DamagedCheckpoint, RenderError, StorageError, UserError
from render.farm.checkpoint import Checkpoints
from render.farm.conductor.conductor import PREVIEW_SIDE
from render.geometry.geometry import Interval, Rect
from render.job.pictures import explain_damage, make_pictures
from render.job.progress import say
from render.job.recorded_touches import TOUCHES, work_place
from render.job.targets import PREVIEWS, preview_path
from render.storage.opening import open_storage
from render.storage.url import Place
from render.system import interrupts
from render.touch.areas import Weights
from render.touch.canvas_change import Repaint, keep_replaced, repainted
from render.touch.touched_run import TouchedRun, TouchLog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """A change of a run's canvas.

    Attributes:
        box: Rectangle outside of which nothing changes, px.
        repaint: Returns the new pixels.
        log: The touches that the canvas has afterwards.
        undo: Number under which the replaced chunks are kept; None keeps none.
    """

    box: Rect
    repaint: Repaint
    log: TouchLog
    undo: int | None = None


@contextmanager
def held(run: TouchedRun) -> Iterator[None]:
    """Hold a run's directory inside the context, with its record reopened.

    Raises:
        UserError: Another process holds it, or has changed the canvas since the run was opened.
    """
    directory = run.directory
    with directory.opened(begins=False):
        newest = directory.newest()
        if newest is None or newest.token != run.checkpoint.token:
            raise UserError(f"run={run.place} has changed meanwhile: run the command again")
        directory.reopen_record()
        if run.log != TouchLog():
            directory.record[TOUCHES] = run.log.record(run.checkpoint.token)
        try:
            with interrupts.deferred(quiet=run.config.quiet):
                yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; the same command goes on") from None
        except StorageError as error:
            raise StorageError(f"{error} (then the same command goes on from what was saved)") from None
        except DamagedCheckpoint as damage:
            with explain_damage():
                raise damage


def commit(run: TouchedRun, change: Change) -> list[Place]:
    """Change the canvas of a run that this process holds, and write its pictures anew; return their places.

    Raises:
        RenderError: It cannot be done. Before the manifest is replaced, nothing has changed then.
    """
    directory = run.directory
    canvas = CanvasStore(directory.checkpoints.path(run.checkpoint), run.checkpoint.token)
    if change.undo is not None:
        keep_replaced(directory.place, change.undo, canvas, change.box)
    changed = repainted(directory, run.checkpoint, change.box, change.repaint, interrupts.check)
    # The manifest has a copy of the record: canvas and touches change in one move.
    directory.record[TOUCHES] = change.log.record(changed.token)
    directory.checkpoints.commit(run.resume_key, changed)
    directory.save()
    log.info("canvas %s replaced by %s", run.checkpoint.token, changed.token)
    return finish(replace(run, checkpoint=changed, log=change.log), change.box)


def finish(run: TouchedRun, box: Rect | None = None) -> list[Place]:
    """Write the pictures that a run lacks since its canvas was changed; return the places of all.

    Args:
        run: The run, with the canvas as it is now.
        box: Rectangle that has changed; None for all of it.
    """
    directory = run.directory
    if run.log.pending:
        directory.checkpoints.keep_newest()
        _update_preview(run, run.canvas, box or run.canvas.rect)
    discard_work(run)
    pictures = make_pictures(
        directory, run.config, run.profile, lambda line: say(line, quiet=run.config.quiet), run.reference
    )
    if run.log.pending:
        directory.record[TOUCHES] = replace(run.log, pending="").record(run.checkpoint.token)
        directory.save()
        # Once more, for the manifest's copy of the record, which now tells of the pictures.
        directory.checkpoints.keep_newest()
        _tell_of_others(run)
    return pictures


def _tell_of_others(run: TouchedRun) -> None:
    """Say which pictures of the run still show the canvas before: those of later exports, and copies elsewhere."""
    target_names = {target.path.name for target in run.directory.targets}
    others = sorted(set(run.directory.record.get("pictures", {})) - target_names)
    copy = run.record["config"]["output"].get("path")
    others += [copy] if isinstance(copy, str) else []
    if others:
        say(
            f"{', '.join(others)} as before: make export run={run.place} output.path=FILE overwrite=true writes it anew",
            quiet=run.config.quiet,
        )


def discard_work(run: TouchedRun) -> None:
    """Remove the octaves of a touch that is over."""
    checkpoints = Checkpoints(work_place(run.directory.place))
    with suppress(UserError):
        if checkpoints.read() is not None:
            checkpoints.discard()


def blended(pixels: Pixels, others: Pixels, weights: Weights) -> Pixels:
    """Return pixels with the share `weights` of others; where it is 0 or 1, they are those of one side to the bit.

    Args:
        pixels: (rows, columns, 3) float32, 0..255.
        others: The same shape.
        weights: (rows, columns) float32, 0..1.
    """
    share = weights[..., None]
    mixed = pixels + share * (others - pixels)
    return np.where(share == 0, pixels, np.where(share == 1, others, np.clip(mixed, 0.0, 255.0)))


def _update_preview(run: TouchedRun, canvas: CanvasStore, box: Rect) -> None:
    """Bring the small picture of the finished canvas up to date where it changed; it only informs."""
    directory, octave = run.directory, run.checkpoint.octave
    factor = -(-max(canvas.shape) // PREVIEW_SIDE)
    name = f"{PREVIEWS}/{preview_path(directory.path, octave).name}"
    try:
        content = open_storage(directory.place).load(name)[0]
        with Image.open(io.BytesIO(content), formats=SMALL_PICTURES) as picture:
            if picture.size != tuple(-(-side // factor) for side in canvas.shape[::-1]):
                return
            small = np.array(picture.convert("RGB"))
        rows, columns = (
            Interval(span.start // factor * factor, min(-(-span.stop // factor) * factor, length))
            for span, length in zip(box, canvas.shape, strict=True)
        )
        for rect in Rect(rows, columns).bands(multiple=factor):
            top, left = rect.rows.start // factor, rect.columns.start // factor
            means = _means(canvas.read(rect), factor)
            small[top : top + len(means), left : left + means.shape[1]] = to_integers(means, 8)
        directory.write_preview(octave, small)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, RenderError) as error:
        log.warning("the preview shows the canvas before: %s", error)


def _means(pixels: Pixels, factor: int) -> Pixels:
    """Return the means of squares of `factor` px, the last of a side perhaps smaller: (rows, columns, 3) float32."""
    starts = [np.arange(0, length, factor) for length in pixels.shape[:2]]
    sums = np.add.reduceat(np.add.reduceat(pixels, starts[0], axis=0), starts[1], axis=1)
    lengths = [np.diff([*start, length]) for start, length in zip(starts, pixels.shape[:2], strict=True)]
    means: Pixels = (sums / np.outer(*lengths)[..., None]).astype(np.float32)
    return means
