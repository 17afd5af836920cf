"""Drafts of all points before the first is rendered: plan, cost, and existing files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from render.config.schema import Config, FarmConfig, WorkerConfig
from render.errors import RenderError, UserError
from render.sweeps.axes.definition import SweepAxis, SweepDefinition, point_label
from render.sweeps.axes.points import GridPoint
from render.sweeps.rendering.point_job import PointJob, PointState
from render.sweeps.rendering.point_kinds import point_job
from render.sweeps.rendering.point_queue import KernelKey
from render.sweeps.rendering.source_cache import SourceCache

#: Subdirectory of a sweep's directory that holds the run directories.
POINTS = "points"
#: Largest number of points that are drafted without a message.
MAX_SILENT_POINTS = 200
#: Longest text of values at the beginning of a run directory's name.
_MAX_SLUG_LENGTH = 60
#: Hexadecimal digits of the digest at the end of a run directory's name.
_DIGEST_DIGITS = 12


@dataclass(frozen=True)
class DraftedPoint:
    """Point that can be rendered, with its planned cost.

    Attributes:
        point: The point of the grid.
        label: Its display name.
        config: Its config, which names its run directory.
        directory: The run directory, relative to the sweep's.
        job_digest: Equal for points that give the same picture or film.
        is_done: True if its files exist.
        seconds: Time that they took; 0 if they do not exist.
        size: (rows, columns) of its picture or frames, px.
        megapixels: Window area to dream.
        teraflops: Work in 10^12 operations.
        max_tiles: Largest number of tiles of an octave.
        fits_worker: True if it fits into one worker's memory.
        disk_bytes: Bytes that it needs on disk.
        kernels: The compiled kernels that it needs.
        is_begun: True if there is an unfinished run to resume.
    """

    point: GridPoint
    label: str
    config: Config
    directory: str
    job_digest: str
    is_done: bool
    seconds: float
    size: tuple[int, int]
    megapixels: float
    teraflops: float
    max_tiles: int
    fits_worker: bool
    disk_bytes: int
    kernels: frozenset[KernelKey]
    is_begun: bool = False


@dataclass(frozen=True)
class RefusedPoint:
    """Point that cannot be rendered, and the reason."""

    point: GridPoint
    label: str
    reason: str


def draft_points(
    definition: SweepDefinition,
    points: Iterable[GridPoint],
    sweep_directory: Path | None,
    memory_gb: float | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[DraftedPoint | RefusedPoint]:
    """Yield each point with its planned cost, or with the reason why it cannot be rendered.

    Nothing is written.

    Args:
        definition: The sweep.
        points: Its points.
        sweep_directory: The sweep's directory; None to ignore existing files.
        memory_gb: Memory that one worker may use, GB; None for this machine's.
        check: Called before each point; may raise.

    Raises:
        UserError: If two points are the same job.
    """
    drafter = Drafter(definition, sweep_directory, memory_gb)
    labels_by_job: dict[str, str] = {}
    for point in points:
        check()
        label = point_label(definition.axes, point.value_indices)
        if point.config is None:
            yield RefusedPoint(point, label, point.error)
            continue
        try:
            drafted = drafter.draft(point, label, point.config)
        except RenderError as error:
            yield RefusedPoint(point, label, str(error))
            continue
        digest = drafted.job_digest
        if digest in labels_by_job:
            raise UserError(f"{labels_by_job[digest]} and {label} are the same job: take one of them out of the sweep")
        labels_by_job[digest] = label
        yield drafted


def kernels_of(points: Iterable[DraftedPoint]) -> frozenset[KernelKey]:
    """Return all kernels that points need."""
    return frozenset[KernelKey]().union(*(point.kernels for point in points))


class Drafter:
    """Drafter of points, for one worker if possible, else for all workers together."""

    def __init__(self, definition: SweepDefinition, sweep_directory: Path | None, memory_gb: float | None) -> None:
        self._definition = definition
        self._sweep_directory = sweep_directory
        self._memory_gb = memory_gb
        self._sources = SourceCache()
        # Existing run directories by the digest in their names: labels change when an axis gets more values.
        points_directory = sweep_directory / POINTS if sweep_directory is not None else None
        # Skip links: they would put a point's files outside the sweep.
        entries = points_directory.iterdir() if points_directory is not None and points_directory.is_dir() else ()
        names = [path.name for path in entries if path.is_dir() and not path.is_symlink()]
        self._directory_names = {name[-_DIGEST_DIGITS:]: name for name in names}

    def draft(self, point: GridPoint, label: str, config: Config) -> DraftedPoint:
        """Return the drafted point. Raise `RenderError` if it cannot be rendered."""
        job, fits_worker = self._job(config)
        identity = json.dumps(_as_numbers(job.identity), sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST_DIGITS]
        name = self._directory_names.get(digest) or f"{_slug(self._definition.axes, point.value_indices)}-{digest}"
        state = PointState()
        if self._sweep_directory is not None:
            directory = self._sweep_directory / POINTS / name
            config = replace(config, output=replace(config.output, dir=str(directory)), quiet=True)
            state = job.state_in(directory)
        cost = job.cost
        return DraftedPoint(
            point,
            label,
            config,
            f"{POINTS}/{name}",
            digest,
            state.is_done,
            state.seconds,
            cost.size,
            cost.megapixels,
            cost.teraflops,
            cost.max_tiles,
            fits_worker,
            cost.disk_bytes,
            cost.kernels,
            state.is_begun,
        )

    def _job(self, config: Config) -> tuple[PointJob, bool]:
        """Return the job of a point, and whether it is for one worker.

        If one worker's memory is too small, the job is for the config's farm.
        """
        limit_gb = config.farm.worker.memory_gb or self._memory_gb
        one_worker = FarmConfig(executor="inline", workers=1, worker=WorkerConfig(memory_gb=limit_gb))
        try:
            job = point_job(replace(config, farm=one_worker), self._sources)
        except RenderError:
            return point_job(config, self._sources), False
        return job, not job.cost.uses_scratch


def _as_numbers(value: object) -> object:
    """Return settings with integers as floats, so that 1 and 1.0 are equal."""
    if isinstance(value, dict):
        return {key: _as_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_numbers(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _slug(axes: Sequence[SweepAxis], value_indices: Sequence[int]) -> str:
    """Return a point's values as a file name."""
    labels = "-".join(axis.values[number].label for axis, number in zip(axes, value_indices, strict=True))
    return re.sub(r"[^A-Za-z0-9.+]+", "-", labels).strip("-.")[:_MAX_SLUG_LENGTH].rstrip("-.") or "point"
