"""Settings of each octave. A config gives them as one value or as a list with one value per octave, coarse to fine."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from render.config.schema import ConditioningConfig, Config, OptimizerConfig
from render.config.validation import require
from render.errors import UserError

#: Value of `octaves.count` that leaves the number to the picture's size and the network.
AUTO = "auto"
NORMALIZATIONS = ("mean_abs", "std")
OPTIMIZERS = ("none", "momentum", "adam")
#: Widest shoulder, levels: wider ones would meet in the middle.
_MAX_SHOULDER = 127
#: Most levels of a Laplacian pyramid. The coarsest of nine has a sample every 512 px.
_MAX_LEVELS = 9
_REGION_KEYS = ("mask", "terms")


@dataclass(frozen=True)
class OctaveConditioning:
    """Values of the section `conditioning` for one octave, as `render.dreaming.stage.Conditioning` explains them."""

    normalize: str = "mean_abs"
    laplacian: int = 0
    smoothing: float = 0.0
    total_variation: float = 0.0
    pull: float = 0.0
    luminance_only: bool = False
    decorrelate: float = 0.0
    shoulder: float = 0.0


@dataclass(frozen=True)
class OctaveSettings:
    """Values of one octave for the keys that may be lists: `octaves.steps`, `step_size`, `jitter` and `conditioning`."""

    steps: int
    step_size: float
    jitter: int | None
    conditioning: OctaveConditioning


def check_octaves(config: Config) -> Config:
    """Return the same config. Raise `UserError` for the first octave setting that is invalid on every network."""
    objective = config.objective
    terms = objective.terms is None or isinstance(objective.terms, list)
    require(terms, "objective.terms", objective.terms, "must be a list of terms, such as [mixed4]")
    mask = objective.mask is None or (isinstance(objective.mask, str | dict) and bool(objective.mask))
    require(mask, "objective.mask", objective.mask, "must be null, a path, or a mapping with an image")
    regions = isinstance(objective.regions, list)
    rule = "must be a list of mappings, such as [{mask: face.png, terms: [mixed4]}]"
    require(regions, "objective.regions", objective.regions, rule)
    for position, region in enumerate(objective.regions):
        region_terms(region, f"objective.regions[{position}]")
    settings_by_octave(config)
    return config


def listed_octaves(config: Config) -> int | None:
    """Return the number of octaves in the lists of a config; None if no setting is a list with one entry for each.

    Lists may differ in length here; `settings_by_octave` and `make_schedule` refuse that.
    """
    objective = config.objective
    all_terms = [objective.terms, *objective.by_model.values()]
    all_terms += [region["terms"] for region in objective.regions if isinstance(region, dict) and "terms" in region]
    lists = [terms for terms in all_terms if is_by_octave(terms)]
    settings = (config.octaves.steps, config.step_size, config.jitter, *vars(config.conditioning).values())
    lists += [values for values in settings if isinstance(values, list | tuple)]
    return max(map(len, lists), default=None)


def is_by_octave(terms: object) -> bool:
    """Return True for a list of lists of terms, one for each octave."""
    return isinstance(terms, list | tuple) and bool(terms) and all(isinstance(term, list | tuple) for term in terms)


def settings_by_octave(config: Config) -> tuple[OctaveSettings, ...]:
    """Return the settings of every octave, coarse to fine. Raise `UserError` for an invalid value.

    If `octaves.count` is auto, there are as many as lists have entries, and else one, which stands for all.
    """
    count = (listed_octaves(config) or 1) if config.octaves.count == AUTO else int(config.octaves.count)
    _check_optimizer(config.optimizer)
    rule = "must be a whole number from 0 to 1,000,000"
    steps = _by_octave(config.octaves.steps, count, "octaves.steps", _whole(0, 1_000_000), rule)
    rule = "must be above 0 and at most 255 levels"
    sizes = _by_octave(config.step_size, count, "step_size", lambda size: _number(0, 255)(size) and size > 0, rule)
    rule = "must be null, or a whole number from 0 to 4096 px"
    jitters = _by_octave(config.jitter, count, "jitter", lambda shift: shift is None or _whole(0, 4096)(shift), rule)
    return tuple(
        OctaveSettings(*octave)
        for octave in zip(steps, map(float, sizes), jitters, _conditioning(config.conditioning, count), strict=True)
    )


def _conditioning(section: ConditioningConfig, count: int) -> list[OctaveConditioning]:
    """Return the section's values for each of `count` octaves. Raise `UserError` for an invalid one."""

    def values(name: str, is_valid: Callable[[Any], bool], rule: str) -> list[Any]:
        return _by_octave(getattr(section, name), count, f"conditioning.{name}", is_valid, f"must be {rule}")

    normalize = values("normalize", lambda name: name in NORMALIZATIONS, " or ".join(NORMALIZATIONS))
    laplacian = values("laplacian", _whole(0, _MAX_LEVELS), f"a whole number from 0 (off) to {_MAX_LEVELS}")
    smoothing = values("smoothing", _number(0, 64), "from 0 (off) to 64 px")
    variation = values("total_variation", _number(0, 100), "from 0 (off) to 100")
    pull = values("pull", _number(0, 1), "from 0 (off) to 1")
    luminance = values("luminance_only", lambda switch: isinstance(switch, bool), "true or false")
    decorrelate = values("decorrelate", _number(0, 1), "from 0 (off) to 1")
    shoulder = values("shoulder", _number(0, _MAX_SHOULDER), f"from 0 (off) to {_MAX_SHOULDER} levels")
    for levels, sigma in zip(laplacian, smoothing, strict=True):
        if levels and sigma:
            raise UserError(
                f"conditioning.laplacian={levels} and conditioning.smoothing={sigma:g} both filter the gradient: "
                "set one of them to 0"
            )
    if any(map(all, zip(luminance, decorrelate, strict=True))):
        raise UserError(
            "conditioning.luminance_only=true moves no colour, and conditioning.decorrelate says how far colours move: set "
            "one of them to false or 0"
        )
    columns = (
        normalize, laplacian, map(float, smoothing), variation, pull, luminance, map(float, decorrelate),
        map(float, shoulder),
    )  # fmt: skip
    return [OctaveConditioning(*octave) for octave in zip(*columns, strict=True)]


def _by_octave(value: object, count: int, key: str, is_valid: Callable[[Any], bool], rule: str) -> list[Any]:
    """Return a setting's value for each of `count` octaves. Raise `UserError` with `rule` for an invalid one."""
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    refuse_length(values, count, key)
    for octave_value in values:
        require(is_valid(octave_value), key, octave_value, rule)
    return values


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    """Raise `UserError` for an unknown optimiser, or for a decay rate outside [0, 1)."""
    if optimizer.name not in OPTIMIZERS:
        close_matches = difflib.get_close_matches(str(optimizer.name), OPTIMIZERS, n=1)
        hint = f"did you mean {close_matches[0]!r}?" if close_matches else f"there are {', '.join(OPTIMIZERS)}"
        raise UserError(f"optimizer.name={optimizer.name!r} is no optimiser: {hint}")
    for key, value in (("momentum", optimizer.momentum), ("decay", optimizer.decay)):
        require(math.isfinite(value) and 0 <= value < 1, f"optimizer.{key}", value, "must be at least 0 and below 1")


def region_terms(region: object, key: str) -> object:
    """Return the terms of an entry of `objective.regions`. Raise `UserError` if it is not a mapping of `_REGION_KEYS`."""
    if not isinstance(region, dict) or set(region) != set(_REGION_KEYS):
        raise UserError(f"{key}={region!r}: must be a mapping with {' and '.join(_REGION_KEYS)}")
    return region["terms"]


def refuse_length(values: Sequence[object], count: int, key: str) -> None:
    """Raise `UserError` unless a list has `count` entries, one for each octave."""
    if len(values) != count:
        raise UserError(
            f"{key} lists {len(values)} octaves, and there are {count}: give one entry for each, coarse to fine, or one "
            "value"
        )


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(least: float, most: float) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and least <= value <= most

    return holds
