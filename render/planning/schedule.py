"""From a config to what every octave dreams: objectives, masks and one stage for each octave. Pure but for the materials.

A setting that may change from octave to octave is written once, or as a list with one entry for each, coarse to fine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from render.config.schema import Config, require
from render.dream.objectives import Objective, resolve
from render.dream.optimizer import Optimizer
from render.dream.stage import NORMALIZATIONS, Conditioning, Region, Stage
from render.dream.term_syntax import Materials
from render.dream.terms import Guide
from render.errors import UserError
from render.models.architecture import Architecture

#: Levels of a Laplacian pyramid: the coarsest of nine has a sample every 512 px.
_MOST_LEVELS = 9
_REGION_KEYS = ("mask", "terms")
#: Models that a message names, and letters that it takes for them.
_MOST_NAMED, _LONGEST_NAMES = 10, 400


@dataclass(frozen=True)
class Schedule:
    """What a job dreams: objectives, masks (key and what the config writes there), a stage for each of `octaves.count`."""

    objectives: tuple[Objective, ...]
    masks: tuple[tuple[str, Any], ...]
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        """The objectives, in words."""
        return " | ".join(map(str, self.objectives))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that any of the objectives reads."""
        return tuple(dict.fromkeys(layer for objective in self.objectives for layer in objective.layers))

    @property
    def content(self) -> str | None:
        """What names alone do not say of the pictures that objectives look at; None where there are none."""
        guides = [term.sha256 for objective in self.objectives for term in objective.terms if isinstance(term, Guide)]
        return " ".join(guides) or None

    def last(self, count: int) -> tuple[Stage, ...]:
        """The stages of the finest `count` octaves: where some are left out, it is the coarsest."""
        return self.stages[len(self.stages) - count :]


def make_schedule(
    config: Config, architecture: Architecture, default_terms: Sequence[str], materials: Materials | None = None
) -> Schedule:
    """The schedule that a validated config asks for on a network; raises `UserError` for what cannot mean anything."""
    count = config.octaves.count
    objectives: list[Objective] = []
    masks: list[tuple[str, Any]] = []

    def numbers(terms: object, key: str) -> list[int]:
        """For each octave the number of the objective that the terms mean there."""
        found = []
        for one in _terms_by_octave(terms, count, key):
            objective = resolve(one, architecture, materials)
            if objective not in objectives:
                objectives.append(objective)
            found.append(objectives.index(objective))
        return found

    whole = [] if config.objective.mask is None else [0]
    if whole:
        masks.append(("objective.mask", config.objective.mask))
    regions: list[list[Region]] = [[] for _ in range(count)]
    for position, region in enumerate(config.objective.regions):
        key = f"objective.regions[{position}]"
        terms = _region_terms(region, key)
        masks.append((f"{key}.mask", region["mask"]))
        for octave, number in enumerate(numbers(terms, f"{key}.terms")):
            regions[octave].append(Region(number, (*whole, len(masks) - 1)))
    terms = _terms_of(config, architecture.name)
    if terms is not None or not config.objective.regions:
        elsewhere = tuple(range(len(whole), len(masks)))
        for octave, number in enumerate(numbers(default_terms if terms is None else terms, "objective.terms")):
            regions[octave].append(Region(number, tuple(whole), elsewhere))
    return Schedule(tuple(objectives), tuple(masks), _stages(config, regions))


def check_stages(config: Config) -> Config:
    """The same config; `UserError` for the first setting of an octave that cannot mean anything on any network."""
    objective = config.objective
    terms = objective.terms is None or isinstance(objective.terms, list)
    require(terms, "objective.terms", objective.terms, "must be a list of terms, such as [mixed4]")
    mask = objective.mask is None or (isinstance(objective.mask, str | dict) and bool(objective.mask))
    require(mask, "objective.mask", objective.mask, "must be null, a path, or a mapping with an image")
    regions = isinstance(objective.regions, list)
    rule = "must be a list of mappings, such as [{mask: face.png, terms: [mixed4]}]"
    require(regions, "objective.regions", objective.regions, rule)
    for position, region in enumerate(objective.regions):
        _region_terms(region, f"objective.regions[{position}]")
    _stages(config, [[]] * config.octaves.count)
    return config


def _terms_by_octave(terms: object, count: int, key: str) -> list[Sequence[object]]:
    if not isinstance(terms, list | tuple):
        raise UserError(f"{key}={terms!r}: must be a list of terms, such as [mixed4]")
    if terms and all(isinstance(one, list | tuple) for one in terms):
        _refuse_length(terms, count, key)
        return list(terms)
    return [terms] * count


def _terms_of(config: Config, model: str) -> object:
    """The terms for the whole canvas, or for what regions leave over; None where the config names none."""
    objective = config.objective
    if objective.terms is not None or not objective.by_model:
        return objective.terms
    if model not in objective.by_model:
        known = ", ".join(list(map(str, objective.by_model))[:_MOST_NAMED])[:_LONGEST_NAMES]
        raise UserError(
            f"this objective has terms for {known}, not for {model}: add model={next(iter(objective.by_model))}, or "
            "choose another objective"
        )
    return objective.by_model[model]


def _region_terms(region: object, key: str) -> object:
    if not isinstance(region, dict) or set(region) != set(_REGION_KEYS):
        raise UserError(f"{key}={region!r}: must be a mapping with {' and '.join(_REGION_KEYS)}")
    return region["terms"]


def _stages(config: Config, regions: Sequence[Sequence[Region]]) -> tuple[Stage, ...]:
    count, given = config.octaves.count, config.conditioning
    wanted = config.optimizer
    optimizer = Optimizer(wanted.name, wanted.momentum, wanted.decay)

    def each(value: object, key: str, holds: Callable[[Any], bool], rule: str) -> list[Any]:
        values = value if isinstance(value, list | tuple) else [value] * count
        _refuse_length(values, count, key)
        for one in values:
            require(holds(one), key, one, rule)
        return list(values)

    steps = each(config.octaves.steps, "octaves.steps", _whole(0, 1_000_000), "must be a whole number from 0 to 1,000,000")
    sizes = each(
        config.step_size, "step_size", lambda v: _number(0, 255)(v) and v > 0, "must be above 0 and at most 255 levels"
    )
    rule = "must be null, or a whole number from 0 to 4096 px"
    jitters = each(config.jitter, "jitter", lambda v: v is None or _whole(0, 4096)(v), rule)
    normalize = each(
        given.normalize, "conditioning.normalize", lambda v: v in NORMALIZATIONS, f"must be {' or '.join(NORMALIZATIONS)}"
    )
    rule = f"must be a whole number from 0 (off) to {_MOST_LEVELS}"
    laplacian = each(given.laplacian, "conditioning.laplacian", _whole(0, _MOST_LEVELS), rule)
    smoothing = each(given.smoothing, "conditioning.smoothing", _number(0, 64), "must be from 0 (off) to 64 px")
    variation = each(given.total_variation, "conditioning.total_variation", _number(0, 100), "must be from 0 (off) to 100")
    pull = each(given.pull, "conditioning.pull", _number(0, 1), "must be from 0 (off) to 1")
    luminance = each(
        given.luminance_only, "conditioning.luminance_only", lambda v: isinstance(v, bool), "must be true or false"
    )
    for levels, sigma in zip(laplacian, smoothing, strict=True):
        if levels and sigma:
            raise UserError(
                f"conditioning.laplacian={levels} and conditioning.smoothing={sigma:g} both filter the gradient: "
                "set one of them to 0"
            )
    conditionings = map(Conditioning, normalize, laplacian, map(float, smoothing), variation, pull, luminance)
    return tuple(
        Stage(step_count, float(size), tuple(where), jitter, conditioning, optimizer)
        for step_count, size, where, jitter, conditioning in zip(steps, sizes, regions, jitters, conditionings, strict=True)
    )


def _refuse_length(values: Sequence[object], count: int, key: str) -> None:
    if len(values) != count:
        raise UserError(
            f"{key} lists {len(values)} octaves and octaves.count={count}: give one entry for each, coarse to fine, "
            "or one value"
        )


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(least: float, most: float) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        return plain and math.isfinite(value) and least <= value <= most

    return holds
