"""Schedule of a job: objectives, masks and a stage for each octave. Pure but for the materials.

A setting that may change from octave to octave is written once, or as a list with one entry for each, coarse to fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from render.config.octave_settings import OctaveSettings, is_by_octave, refuse_length, region_terms
from render.config.schema import ObjectiveConfig
from render.dreaming.objectives import Objective, resolve
from render.dreaming.optimizer import Optimizer
from render.dreaming.picture_terms import Guide
from render.dreaming.stage import Conditioning, Region, Stage
from render.dreaming.term_syntax import Materials
from render.errors import UserError
from render.networks.architecture import Architecture

#: Most models that a message names, and most letters for their names.
_MAX_NAMES, _MAX_NAME_LETTERS = 10, 400


@dataclass(frozen=True)
class Schedule:
    """Objectives of a job, its masks (key and value in the config), and a stage for each octave."""

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


def make_schedule(
    objective: ObjectiveConfig,
    octaves: Sequence[OctaveSettings],
    optimizer: Optimizer,
    architecture: Architecture,
    default_terms: Sequence[str],
    materials: Materials | None = None,
) -> Schedule:
    """Return the schedule of a job on a network.

    Args:
        objective: Terms, mask and regions, checked.
        octaves: Settings of every octave that the job asks for, coarse to fine.
        optimizer: Use of earlier gradients, the same in all octaves.
        architecture: The network.
        default_terms: Terms of a job that names none.
        materials: What terms refer to; None for terms that refer to nothing.

    Raises:
        UserError: A setting has no meaning.
    """
    collected = _Objectives(architecture, materials, len(octaves))
    masks: list[tuple[str, Any]] = [] if objective.mask is None else [("objective.mask", objective.mask)]
    whole = tuple(range(len(masks)))
    regions: list[list[Region]] = [[] for _ in octaves]
    for position, region in enumerate(objective.regions):
        key = f"objective.regions[{position}]"
        terms = region_terms(region, key)
        masks.append((f"{key}.mask", region["mask"]))
        for octave, number in enumerate(collected.numbers(terms, f"{key}.terms")):
            regions[octave].append(Region(number, (*whole, len(masks) - 1)))
    terms = _canvas_terms(objective, architecture.name)
    if terms is not None or not objective.regions:
        elsewhere = tuple(range(len(whole), len(masks)))
        for octave, number in enumerate(collected.numbers(default_terms if terms is None else terms, "objective.terms")):
            regions[octave].append(Region(number, whole, elsewhere))
    stages = tuple(
        Stage(
            settings.steps,
            settings.step_size,
            tuple(octave_regions),
            settings.jitter,
            Conditioning(**vars(settings.conditioning)),
            optimizer,
        )
        for settings, octave_regions in zip(octaves, regions, strict=True)
    )
    return Schedule(tuple(collected.objectives), tuple(masks), stages)


class _Objectives:
    """Objectives of a job, each once, so that it is compiled once."""

    def __init__(self, architecture: Architecture, materials: Materials | None, octaves: int) -> None:
        self.objectives: list[Objective] = []
        self._architecture = architecture
        self._materials = materials
        self._octaves = octaves

    def numbers(self, terms: object, key: str) -> list[int]:
        """Return for each octave the number of the objective that the terms mean there; raise `UserError`."""
        numbers = []
        for octave_terms in _terms_by_octave(terms, self._octaves, key):
            objective = resolve(octave_terms, self._architecture, self._materials)
            if objective not in self.objectives:
                self.objectives.append(objective)
            numbers.append(self.objectives.index(objective))
        return numbers


def _terms_by_octave(terms: object, count: int, key: str) -> list[Sequence[object]]:
    if not isinstance(terms, list | tuple):
        raise UserError(f"{key}={terms!r}: must be a list of terms, such as [mixed4]")
    if is_by_octave(terms):
        refuse_length(terms, count, key)
        return list(terms)
    return [terms] * count


def _canvas_terms(objective: ObjectiveConfig, model: str) -> object:
    """Return the terms for the whole canvas, or for what regions leave over; None if the job names none."""
    if objective.terms is not None or not objective.by_model:
        return objective.terms
    if model not in objective.by_model:
        model_names = ", ".join(list(map(str, objective.by_model))[:_MAX_NAMES])[:_MAX_NAME_LETTERS]
        raise UserError(
            f"this objective has terms for {model_names}, not for {model}: add model={next(iter(objective.by_model))}, or "
            "choose another objective"
        )
    return objective.by_model[model]
