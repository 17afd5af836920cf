"""Schema of `conf/`: one dataclass per section. Code after the entry point sees these, never a `DictConfig`.

OmegaConf checks types when it makes a `Config`. `validate` checks values.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from render.config.formats import FORMATS, format_of, known_suffixes, names_of, suffix_of
from render.errors import UserError
from render.geometry.geometry import BOUNDARY_MODES

_HALOS = ("exact", "balanced")
_EXECUTORS = ("ray", "inline")
_PRECISIONS = ("float32", "bfloat16")
_LOGS = ("text", "json")
#: Numbers of a host's TPU chips that libtpu and Ray can give to a process.
_TPU_CHIPS = (1, 2, 4, 8)
#: Keys of an objective that name files.
_FILES = ("mask", "image", "guide", "direction")
_FITS = ("crop", "contain", "stretch")
_CM_PER_INCH, _MM_PER_INCH = 2.54, 25.4
#: Longest side of a picture, px. It is far beyond any printer.
_LONGEST = 10_000_000
#: Widest bleed, mm. Printers ask for 3 to 10.
_WIDEST_BLEED_MM = 100
#: Longest waiting time, s (thirty years), and upper limit of other numbers of a farm.
_LONGEST_S, _MOST = 1_000_000_000, 1_000_000
#: Smallest and largest number for a property of a machine or a resource. Ray's resources have this resolution.
_LEAST, _LARGEST = 1e-4, 1e9
#: Most characters of a value in a message.
_SHOWN_LETTERS = 200
#: Largest saturation factor. Far above it a picture has only primary colours.
_STRONGEST = 100


@dataclass
class ModelConfig:
    """Network, its weights (None for the published ones) and the number type of kernels."""

    name: str = "inception_v3"
    weights: str | None = None
    sha256: str | None = None
    precision: str = "float32"


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

    count: int = 5
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
    dpi: float | None = None
    fit: str = "crop"
    bleed_mm: float | None = None
    bits: int = 8
    compression: str = "lzw"
    quality: int = 92
    profile: str | None = None
    title: str | None = None
    author: str | None = None
    saturation: float = 1.0
    contrast: list[float] | None = None
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


@dataclass
class FarmConfig:
    """Executor and workers."""

    executor: str = "ray"
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
        tflops_bfloat16: The same in bfloat16.
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
    tflops_bfloat16: float | None = None
    device_gb: float | None = None
    memory_gb: float | None = None
    network_gbit: float | None = None
    store_gbit: float | None = None
    price_per_hour: float | None = None
    spot_price_per_hour: float | None = None

    @property
    def known(self) -> bool:
        """True if a speed is known, so that times can be estimated."""
        return self.tflops_float32 is not None or self.tflops_bfloat16 is not None


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

    def picture_settings(self) -> dict[str, Any]:
        """Return the settings that affect the picture, as plain data for its file, without its place and execution."""
        settings = asdict(self)
        for key in ("overwrite", "fresh", "quiet", "log", "farm", "node", "checkpoint"):
            del settings[key]
        if self.model.precision == ModelConfig.precision:
            # Leave out the default, so that runs from before this key existed can still be resumed.
            del settings["model"]["precision"]
        for key in ("dir", "path", "format", "also"):
            del settings["output"][key]
        # Remove directories from file names: pictures are published, and only the files' content matters.
        settings["image"] = self.image.rpartition("/")[2]
        settings["objective"] = _without_directories(settings["objective"])
        if self.model.weights is not None:
            settings["model"]["weights"] = self.model.weights.rpartition("/")[2]
        return settings

    def canvas_settings(self) -> dict[str, Any]:
        """Return the settings that affect the canvas: those of the picture, with only size, fit and bleed of its output."""
        output = self.output
        laid_out = {"fit": output.fit, "bleed": picture_bleed(output)}
        return self.picture_settings() | {"output": {"width": picture_width(output), "height": output.height, **laid_out}}

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


def named_files(value: Any, key: str = "objective") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and name of every file in an objective's settings."""
    if isinstance(value, dict):
        for inner, part in value.items():
            if isinstance(part, str) and inner in _FILES:
                yield f"{key}.{inner}", part
            yield from named_files(part, f"{key}.{inner}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from named_files(part, f"{key}[{number}]")


def _without_directories(value: Any, key: str = "") -> Any:
    """Return an objective's settings with the directories removed from file names."""
    if isinstance(value, dict):
        return {inner: _without_directories(part, inner) for inner, part in value.items()}
    if isinstance(value, list):
        return [_without_directories(part) for part in value]
    return value.rpartition("/")[2] if isinstance(value, str) and key in _FILES else value


def validate(config: Config) -> Config:
    """Return the same config. Raise `UserError` for the first invalid value."""
    _refuse_sections(config)
    is_file_name = config.name.strip(" .") != "" and "/" not in config.name and config.name.isprintable()
    require(is_file_name and len(config.name.encode()) <= 200, "name", config.name, "must be a plain file name")
    require(0 <= config.seed < 2**63, "seed", config.seed, "must be from 0 to 2^63 - 1")
    require(1 <= config.octaves.count <= 1000, "octaves.count", config.octaves.count, "must be from 1 to 1000")
    require(1 < config.octaves.scale <= 100, "octaves.scale", config.octaves.scale, "must be above 1 (1.4 is usual)")

    size, halo = config.tiles.size, config.tiles.halo
    require(size == "auto" or _whole(size) >= 16, "tiles.size", size, "must be auto or at least 16 px")
    require(halo in _HALOS or _whole(halo) >= 0, "tiles.halo", halo, "must be exact, balanced, or 0 or more px")
    require(1 <= config.tiles.parallel <= 10_000, "tiles.parallel", config.tiles.parallel, "must be from 1 to 10000")
    mode = config.boundary.mode
    require(mode in BOUNDARY_MODES, "boundary.mode", mode, f"must be one of {', '.join(BOUNDARY_MODES)}")
    require(0 <= config.boundary.fill <= 4096, "boundary.fill", config.boundary.fill, "must be from 0 to 4096 px")

    background = config.source.background
    is_valid = len(background) == 3 and all(0 <= value <= 255 for value in background)
    require(is_valid, "source.background", background, "must be three values [R,G,B] from 0 to 255")
    limit = config.source.max_megapixels
    require(limit > 0, "source.max_megapixels", limit, "must be above 0")

    precision = config.model.precision
    require(precision in _PRECISIONS, "model.precision", precision, f"must be {' or '.join(_PRECISIONS)}")
    require(config.log in _LOGS, "log", config.log, f"must be {' or '.join(_LOGS)}")
    _validate_output(config.output)
    if config.output.bleed_mm and mode != "reflect":
        raise UserError(
            f"output.bleed_mm={config.output.bleed_mm:g} and boundary.mode={mode}: a picture that continues itself has no "
            "bleed, for what is dreamed around it would break the repeat; drop one of them"
        )
    _validate_farm(config.farm)
    _validate_node(config.node)
    every = config.checkpoint.every
    rule = f"must be from 0 (every step) to {_LONGEST_S:,} seconds"
    require(_is_finite(every) and 0 <= every <= _LONGEST_S, "checkpoint.every", every, rule)
    return config


def _validate_farm(farm: FarmConfig) -> None:
    require(farm.executor in _EXECUTORS, "farm.executor", farm.executor, f"must be {' or '.join(_EXECUTORS)}")
    rule = "must be null or from 1 to 10000"
    require(farm.workers is None or 1 <= farm.workers <= 10_000, "farm.workers", farm.workers, rule)
    require(0 <= farm.retries <= _MOST, "farm.retries", farm.retries, f"must be from 0 to {_MOST:,}")
    is_valid = _is_finite(farm.timeout) and 0 <= farm.timeout <= _LONGEST_S
    require(is_valid, "farm.timeout", farm.timeout, f"must be from 0 to {_LONGEST_S:,} seconds")
    is_valid = _is_finite(farm.silence) and 0 < farm.silence <= _LONGEST_S
    require(is_valid, "farm.silence", farm.silence, f"must be above 0 and at most {_LONGEST_S:,} seconds")
    if farm.address is not None and farm.executor != "ray":
        raise UserError(f"farm.address={farm.address} needs farm.executor=ray: drop one of them")
    worker = farm.worker
    for key, least in (("num_gpus", 0.0), ("num_cpus", 0.0), ("memory_gb", 1e-3), ("threads", 1)):
        value = getattr(worker, key)
        is_valid = value is None or (_is_finite(value) and least <= value <= _MOST)
        require(is_valid, f"farm.worker.{key}", value, f"must be null or at least {least:g}, and at most {_MOST:,}")
    is_countable = worker.num_gpus is None or worker.num_gpus <= 1 or float(worker.num_gpus).is_integer()
    require(is_countable, "farm.worker.num_gpus", worker.num_gpus, "must be a share of one GPU, or a whole number of them")
    is_valid = worker.resident == "auto" or isinstance(worker.resident, bool)
    require(is_valid, "farm.worker.resident", worker.resident, "must be auto, true or false")
    is_valid = worker.batch == "auto" or 1 <= _whole(worker.batch) <= 1024
    require(is_valid, "farm.worker.batch", worker.batch, "must be auto or from 1 to 1024")
    for name, amount in worker.resources.items():
        is_valid = name not in ("CPU", "GPU") and name.isprintable() and _is_finite(amount) and _LEAST <= amount <= _MOST
        rule = f"must be from {_LEAST:g} to {_MOST:,}, of a resource other than CPU and GPU"
        require(is_valid, f"farm.worker.resources.{name}", amount, rule)
        chips = name != "TPU" or amount in _TPU_CHIPS
        require(chips, f"farm.worker.resources.{name}", amount, "must be 1, 2, 4 or 8: a host's chips are lent so")
    if worker.num_gpus and "TPU" in worker.resources:
        raise UserError(
            f"farm.worker.num_gpus={worker.num_gpus:g} and farm.worker.resources.TPU={worker.resources['TPU']:g}: a worker "
            "computes on one kind of device; drop one of them"
        )


def _validate_node(node: NodeConfig) -> None:
    require(node.name.strip() != "" and node.name.isprintable(), "node.name", node.name, "must be a name")
    require(1 <= node.workers <= 1000, "node.workers", node.workers, "must be from 1 to 1000")
    for node_field in fields(node):
        value = getattr(node, node_field.name)
        if isinstance(value, float):
            # Times and prices are quotients of these and must be neither zero nor infinite.
            is_valid = _is_finite(value) and _LEAST <= value <= _LARGEST
            require(is_valid, f"node.{node_field.name}", value, f"must be null or from {_LEAST:g} to {_LARGEST:g}")


def _validate_output(output: OutputConfig) -> None:
    for key in ("width", "height", "width_cm", "width_in", "dpi"):
        value = getattr(output, key)
        if value is not None:
            require(_is_finite(value) and value > 0, f"output.{key}", value, "must be above 0")
    if output.dpi is not None:
        # The JPEG field has 16 bits.
        require(1 <= output.dpi <= 65535, "output.dpi", output.dpi, "must be from 1 to 65535")
    if output.height is not None:
        require(output.height <= _LONGEST, "output.height", output.height, f"must be at most {_LONGEST:,} px")
    widths = [key for key in ("width", "width_cm", "width_in") if getattr(output, key) is not None]
    if len(widths) > 1:
        raise UserError(f"output.{widths[0]} and output.{widths[1]} both say how wide: set one of them to null")
    if output.width is None and widths and output.dpi is None:
        raise UserError(f"output.{widths[0]} needs output.dpi to become pixels (150 suits a poster, 300 a book)")
    for key in widths:
        fits = (_exact_width(output) or 0) <= _LONGEST
        require(fits, f"output.{key}", getattr(output, key), f"must come to at most {_LONGEST:,} px")
    require(1 <= output.quality <= 100, "output.quality", output.quality, "must be from 1 to 100")
    suffixes = f"must be a name that ends in .{', .'.join(known_suffixes())}"
    if output.format is not None:
        is_known = format_of(f"x.{output.format}") is not None or output.format in FORMATS
        require(is_known, "output.format", output.format, f"must be one of {', '.join(FORMATS)}")
    if output.path is not None:
        require(format_of(output.path) is not None, "output.path", output.path, suffixes)
        if suffix_of(output.path) not in FORMATS[picture_format(output)].suffixes:
            raise UserError(f"output.path={output.path} and output.format={output.format} disagree: drop one of them")
    for copy_name in output.also:
        is_known = isinstance(copy_name, str) and (copy_name in FORMATS or format_of(copy_name) is not None)
        require(is_known, "output.also", copy_name, f"{suffixes}, or a format's name")
    _validate_layout(output)
    _validate_style(output)
    _validate_colour(output)


def _validate_layout(output: OutputConfig) -> None:
    require(output.fit in _FITS, "output.fit", output.fit, f"must be one of {', '.join(_FITS)}")
    bleed = output.bleed_mm
    if bleed is not None:
        is_valid = _is_finite(bleed) and 0 <= bleed <= _WIDEST_BLEED_MM
        require(is_valid, "output.bleed_mm", bleed, f"must be null or from 0 to {_WIDEST_BLEED_MM} mm")
        if output.dpi is None:
            raise UserError("output.bleed_mm needs output.dpi to become pixels (150 suits a poster, 300 a book)")


def _validate_style(output: OutputConfig) -> None:
    require(output.bits in (8, 16), "output.bits", output.bits, "must be 8 or 16")
    capable_formats = [name for name, form in FORMATS.items() if output.bits in form.bits]
    form = FORMATS[picture_format(output)]
    fits = output.bits in form.bits or form.directory
    require(fits, "output.bits", output.bits, f"{form.name} holds 8: take {names_of(capable_formats)}")
    compressions = FORMATS["tiff"].compressions
    require(
        output.compression in compressions, "output.compression", output.compression, f"must be {names_of(compressions)}"
    )
    if output.compression == "jpeg" and output.bits != 8:
        raise UserError("output.compression=jpeg holds 8 bits: set output.bits=8 or another compression")
    panels = output.panels
    for key in ("width_cm", "height_cm"):
        value = getattr(panels, key)
        is_valid = value is None or (_is_finite(value) and value > 0)
        require(is_valid, f"output.panels.{key}", value, "must be null or above 0")
    is_valid = _is_finite(panels.overlap_mm) and panels.overlap_mm >= 0
    require(is_valid, "output.panels.overlap_mm", panels.overlap_mm, "must be 0 or more")
    if (panels.width_cm or panels.height_cm) and output.dpi is None:
        raise UserError("output.panels needs output.dpi to become pixels (150 suits a poster, 300 a book)")
    if (panels.width_cm or panels.height_cm) and form.directory:
        raise UserError(f"output.panels cannot be written as {form.name}: set output.format=tiff")


def _validate_colour(output: OutputConfig) -> None:
    is_valid = 0 <= output.saturation <= _STRONGEST
    rule = f"must be from 0 (grey) over 1 (as dreamed) to {_STRONGEST}"
    require(is_valid, "output.saturation", output.saturation, rule)
    contrast = output.contrast
    # Comparisons with NaN are false.
    is_valid = contrast is None or (len(contrast) == 2 and 0 <= contrast[0] < contrast[1] <= 100)
    rule = "must be null or two percentiles, the lower first, such as [0.5,99.5]"
    require(is_valid, "output.contrast", contrast, rule)


def picture_width(output: OutputConfig) -> int | None:
    """Return the width of the picture, px, or None for the source's width."""
    exact = _exact_width(output)
    return None if exact is None else max(1, round(exact))


def picture_bleed(output: OutputConfig) -> int:
    """Return the bleed on every side of the picture, px; 0 for none."""
    if output.bleed_mm is None or output.dpi is None:
        return 0
    return round(output.bleed_mm / _MM_PER_INCH * output.dpi)


def _exact_width(output: OutputConfig) -> float | None:
    if output.width_cm is not None and output.dpi is not None:
        return output.width_cm / _CM_PER_INCH * output.dpi
    if output.width_in is not None and output.dpi is not None:
        return output.width_in * output.dpi
    return output.width


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


def _whole(value: int | str) -> int:
    """Return an integer value, or -1 for anything else. No setting allows -1."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def require(holds: bool, key: str, value: object, rule: str) -> None:
    """Raise `UserError` with the key, its value and the rule, unless `holds`."""
    if not holds:
        text = str(value)
        text = text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."
        raise UserError(f"{key}={text}: {rule}")


def _is_finite(value: float) -> bool:
    """Return True if a number is finite and fits a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _refuse_sections(section: Any, prefix: str = "") -> None:
    """Raise `UserError` if a key holds a whole section of the config, as with a reference such as `${node}`."""
    for section_field in fields(section):
        value = getattr(section, section_field.name)
        if is_dataclass(value) and getattr(section_field, "default_factory", None) is type(value):
            _refuse_sections(value, f"{prefix}{section_field.name}.")
        elif _holds_section(value):
            raise UserError(f"{prefix}{section_field.name}: it refers to a section of the config: refer to a single key")


def _holds_section(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_section, value.values()))
    return any(map(_holds_section, value)) if isinstance(value, list) else is_dataclass(value)
