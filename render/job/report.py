"""Texts that the commands print on standard output."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from rich.table import Table

from render.job.job import Job
from render.job.program_report import ShapeState, shapes_text
from render.job.progress import duration_text
from render.job.resolve import ResolvedJob
from render.networks.weights import is_published
from render.planning.plan import Plan, size_text
from render.system.logs import EscapedLines
from render.terminal.console import plain_console
from render.terminal.text import escaped


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
    return f"finished in {duration_text(seconds['total'])} ({rate:.2f} Mpx/s); run directory {directory.place}"


def print_octaves(plan: Plan, job: ResolvedJob, seconds: Sequence[float] | None = None) -> None:
    """Print the octaves as a table, and the number of those left out.

    Args:
        plan: The job's plan.
        job: The job.
        seconds: Time of each octave, if it is known, s.
    """
    console = plain_console()
    title = escaped(f"{job.name}: {job.schedule} of {job.network.name} on {job.image}")
    table = Table(title=title, title_justify="left")
    for heading in ("octave", "canvas px", "tiles", "tile px", "window px", "halo work", "steps", "time")[
        : None if seconds else -1
    ]:
        table.add_column(heading, justify="right")
    for octave in plan.octaves:
        height, width = octave.shape
        rows, columns = octave.grid.window_shape
        tile_rows, tile_columns = octave.grid.core_shape
        work = octave.step_window_pixels / octave.grid.canvas.area
        times = [duration_text(seconds[octave.index])] if seconds else []
        table.add_row(
            str(octave.index + 1), f"{width} x {height}", str(octave.grid.tiles),
            f"{tile_columns} x {tile_rows}", f"{columns} x {rows}",
            f"x {work:.2f}", str(octave.steps), *times,
        )  # fmt: skip
    console.print(table)
    if job.has_auto_octaves:
        console.write_line(
            f"octaves      {len(plan.octaves)} (auto): the coarsest has {min(plan.octaves[0].shape)} px on its short side, "
            f"about what {', '.join(job.schedule.layers)} sees at once"
        )
    if plan.skipped_octaves:
        console.write_line(
            f"{plan.skipped_octaves} of {len(job.schedule.stages)} octaves left out: "
            f"their short side would be under {plan.useful_side} px, too small for {', '.join(job.schedule.layers)}"
        )


def print_plan(job: Job, window_seconds: float, shapes: Sequence[ShapeState] = ()) -> None:
    """Print the plan as tables with memory, disk and time.

    Args:
        job: The prepared job.
        window_seconds: Time of a window of the smallest octave, s.
        shapes: The plan's kernel shapes, if they are known.
    """
    plan, directory = job.plan, job.resolved.directory
    console = plain_console()
    rate = plan.octaves[0].window_flops / window_seconds
    seconds = [octave.flops / rate for octave in plan.octaves]
    print_octaves(plan, job.resolved, seconds)
    halo = "exact" if plan.halo == plan.exact_halo else f"exact would be {plan.exact_halo}: seams are possible"
    console.write_line(f"halo         {plan.halo} px ({halo}), stride {plan.stride} px")
    console.write_line(f"weights      {_weights(job)}")
    console.write_line(f"device       {job.device}, kernel {size_text(plan.kernel_bytes)}")
    if shapes:
        console.write_line(f"kernels      {shapes_text(shapes, len(plan.octaves))}")
    each = f", {size_text(plan.worker_bytes)} of it for each of {plan.workers} workers" if plan.workers > 1 else ""
    console.write_line(f"memory       {size_text(plan.memory_bytes)} in all{each}")
    if plan.scratch_bytes:
        console.write_line(
            f"scratch      {size_text(plan.scratch_bytes)} of mapped files: the canvas is larger than the memory"
        )
    console.write_line(f"disk         up to {size_text(plan.disk_bytes)} in {directory.place}")
    console.write_line(f"arithmetic   {plan.flops / 1e12:,.1f} TFLOP in convolutions")
    console.write_line(
        f"time         about {duration_text(sum(seconds))}"
        + (f" at {plan.window_pixels / sum(seconds) / 1e6:.2f} Mpx/s" if sum(seconds) else "")
        + ", from what a window took just now"
    )
    for target in directory.targets:
        console.write_line(f"picture      {', '.join(map(str, (directory.pictures.place(target), *target.copies)))}")


def _weights(job: Job) -> str:
    """Return which weights a job uses and where they are, as text."""
    network, loaded = job.resolved.network, job.loaded
    origin = "the published ones" if is_published(loaded, network.model) else "not the published ones"
    classes = loaded.architecture.classes
    named = f", named in {network.labels}" if network.labels is not None else ""
    class_text = f", {classes:,} classes{named}" if named or classes != network.model.architecture.classes else ""
    return f"{loaded.file}, sha256 {loaded.sha256[:12]}: {origin}{class_text}"


def print_table(table: Table) -> None:
    """Print a table, without colours where the output is not a terminal."""
    plain_console().print(table)
