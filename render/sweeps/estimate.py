"""Estimates of a sweep's time and disk space, from a few of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from rich.table import Table

from render.config.schema import FarmConfig
from render.errors import UserError
from render.job import job as jobs
from render.job.progress import duration_text
from render.planning.plan import size_text
from render.sweeps.axes import Axis, Found, find_axes
from render.sweeps.drafting import Drafted, Refused, draft_points
from render.sweeps.points import count, expand
from render.sweeps.queue import KernelKey
from render.sweeps.sweep_directory import sweep_path
from render.terminal.console import plain_console

#: Most points in the sample; also the most values or refused points that are listed.
_SAMPLED = 12


@dataclass(frozen=True)
class Projection:
    """Estimate for all points: window megapixels, seconds on this machine, bytes on disk."""

    points: int
    megapixels: float
    seconds: float
    disk_bytes: float

    def __str__(self) -> str:
        rate = f" at {self.megapixels / self.seconds:.2f} Mpx/s" if self.seconds else ""
        return (
            f"about {duration_text(self.seconds)}{rate} as this machine does them, and "
            f"{size_text(round(self.disk_bytes))} of disk"
        )


def print_sweep_plan(root: str, words: Sequence[str]) -> None:
    """Print the `plan` of a sweep: its axes, points that cannot be rendered, and the total cost; write nothing."""
    sweep_axes = find_axes(root, words)
    point_count, console = count(sweep_axes), plain_console()
    table = Table(title=f"{sweep_axes.job.name}: {point_count:,} points", title_justify="left")
    for heading in ("axis", "values", "of them"):
        table.add_column(heading, justify="right" if heading == "of them" else "left", overflow="fold")
    for axis in sweep_axes.axes:
        table.add_row(axis.key, _listed([value.label for value in axis.values]), f"{len(axis.values):,}")
    console.print(table)
    if point_count <= sweep_axes.job.sweep.max:
        points = list(draft_points(sweep_axes, expand(sweep_axes), sweep_path(sweep_axes)))
        drafted = [point for point in points if isinstance(point, Drafted)]
        refused = [point for point in points if isinstance(point, Refused)]
        console.write_line(
            f"kernels      {len(frozenset[KernelKey]().union(*(point.kernels for point in drafted)))} to compile"
        )
        console.write_line(f"done         {sum(point.done for point in drafted)} of them in {sweep_path(sweep_axes)}")
        for refusal in refused[:_SAMPLED]:
            console.write_line(f"impossible   {refusal.label}: {refusal.reason}")
        if len(refused) > _SAMPLED:
            console.write_line(f"impossible   and {len(refused) - _SAMPLED} more")
    else:
        console.write_line(f"maximum      sweep.max={sweep_axes.job.sweep.max:,}: raise it to render them")
    console.write_line(f"takes        {project(sweep_axes)}")


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_SAMPLED])
    return shown if len(labels) <= _SAMPLED else f"{shown} ... {labels[-1]}"


def project(found: Found) -> Projection:
    """Estimate the cost of a sweep from a few points; write nothing. Raise `UserError` if none can be rendered."""
    sample = replace(found, axes=tuple(_thinned(found.axes)))
    outcomes = list(draft_points(sample, expand(sample), None))
    drafted = [point for point in outcomes if isinstance(point, Drafted)]
    if not drafted:
        raise UserError(f"{outcomes[0].label}: {getattr(outcomes[0], 'reason', '')}")
    point_count = count(found)
    typical = sorted(drafted, key=lambda point: point.teraflops)[len(drafted) // 2]
    return Projection(
        point_count,
        point_count * mean(point.megapixels for point in drafted),
        point_count * mean(point.teraflops for point in drafted) * _seconds(typical),
        point_count * mean(point.disk_bytes for point in drafted),
    )


def _thinned(axes: Sequence[Axis]) -> list[Axis]:
    """Return the axes with evenly spaced values, first and last included, so that there are at most `_SAMPLED` points."""
    remaining, thinned = _SAMPLED, []
    for axis in axes:
        value_count = max(1, min(len(axis.values), 3, remaining))
        remaining //= value_count
        last = len(axis.values) - 1
        positions = sorted({round(position * last / max(1, value_count - 1)) for position in range(value_count)})
        thinned.append(replace(axis, values=tuple(axis.values[position] for position in positions)))
    return thinned


def _seconds(point: Drafted) -> float:
    """Measure the seconds that 10^12 operations of a point's kernels take in this process."""
    farm = FarmConfig(executor="inline", worker=point.config.farm.worker)
    config = replace(point.config, farm=farm, quiet=True)
    with jobs.prepared(jobs.draft(config)) as job:
        return jobs.calibrate(job) / (job.plan.octaves[0].window_flops / 1e12)
