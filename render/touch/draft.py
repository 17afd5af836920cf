"""A touch that has been checked and planned: what it dreams, where, and with which tiles."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from render.config.schema import Config
from render.farm.checkpoint import Checkpoints, ResumeKey
from render.farm.farms import chosen_executor
from render.geometry.geometry import Rect
from render.job import resources
from render.job.job import Draft
from render.job.materials import Library
from render.job.recorded_touches import RecordedTouch, work_place
from render.job.resolve import NetworkChoice, ResolvedJob, plan_request, schedule_of, with_octave_count
from render.planning.plan import Plan
from render.planning.planner import PlanRequest
from render.planning.schedule import Schedule
from render.source.source import NoiseSource
from render.storage.user_paths import user_path
from render.system.machine import cores
from render.system.paths import file_sha256
from render.system.version import __version__
from render.touch.areas import Area, BoxArea, MaskArea, open_mask_area
from render.touch.boxes import MIN_BOX_SIDE, parse_box, parse_feather
from render.touch.canvas_part import PartMask
from render.touch.octaves import TouchOctave, plan_touch, request_of, touch_octaves, with_masks
from render.touch.touch_settings import dream_settings
from render.touch.touched_run import TouchedRun


@dataclass(frozen=True)
class TouchWords:
    """Words of a touch beside its config.

    Attributes:
        box: Box as text; empty if a mask says where.
        mask: Path of a painted mask; empty if a box says where.
        feather: Width of the soft edge as text.
        to: `dream`, or `source` to take the area back to the source.
    """

    box: str
    mask: str
    feather: str
    to: str = "dream"


@dataclass(frozen=True)
class Touch:
    """A touch of a run, checked.

    Attributes:
        run: The run.
        config: Config of what is dreamed.
        area: Where.
        to: `dream` or `source`.
        mask_path: File of the painted mask; None for a box.
        mask_sha256: Its checksum; None for a box.
        identity: Facts that distinguish dreams with equal settings.
    """

    run: TouchedRun
    config: Config
    area: Area
    to: str
    mask_path: Path | None
    mask_sha256: str | None
    identity: Mapping[str, str | None]

    @property
    def key(self) -> str:
        """Digest of what is done and where, whatever the canvas."""
        box = self.area.box
        where = [*box.rows, *box.columns, self.mask_sha256, self.area.feather, self.to]
        dream = [dream_settings(self.config), dict(self.identity)] if self.to == "dream" else []
        return hashlib.sha256(json.dumps([where, dream], sort_keys=True).encode()).hexdigest()

    @property
    def work_key(self) -> str:
        """Digest of this touch of this very canvas."""
        return hashlib.sha256(f"{self.key} {self.run.checkpoint.token}".encode()).hexdigest()

    def record(self, number: int, draft: TouchDraft | None, weights_sha256: str, threads: int) -> RecordedTouch:
        """Return the touch's entry in the record."""
        box = self.area.box
        entry: RecordedTouch = {
            "number": number,
            "key": self.key,
            "to": "source" if self.to == "source" else "dream",
            "box": [box.columns.start, box.rows.start, box.columns.size, box.rows.size],
            "feather": self.area.feather,
            "config": dream_settings(self.config) if draft is not None else {},
        }
        if self.mask_sha256 is not None:
            entry["mask"] = self.mask_sha256
        if draft is not None:
            rows, columns = draft.plan.final.grid.core_shape
            entry |= {
                "identity": dict(self.identity),
                "tile": [rows, columns],
                "threads": threads,
                "weights_sha256": weights_sha256,
            }
        return entry


@dataclass(frozen=True)
class TouchDraft:
    """A touch that dreams, planned.

    Attributes:
        touch: The touch.
        resolved: The job of its last octave, with the objectives and masks of all.
        request: Values of the whole touch's plan.
        octaves: Its octaves, coarse to fine.
        plan: Its plan.
        resume_key: Tiles, threads and weights that it must have; None if it is free to choose.
        checkpoints: Where its octaves are saved.
    """

    touch: Touch
    resolved: ResolvedJob
    request: PlanRequest
    octaves: tuple[TouchOctave, ...]
    plan: Plan
    resume_key: ResumeKey | None
    checkpoints: Checkpoints

    @property
    def job(self) -> Draft:
        """The draft of the job that opens the farm: that of the last octave."""
        plan = replace(self.plan, octaves=(replace(self.plan.final, index=0),))
        return Draft(self.resolved, plan, self.resume_key, time.perf_counter())

    @property
    def threads(self) -> int:
        """CPU threads of a kernel."""
        return self.job.threads


def open_touch(run: TouchedRun, config: Config, words: TouchWords) -> Touch:
    """Return a touch with its area; raise `UserError` for an area that the canvas does not have."""
    area, path = open_area(run, config, words), None
    if isinstance(area, MaskArea):
        path = user_path(words.mask, "mask")
    sha256 = None if path is None else file_sha256(path)
    identity = _identity(config) if words.to == "dream" else {}
    return Touch(run, config, area, words.to, path, sha256, identity)


def open_area(run: TouchedRun, config: Config, words: TouchWords) -> Area:
    """Return the area that words name on a run's canvas; raise `UserError`."""
    shape = run.canvas.shape
    if words.mask:
        return open_mask_area(words.mask, shape, config.source, words.feather, run.modes)
    box = parse_box(words.box, shape, 1 if words.to == "source" else MIN_BOX_SIDE)
    return BoxArea.of(box, shape, parse_feather(words.feather, box), run.modes)


def draft_touch(touch: Touch, entry: RecordedTouch | None = None) -> TouchDraft:
    """Resolve and plan a touch that dreams; nothing is started or written.

    Args:
        touch: The touch.
        entry: The recorded touch that it repeats, whose tiles, threads and weights it takes.

    Raises:
        UserError: It cannot work.
    """
    run, config = touch.run, touch.config
    network = NetworkChoice.of(config.model)
    schedule = _schedule(config, network)
    config, schedule = with_octave_count(config, schedule, touch.area.box.shape, network.architecture)
    request = plan_request(config, network.architecture, schedule, run.canvas.shape)
    request = replace(request, files=replace(request.files, copies={}))
    octaves = with_masks(touch_octaves(request, touch.area.box))
    checkpoints = Checkpoints(work_place(run.directory.place), run.directory.home.confirm_held)
    resume_key = _resume_key(touch, checkpoints, entry)
    resolved = _resolved(touch, network, schedule, request_of(request, octaves[-1]), octaves)
    plan = plan_touch(
        request,
        octaves,
        resources.estimated_machine(resolved),
        workers=resolved.workers,
        core_shape=resume_key.tiles[0] if resume_key else None,
    )
    return TouchDraft(touch, resolved, request, tuple(octaves), plan, resume_key, checkpoints)


def _schedule(config: Config, network: NetworkChoice) -> Schedule:
    materials = Library(network.classifier, config.source)
    return schedule_of(config, network.architecture, network.model.default_terms, materials)


def _identity(config: Config) -> dict[str, str | None]:
    """Return the facts that distinguish dreams with equal settings."""
    network = NetworkChoice.of(config.model)
    schedule = _schedule(config, network)
    return {
        "weights content": None if network.weights is None else file_sha256(network.weights),
        "objective": str(schedule),
        "looked at": schedule.content,
        "program": __version__,
    }


def _resume_key(touch: Touch, checkpoints: Checkpoints, entry: RecordedTouch | None) -> ResumeKey | None:
    """Return what a touch that was begun, or that is repeated, must have; None if it is free to choose."""
    manifest = checkpoints.read()
    if manifest is not None and manifest.checkpoints and manifest.resume_key.digest == touch.work_key:
        return manifest.resume_key
    if entry is None or "tile" not in entry:
        return None
    rows, columns = entry["tile"]
    return ResumeKey(touch.work_key, entry.get("weights_sha256", ""), ((rows, columns),), entry.get("threads", cores()))


def _resolved(
    touch: Touch, network: NetworkChoice, schedule: Schedule, request: PlanRequest, octaves: list[TouchOctave]
) -> ResolvedJob:
    """Return the job of the last octave, with the objectives and masks of all octaves."""
    run, config = touch.run, touch.config
    return ResolvedJob(
        config=config,
        name=run.config.name,
        image=str(run.place),
        seed=config.seed,
        network=network,
        schedule=schedule,
        has_auto_octaves=False,
        masks=tuple(PartMask(touch.area, octave.canvas_shape, octave.window) for octave in octaves),
        # Workers dream on parts of the canvas: see `render.touch.canvas_part`.
        source=NoiseSource(config.seed),
        directory=run.directory,
        profile=run.profile,
        reference=run.reference,
        plan_request=request,
        farm=replace(config.farm, executor=chosen_executor(config.farm)),
        scratch=_scratch(config, run),
        checkpoint_interval=config.checkpoint.every,
        quiet=config.quiet,
        shows_progress=not config.quiet,
    )


def _scratch(config: Config, run: TouchedRun) -> Path:
    """Return the directory of the mapped files for blocks larger than memory."""
    if config.farm.scratch is not None:
        return user_path(config.farm.scratch, "farm.scratch").absolute()
    return run.directory.path.absolute()


def extent_text(rect: Rect) -> str:
    """Return a rectangle of the canvas as text: x, y, width and height."""
    return f"{rect.columns.start},{rect.rows.start},{rect.columns.size},{rect.rows.size}"
