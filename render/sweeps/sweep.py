"""`make sweep`: parse the words of a sweep, draft its points, and run those that are not done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from render.config.schema import FarmConfig
from render.errors import UserError
from render.job.progress import say
from render.job.report import start_logging
from render.sweeps.axes.definition import SweepDefinition
from render.sweeps.axes.points import expand, point_count
from render.sweeps.breeding.generation import define_sweep
from render.sweeps.estimate import estimate_sweep
from render.sweeps.gallery.make_commands import sweep_command
from render.sweeps.rendering.drafting import MAX_SILENT_POINTS, RefusedPoint, draft_points
from render.sweeps.rendering.point_progress import PointProgress
from render.sweeps.sweep_directory import SweepDirectory, sweep_path
from render.sweeps.sweep_run import SweepRun
from render.system import interrupts
from render.system.accelerators import has_plugin
from render.system.machine import cores, host_memory


def sweep(root: str, words: Sequence[str]) -> int:
    """Render all points of a sweep that are not done yet.

    Return the exit code, 1 if any failed.

    Raises:
        UserError: Before anything is rendered, for words that do not make a valid sweep.
    """
    return render_sweep(define_sweep(root, words), words)


def render_sweep(definition: SweepDefinition, words: Sequence[str]) -> int:
    """Render all points of a sweep, parsed from `words`, that are not done yet; see `sweep`."""
    interrupts.hold()
    config = definition.config
    start_logging(quiet=config.quiet)
    limit, total = config.sweep.max, point_count(definition)
    if total > limit:
        raise UserError(
            f"{total:,} points are more than sweep.max={limit:,} ({estimate_sweep(definition)}): "
            "raise sweep.max to render them all"
        )
    directory = SweepDirectory(sweep_path(definition))
    directory.check()
    for note in definition.lineage.notes if definition.lineage else ():
        say(note, quiet=config.quiet)
    if total > MAX_SILENT_POINTS:
        say(f"checking {total:,} points", quiet=config.quiet)
    farm = sweep_farm(config.farm, total)
    worker_gb = host_memory() / (farm.workers or 1) / 1e9
    progress = PointProgress("checking", total, quiet=config.quiet)
    points = []
    for drafted in draft_points(definition, expand(definition), directory.path, worker_gb, interrupts.check):
        points.append(drafted)
        progress.advance()
    refused = [point for point in points if isinstance(point, RefusedPoint)]
    if refused and (config.sweep.strict or len(refused) == len(points)):
        others_text = f" (and {len(refused) - 1} more of {len(points)} points)" if len(refused) > 1 else ""
        raise UserError(f"{refused[0].label}: {refused[0].reason}{others_text}")
    return SweepRun(definition, points, directory, farm, sweep_command(definition.root, words)).run()


def sweep_farm(farm: FarmConfig, points: int) -> FarmConfig:
    """Return the farm for so many points.

    On local CPUs it has two workers if the config sets no number. While one worker reads, writes or schedules, the other
    computes; on two cores that saves a fifth of the time. Each has as many threads as a single render, so that sums are
    rounded in the same way. The inline executor has one worker, since its kernels and each run's log belong to this
    process.
    """
    if farm.executor == "inline":
        return replace(farm, workers=1)
    if (
        farm.executor not in ("auto", "ray")
        or farm.address is not None
        or farm.workers is not None
        or points < 2
        or cores() < 2
    ):
        return farm
    return farm if has_plugin("cuda") or has_plugin("tpu") else replace(farm, workers=2)
