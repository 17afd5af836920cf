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
from render.job import job as jobs
from render.job.pictures import is_complete
from render.job.run_directory import RunDirectory
from render.sweeps.axes.definition import SweepAxis, SweepDefinition, point_label
from render.sweeps.axes.points import GridPoint
from render.sweeps.rendering.orders import weights_key
from render.sweeps.rendering.point_queue import KernelKey
from render.sweeps.rendering.source_cache import SourceCache
from render.sweeps.rendering.thumbnails import THUMBNAIL

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
        job_digest: Equal for points that give the same picture.
        is_done: True if its pictures exist.
        seconds: Time that its pictures took; 0 if they do not exist.
        size: (rows, columns) of its picture, px.
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
        draft, fits_worker = self._job_draft(config)
        plan = draft.plan
        # Use picture settings, not canvas settings: points may differ in colours alone.
        facts = [_as_numbers(config.picture_settings()), draft.resolved.directory.identity]
        reference = draft.resolved.reference
        if reference is not None and reference.sha256 is not None:
            facts.append(reference.sha256)
        settings = json.dumps(facts, sort_keys=True)
        digest = hashlib.sha256(settings.encode()).hexdigest()[:_DIGEST_DIGITS]
        name = self._directory_names.get(digest) or f"{_slug(self._definition.axes, point.value_indices)}-{digest}"
        is_done, is_begun, seconds = False, False, 0.0
        if self._sweep_directory is not None:
            directory = self._sweep_directory / POINTS / name
            config = replace(config, output=replace(config.output, dir=str(directory)), quiet=True)
            run, profile = draft.resolved.directory.moved(directory), draft.resolved.profile
            is_done = (
                run.is_finished() and (directory / THUMBNAIL).exists() and is_complete(run, config, profile, reference)
            )
            if is_done:
                seconds = float(run.record.get("seconds", {}).get("total", 0.0))
            else:
                _check(run, directory)
                is_begun = run.unfinished() is not None
        return DraftedPoint(
            point,
            label,
            config,
            f"{POINTS}/{name}",
            digest,
            is_done,
            seconds,
            plan.final.shape,
            plan.window_pixels / 1e6,
            plan.flops / 1e12,
            max(octave.grid.tiles for octave in plan.octaves),
            fits_worker,
            plan.disk_bytes,
            _kernels(draft),
            is_begun,
        )

    def _job_draft(self, config: Config) -> tuple[jobs.Draft, bool]:
        """Return a draft, and whether it is for one worker.

        If one worker's memory is too small, the draft is for the config's farm.
        """
        limit_gb = config.farm.worker.memory_gb or self._memory_gb
        one_worker = FarmConfig(executor="inline", workers=1, worker=WorkerConfig(memory_gb=limit_gb))
        try:
            draft = jobs.draft(replace(config, farm=one_worker), self._sources)
        except RenderError:
            return jobs.draft(config, self._sources), False
        return draft, not draft.plan.scratch_bytes


def _check(run: RunDirectory, directory: Path) -> None:
    """Raise `UserError`, with a remedy for sweeps, if a point's directory cannot be used."""
    try:
        run.check()
    except UserError as error:
        problem = str(error).rpartition(": ")[0]
        raise UserError(f"{problem}: move {directory} away, or choose another sweep.dir") from None


def _kernels(draft: jobs.Draft) -> frozenset[KernelKey]:
    """Return the keys of the compiled kernels that a job needs."""
    config, schedule, network = draft.resolved.config, draft.resolved.schedule, draft.resolved.network
    architecture = network.model.architecture.truncated(schedule.layers)
    network_key = (weights_key(config), architecture.nodes[-1].name, network.precision)
    return frozenset(
        (network_key, schedule.objectives[number].structure, octave.grid.window_shape, octave.grid.core_shape)
        for octave in draft.plan.octaves
        for number in octave.stage.objectives
    )


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
