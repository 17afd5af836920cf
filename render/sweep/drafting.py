"""Checks every point of a sweep before the first is rendered: source, objective, plan, what lies there of it already."""

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
from render.models.weights import find_model
from render.sweep.axes import Axis, Found, point_label
from render.sweep.points import Point
from render.sweep.queue import KernelKey
from render.sweep.renderer import Sources, weights_key
from render.sweep.thumbnails import THUMBNAIL

#: Where the points' run directories lie, in a sweep's.
POINTS = "points"
_LONGEST_NAME = 60
#: Characters of a digest that tell run directories of one sweep apart.
_DIGITS = 12


@dataclass(frozen=True)
class Drafted:
    """A point that can be rendered.

    `config` names its run directory, `directory` the same relative to the sweep's; `job` is the same for points that would
    be the same picture. `done`: its pictures lie there, and took `seconds`. `size` is (rows, columns) of the picture, px;
    `megapixels` of windows are to be dreamed in 10^12 times `teraflops` operations, in at most `tiles` tiles at once;
    `fits` says whether it fits into one worker's memory.
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
    #: A run that was stopped or killed, which is gone on with.
    begun: bool = False


@dataclass(frozen=True)
class Refused:
    """A point that cannot be rendered, and why."""

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
    """What each point needs, or why it cannot be rendered; nothing is written.

    `home` is the sweep's directory, None for points that are only looked at; `memory_gb` is what one worker may use, None
    this machine's. `check` is called before each, and may raise. Raises `UserError` where two points are the same job.
    """
    drafter = _Drafter(found, home, memory_gb)
    seen: dict[str, str] = {}
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
        if drafted.job in seen:
            raise UserError(f"{seen[drafted.job]} and {label} are the same job: take one of them out of the sweep")
        seen[drafted.job] = label
        yield drafted


class _Drafter:
    """Drafts points one after the other: as one worker would render them, else as all of them would together."""

    def __init__(self, found: Found, home: Path | None, memory_gb: float | None) -> None:
        self._found = found
        self._home = home
        self._memory_gb = memory_gb
        self._sources = Sources()
        # The run directories that are there, by the digits at their ends: labels change where values join an axis.
        there = home / POINTS if home is not None else None
        # Through a link a point would be rendered elsewhere.
        found_there = there.iterdir() if there is not None and there.is_dir() else ()
        names = [path.name for path in found_there if path.is_dir() and not path.is_symlink()]
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
        # Of the pictures, not of the canvas: points may differ in colours alone.
        settings = json.dumps([_as_numbers(config.picture_settings()), draft.directory.identity], sort_keys=True)
        job = hashlib.sha256(settings.encode()).hexdigest()[:_DIGITS]
        name = self._known.get(job) or f"{_slug(self._found.axes, point.at)}-{job}"
        done, begun, seconds = False, False, 0.0
        if self._home is not None:
            directory = self._home / POINTS / name
            config = replace(config, output=replace(config.output, dir=str(directory)), quiet=True)
            run = draft.directory.moved(directory)
            done = run.is_finished() and (directory / THUMBNAIL).exists() and is_complete(run, config, draft.profile)
            if done:
                seconds = float(run.record.get("seconds", {}).get("total", 0.0))
            else:
                _check(run, directory)
                begun = run.unfinished() is not None
        return Drafted(
            point,
            label,
            config,
            f"{POINTS}/{name}",
            job,
            done,
            seconds,
            plan.final.shape,
            plan.window_pixels / 1e6,
            plan.flops / 1e12,
            max(octave.grid.tiles for octave in plan.octaves),
            fits,
            plan.disk_bytes,
            _kernels(draft),
            begun,
        )


def _check(run: RunDirectory, directory: Path) -> None:
    """Raises `UserError` where a point cannot be rendered there; what to do is another thing where the sweep names it."""
    try:
        run.check()
    except UserError as error:
        what = str(error).rpartition(": ")[0]
        raise UserError(f"{what}: move {directory} away, or choose another sweep.dir") from None


def _kernels(draft: jobs.Draft) -> frozenset[KernelKey]:
    """The compiled kernels that a job needs, each by all that decides it."""
    config, schedule = draft.config, draft.schedule
    architecture = find_model(config.model.name).architecture.truncated(schedule.layers)
    network = (weights_key(config), architecture.nodes[-1].name, config.model.precision)
    return frozenset(
        (network, schedule.objectives[number].structure, octave.grid.window_shape, octave.grid.core_shape)
        for octave in draft.plan.octaves
        for number in octave.stage.objectives
    )


def _as_numbers(value: object) -> object:
    """Settings in which 1 and 1.0 are the same."""
    if isinstance(value, dict):
        return {key: _as_numbers(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_numbers(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _slug(axes: Sequence[Axis], at: Sequence[int]) -> str:
    """A point's values as a file name."""
    labels = "-".join(axis.values[number].label for axis, number in zip(axes, at, strict=True))
    return re.sub(r"[^A-Za-z0-9.+]+", "-", labels).strip("-.")[:_LONGEST_NAME].rstrip("-.") or "point"
