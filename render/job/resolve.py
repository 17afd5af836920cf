"""Resolution of a job: the one place where a config is interpreted. What runs afterwards sees values, not the config."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from render.config.octave_settings import AUTO, listed_octaves, settings_by_octave
from render.config.schema import Config, FarmConfig, ModelConfig, SourceConfig, pictures
from render.config.validation import MAX_OCTAVES
from render.dreaming.optimizer import Optimizer
from render.dreaming.term_syntax import Materials
from render.errors import UserError
from render.export.profile import Profile
from render.farm.farms import chosen_executor
from render.geometry.geometry import BOUNDARY_MODES, Rect
from render.geometry.source_window import SourceWindow
from render.job.colour_reference import ColourReference, open_reference
from render.job.materials import Library
from render.job.pictures import usable_profile
from render.job.run_directory import RunDirectory
from render.networks.architecture import Architecture
from render.networks.labels import Classifier, class_names
from render.networks.weight_files import check_local, variant_of
from render.networks.weights import Model, find_model
from render.planning.footprint import PictureFiles
from render.planning.layout import lay_out
from render.planning.octave_count import auto_octave_count
from render.planning.planner import PlanRequest, SourceDisk
from render.planning.residence import ResidencySettings
from render.planning.schedule import Schedule, make_schedule
from render.source.mask import Mask, open_mask
from render.source.source import Source, open_source
from render.storage.user_paths import input_path, user_path
from render.system.logs import is_cluster_job
from render.system.paths import file_sha256
from render.system.version import __version__

#: Function that opens the image of a config, as `open_source` does.
OpenSource = Callable[[str, int, SourceConfig], Source]


class CanvasMask(Protocol):
    """Mask that workers read, and that is held in memory once on every machine."""

    @property
    def nbytes(self) -> int:
        """Host memory held, bytes."""

    def at(self, shape: tuple[int, int], rect: Rect) -> NDArray[np.float32]:
        """Return a rectangle of the mask resampled to an octave: see `Mask.at`."""


@dataclass(frozen=True)
class NetworkChoice:
    """Network to dream with, and where its weights come from.

    Attributes:
        name: Name of the network, a key of `MODELS`.
        model: Its published architecture, weights and default terms.
        architecture: Its architecture, with the number of classes that the weights are for.
        weights: File of weights on this machine; None for the published ones.
        sha256: Checksum that the file must have, if any.
        precision: Number type of kernels, one of `render.config.schema.PRECISIONS`.
        labels: File with the names of its classes; None for ImageNet's.
    """

    name: str
    model: Model
    architecture: Architecture
    weights: Path | None
    sha256: str | None
    precision: str
    labels: Path | None

    @property
    def classifier(self) -> Classifier:
        """The network's classifier, whose classes terms may name."""
        return Classifier(self.name, self.architecture.classes, self.labels, self.weights)

    @classmethod
    def of(cls, section: ModelConfig) -> NetworkChoice:
        """Return what the section `model` of a config chooses; raise `UserError` for no such network or file."""
        model = find_model(section.name)
        weights = None if section.weights is None else input_path(section.weights, "model.weights")
        architecture = model.architecture
        if weights is not None:
            check_local(weights)
            architecture = variant_of(weights, architecture)
        labels = None if section.labels is None else input_path(section.labels, "model.labels")
        network = cls(section.name, model, architecture, weights, section.sha256, section.precision, labels)
        if labels is not None:
            # The names must fit the classes even if no term names one.
            class_names(network.classifier)
        return network


@dataclass(frozen=True)
class ResolvedJob:
    """Everything that a config means: checked values, opened pictures, and the places of what is written.

    Attributes:
        config: The config itself, for what records it: `run.json` and the pictures' metadata. It has the number of octaves
            where the user's has auto.
        name: Name of the job, and of its pictures.
        image: Source as the user named it.
        seed: Seed of jitter and noise.
        network: The network and its weights.
        schedule: Objectives, masks and a stage for each octave.
        has_auto_octaves: True if the number of octaves follows from the picture's size and the network.
        masks: Opened masks, in the schedule's order, laid onto the canvas.
        source: Opened source, laid onto the canvas.
        directory: Run directory, with the pictures to make.
        profile: Colour profile of the pictures.
        reference: Picture whose colours the pictures take; None for none.
        plan_request: Values that the plan depends on.
        farm: Executor, `ray` or `inline`, and workers.
        scratch: Directory of the mapped files for blocks larger than memory.
        checkpoint_interval: Seconds between checkpoints; 0 saves after every step.
        quiet: True if nothing but errors is printed.
        shows_progress: True if progress is printed: not if quiet, nor where the log on standard output has it.
    """

    config: Config
    name: str
    image: str
    seed: int
    network: NetworkChoice
    schedule: Schedule
    has_auto_octaves: bool
    masks: tuple[CanvasMask, ...]
    source: Source
    directory: RunDirectory
    profile: Profile
    reference: ColourReference | None
    plan_request: PlanRequest
    farm: FarmConfig
    scratch: Path
    checkpoint_interval: float
    quiet: bool
    shows_progress: bool

    @property
    def workers(self) -> int:
        """Workers that the job asks for."""
        return self.farm.workers or 1

    @property
    def picture_bytes(self) -> int:
        """Bytes of source, masks and other pictures, which are held once for all workers of a machine."""
        return self.source.nbytes + sum(mask.nbytes for mask in self.masks) + self.schedule.picture_bytes


def resolve(config: Config, opener: OpenSource = open_source) -> ResolvedJob:
    """Return what a validated config means; nothing is started or written.

    Args:
        config: The config.
        opener: Opens the source; a caller that resolves many jobs of one picture can open it once.

    Raises:
        UserError: A file is missing or bad, or a value has no meaning for this network or picture.
    """
    network = NetworkChoice.of(config.model)
    materials = Library(network.classifier, config.source)
    schedule = schedule_of(config, network.architecture, network.model.default_terms, materials)
    modes = BOUNDARY_MODES[config.boundary.mode]
    masks = tuple(open_mask(value, config.source, key, modes) for key, value in schedule.masks)
    source = opener(config.image, config.seed, config.source)
    layout = lay_out(config.output, source.size, modes)
    has_auto_octaves = config.octaves.count == AUTO and listed_octaves(config) is None
    config, schedule = with_octave_count(config, schedule, layout.shape, network.architecture)
    directory = RunDirectory(config, _identity(network, schedule, masks, source))
    source = source.laid_out(layout.window, directory.home.levels)
    profile = usable_profile(config)
    request = plan_request(
        config, network.architecture, schedule, layout.shape,
        channels=profile.channels, source_disk=source.disk_bytes, source_window=layout.window,
    )  # fmt: skip
    return ResolvedJob(
        config=config,
        name=config.name,
        image=config.image,
        seed=config.seed,
        network=network,
        schedule=schedule,
        has_auto_octaves=has_auto_octaves,
        masks=tuple(mask.laid_out(layout.window) for mask in masks),
        source=source,
        directory=directory,
        profile=profile,
        reference=open_reference(config, source.sha256),
        plan_request=request,
        farm=replace(config.farm, executor=chosen_executor(config.farm)),
        scratch=_scratch_directory(config.farm, directory),
        checkpoint_interval=config.checkpoint.every,
        quiet=config.quiet,
        # In a cluster job, the JSON log on standard output already says everything.
        shows_progress=not (config.quiet or (config.log == "json" and is_cluster_job())),
    )


def with_octave_count(
    config: Config, schedule: Schedule, shape: tuple[int, int], architecture: Architecture
) -> tuple[Config, Schedule]:
    """Return a config with the number of octaves instead of auto, and its schedule with a stage for each.

    Args:
        config: The config.
        schedule: Its schedule, as `schedule_of` returns it.
        shape: (height, width) px of the canvas, bleed included.
        architecture: The network.

    Raises:
        UserError: The scale is so near to 1 that there would be more than `MAX_OCTAVES`.
    """
    if config.octaves.count != AUTO:
        return config, schedule
    count = listed_octaves(config)
    if count is None:
        count = auto_octave_count(shape, config.octaves.scale, schedule, architecture)
        if count > MAX_OCTAVES:
            raise UserError(
                f"octaves.count=auto would take {count:,} octaves with octaves.scale={config.octaves.scale}, and "
                f"{MAX_OCTAVES:,} is the most: set a larger octaves.scale (1.4 is usual)"
            )
        schedule = replace(schedule, stages=schedule.stages * count)
    return replace(config, octaves=replace(config.octaves, count=count)), schedule


def schedule_of(
    config: Config, architecture: Architecture, default_terms: Sequence[str], materials: Materials | None = None
) -> Schedule:
    """Return the schedule that a config has on a network; see `make_schedule`.

    If the number of octaves is auto and no setting lists octaves, it has one stage, which stands for all.
    """
    optimizer = Optimizer(config.optimizer.name, config.optimizer.momentum, config.optimizer.decay)
    return make_schedule(config.objective, settings_by_octave(config), optimizer, architecture, default_terms, materials)


def plan_request(
    config: Config,
    architecture: Architecture,
    schedule: Schedule,
    shape: tuple[int, int],
    *,
    channels: int = 3,
    source_disk: SourceDisk = lambda _: 0,
    source_window: SourceWindow | None = None,
) -> PlanRequest:
    """Return the values that a job's plan depends on.

    Args:
        config: The config.
        architecture: The network.
        schedule: The job's objectives and stages.
        shape: (height, width) px of the canvas, bleed included.
        channels: Channels of the finished picture; 4 is CMYK.
        source_disk: Returns the bytes that the source stores in the run directory.
        source_window: Part of the source that the canvas shows; None for noise.
    """
    copies = {form: len(paths) for form, paths in pictures(config.output).items()}
    return PlanRequest(
        shape=shape,
        scale=config.octaves.scale,
        architecture=architecture,
        schedule=schedule,
        tiles=config.tiles,
        boundary=config.boundary,
        residence=ResidencySettings(config.farm.worker.resident, config.farm.worker.batch),
        files=PictureFiles(copies, config.output.bits, channels),
        source_disk=source_disk,
        source_window=source_window,
        precision=config.model.precision,
    )


def _identity(network: NetworkChoice, schedule: Schedule, masks: Sequence[Mask], source: Source) -> dict[str, str | None]:
    """Return the facts that distinguish jobs with equal settings."""
    return {
        "image content": source.sha256,
        "weights content": None if network.weights is None else _content(network.weights),
        "objective": str(schedule),
        "looked at": schedule.content,
        "masks": " ".join(mask.sha256 for mask in masks) or None,
        "program": __version__,
    }


def _content(weights: Path) -> str:
    """Return the sha256 of a weights file; raise `UserError` where it cannot be read."""
    try:
        return file_sha256(weights)
    except OSError as error:
        raise UserError(f"model.weights={weights} cannot be read: {error.strerror}") from None


def _scratch_directory(farm: FarmConfig, directory: RunDirectory) -> Path:
    """Return the directory of the mapped files for blocks larger than memory."""
    if farm.scratch is not None:
        return user_path(farm.scratch, "farm.scratch").absolute()
    if directory.home.is_remote:
        # The mirror of a run at a URL exists on this machine only.
        return Path(tempfile.gettempdir())
    return directory.path.absolute()
