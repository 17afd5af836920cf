"""Checks of every point before the first is rendered: source, objective, plan and existing files."""

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
from render.sweeps.axes import Axis, Found, point_label
from render.sweeps.points import Point
from render.sweeps.queue import KernelKey
from render.sweeps.renderer import Sources, weights_key
from render.sweeps.thumbnails import THUMBNAIL

#: Subdirectory of a sweep's directory that holds the run directories.
POINTS = "points"
_LONGEST_NAME = 60
#: Hexadecimal digits of the digest at the end of a run directory's name.
_DIGITS = 12


@dataclass(frozen=True)
class Drafted:
    """Point that can be rendered.

    `config` names its run directory; `directory` is the same relative to the sweep's. `job` is a digest, equal for points
    that give the same picture. `done` is true if its pictures exist; `seconds` is the time they took. `size` is the
    picture's (rows, columns), px. `megapixels` is the window area to dream, `teraflops` the work in 10^12 operations,
    `tiles` the largest number of tiles of an octave. `fits` is true if it fits into one worker's memory.
    """

    point: Point
    label: str
    config: Config
    directory: str
    job: str
    done: bool
    seconds: float
    size: tuple[int, int]
    megapixels: float
    teraflops: float
    tiles: int
    fits: bool
    disk_bytes: int
    kernels: frozenset[KernelKey]
    #: True if there is an unfinished run to resume.
    begun: bool = False


@dataclass(frozen=True)
class Refused:
    """Point that cannot be rendered, and the reason."""

    point: Point
    label: str
    reason: str


def draft_points(
    found: Found,
    points: Iterable[Point],
    home: Path | None,
    memory_gb: float | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Drafted | Refused]:
    """Yield the needs of each point, or the reason why it cannot be rendered; write nothing.

    Args:
        found: The parsed sweep.
        points: Its points.
        home: The sweep's directory; None to ignore existing files.
        memory_gb: Memory that one worker may use, GB; None for this machine's.
        check: Called before each point; may raise.

    Raises:
        UserError: If two points are the same job.
    """
    drafter = _Drafter(found, home, memory_gb)
    labels_by_job: dict[str, str] = {}
    for point in points:
        check()
        label = point_label(found.axes, point.at)
        if point.config is None:
            yield Refused(point, label, point.error)
            continue
        try:
            drafted = drafter.draft(point, label, point.config)
        except RenderError as error:
            yield Refused(point, label, str(error))
            continue
        if drafted.job in labels_by_job:
            raise UserError(f"{labels_by_job[drafted.job]} and {label} are the same job: take one of them out of the sweep")
        labels_by_job[drafted.job] = label
        yield drafted


class _Drafter:
    """Drafts of points, one after the other: for one worker if possible, else for all workers together."""

    def __init__(self, found: Found, home: Path | None, memory_gb: float | None) -> None:
        self._found = found
        self._home = home
        self._memory_gb = memory_gb
        self._sources = Sources()
        # Existing run directories by the digest in their names: labels change when an axis gets more values.
        points_directory = home / POINTS if home is not None else None
        # Skip links: they would put a point's files outside the sweep.
        entries = points_directory.iterdir() if points_directory is not None and points_directory.is_dir() else ()
        names = [path.name for path in entries if path.is_dir() and not path.is_symlink()]
        self._known = {name[-_DIGITS:]: name for name in names}

    def draft(self, point: Point, label: str, config: Config) -> Drafted:
        limit = config.farm.worker.memory_gb or self._memory_gb
        alone = FarmConfig(executor="inline", workers=1, worker=WorkerConfig(memory_gb=limit))
        try:
            draft = jobs.draft(replace(config, farm=alone), self._sources)
            fits = not draft.plan.scratch_bytes
        except RenderError:
            draft, fits = jobs.draft(config, self._sources), False
        plan = draft.plan
        # Use picture settings, not canvas settings: points may differ in colours alone.
        settings = json.dumps([_as_numbers(config.picture_settings()), draft.resolved.directory.identity], sort_keys=True)
        job = hashlib.sha256(settings.encode()).hexdigest()[:_DIGITS]
        name = self._known.get(job) or f"{_slug(self._found.axes, point.at)}-{job}"
        is_done, is_begun, seconds = False, False, 0.0
        if self._home is not None:
            directory = self._home / POINTS / name
            config = replace(config, output=replace(config.output, dir=str(directory)), quiet=True)
            run, profile = draft.resolved.directory.moved(directory), draft.resolved.profile
            is_done = run.is_finished() and (directory / THUMBNAIL).exists() and is_complete(run, config, profile)
            if is_done:
                seconds = float(run.record.get("seconds", {}).get("total", 0.0))
            else:
                _check(run, directory)
                is_begun = run.unfinished() is not None
        return Drafted(
            point,
            label,
            config,
            f"{POINTS}/{name}",
            job,
            is_done,
            seconds,
            plan.final.shape,
            plan.window_pixels / 1e6,
            plan.flops / 1e12,
            max(octave.grid.tiles for octave in plan.octaves),
            fits,
            plan.disk_bytes,
            _kernels(draft),
            is_begun,
        )


def _check(run: RunDirectory, directory: Path) -> None:
    """Raise `UserError` if a point cannot be rendered into its directory, with a remedy that fits a sweep."""
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


def _slug(axes: Sequence[Axis], at: Sequence[int]) -> str:
    """Return a point's values as a file name."""
    labels = "-".join(axis.values[number].label for axis, number in zip(axes, at, strict=True))
    return re.sub(r"[^A-Za-z0-9.+]+", "-", labels).strip("-.")[:_LONGEST_NAME].rstrip("-.") or "point"
