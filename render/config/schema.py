"""Schema of `conf/`: one dataclass per section. Code after the entry point sees these, never a `DictConfig`.

OmegaConf checks types when it makes a `Config`; `render.config.validation` checks values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from render.config.formats import FORMATS, format_of, suffix_of
from render.config.objective_files import without_directories
from render.geometry.units import CM_PER_INCH, MM_PER_INCH

#: Number types of kernels, from the most precise on: values of `model.precision`.
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
#: Name of the look that changes nothing.
NO_LOOK = "none"
#: Value of `output.match` that means the picture that is dreamed on.
MATCH_SOURCE = "source"
#: Value of `output.dither` that dithers the pictures of every run but those that are older than the choice.
AUTO = "auto"
#: Rendering intents of ICC: values of `output.intent`. The relative one compensates for black points.
RELATIVE = "relative"
INTENTS = ("perceptual", RELATIVE, "absolute")
#: Keys that the runs of older versions lack, with the value that they had then. With this value a key is left out of what
#: identifies a run or a picture, so that older ones are continued.
LATER_KEYS: dict[str, Any] = {
    "model.precision": "float32",
    "model.labels": None,
    "conditioning.decorrelate": 0.0,
    "conditioning.shoulder": 0.0,
    "output.match": None,
    "output.height_cm": None,
    "output.height_in": None,
    "output.marks": False,
    "output.iiif_id": None,
    "output.dither": AUTO,
    "output.intent": RELATIVE,
}


@dataclass
class ModelConfig:
    """Network, its weights and class names (None for the published ones) and the number type of kernels."""

    name: str = "inception_v3"
    weights: str | None = None
    sha256: str | None = None
    precision: str = "float32"
    labels: str | None = None


@dataclass
class ObjectiveConfig:
    """Terms to maximise, and where. Without `terms` and `by_model`, the model's default terms are used.

    `terms` is a list, or a list of lists with one for each octave. `by_model` has the same for several models, and is used
    if `terms` is None.
    """

    terms: Any = None
    by_model: dict[str, Any] = field(default_factory=dict)
    mask: Any = None
    regions: Any = field(default_factory=list)


@dataclass
class ConditioningConfig:
    """Changes to the gradient before it moves pixels. Each value may be a list with one value for each octave."""

    normalize: Any = "mean_abs"
    laplacian: Any = 0
    smoothing: Any = 0.0
    total_variation: Any = 0.0
    pull: Any = 0.0
    luminance_only: Any = False
    decorrelate: Any = 0.0
    shoulder: Any = 0.0


@dataclass
class OptimizerConfig:
    """Optimiser: use of earlier gradients in a step."""

    name: str = "none"
    momentum: float = 0.9
    decay: float = 0.999


@dataclass
class SourceConfig:
    """Reading of the source picture."""

    background: list[int] = field(default_factory=lambda: [255, 255, 255])
    max_megapixels: float = 4000.0


@dataclass
class OctavesConfig:
    """Resolutions of the canvas and the steps taken at each."""

    count: int | str = "auto"
    scale: float = 1.4
    steps: Any = 10


@dataclass
class TilesConfig:
    """Tiles of the canvas; sizes in px."""

    size: int | str = "auto"
    halo: int | str = "exact"
    parallel: int = 1


@dataclass
class BoundaryConfig:
    """Continuation of the canvas beyond its edges; `fill` in px."""

    mode: str = "reflect"
    fill: int = 32


@dataclass
class PanelsConfig:
    """Panels of a print that is wider or taller than the press. None is no limit."""

    width_cm: float | None = None
    height_cm: float | None = None
    overlap_mm: float = 10.0


@dataclass
class OutputConfig:
    """Finished picture: its place, formats, size (px, or cm or inches with `dpi`), layout and colours."""

    dir: str | None = None
    path: str | None = None
    format: str | None = None
    also: list[str] = field(default_factory=list)
    width: int | None = None
    height: int | None = None
    width_cm: float | None = None
    width_in: float | None = None
    height_cm: float | None = None
    height_in: float | None = None
    dpi: float | None = None
    fit: str = "crop"
    bleed_mm: float | None = None
    marks: bool = False
    bits: int = 8
    compression: str = "lzw"
    quality: int = 92
    profile: str | None = None
    intent: str = RELATIVE
    dither: bool | str = AUTO
    title: str | None = None
    author: str | None = None
    saturation: float = 1.0
    contrast: list[float] | None = None
    match: str | None = None
    iiif_id: str | None = None
    panels: PanelsConfig = field(default_factory=PanelsConfig)


@dataclass
class WorkerConfig:
    """Resources of each worker. None is determined automatically."""

    num_gpus: float | None = None
    num_cpus: float | None = None
    resources: dict[str, float] = field(default_factory=dict)
    memory_gb: float | None = None
    threads: int | None = None
    resident: bool | str = "auto"
    batch: int | str = "auto"
    deterministic: bool | str = True


@dataclass
class FarmConfig:
    """Executor and workers."""

    executor: str = "auto"
    address: str | None = None
    workers: int | None = None
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    scratch: str | None = None
    retries: int = 3
    timeout: float = 60.0
    silence: float = 900.0
    notices: bool = True
    dashboard: bool = False


@dataclass
class NodeConfig:
    """Properties of a cluster's machines, used by plans only. They do not change a render. None is unknown.

    Attributes:
        name: Name of the machine type.
        workers: Workers on a machine.
        tflops_float32: Speed of a worker's kernels in float32, 10^12 operations a second.
        tflops_tensorfloat32: The same in TensorFloat-32.
        tflops_bfloat16: The same in bfloat16.
        peak_tflops_float32: Peak rate of products of a worker's accelerator in float32, for a speed that is not measured.
        peak_tflops_tensorfloat32: The same in TensorFloat-32.
        peak_tflops_bfloat16: The same in bfloat16.
        device_gb_per_s: Peak bandwidth of the accelerator's memory, GB a second.
        device_gb: Accelerator memory of each worker.
        memory_gb: Memory that all workers of a machine share.
        network_gbit: Speed to other machines, shared by all workers of a machine.
        store_gbit: Speed to the place of checkpoints, shared by all workers of a machine.
        price_per_hour: Price of a machine, dollars an hour.
        spot_price_per_hour: The same for a spot machine.
    """

    name: str = "here"
    workers: int = 1
    tflops_float32: float | None = None
    tflops_tensorfloat32: float | None = None
    tflops_bfloat16: float | None = None
    device_gb: float | None = None
    memory_gb: float | None = None
    network_gbit: float | None = None
    store_gbit: float | None = None
    price_per_hour: float | None = None
    spot_price_per_hour: float | None = None
    peak_tflops_float32: float | None = None
    peak_tflops_tensorfloat32: float | None = None
    peak_tflops_bfloat16: float | None = None
    device_gb_per_s: float | None = None

    @property
    def known(self) -> bool:
        """True if a speed is known, so that times can be estimated."""
        kinds = ("tflops", "peak_tflops")
        return any(getattr(self, f"{kind}_{precision}") is not None for kind in kinds for precision in PRECISIONS)


@dataclass
class CheckpointConfig:
    """Checkpoints; `every` is the interval, s."""

    every: float = 300.0


@dataclass
class Config:
    """Complete config of one dream job, with every key of a root config in `conf/`."""

    name: str = "dream"
    seed: int = 0
    image: str = "sample:hubble"
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    octaves: OctavesConfig = field(default_factory=OctavesConfig)
    step_size: Any = 1.5
    jitter: Any = None
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    tiles: TilesConfig = field(default_factory=TilesConfig)
    boundary: BoundaryConfig = field(default_factory=BoundaryConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    farm: FarmConfig = field(default_factory=FarmConfig)
    node: NodeConfig = field(default_factory=NodeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    overwrite: bool = False
    fresh: bool = False
    quiet: bool = False
    log: str = "text"
    look: str = NO_LOOK

    def picture_settings(self) -> dict[str, Any]:
        """Return the settings that affect the picture, as plain data for its file, without its place and execution."""
        settings = asdict(self)
        for key in ("overwrite", "fresh", "quiet", "log", "farm", "node", "checkpoint"):
            del settings[key]
        for name, older_value in LATER_KEYS.items():
            section, _, key = name.partition(".")
            if settings[section][key] == older_value:
                del settings[section][key]
        if self.look == NO_LOOK:
            del settings["look"]
        for key in ("dir", "path", "format", "also"):
            del settings["output"][key]
        # Remove directories from file names: pictures are published, and only the files' content matters.
        settings["image"] = self.image.rpartition("/")[2]
        settings["objective"] = without_directories(settings["objective"])
        for name in ("model.weights", "model.labels", "output.match", "output.profile"):
            section, _, key = name.partition(".")
            if settings[section].get(key) is not None:
                settings[section][key] = settings[section][key].rpartition("/")[2]
        return settings

    def canvas_settings(self) -> dict[str, Any]:
        """Return the settings that affect the canvas: those of the picture, with only size, fit and bleed of its output."""
        output, settings = self.output, self.picture_settings()
        # Names of classes only say which index a term has.
        settings["model"].pop("labels", None)
        laid_out = {"fit": output.fit, "bleed": picture_bleed(output)}
        # A look's values count, not its name.
        settings.pop("look", None)
        return settings | {"output": {"width": picture_width(output), "height": picture_height(output), **laid_out}}

    def digest(self, identity: Mapping[str, str | None]) -> str:
        """Return a sha256, in hex, that identifies the canvas.

        It covers `canvas_settings` and `identity`, which identifies the image, the weights and the program.
        """
        return hashlib.sha256(json.dumps([self.canvas_settings(), identity], sort_keys=True).encode()).hexdigest()


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key. If a key occurs more than once, the last value counts."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def picture_width(output: OutputConfig) -> int | None:
    """Return the width of the picture, px, or None for the source's width."""
    exact = exact_width(output)
    return None if exact is None else max(1, round(exact))


def picture_bleed(output: OutputConfig) -> int:
    """Return the bleed on every side of the picture, px; 0 for none."""
    if output.bleed_mm is None or output.dpi is None:
        return 0
    return round(output.bleed_mm / MM_PER_INCH * output.dpi)


def exact_width(output: OutputConfig) -> float | None:
    """Return the width of the picture before rounding, px, or None for the source's width."""
    return _exact_side(output, output.width, output.width_cm, output.width_in)


def picture_height(output: OutputConfig) -> int | None:
    """Return the height of the picture, px, or None for the height that follows from the width."""
    exact = exact_height(output)
    return None if exact is None else max(1, round(exact))


def exact_height(output: OutputConfig) -> float | None:
    """Return the height of the picture before rounding, px, or None for the height that follows from the width."""
    return _exact_side(output, output.height, output.height_cm, output.height_in)


def _exact_side(output: OutputConfig, pixels: int | None, cm: float | None, inches: float | None) -> float | None:
    """Return the length of a side before rounding, px, that is set in pixels, cm or inches; None if it is not set."""
    if cm is not None and output.dpi is not None:
        return cm / CM_PER_INCH * output.dpi
    if inches is not None and output.dpi is not None:
        return inches * output.dpi
    return pixels


def picture_format(output: OutputConfig) -> str:
    """Return the name of the picture's format: from output.format, or the suffix of output.path, or else png."""
    if output.format is not None:
        return output.format if output.format in FORMATS else format_of(f"x.{output.format}") or "png"
    return (output.path and format_of(output.path)) or "png"


def pictures(output: OutputConfig) -> dict[str, list[str]]:
    """Return the formats to write, that of `picture_format` first, each with the paths that get a copy."""
    first = picture_format(output)
    copies: dict[str, list[str]] = {first: [output.path] if output.path is not None else []}
    for copy_name in output.also:
        if copy_name in FORMATS:
            copies.setdefault(copy_name, [])
        else:
            # .tif is a suffix of both TIFF and BigTIFF.
            form = first if suffix_of(copy_name) in FORMATS[first].suffixes else format_of(copy_name) or first
            copies.setdefault(form, []).append(copy_name)
    return copies
