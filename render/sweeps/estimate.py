"""Estimates of a sweep's time and disk space, from a few of its points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from rich.table import Table

from render.config.schema import FarmConfig
from render.errors import UserError
from render.job.progress import duration_text
from render.planning.plan import size_text
from render.sweeps.axes.definition import SweepAxis, SweepDefinition
from render.sweeps.axes.points import expand, point_count
from render.sweeps.breeding.generation import define_sweep
from render.sweeps.rendering.drafting import DraftedPoint, RefusedPoint, draft_points, kernels_of
from render.sweeps.rendering.point_kinds import point_job
from render.sweeps.rendering.source_cache import SourceCache
from render.sweeps.sweep_directory import sweep_path
from render.terminal.console import plain_console

#: Largest number of points in the sample.
_MAX_SAMPLE_POINTS = 12
#: Largest number of values of an axis, and of refused points, that are listed.
_MAX_LISTED = 12


@dataclass(frozen=True)
class SweepEstimate:
    """Estimate for all points of a sweep.

    Attributes:
        points: Their number.
        megapixels: Window area to dream.
        seconds: Time that this machine needs to dream them; None if nothing is dreamed.
        disk_bytes: Bytes on disk.
    """

    points: int
    megapixels: float
    seconds: float | None
    disk_bytes: float

    def __str__(self) -> str:
        disk_text = f"{size_text(round(self.disk_bytes))} of disk"
        if self.seconds is None:
            return f"{disk_text}; nothing is dreamed"
        rate = f" at {self.megapixels / self.seconds:.2f} Mpx/s" if self.seconds else ""
        return f"about {duration_text(self.seconds)}{rate} as this machine does them, and {disk_text}"


def print_sweep_plan(root: str, words: Sequence[str]) -> None:
    """Print the axes of a sweep, the points that cannot be rendered, and the total cost.

    Nothing is written.
    """
    definition = define_sweep(root, words)
    console, total, limit = plain_console(), point_count(definition), definition.config.sweep.max
    table = Table(title=f"{definition.config.name}: {total:,} points", title_justify="left")
    for heading in ("axis", "values", "of them"):
        table.add_column(heading, justify="right" if heading == "of them" else "left", overflow="fold")
    for axis in definition.axes:
        table.add_row(axis.key, _listed([value.label for value in axis.values]), f"{len(axis.values):,}")
    console.print(table)
    for note in definition.lineage.notes if definition.lineage else ():
        console.write_line(f"note         {note}")
    for line in (
        _point_lines(definition) if total <= limit else [f"maximum      sweep.max={limit:,}: raise it to render them"]
    ):
        console.write_line(line)
    console.write_line(f"takes        {estimate_sweep(definition)}")


def _point_lines(definition: SweepDefinition) -> Iterator[str]:
    """Yield lines about kernels, points that are done, and points that cannot be rendered."""
    directory = sweep_path(definition)
    points = list(draft_points(definition, expand(definition), directory))
    drafted = [point for point in points if isinstance(point, DraftedPoint)]
    refused = [point for point in points if isinstance(point, RefusedPoint)]
    yield f"kernels      {len(kernels_of(drafted))} to compile"
    yield f"done         {sum(point.is_done for point in drafted)} of them in {directory}"
    for point in refused[:_MAX_LISTED]:
        yield f"impossible   {point.label}: {point.reason}"
    if len(refused) > _MAX_LISTED:
        yield f"impossible   and {len(refused) - _MAX_LISTED} more"


def _listed(labels: Sequence[str]) -> str:
    """Return labels with commas; of many, the first ones and the last."""
    text = ", ".join(labels[:_MAX_LISTED])
    return text if len(labels) <= _MAX_LISTED else f"{text} ... {labels[-1]}"


def estimate_sweep(definition: SweepDefinition) -> SweepEstimate:
    """Estimate the cost of a sweep from a few points; write nothing.

    Raise `UserError` if none can be rendered.
    """
    sample = replace(definition, axes=tuple(_sampled(definition.axes)))
    points = list(draft_points(sample, expand(sample), None))
    drafted = [point for point in points if isinstance(point, DraftedPoint)]
    if not drafted:
        raise UserError(f"{points[0].label}: {getattr(points[0], 'reason', '')}")
    total = point_count(definition)
    typical = sorted(drafted, key=lambda point: point.teraflops)[len(drafted) // 2]
    pace = _seconds_per_teraflop(typical)
    return SweepEstimate(
        total,
        total * mean(point.megapixels for point in drafted),
        None if pace is None else total * mean(point.teraflops for point in drafted) * pace,
        total * mean(point.disk_bytes for point in drafted),
    )


def _sampled(axes: Sequence[SweepAxis]) -> list[SweepAxis]:
    """Return the axes with few, evenly spaced values, so that they make a sample of points.

    The first and the last value are included; there are at most `_MAX_SAMPLE_POINTS` points.
    """
    max_values, sampled = _MAX_SAMPLE_POINTS, []
    for axis in axes:
        value_count = max(1, min(len(axis.values), 3, max_values))
        max_values //= value_count
        last = len(axis.values) - 1
        positions = sorted({round(position * last / max(1, value_count - 1)) for position in range(value_count)})
        sampled.append(replace(axis, values=tuple(axis.values[position] for position in positions)))
    return sampled


def _seconds_per_teraflop(point: DraftedPoint) -> float | None:
    """Measure the seconds that 10^12 operations of a point's kernels take in this process; None if it dreams nothing."""
    farm = FarmConfig(executor="inline", worker=point.config.farm.worker)
    config = replace(point.config, farm=farm, quiet=True)
    return point_job(config, SourceCache()).seconds_per_teraflop()
