"""Events of a dream on the display, in the log and in the run's record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

from render.farm.checkpoint import OctaveHistory
from render.farm.events import Event, Noticed, OctaveDone, OctaveStarted, Recovered, Saved, StepDone, TilesDone
from render.job.progress import Display
from render.job.run_directory import RunDirectory

log = logging.getLogger(__name__)


def show_event(event: Event, display: Display) -> None:
    """Show an event on the display, and log it."""
    match event:
        case OctaveStarted():
            display.octave_started(event.octave, event.steps)
            height, width = event.octave.shape
            log.info(
                "octave %d: %d x %d px, %d tiles with %d workers, from step %d",
                event.octave.index + 1, width, height, event.octave.grid.tiles, event.workers, event.steps + 1,
                extra=_position(event.octave.index, event.steps),
            )  # fmt: skip
        case TilesDone():
            display.tiles_done(event.tiles)
        case StepDone():
            display.step_done(event.step)
            log.info(
                "octave %d step %d: mean|g| %.6g in %.2f s",
                event.octave.index + 1, event.step + 1, event.mean_gradient, event.seconds,
                extra=_position(event.octave.index, event.step + 1),
            )  # fmt: skip
        case Saved():
            log.info("saved octave %d, step %d in %.2f s", event.octave.index + 1, event.steps, event.seconds)
        case Recovered():
            display.say(f"a worker was lost: {event.reason}; going on with {event.workers} from the last checkpoint")
        case Noticed():
            machines = "the machine of a worker is" if event.gone == 1 else f"the machines of {event.gone} workers are"
            resume_point = "from here, which is saved" if event.saved else "from the last checkpoint"
            display.say(f"{machines} about to go ({event.reason}): going on with {event.workers} {resume_point}")


def record_event(event: Event, directory: RunDirectory, history: Sequence[OctaveHistory]) -> None:
    """Write what an event changes in the run directory: the history in `run.json`, and previews.

    Args:
        event: The event.
        directory: The run directory.
        history: The run so far, of which a checkpoint has just been saved.
    """
    match event:
        case Saved():
            directory.save(octaves=[asdict(octave) for octave in history])
            if event.preview is not None:
                directory.write_preview(event.octave.index, event.preview)
        case OctaveDone():
            directory.write_preview(event.octave.index, event.preview)


def _position(octave: int, steps: int) -> dict[str, int]:
    """Return the run's position for a log that programs read. `octave` counts from 0, the result's from 1."""
    return {"octave": octave + 1, "step": steps}
