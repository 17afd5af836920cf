"""The schema of `conf/`: one dataclass per section. Everything past the entry point sees these, never a DictConfig.

Types are checked by OmegaConf when a config is turned into a `Config`; values are checked here, in `validate`.
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
#: How many chips of a host a process can be given, by libtpu and Ray.
_TPU_CHIPS = (1, 2, 4, 8)
#: The keys of an objective that name files.
_FILES = ("mask", "image", "guide", "direction")
_FITS = ("crop", "contain", "stretch")
_CM_PER_INCH, _MM_PER_INCH = 2.54, 25.4
#: Longest side that can be asked for, px; far beyond any printer.
_LONGEST = 10_000_000
#: Widest bleed, mm; prints ask for 3 to 10.
_WIDEST_BLEED_MM = 100
#: Longest time that can be waited for, s: thirty years; and the most of a thing that a farm has.
_LONGEST_S, _MOST = 1_000_000_000, 1_000_000
#: Least and greatest number that is reckoned with of a machine, or asked for of a resource: Ray's are of this fineness.
_LEAST, _LARGEST = 1e-4, 1e9
#: Letters of a value that a message repeats.
_SHOWN_LETTERS = 200
#: Greatest factor on colours; far beyond it a picture has none but the primary ones.
_STRONGEST = 100


@dataclass
class ModelConfig:
    """Which network, its weights where they are not the published ones, and what kernels compute in."""

    name: str = "inception_v3"
    weights: str | None = None
    sha256: str | None = None
    precision: str = "float32"


@dataclass
class ObjectiveConfig:
    """What to make more of, and where; None takes what the model dreams best.

    `terms` is a list, or a list of lists with one for each octave. Without, `by_model` has such for several models.
    """

    terms: Any = None
    by_model: dict[str, Any] = field(default_factory=dict)
    mask: Any = None
    regions: Any = field(default_factory=list)


@dataclass
class ConditioningConfig:
    """What is done to the gradient before it moves pixels; each may be a list with one value for each octave."""

    normalize: Any = "mean_abs"
    laplacian: Any = 0
    smoothing: Any = 0.0
    total_variation: Any = 0.0
    pull: Any = 0.0
    luminance_only: Any = False


@dataclass
class OptimizerConfig:
    """How steps build on those before them."""

    name: str = "none"
    momentum: float = 0.9
    decay: float = 0.999


@dataclass
class SourceConfig:
    """How a picture file becomes a canvas."""

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
    """How the canvas is cut; sizes in px."""

    size: int | str = "auto"
    halo: int | str = "exact"
    parallel: int = 1


@dataclass
class BoundaryConfig:
    """What the network sees beyond the edges; `fill` in px."""

    mode: str = "reflect"
    fill: int = 32


@dataclass
class PanelsConfig:
    """Parts of a print that is wider or taller than the press; None is no limit."""

    width_cm: float | None = None
    height_cm: float | None = None
    overlap_mm: float = 10.0


@dataclass
class OutputConfig:
    """Where the picture goes, in which formats, how large (px, cm or inches with dots per inch), how laid out."""

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
    """What each worker takes of its machine; None is found out."""

    num_gpus: float | None = None
    num_cpus: float | None = None
    resources: dict[str, float] = field(default_factory=dict)
    memory_gb: float | None = None
    threads: int | None = None
    resident: bool | str = "auto"
    batch: int | str = "auto"


@dataclass
class FarmConfig:
    """Who computes."""

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
    """What a plan reckons with of a cluster's machines: nothing of it touches a render. None is unknown.

    `workers` live on a machine. Kernels of each reach `tflops_float32` or `tflops_bfloat16`, 10^12 operations a second;
    each has `device_gb` of its accelerator's memory, and all share `memory_gb` of the machine's, `network_gbit` to other
    machines and `store_gbit` to where checkpoints go. Prices are for a machine, in dollars an hour.
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
        """Whether times can be reckoned with it."""
        return self.tflops_float32 is not None or self.tflops_bfloat16 is not None


@dataclass
class CheckpointConfig:
    """How often the canvas is saved, s."""

    every: float = 300.0


@dataclass
class Config:
    """One dream job, complete: every key of a root config in `conf/`."""

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
        """The settings that decide the picture, as plain data for its file: where it lands and how is left out."""
        settings = asdict(self)
        for key in ("overwrite", "fresh", "quiet", "log", "farm", "node", "checkpoint"):
            del settings[key]
        if self.model.precision == ModelConfig.precision:
            # As it was before there was a choice: runs that were begun then are gone on with.
            del settings["model"]["precision"]
        for key in ("dir", "path", "format", "also"):
            del settings["output"][key]
        # Names without their directories: pictures are published, and the content counts, not where it lies.
        settings["image"] = self.image.rpartition("/")[2]
        settings["objective"] = _without_directories(settings["objective"])
        if self.model.weights is not None:
            settings["model"]["weights"] = self.model.weights.rpartition("/")[2]
        return settings

    def canvas_settings(self) -> dict[str, Any]:
        """The settings that decide the canvas: those of the picture, with no more of its output than the size in pixels."""
        output = self.output
        laid_out = {"fit": output.fit, "bleed": picture_bleed(output)}
        return self.picture_settings() | {"output": {"width": picture_width(output), "height": output.height, **laid_out}}

    def digest(self, identity: Mapping[str, str | None]) -> str:
        """Names the canvas that these settings make of what `identity` tells of image, weights, program: sha256, hex."""
        return hashlib.sha256(json.dumps([self.canvas_settings(), identity], sort_keys=True).encode()).hexdigest()


def dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key; a key that is there more than once has what stands last."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def named_files(value: Any, key: str = "objective") -> Iterator[tuple[str, str]]:
    """The files that an objective's settings name, each with its key."""
    if isinstance(value, dict):
        for inner, part in value.items():
            if isinstance(part, str) and inner in _FILES:
                yield f"{key}.{inner}", part
            yield from named_files(part, f"{key}.{inner}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from named_files(part, f"{key}[{number}]")


def _without_directories(value: Any, key: str = "") -> Any:
    """The value, with the files that an objective names called by their last names."""
    if isinstance(value, dict):
        return {inner: _without_directories(part, inner) for inner, part in value.items()}
    if isinstance(value, list):
        return [_without_directories(part) for part in value]
    return value.rpartition("/")[2] if isinstance(value, str) and key in _FILES else value


def validate(config: Config) -> Config:
    """The same config; `UserError` for the first value that cannot mean anything."""
    _refuse_sections(config)
    plain = config.name.strip(" .") != "" and "/" not in config.name and config.name.isprintable()
    require(plain and len(config.name.encode()) <= 200, "name", config.name, "must be a plain file name")
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
    fine = len(background) == 3 and all(0 <= value <= 255 for value in background)
    require(fine, "source.background", background, "must be three values [R,G,B] from 0 to 255")
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
    fine = _is_finite(farm.timeout) and 0 <= farm.timeout <= _LONGEST_S
    require(fine, "farm.timeout", farm.timeout, f"must be from 0 to {_LONGEST_S:,} seconds")
    fine = _is_finite(farm.silence) and 0 < farm.silence <= _LONGEST_S
    require(fine, "farm.silence", farm.silence, f"must be above 0 and at most {_LONGEST_S:,} seconds")
    if farm.address is not None and farm.executor != "ray":
        raise UserError(f"farm.address={farm.address} needs farm.executor=ray: drop one of them")
    worker = farm.worker
    for key, least in (("num_gpus", 0.0), ("num_cpus", 0.0), ("memory_gb", 1e-3), ("threads", 1)):
        value = getattr(worker, key)
        fine = value is None or (_is_finite(value) and least <= value <= _MOST)
        require(fine, f"farm.worker.{key}", value, f"must be null or at least {least:g}, and at most {_MOST:,}")
    whole = worker.num_gpus is None or worker.num_gpus <= 1 or float(worker.num_gpus).is_integer()
    require(whole, "farm.worker.num_gpus", worker.num_gpus, "must be a share of one GPU, or a whole number of them")
    fine = worker.resident == "auto" or isinstance(worker.resident, bool)
    require(fine, "farm.worker.resident", worker.resident, "must be auto, true or false")
    fine = worker.batch == "auto" or 1 <= _whole(worker.batch) <= 1024
    require(fine, "farm.worker.batch", worker.batch, "must be auto or from 1 to 1024")
    for name, amount in worker.resources.items():
        fine = name not in ("CPU", "GPU") and name.isprintable() and _is_finite(amount) and _LEAST <= amount <= _MOST
        rule = f"must be from {_LEAST:g} to {_MOST:,}, of a resource other than CPU and GPU"
        require(fine, f"farm.worker.resources.{name}", amount, rule)
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
    for one in fields(node):
        value = getattr(node, one.name)
        if isinstance(value, float):
            # Times and prices are quotients of these: none may come out as zero or without end.
            fine = _is_finite(value) and _LEAST <= value <= _LARGEST
            require(fine, f"node.{one.name}", value, f"must be null or from {_LEAST:g} to {_LARGEST:g}")


def _validate_output(output: OutputConfig) -> None:
    for key in ("width", "height", "width_cm", "width_in", "dpi"):
        value = getattr(output, key)
        if value is not None:
            require(_is_finite(value) and value > 0, f"output.{key}", value, "must be above 0")
    if output.dpi is not None:
        # The field in a JPEG holds 16 bits.
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
        known = format_of(f"x.{output.format}") is not None or output.format in FORMATS
        require(known, "output.format", output.format, f"must be one of {', '.join(FORMATS)}")
    if output.path is not None:
        require(format_of(output.path) is not None, "output.path", output.path, suffixes)
        if suffix_of(output.path) not in FORMATS[picture_format(output)].suffixes:
            raise UserError(f"output.path={output.path} and output.format={output.format} disagree: drop one of them")
    for also in output.also:
        known = isinstance(also, str) and (also in FORMATS or format_of(also) is not None)
        require(known, "output.also", also, f"{suffixes}, or a format's name")
    _validate_layout(output)
    _validate_style(output)
    _validate_colour(output)


def _validate_layout(output: OutputConfig) -> None:
    require(output.fit in _FITS, "output.fit", output.fit, f"must be one of {', '.join(_FITS)}")
    bleed = output.bleed_mm
    if bleed is not None:
        fine = _is_finite(bleed) and 0 <= bleed <= _WIDEST_BLEED_MM
        require(fine, "output.bleed_mm", bleed, f"must be null or from 0 to {_WIDEST_BLEED_MM} mm")
        if output.dpi is None:
            raise UserError("output.bleed_mm needs output.dpi to become pixels (150 suits a poster, 300 a book)")


def _validate_style(output: OutputConfig) -> None:
    require(output.bits in (8, 16), "output.bits", output.bits, "must be 8 or 16")
    holding = [name for name, form in FORMATS.items() if output.bits in form.bits]
    form = FORMATS[picture_format(output)]
    fits = output.bits in form.bits or form.directory
    require(fits, "output.bits", output.bits, f"{form.name} holds 8: take {names_of(holding)}")
    known = FORMATS["tiff"].compressions
    require(output.compression in known, "output.compression", output.compression, f"must be {names_of(known)}")
    if output.compression == "jpeg" and output.bits != 8:
        raise UserError("output.compression=jpeg holds 8 bits: set output.bits=8 or another compression")
    panels = output.panels
    for key in ("width_cm", "height_cm"):
        value = getattr(panels, key)
        fine = value is None or (_is_finite(value) and value > 0)
        require(fine, f"output.panels.{key}", value, "must be null or above 0")
    fine = _is_finite(panels.overlap_mm) and panels.overlap_mm >= 0
    require(fine, "output.panels.overlap_mm", panels.overlap_mm, "must be 0 or more")
    if (panels.width_cm or panels.height_cm) and output.dpi is None:
        raise UserError("output.panels needs output.dpi to become pixels (150 suits a poster, 300 a book)")
    if (panels.width_cm or panels.height_cm) and form.directory:
        raise UserError(f"output.panels cannot be written as {form.name}: set output.format=tiff")


def _validate_colour(output: OutputConfig) -> None:
    fine = 0 <= output.saturation <= _STRONGEST
    rule = f"must be from 0 (grey) over 1 (as dreamed) to {_STRONGEST}"
    require(fine, "output.saturation", output.saturation, rule)
    contrast = output.contrast
    # Comparisons with NaN are false.
    fine = contrast is None or (len(contrast) == 2 and 0 <= contrast[0] < contrast[1] <= 100)
    rule = "must be null or two percentiles, the lower first, such as [0.5,99.5]"
    require(fine, "output.contrast", contrast, rule)


def picture_width(output: OutputConfig) -> int | None:
    """Width in pixels that the output section asks for; None keeps the source's own."""
    exact = _exact_width(output)
    return None if exact is None else max(1, round(exact))


def picture_bleed(output: OutputConfig) -> int:
    """Pixels that the canvas has beyond the size asked for on every side; 0 where no bleed is asked for."""
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
    """The name of the format: by output.format, a name or a suffix, else by the suffix of output.path, else png."""
    if output.format is not None:
        return output.format if output.format in FORMATS else format_of(f"x.{output.format}") or "png"
    return (output.path and format_of(output.path)) or "png"


def pictures(output: OutputConfig) -> dict[str, list[str]]:
    """What the output section asks for: each format, that of `picture_format` first, with the paths that want a copy."""
    first = picture_format(output)
    wanted: dict[str, list[str]] = {first: [output.path] if output.path is not None else []}
    for also in output.also:
        if also in FORMATS:
            wanted.setdefault(also, [])
        else:
            # A name that ends in .tif suits both kinds of TIFF.
            form = first if suffix_of(also) in FORMATS[first].suffixes else format_of(also) or first
            wanted.setdefault(form, []).append(also)
    return wanted


def _whole(value: int | str) -> int:
    """The value as a whole number; -1, which no setting allows, for other words."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def require(holds: bool, key: str, value: object, rule: str) -> None:
    """Raises `UserError` that names a key, its value and what it must be, unless that holds."""
    if not holds:
        text = str(value)
        text = text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."
        raise UserError(f"{key}={text}: {rule}")


def _is_finite(value: float) -> bool:
    """Whether a number is finite, and a float can hold it."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _refuse_sections(section: Any, prefix: str = "") -> None:
    """Raises `UserError` where a key holds a whole section of the config, as a reference such as `${node}` makes it."""
    for one in fields(section):
        value = getattr(section, one.name)
        if is_dataclass(value) and getattr(one, "default_factory", None) is type(value):
            _refuse_sections(value, f"{prefix}{one.name}.")
        elif _holds_section(value):
            raise UserError(f"{prefix}{one.name}: it refers to a section of the config: refer to a single key")


def _holds_section(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_section, value.values()))
    return any(map(_holds_section, value)) if isinstance(value, list) else is_dataclass(value)
