"""Checks of a config's values. OmegaConf has checked their types when a `Config` is made."""

from __future__ import annotations

import math
import re
from dataclasses import fields, is_dataclass
from typing import Any

from render.config.formats import FORMATS, format_of, known_suffixes, names_of, suffix_of
from render.config.schema import (
    AUTO,
    INTENTS,
    PRECISIONS,
    Config,
    FarmConfig,
    NodeConfig,
    OutputConfig,
    exact_height,
    exact_width,
    picture_format,
    pictures,
)
from render.errors import UserError
from render.geometry.geometry import BOUNDARY_MODES

#: Largest number of octaves. With the smallest useful scales there are a few dozen.
MAX_OCTAVES = 1000
_HALOS = ("exact", "balanced")
_EXECUTORS = ("auto", "ray", "inline")
_LOGS = ("text", "json")
#: Keys that set the length of a side, of which a config has at most one for each; and words for messages.
_SIDES = {side: (side, f"{side}_cm", f"{side}_in") for side in ("width", "height")}
_EXTENTS = {"width": "wide", "height": "high"}
_FITS = ("crop", "contain", "stretch")
#: Address of a directory on the web, without the slash at its end.
_WEB_ADDRESS = r"https?://[!#-;=?-\[\]_a-z~]{1,2000}(?<!/)"
#: Numbers of a host's TPU chips that libtpu and Ray can give to a process.
_TPU_CHIPS = (1, 2, 4, 8)
#: Longest side of a picture, px. It is far beyond any printer.
_MAX_SIDE = 10_000_000
#: Widest bleed, mm. Printers ask for 3 to 10.
_MAX_BLEED_MM = 100
#: Longest waiting time, s (thirty years), and largest value of a farm's other numbers.
_MAX_WAIT_S, _MAX_NUMBER = 1_000_000_000, 1_000_000
#: Smallest and largest number for a property of a machine or a resource. Ray's resources have this resolution.
_MIN_AMOUNT, _MAX_AMOUNT = 1e-4, 1e9
#: Most characters of a value in a message.
_MAX_VALUE_TEXT = 200
#: Largest saturation factor. Far above it a picture has only primary colours.
_MAX_SATURATION = 100


def validate(config: Config) -> Config:
    """Return the same config. Raise `UserError` for the first invalid value."""
    _refuse_sections(config)
    is_file_name = config.name.strip(" .") != "" and "/" not in config.name and config.name.isprintable()
    require(is_file_name and len(config.name.encode()) <= 200, "name", config.name, "must be a plain file name")
    require(0 <= config.seed < 2**63, "seed", config.seed, "must be from 0 to 2^63 - 1")
    count = config.octaves.count
    require(
        count == "auto" or 1 <= _whole(count) <= MAX_OCTAVES,
        "octaves.count",
        count,
        f"must be auto or from 1 to {MAX_OCTAVES}",
    )
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
    require(precision in PRECISIONS, "model.precision", precision, f"must be one of {', '.join(PRECISIONS)}")
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
    rule = f"must be from 0 (every step) to {_MAX_WAIT_S:,} seconds"
    require(_is_finite(every) and 0 <= every <= _MAX_WAIT_S, "checkpoint.every", every, rule)
    return config


def _validate_farm(farm: FarmConfig) -> None:
    require(farm.executor in _EXECUTORS, "farm.executor", farm.executor, f"must be {' or '.join(_EXECUTORS)}")
    rule = "must be null or from 1 to 10000"
    require(farm.workers is None or 1 <= farm.workers <= 10_000, "farm.workers", farm.workers, rule)
    require(0 <= farm.retries <= _MAX_NUMBER, "farm.retries", farm.retries, f"must be from 0 to {_MAX_NUMBER:,}")
    is_valid = _is_finite(farm.timeout) and 0 <= farm.timeout <= _MAX_WAIT_S
    require(is_valid, "farm.timeout", farm.timeout, f"must be from 0 to {_MAX_WAIT_S:,} seconds")
    is_valid = _is_finite(farm.silence) and 0 < farm.silence <= _MAX_WAIT_S
    require(is_valid, "farm.silence", farm.silence, f"must be above 0 and at most {_MAX_WAIT_S:,} seconds")
    if farm.address is not None and farm.executor == "inline":
        raise UserError(f"farm.address={farm.address} needs farm.executor=ray: drop one of them")
    worker = farm.worker
    for key, least in (("num_gpus", 0.0), ("num_cpus", 0.0), ("memory_gb", 1e-3), ("threads", 1)):
        value = getattr(worker, key)
        is_valid = value is None or (_is_finite(value) and least <= value <= _MAX_NUMBER)
        require(is_valid, f"farm.worker.{key}", value, f"must be null or at least {least:g}, and at most {_MAX_NUMBER:,}")
    is_countable = worker.num_gpus is None or worker.num_gpus <= 1 or float(worker.num_gpus).is_integer()
    require(is_countable, "farm.worker.num_gpus", worker.num_gpus, "must be a share of one GPU, or a whole number of them")
    is_valid = worker.resident == "auto" or isinstance(worker.resident, bool)
    require(is_valid, "farm.worker.resident", worker.resident, "must be auto, true or false")
    is_valid = worker.deterministic == "auto" or isinstance(worker.deterministic, bool)
    require(is_valid, "farm.worker.deterministic", worker.deterministic, "must be auto, true or false")
    is_valid = worker.batch == "auto" or 1 <= _whole(worker.batch) <= 1024
    require(is_valid, "farm.worker.batch", worker.batch, "must be auto or from 1 to 1024")
    for name, amount in worker.resources.items():
        is_other = name not in ("CPU", "GPU") and name.isprintable()
        is_valid = is_other and _is_finite(amount) and _MIN_AMOUNT <= amount <= _MAX_NUMBER
        rule = f"must be from {_MIN_AMOUNT:g} to {_MAX_NUMBER:,}, of a resource other than CPU and GPU"
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
            is_valid = _is_finite(value) and _MIN_AMOUNT <= value <= _MAX_AMOUNT
            require(is_valid, f"node.{node_field.name}", value, f"must be null or from {_MIN_AMOUNT:g} to {_MAX_AMOUNT:g}")


def _validate_output(output: OutputConfig) -> None:
    for key in (*_SIDES["width"], *_SIDES["height"], "dpi"):
        value = getattr(output, key)
        if value is not None:
            require(_is_finite(value) and value > 0, f"output.{key}", value, "must be above 0")
    if output.dpi is not None:
        # The JPEG field has 16 bits.
        require(1 <= output.dpi <= 65535, "output.dpi", output.dpi, "must be from 1 to 65535")
    for side, exact in (("width", exact_width(output)), ("height", exact_height(output))):
        _validate_side(output, side, exact or 0)
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


def _validate_side(output: OutputConfig, side: str, exact: float) -> None:
    """Raise `UserError` if a side is set twice, has no resolution to become pixels, or is too long.

    Args:
        output: The output section.
        side: `width` or `height`.
        exact: Length of the side, px; 0 if it is not set.
    """
    keys = [key for key in _SIDES[side] if getattr(output, key) is not None]
    if len(keys) > 1:
        raise UserError(f"output.{keys[0]} and output.{keys[1]} both say how {_EXTENTS[side]}: set one of them to null")
    if keys and keys[0] != side and output.dpi is None:
        raise UserError(f"output.{keys[0]} needs output.dpi to become pixels (150 suits a poster, 300 a book)")
    for key in keys:
        require(exact <= _MAX_SIDE, f"output.{key}", getattr(output, key), f"must come to at most {_MAX_SIDE:,} px")


def _validate_layout(output: OutputConfig) -> None:
    require(output.fit in _FITS, "output.fit", output.fit, f"must be one of {', '.join(_FITS)}")
    bleed = output.bleed_mm
    if bleed is not None:
        is_valid = _is_finite(bleed) and 0 <= bleed <= _MAX_BLEED_MM
        require(is_valid, "output.bleed_mm", bleed, f"must be null or from 0 to {_MAX_BLEED_MM} mm")
        if output.dpi is None:
            raise UserError("output.bleed_mm needs output.dpi to become pixels (150 suits a poster, 300 a book)")
    if output.marks and "pdf" not in pictures(output):
        raise UserError("output.marks=true is for PDF: set output.format=pdf or output.also=[pdf]")
    address = output.iiif_id
    is_valid = address is None or re.fullmatch(_WEB_ADDRESS, address) is not None
    require(
        is_valid,
        "output.iiif_id",
        address,
        "must be null or an address such as https://example.org/iiif/poster, without a slash at its end",
    )


def _validate_style(output: OutputConfig) -> None:
    require(output.bits in (8, 16), "output.bits", output.bits, "must be 8 or 16")
    capable_formats = [name for name, form in FORMATS.items() if output.bits in form.bits]
    form = FORMATS[picture_format(output)]
    fits = output.bits in form.bits or form.directory
    require(
        fits, "output.bits", output.bits, f"{form.name} holds 8: set output.bits=8, or take {names_of(capable_formats)}"
    )
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
    require(output.intent in INTENTS, "output.intent", output.intent, f"must be {names_of(INTENTS)}")
    is_valid = output.dither == AUTO or isinstance(output.dither, bool)
    require(is_valid, "output.dither", output.dither, "must be auto, true or false")
    is_valid = 0 <= output.saturation <= _MAX_SATURATION
    rule = f"must be from 0 (grey) over 1 (as dreamed) to {_MAX_SATURATION}"
    require(is_valid, "output.saturation", output.saturation, rule)
    require(
        output.match is None or output.match.strip() != "", "output.match", output.match, "must be null, source or a path"
    )
    contrast = output.contrast
    # Comparisons with NaN are false.
    is_valid = contrast is None or (len(contrast) == 2 and 0 <= contrast[0] < contrast[1] <= 100)
    rule = "must be null or two percentiles, the lower first, such as [0.5,99.5]"
    require(is_valid, "output.contrast", contrast, rule)


def _whole(value: int | str) -> int:
    """Return an integer value, or -1 for anything else. No setting allows -1."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def require(holds: bool, key: str, value: object, rule: str) -> None:
    """Raise `UserError` with the key, its value and the rule, unless `holds`."""
    if not holds:
        text = "null" if value is None else str(value)
        text = text if len(text) <= _MAX_VALUE_TEXT else f"{text[:_MAX_VALUE_TEXT]}..."
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
