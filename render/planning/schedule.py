"""Schedule of a job, from its config: objectives, masks and a stage for each octave. Pure but for the materials.

A setting that may change from octave to octave is written once, or as a list with one entry for each, coarse to fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from render.config.octave_settings import refuse_length, region_terms, settings_by_octave
from render.config.schema import Config
from render.dreaming.objectives import Objective, resolve
from render.dreaming.optimizer import Optimizer
from render.dreaming.picture_terms import Guide
from render.dreaming.stage import Conditioning, Region, Stage
from render.dreaming.term_syntax import Materials
from render.errors import UserError
from render.networks.architecture import Architecture

#: Most models that a message names, and most letters for their names.
_MOST_NAMED, _LONGEST_NAMES = 10, 400


@dataclass(frozen=True)
class Schedule:
    """Objectives of a job, its masks (key and value in the config), and a stage for each of `octaves.count`."""

    objectives: tuple[Objective, ...]
    masks: tuple[tuple[str, Any], ...]
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        """Return the objectives in words."""
        return " | ".join(map(str, self.objectives))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that any of the objectives reads."""
        return tuple(dict.fromkeys(layer for objective in self.objectives for layer in objective.layers))

    @property
    def content(self) -> str | None:
        """Checksums of the pictures that objectives look at, which their names do not identify; None if there are none."""
        guides = [term.sha256 for objective in self.objectives for term in objective.terms if isinstance(term, Guide)]
        return " ".join(guides) or None

    def last(self, count: int) -> tuple[Stage, ...]:
        """Return the stages of the finest `count` octaves: if octaves are left out, they are the coarsest."""
        return self.stages[len(self.stages) - count :]


def make_schedule(
    config: Config, architecture: Architecture, default_terms: Sequence[str], materials: Materials | None = None
) -> Schedule:
    """Return the schedule of a validated config on a network.

    Raises:
        UserError: a setting has no meaning.
    """
    count = config.octaves.count
    objectives: list[Objective] = []
    masks: list[tuple[str, Any]] = []

    def numbers(terms: object, key: str) -> list[int]:
        """Return for each octave the number of the objective that the terms mean there."""
        objective_numbers = []
        for octave_terms in _terms_by_octave(terms, count, key):
            objective = resolve(octave_terms, architecture, materials)
            if objective not in objectives:
                objectives.append(objective)
            objective_numbers.append(objectives.index(objective))
        return objective_numbers

    whole = [] if config.objective.mask is None else [0]
    if whole:
        masks.append(("objective.mask", config.objective.mask))
    regions: list[list[Region]] = [[] for _ in range(count)]
    for position, region in enumerate(config.objective.regions):
        key = f"objective.regions[{position}]"
        terms = region_terms(region, key)
        masks.append((f"{key}.mask", region["mask"]))
        for octave, number in enumerate(numbers(terms, f"{key}.terms")):
            regions[octave].append(Region(number, (*whole, len(masks) - 1)))
    terms = _terms_of(config, architecture.name)
    if terms is not None or not config.objective.regions:
        elsewhere = tuple(range(len(whole), len(masks)))
        for octave, number in enumerate(numbers(default_terms if terms is None else terms, "objective.terms")):
            regions[octave].append(Region(number, tuple(whole), elsewhere))
    return Schedule(tuple(objectives), tuple(masks), _stages(config, regions))


def _terms_by_octave(terms: object, count: int, key: str) -> list[Sequence[object]]:
    if not isinstance(terms, list | tuple):
        raise UserError(f"{key}={terms!r}: must be a list of terms, such as [mixed4]")
    if terms and all(isinstance(term, list | tuple) for term in terms):
        refuse_length(terms, count, key)
        return list(terms)
    return [terms] * count


def _terms_of(config: Config, model: str) -> object:
    """Return the terms for the whole canvas, or for what regions leave over; None if the config names none."""
    objective = config.objective
    if objective.terms is not None or not objective.by_model:
        return objective.terms
    if model not in objective.by_model:
        model_names = ", ".join(list(map(str, objective.by_model))[:_MOST_NAMED])[:_LONGEST_NAMES]
        raise UserError(
            f"this objective has terms for {model_names}, not for {model}: add model={next(iter(objective.by_model))}, or "
            "choose another objective"
        )
    return objective.by_model[model]


def _stages(config: Config, regions: Sequence[Sequence[Region]]) -> tuple[Stage, ...]:
    optimizer = Optimizer(config.optimizer.name, config.optimizer.momentum, config.optimizer.decay)
    return tuple(
        Stage(
            octave.steps,
            octave.step_size,
            tuple(where),
            octave.jitter,
            Conditioning(
                octave.normalize,
                octave.laplacian,
                octave.smoothing,
                octave.total_variation,
                octave.pull,
                octave.luminance_only,
            ),
            optimizer,
        )
        for octave, where in zip(settings_by_octave(config), regions, strict=True)
    )
