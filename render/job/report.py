"""Texts that the commands print on standard output."""

from __future__ import annotations

import logging
import sys

from render.job.job import Job
from render.job.progress import duration_text
from render.planning.plan import size_text
from render.system.logs import EscapedLines


def start_logging(*, quiet: bool) -> None:
    """Let the log keep every record, and print download messages on standard output unless quiet."""
    logging.getLogger("render").setLevel(logging.INFO)
    # Errors are printed once, where the command ends.
    logging.getLogger("render").addHandler(logging.NullHandler())
    if not quiet:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(EscapedLines("%(message)s"))
        for messages in ("render.storage.downloads", "render.networks.sources"):
            logging.getLogger(messages).addHandler(handler)


def summary(job: Job) -> str:
    """Return one line about the picture that is about to be dreamed."""
    resolved = job.resolved
    height, width = job.plan.final.shape
    return (
        f"{resolved.image} -> {width} x {height} px, {resolved.network.name} {resolved.schedule}, "
        f"{len(job.plan.octaves)} octaves x {_steps(job)} steps, "
        f"{sum(octave.grid.tiles for octave in job.plan.octaves)} tiles, {size_text(job.plan.memory_bytes)}"
    )


def _steps(job: Job) -> str:
    """Return the number of steps of an octave as text: one number, or one for each octave."""
    steps = [octave.steps for octave in job.plan.octaves]
    return str(steps[0]) if len(set(steps)) == 1 else "/".join(map(str, steps))


def finished(job: Job) -> str:
    """Return one line about how long the run took."""
    directory = job.resolved.directory
    seconds = directory.record["seconds"]
    rate = job.plan.window_pixels / 1e6 / max(1e-9, seconds["dream"])
    return f"finished in {duration_text(seconds['total'], tenths=True)} ({rate:.2f} Mpx/s); run directory {directory.place}"
