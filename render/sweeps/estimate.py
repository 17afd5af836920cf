"""Estimates of a sweep's time and disk space, from a few of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

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
from render.terminal.document import Column, Document, Table

#: Largest number of points in the sample.
_MAX_SAMPLE_POINTS = 12
#: Largest number of values of an axis, and of refused points, that are listed for people.
_MAX_LISTED = 12
_AXIS_COLUMNS = (
    Column("axis", lambda axis: axis["key"]),
    Column("values", lambda axis: _listed(axis["values"])),
    Column("of them", lambda axis: f"{len(axis['values']):,}", is_number=True),
)


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
        rate = "" if self.rate is None else f" at {self.rate:.2f} Mpx/s"
        return f"about {duration_text(self.seconds, tenths=True)}{rate} as this machine does them, and {disk_text}"

    @property
    def rate(self) -> float | None:
        """Window megapixels a second; None if there is nothing to dream."""
        return self.megapixels / self.seconds if self.seconds else None


def sweep_plan(root: str, words: Sequence[str]) -> Document:
    """Return the axes of a sweep, the points that cannot be rendered, and the total cost.

    Nothing is written.
    """
    definition = define_sweep(root, words)
    total, limit = point_count(definition), definition.config.sweep.max
    document = Document("sweep-plan")
    document.values(name=definition.config.name, points=total, directory=str(sweep_path(definition)))
    axes = [{"key": axis.key, "values": [value.label for value in axis.values]} for axis in definition.axes]
    document.table(Table(f"{definition.config.name}: {total:,} points", _AXIS_COLUMNS, axes), key="axes")
    notes = list(definition.lineage.notes) if definition.lineage else []
    for note in notes:
        document.fact("note", note)
    document.values(notes=notes, max_points=limit)
    if total <= limit:
        _add_points(document, definition)
    else:
        document.fact("maximum", f"sweep.max={limit:,}: raise it to render them", kernels=None, done=None, impossible=None)
    estimate = estimate_sweep(definition)
    document.fact(
        "takes", str(estimate), seconds=estimate.seconds, disk_bytes=round(estimate.disk_bytes),
        megapixels=estimate.megapixels, megapixels_per_second=estimate.rate,
    )  # fmt: skip
    return document


def _add_points(document: Document, definition: SweepDefinition) -> None:
    """Add kernels, points that are done, and points that cannot be rendered."""
    directory = sweep_path(definition)
    points = list(draft_points(definition, expand(definition), directory))
    drafted = [point for point in points if isinstance(point, DraftedPoint)]
    refused = [point for point in points if isinstance(point, RefusedPoint)]
    kernels, done = len(kernels_of(drafted)), sum(point.is_done for point in drafted)
    document.fact("kernels", f"{kernels} to compile", kernels=kernels)
    document.fact("done", f"{done} of them in {directory}", done=done)
    document.values(impossible=[{"label": point.label, "reason": point.reason} for point in refused])
    for point in refused[:_MAX_LISTED]:
        document.fact("impossible", f"{point.label}: {point.reason}")
    if len(refused) > _MAX_LISTED:
        document.fact("impossible", f"and {len(refused) - _MAX_LISTED} more; json=true lists them all")


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
